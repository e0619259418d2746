"""What the light engine is told to answer, question by question: right, wrong, cut, late, or with an error.

A file of JSON lines (R1LAB_ANSWERS, or /dev/r1lab-answers.jsonl), read again at every request.
The first row counts whose "match" is part of the prompt's last message:

  match   a part of the prompt that no other question has
  seed    only for requests with this seed (absent: for all)
  think   thinking, ended by </think> (R1's template opens it in the prompt); a row with "paired" opens it with <think> too,
          a row with "parsed" has it in reasoning_content, as a reasoning parser splits it off
  answer  what follows
  finish  "length": cut there; with thinking the cut comes before its end, and nothing is answered
  status  an error's code for the first requests of this row, "times" of them (1 where absent)
  delay   seconds before the answer

Every request becomes a line of the file beside it, `<answers>.asked`, with its sampling, and one
more when all of the answer is sent. The file outlives the engine, and so does the count of errors.
"""

import json
import os
import threading
import time

DEFAULT = "/dev/r1lab-answers.jsonl"
SAMPLING = ("seed", "temperature", "top_p", "max_tokens", "stream")


class Told:
    """What one request gets: the text of a row, behind a note that says whose words they are."""

    def __init__(self, row, status, note):
        self.status, self.delay = status, float(row.get("delay", 0))
        self.cut = row.get("finish") == "length"
        think, answer = row.get("think", ""), row.get("answer", "")
        parsed = bool(think and row.get("parsed"))
        self.reasoning = f"{note}\n{think}" if parsed else ""
        if think and self.cut:
            answer = ""
        if think and not parsed:
            thought = f"<think>\n{think}" if row.get("paired") else think
            answer = thought if self.cut else f"{thought}\n</think>\n\n{answer}"
        self.content = answer if parsed else f"{note}\n{answer}"


class Answers:
    """The rows of the file, and the record of what was asked."""

    def __init__(self, path=None):
        self.path = path or os.environ.get("R1LAB_ANSWERS") or DEFAULT
        self.guard = threading.Lock()

    def rows(self):
        """All rows; none where there is no file."""
        return read(self.path)

    def asked(self):
        """All lines of the record."""
        return read(self.path + ".asked")

    def told(self, prompt, request, note):
        """What a request gets, and a function to call when it is answered; (None, None) where nothing is told."""
        with self.guard:
            rows = self.rows()
            if not rows:
                return None, None
            row = next((row for row in rows if fits(row, prompt, request)), None)
            line = {"match": row and row["match"], **{name: request.get(name) for name in SAMPLING}}
            status = self.status(row) if row else None
            self.keep("asked", {**line, "status": status or 200})
        return row and Told(row, status, note), lambda: self.keep("answered", line)

    def status(self, row):
        """The error that this request gets, or None."""
        if "status" not in row:
            return None
        # Without a seed of its own a row counts all requests of its question.
        had = [line for line in self.asked() if line["event"] == "asked" and line["match"] == row["match"]]
        had = [line for line in had if row.get("seed") in (None, line["seed"])]
        return row["status"] if len(had) < row.get("times", 1) else None

    def keep(self, event, line):
        """Add a line to the record."""
        data = json.dumps({"event": event, "at": time.time(), **line}, ensure_ascii=False) + "\n"
        with open(self.path + ".asked", "ab", buffering=0) as stream:
            stream.write(data.encode())


def fits(row, prompt, request):
    return row["match"] in prompt and row.get("seed") in (None, request.get("seed"))


def read(path):
    try:
        with open(path, encoding="utf-8") as stream:
            return [json.loads(line) for line in stream if line.strip()]
    except FileNotFoundError:
        return []
