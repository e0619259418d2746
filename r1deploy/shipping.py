"""Send a module of ``r1deploy.onhost`` to a host's Python: one archive on standard input, no file on the host.

The archive holds the module and what it imports of the package. The host runs ``PYTHON -c LOADER SCRIPT``. It reads
the archive and an order, imports the module from the archive and calls its ``main(order)``; what follows on standard
input is the module's own to read. Nothing of an order shows in ``ps``.
"""

from __future__ import annotations

import ast
import functools
import io
import json
import shlex
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

# The modules that may be started: each has ``main(order)``, which returns the exit code.
Script = Literal[
    "attached", "checkpointwork", "chipwork", "collectives", "diagfile", "filetexts", "filework", "follow", "forward",
    "holder", "kernels", "probe", "readahead", "relay", "wires",
]  # fmt: skip
PACKAGE = Path(__file__).resolve().parent / "onhost"
# Many threads send the same module at the same moment: it is packed once.
_ARCHIVING = threading.Lock()
# A file in memory, which Python imports from like from any archive; where Python has none, a file without a name.
# Standard input is read without a buffer: what follows the order stays for the module.
LOADER = """\
import importlib, os, sys, tempfile
stream = open(0, "rb", buffering=0, closefd=False)
def taken(length):
    data = b""
    while len(data) < length:
        data += stream.read(length - len(data)) or sys.exit("the order was interrupted")
    return data
archive, order = map(int, stream.readline().split())
in_memory = hasattr(os, "memfd_create")
file = os.fdopen(os.memfd_create("r1deploy"), "w+b") if in_memory else tempfile.TemporaryFile()
file.write(taken(archive))
file.flush()
sys.path.insert(0, "/proc/self/fd/%d" % file.fileno())
sys.exit(importlib.import_module("onhost." + sys.argv[1]).main(taken(order).decode()))
"""


@functools.cache
def archive(module: Script) -> bytes:
    """The module and what it needs, as an archive that Python imports from; the same bytes for the same sources."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as members:
        for name in ("__init__", *sorted(needed(module))):
            info = zipfile.ZipInfo(f"onhost/{name}.py")
            members.writestr(info, (PACKAGE / f"{name}.py").read_bytes(), zipfile.ZIP_DEFLATED)
    return made.getvalue()


def needed(module: str) -> set[str]:
    """A module, and all of the package that it imports, wherever in its functions, and what these import."""
    found: set[str] = set()
    left = {module}
    while left:
        name = left.pop()
        found.add(name)
        left |= imported(name) - found
    return found


def imported(module: str) -> set[str]:
    """The modules of the package that one of them imports: ``from . import x``, ``from .x import y``."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    rows = [row for row in ast.walk(tree) if isinstance(row, ast.ImportFrom) and row.level == 1]
    return {row.module for row in rows if row.module} | {
        alias.name for row in rows if row.module is None for alias in row.names
    }


def command(python: str, module: Script) -> str:
    """The shell command that runs a module of the package. In: the words of a shell that are the host's Python."""
    return f"{python} {shlex.join(['-c', LOADER, module])}"


def parcel(module: Script, order: Mapping[str, Any]) -> bytes:
    """What the command reads on standard input. In: the module; its order, of JSON types."""
    with _ARCHIVING:
        sources = archive(module)
    text = json.dumps(order).encode()
    return f"{len(sources)} {len(text)}\n".encode() + sources + text
