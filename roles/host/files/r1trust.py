#!/usr/bin/env python3
"""Forced command of the cluster's trust key: ``docker exec`` into our container, nothing else.

sshd runs ``r1trust.py CONTAINER`` whatever the client asks for; the request stands in
SSH_ORIGINAL_COMMAND. FlagScale asks for exactly
``docker exec CONTAINER /bin/bash -c '...'``. The request is parsed here and run without
a shell of the host: what bash -c gets is run inside the container only.
"""

from __future__ import annotations

import os
import shlex
import sys

# One engine for all, whatever root's docker context or environment say: r1deploy/dockercli.py.
SOCKET = "unix:///var/run/docker.sock"
SHAPE = "docker exec CONTAINER /bin/bash -c COMMAND"


def parse(request: str, container: str) -> list[str] | None:
    """argv to run, or None where the request is anything but the one shape.

    In: the request as sshd hands it over, the one container's name.
    """
    if "\0" in request or "\n" in request:
        return None
    try:
        words = shlex.split(request, posix=True)
    except ValueError:
        return None
    if len(words) != 6 or words[:5] != ["docker", "exec", container, "/bin/bash", "-c"]:
        return None
    # No shell of this host runs the line, so what is outside of the quotes must be plain words.
    if not request.startswith(" ".join(words[:5]) + " "):
        return None
    # Blanks only: other white space would be part of the word, outside of its quotes.
    rest = request[len(" ".join(words[:5])) + 1 :].strip(" ")
    if rest[:1] not in ("'", '"') or rest[-1:] != rest[:1] or rest[:1] in rest[1:-1]:
        return None
    return words


def main(argv: list[str]) -> int:
    """Run the request or refuse it with exit code 126."""
    words = parse(os.environ.get("SSH_ORIGINAL_COMMAND", ""), argv[1])
    if words is None:
        sys.stderr.write(f"r1deploy: this key may only run: {SHAPE}\n")
        return 126
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    return os.execvpe("docker", ["docker", "--host", SOCKET, *words[1:]], environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
