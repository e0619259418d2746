"""A script that does one thing and answers once."""

from __future__ import annotations

import errno
import json
import os
from typing import Any, Callable, Dict, Mapping

from .saying import Refusal, say

Order = Mapping[str, Any]
Answer = Dict[str, Any]
Ops = Mapping[str, Callable[[Order], Answer]]


def answer_once(ops: Ops, text: str) -> int:
    """Do what the request asks for (``op``), and say its ``done`` or its ``error``; the exit code."""
    request = json.loads(text)
    try:
        say("done", **ops[request["op"]](request))
    except BrokenPipeError:
        os._exit(1)
    except Refusal as error:
        say("error", code=error.code, message=str(error), tail=error.tail[-8:])
        return 1
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        say("error", code="DISK_FULL" if full else "STEP_FAILED", message=str(error), tail=[])
        return 1
    return 0
