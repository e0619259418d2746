"""The stand-in chip of the r1deploy lab: PyTorch on the CPU, whose ``torch.mm`` can be told to be wrong in one bit.

``/dev/r1lab-torch.json`` of a host, or the file that ``R1LAB_TORCH`` names: {"wrong": [1], "once_in": 2}: the chips at
fault, and in which of their products the bit is wrong (1, where it is not said: in each). Python imports this by
itself; without torch nothing is done. One chip is one process: its number is its place among the children of the
process that started them.
"""

import importlib.machinery
import json
import os
import sys

CONTROL = "/dev/r1lab-torch.json"


def told():
    try:
        with open(os.environ.get("R1LAB_TORCH", CONTROL)) as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return {}


def number():
    """Which chip this process is; they are started all at once, in their order."""
    above = os.getppid()
    with open(f"/proc/{above}/task/{above}/children") as stream:
        return stream.read().split().index(str(os.getpid()))


def as_told(torch):
    """Put a product in the place of torch's, where a chip is told to be wrong."""
    right, made, how = torch.mm, [0], told()
    if not how.get("wrong"):
        return

    def mm(*args, **options):
        found = right(*args, **options)
        made[0] += 1
        if number() in how["wrong"] and made[0] % how.get("once_in", 1) == 0:
            whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[found.element_size()]
            found.view(whole).view(-1)[0] ^= 1
        return found

    torch.mm = mm


class Finder:
    """Finds torch as Python does, and lets it be changed once it is there."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path)
        if found is not None and found.loader is not None:
            execute = found.loader.exec_module
            found.loader.exec_module = lambda module: (execute(module), as_told(module))
        return found


sys.meta_path.insert(0, Finder())
