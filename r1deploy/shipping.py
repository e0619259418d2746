"""Send ``r1deploy.onhost`` to a host's Python: one archive on standard input, no file on the host.

The host runs ``PYTHON -c LOADER SCRIPT``. It reads the archive and an order, imports the module from the archive and
calls its ``main(order)``; what follows on standard input is the module's own to read. Nothing of an order shows in
``ps``.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

# The modules that may be started: each has ``main(order)``, which returns the exit code.
Script = Literal[
    "attached", "checkpointwork", "chipwork", "collectives", "diagfile", "follow", "forward", "holder", "kernels",
    "probe", "readahead", "wires",
]  # fmt: skip
PACKAGE = Path(__file__).resolve().parent / "onhost"
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
def archive() -> bytes:
    """The package as an archive that Python imports from; the same bytes for the same sources."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as members:
        for path in sorted(PACKAGE.glob("*.py")):
            members.writestr(zipfile.ZipInfo(f"onhost/{path.name}"), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return made.getvalue()


def digest() -> str:
    """sha256 of all that goes to the hosts."""
    return hashlib.sha256(archive()).hexdigest()


def command(python: str, module: Script) -> str:
    """The shell command that runs a module of the package. In: the words of a shell that are the host's Python."""
    return f"{python} {shlex.join(['-c', LOADER, module])}"


def parcel(order: Mapping[str, Any]) -> bytes:
    """What the command reads on standard input. In: the order, of JSON types."""
    text = json.dumps(order).encode()
    return f"{len(archive())} {len(text)}\n".encode() + archive() + text
