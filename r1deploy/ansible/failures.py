"""A failure's cause, read from what SSH or a module said."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from r1deploy.ansible.events import Event, mapping
from r1deploy.causes import ON_HOSTS, Cause, cause_of
from r1deploy.ssh import Login


@dataclass(frozen=True)
class Failure:
    """Why a host failed: a stable code, a sentence, the last lines of the failed thing."""

    host: str
    step: str
    task: str
    code: str
    message: str
    evidence: tuple[str, ...] = ()
    fix: str | None = None
    unreachable: bool = False


# A module's message may be the whole output of a program; the evidence has its end.
LONGEST = 300
# What a module says although SSH let us in.
BY_MODULES = tuple(row for row in ON_HOSTS if not row.code.startswith(("SSH_", "HOSTKEY_")))


def _parts(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A result, and those of its items that failed."""
    items = result.get("results")
    return [result, *(row for row in map(mapping, items if isinstance(items, list) else ()) if row.get("failed"))]


def _texts(value: object) -> list[str]:
    """A list's entries as texts; what is no list is none."""
    return [str(line) for line in value] if isinstance(value, list) else []


def failure_of(event: Event, login: Login | None = None) -> Failure:
    """Name the cause of a failed or unreachable event. In: how to reach the host, for what its fix advises."""
    host = event.host or "?"
    way = login or Login(host, host)
    said = text_of(event.result)
    evidence = tuple(evidence_of(event.result))
    whole = "\n".join((said, *evidence))
    lines = tuple(line for line in said.splitlines() if line.strip()) or ("no message",)
    unreachable = event.kind == "unreachable"
    cause = cause_of(ON_HOSTS if unreachable else BY_MODULES, whole)
    if cause is not None:
        # The lines that show it: a job's own error may be a mere exit code, with the cause in its output.
        elsewhere = evidence and not re.search(cause.pattern, said)
        shown = up_to(cause.pattern, evidence) if elsewhere else lines[-6:]
        forget = way.forget(whole) if "{forget}" in cause.fix else ""
        hint = cause.fix.format(**way.words(), forget=forget)
        return Failure(host, event.step, event.task, cause.code, sentence_of(cause, whole), shown, hint, unreachable)
    code = "SSH_FAILED" if unreachable else "STEP_FAILED"
    # Of a traceback the last line says what happened.
    message = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    return Failure(host, event.step, event.task, code, shortened(message), evidence, None, unreachable)


def shortened(message: str) -> str:
    """A message that ends with a whole word, LONGEST characters at the most."""
    return message if len(message) <= LONGEST else message[:LONGEST].rpartition(" ")[0] + " …"


def sentence_of(cause: Cause, whole: str) -> str:
    """The sentence of a cause, with what its pattern found in the text."""
    found = re.search(cause.pattern, whole)
    return (
        cause.sentence.format(found=shortened(found["found"]))
        if found and "found" in found.groupdict()
        else cause.sentence
    )


def up_to(pattern: str, lines: tuple[str, ...]) -> tuple[str, ...]:
    """The lines that a pattern is found in, and two before; what a tool says after its cause is its own traceback."""
    text = "\n".join(lines)
    match = re.search(pattern, text)
    if not match:
        return lines
    first, last = (text.count("\n", 0, place) for place in match.span())
    return lines[max(0, first - 2) : last + 1]


def text_of(result: dict[str, Any]) -> str:
    """The sentence of a failed result: a job's own error, else the module's message."""
    for source in _parts(result):
        job = job_answer(source)
        if job and "error" in job:
            return str(job["error"])
        for key in ("msg", "module_stderr", "stderr", "module_stdout"):
            value = source.get(key)
            if value and value != "One or more items failed" and "non-zero return code" not in str(value):
                return str(value)
    return str(result.get("msg") or "no message")


def evidence_of(result: dict[str, Any]) -> list[str]:
    """The last lines of the failed thing."""
    for source in _parts(result):
        job = job_answer(source)
        tail = _texts(job.get("tail") if job else None) or _texts(source.get("tail"))
        if tail:
            return tail
        for key in ("stderr", "module_stderr", "stdout"):
            lines = str(source.get(key) or "").strip().splitlines()
            if lines:
                return lines[-15:]
    return []


def job_answer(result: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON line that ``r1guest.py`` prints last, where the result is one of its."""
    lines = str(result.get("stdout") or result.get("msg") or "").strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        return None
    try:
        answer = json.loads(lines[-1])
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None
