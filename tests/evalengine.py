"""The light engine of the lab by itself: a process on a free port of 127.0.0.1 that answers as a file tells it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from r1deploy.lab.places import standins

MODEL = "DeepSeek-R1"


class EvalEngine:
    """A light engine, its list of answers, and what was asked of it.

    ``answers`` is the file of rows (see the stand-in's lab_answers.py); it may be changed while the engine runs.
    Every request is kept beside it, whatever happens to the engine.
    """

    def __init__(self, answers: Path, key: str = "", max_model_len: int = 32768) -> None:
        self.answers, self.key, self.max_model_len = answers, key, max_model_len
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where it answers, as OpenAI's clients want it."""
        return f"http://127.0.0.1:{self.port}/v1"

    def tell(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Write the list of answers."""
        self.answers.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")

    def start(self) -> None:
        """Start it, on the port that it had before if it had one; return when it listens."""
        argv = [sys.executable, "-m", "tests.evalengine", str(self.port), str(self.max_model_len)]
        root = Path(__file__).resolve().parent.parent
        environ = {**os.environ, "PYTHONPATH": str(root), "R1LAB_ANSWERS": str(self.answers), "VLLM_API_KEY": self.key}
        self.process = subprocess.Popen(argv, cwd=root, env=environ, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it, by its own process id."""
        assert self.process is not None and self.process.stdout is not None
        self.process.send_signal(number)
        self.process.wait()
        self.process.stdout.close()
        self.process = None

    def record(self) -> list[dict[str, Any]]:
        """Every request as it came: event (asked, answered), match, seed, temperature, top_p, max_tokens, status."""
        path = Path(f"{self.answers}.asked")
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    def counts(self, event: str = "asked") -> Counter[str]:
        """How often each question was asked, or was answered to the end."""
        return Counter(row["match"] for row in self.record() if row["event"] == event)


@contextmanager
def engine(answers: Path, key: str = "", max_model_len: int = 32768) -> Iterator[EvalEngine]:
    """Yield a light engine that runs, and end it."""
    made = EvalEngine(answers, key, max_model_len)
    made.start()
    try:
        yield made
    finally:
        if made.process is not None:
            made.end()


def serve(port: int, max_model_len: int) -> None:
    """Answer until the end of the process; the first line of output is the port."""
    sys.path.insert(0, str(standins() / "patches" / "vllm"))
    from vllm.lab_api import Api, State

    state = State(MODEL, MODEL, max_model_len, lambda: "", os.environ["VLLM_API_KEY"], int)
    ThreadingHTTPServer.daemon_threads = True
    # Nobody reads the pipe after its first line, so nothing is logged.
    handler = type("Handler", (Api,), {"state": state, "log_message": lambda self, form, *values: None})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
