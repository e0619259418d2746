"""The stand-in chips of the r1deploy lab: PyTorch on the CPU, as many chips as it is told, any of which may be wrong.

``/dev/r1lab-torch.json`` of a host, or the file that ``R1LAB_TORCH`` names: {"chips": 2, "wrong": [1], "once_in": 2}:
how many chips PyTorch counts, which of them give products that are wrong in one bit, and how often (1: each time).
Python imports this by itself; without torch nothing is done. One chip is one process: its number is its place among
the children of the process that started them.
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
    """Change torch to what is told when it is loaded."""
    how = told()
    if how.get("chips"):
        torch.cpu.device_count = lambda: how["chips"]
    if how.get("wrong"):
        torch.mm = Wrong(torch, how)


class Wrong:
    """In place of torch's product."""

    def __init__(self, torch, how):
        self.torch, self.right = torch, torch.mm
        self.chips, self.once_in, self.made = how["wrong"], how.get("once_in", 1), 0

    def __call__(self, *args, **options):
        found = self.right(*args, **options)
        self.made += 1
        if self.made % self.once_in == 0 and number() in self.chips:
            whole = self.torch.int16 if found.element_size() == 2 else self.torch.int32
            found.view(whole).view(-1)[0] ^= 1
        return found


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
