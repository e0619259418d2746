"""The HTTP side of the light engine: vLLM's OpenAI-compatible endpoint, as far as a client needs it."""

import hmac
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from vllm.lab_answers import Answers

NOTE = "This is the r1deploy lab's stand-in engine, not DeepSeek-R1."


class State:
    """What the engine is, and what it has done."""

    def __init__(self, model, root, max_model_len, fault, key, tokens_of):
        self.model, self.root, self.max_model_len = model, root, max_model_len
        self.fault, self.key, self.tokens_of = fault, key, tokens_of
        self.guard = threading.Lock()
        self.counts = {"running": 0, "prompt": 0, "generation": 0, "success": 0}
        self.started = int(time.time())
        self.answers = Answers()

    def add(self, **more):
        with self.guard:
            for name, amount in more.items():
                self.counts[name] += amount


class Refused(Exception):
    """An answer in the form of vLLM's errors."""

    def __init__(self, code, kind, message):
        super().__init__(message)
        self.code = code
        self.body = {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def text_of(content):
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content if isinstance(part, dict))
    return str(content or "")


class Api(BaseHTTPRequestHandler):
    """One request; `state` is set by the engine."""

    protocol_version = "HTTP/1.1"
    state = None

    def log_message(self, form, *values):
        address, port = self.client_address[:2]
        print(f'INFO:     {address}:{port} - "{self.requestline}" {values[1]}', flush=True)

    def do_GET(self):
        path = urlsplit(self.path).path
        pages = {"/health": self.health, "/ping": self.health, "/version": self.version, "/metrics": self.metrics}
        pages["/v1/models"] = self.models
        self.serve(path, pages)

    def do_POST(self):
        self.serve(urlsplit(self.path).path, {"/v1/chat/completions": self.chat, "/v1/completions": self.complete})

    def serve(self, path, pages):
        try:
            if path.startswith("/v1/") and not self.allowed():
                self.send_json({"error": "Unauthorized"}, 401)
            elif path in pages:
                pages[path]()
            else:
                self.send_json({"detail": "Not Found"}, 404)
        except Refused as refused:
            self.send_json(refused.body, refused.code)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def allowed(self):
        given = self.headers.get("Authorization", "")
        return not self.state.key or hmac.compare_digest(given.encode(), f"Bearer {self.state.key}".encode())

    def send_json(self, value, code=200):
        self.send_bytes(json.dumps(value).encode(), "application/json", code)

    def send_bytes(self, data, kind, code=200):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def health(self):
        self.send_bytes(b"", "text/plain")

    def version(self):
        self.send_json({"version": "0.7.3"})

    def models(self):
        state = self.state
        card = {"id": state.model, "object": "model", "created": state.started, "owned_by": "vllm"}
        card.update(root=state.root, parent=None, max_model_len=state.max_model_len, permission=[])
        self.send_json({"object": "list", "data": [card]})

    def metrics(self):
        counts, name = self.state.counts, self.state.model
        values = {
            "num_requests_running": ("gauge", counts["running"]),
            "num_requests_waiting": ("gauge", 0),
            "gpu_cache_usage_perc": ("gauge", 0.0),
            "prompt_tokens_total": ("counter", counts["prompt"]),
            "generation_tokens_total": ("counter", counts["generation"]),
            "request_success_total": ("counter", counts["success"]),
        }
        lines = []
        for key, (kind, value) in values.items():
            lines += [f"# HELP vllm:{key} Of the r1deploy lab's stand-in engine.", f"# TYPE vllm:{key} {kind}"]
            lines.append(f'vllm:{key}{{model_name="{name}"}} {float(value)}')
        self.send_bytes(("\n".join(lines) + "\n").encode(), "text/plain; version=0.0.4; charset=utf-8")

    def body(self):
        length = int(self.headers.get("Content-Length") or 0)
        try:
            value = json.loads(self.rfile.read(length))
        except ValueError as error:
            raise Refused(400, "BadRequestError", f"not JSON: {error}") from error
        if value.get("model") not in (None, self.state.model):
            raise Refused(404, "NotFoundError", f"The model `{value['model']}` does not exist.")
        return value

    def words_for(self, question, limit, told, chat):
        """The answer as words, at most so many, how many of them are reasoning, and why it ends."""
        if self.state.fault() == "no-tokens":
            return [], 0, "stop"
        reasoning = words_of(told.reasoning) if told and chat else []
        words = reasoning + words_of(told.content if told else f"{NOTE} You asked: «{question}»")
        cut = limit is not None and len(words) > limit
        # As with --reasoning-parser deepseek_r1, where the limit comes before the answer.
        if chat and self.state.fault() == "reasoning":
            reasoning, cut = words, True
        return words[:limit], len(reasoning), "length" if cut or (told and told.cut) else "stop"

    def chat(self):
        request = self.body()
        messages = request.get("messages")
        if not isinstance(messages, list) or not messages:
            raise Refused(400, "BadRequestError", "messages: a list with at least one message is needed")
        self.produce(request, text_of(messages[-1].get("content")), "chat.completion")

    def complete(self):
        request = self.body()
        self.produce(request, text_of(request.get("prompt")), "text_completion")

    def produce(self, request, question, kind):
        limit = request.get("max_tokens", request.get("max_completion_tokens"))
        asked = self.state.tokens_of(len(question.split()))
        if asked + (limit or 0) > self.state.max_model_len:
            most = self.state.max_model_len
            raise Refused(400, "BadRequestError", f"This model's maximum context length is {most} tokens.")
        told, answered = self.state.answers.told(question, request, NOTE)
        if told and told.status:
            raise Refused(told.status, "InternalServerError", f"Asked for. {NOTE}")
        if told:
            time.sleep(told.delay)
        words, reasoned, reason = self.words_for(question, limit, told, kind.startswith("chat"))
        usage = {"prompt_tokens": asked, "completion_tokens": len(words), "total_tokens": asked + len(words)}
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": self.state.model}
        self.state.add(running=1)
        try:
            if request.get("stream"):
                self.stream(head, kind, words, reason, usage, request.get("stream_options") or {}, reasoned)
            else:
                choices = [choice(kind, words, reason, reasoned)]
                self.send_json({**head, "object": kind, "choices": choices, "usage": usage})
            if answered:
                answered()
        finally:
            self.state.add(running=-1, prompt=asked, generation=len(words), success=1)

    def stream(self, head, kind, words, reason, usage, options, reasoned):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        head = {**head, "object": f"{kind}.chunk" if kind.startswith("chat") else kind}
        if kind.startswith("chat"):
            self.event({**head, "choices": [delta(kind, "", None, role="assistant")]})
        for number, word in enumerate(words):
            text = word if number in (0, reasoned) else " " + word
            self.event({**head, "choices": [delta(kind, text, None, parsed=number < reasoned)]})
            time.sleep(0.01)
        self.event({**head, "choices": [delta(kind, "", reason)]})
        if options.get("include_usage"):
            self.event({**head, "choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, value):
        self.wfile.write(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n")
        self.wfile.flush()


def words_of(text):
    return text.split(" ") if text else []


def choice(kind, words, reason, reasoned):
    text = " ".join(words[reasoned:])
    common = {"index": 0, "logprobs": None, "finish_reason": reason, "stop_reason": None}
    if kind.startswith("chat"):
        # As vLLM: null where all of an answer is reasoning, "" where the engine said nothing.
        content = None if 0 < reasoned == len(words) else text
        told = {"reasoning_content": " ".join(words[:reasoned]) or None, "content": content}
        message = {"role": "assistant", **told, "tool_calls": []}
        return {**common, "message": message}
    return {**common, "text": text}


def delta(kind, text, reason, role=None, parsed=False):
    common = {"index": 0, "logprobs": None, "finish_reason": reason}
    if kind.startswith("chat"):
        return {**common, "delta": {"role": role, "content": ""} if role else {"reasoning_content" if parsed else "content": text}}
    return {**common, "text": text}
