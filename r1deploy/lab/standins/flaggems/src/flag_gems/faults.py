"""How the stand-in FlagGems is told to be broken: by a file, as the light engine is.

``/dev/r1lab-flaggems.json``, or the file that ``R1LAB_FLAGGEMS`` names: {"fault": …, "functions": […], "after": …}.
``functions`` are those at fault (each fault has its own, see ``AT_FAULT``), ``after`` is for ``assert``. Without a
file, or with the fault null, all is fine. The faults, each as it was seen of a real one beside another Triton, or read:

- ``arg_defaults``: most operators fail at their first call;
- ``arguments``: the products fail at theirs;
- ``assert``: a number of calls are right, the next one fails, and from then on every call of the process;
- ``wrong``: an operator is inexact, its variants too;
- ``hang``: an operator's compiler does not come back.
"""

import json
import os
import subprocess
import threading

CONTROL = "/dev/r1lab-flaggems.json"
ERROR = 0.03
# What stays well of `arg_defaults` has no kernel that is compiled for its sizes.
SPARED = {"arange", "arange_start", "arange_start_step", "zeros", "full", "cat"}
AT_FAULT = {
    "arg_defaults": lambda function: function not in SPARED,
    "arguments": lambda function: function in ("mm", "mm_out"),
    "assert": lambda function: True,
    "wrong": lambda function: function in ("addmm", "addmm_out"),
    "hang": lambda function: function == "cumsum",
}
AFTER = 3
_calls = 0
_counting = threading.Lock()


def told():
    """What the stand-in is told, {} for nothing."""
    try:
        with open(os.environ.get("R1LAB_FLAGGEMS", CONTROL)) as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return {}
    return found if found.get("fault") in AT_FAULT else {}


def applied(function, kernel):
    """The kernel's answer, spoiled where the stand-in is told so. Raises what the real one raised."""
    how = told()
    if not how:
        return kernel()
    named = how.get("functions")
    if not (function in named if named else AT_FAULT[how["fault"]](function)):
        return kernel()
    return BROKEN[how["fault"]](kernel, how)


def arg_defaults(kernel, how):
    raise AttributeError("'JITFunction' object has no attribute 'arg_defaults'")


def arguments(kernel, how):
    raise TypeError("function takes exactly 25 arguments (21 given)")


def asserted(kernel, how):
    global _calls
    with _counting:
        _calls += 1
        over = _calls > how.get("after", AFTER)
    if over:
        raise RuntimeError(
            "CUDA error: device-side assert triggered\n"
            "CUDA kernel errors might be asynchronously reported at some other API call."
        )
    return kernel()


def wrong(kernel, how):
    return kernel().mul_(1 + ERROR)


def hang(kernel, how):
    subprocess.run(["sleep", "3600"], check=True)  # the compiler of a real one is a process too
    return kernel()


BROKEN = {"arg_defaults": arg_defaults, "arguments": arguments, "assert": asserted, "wrong": wrong, "hang": hang}
