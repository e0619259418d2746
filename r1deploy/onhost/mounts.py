"""A path of the container on the host, as the container will see it.

A bind mount shows what lies below the folder that was mounted; a link in it is followed inside of the
container. So a link to a place that no volume mounts leads nowhere there, whatever the host says.
"""

from __future__ import annotations

import os
from typing import Sequence

# As many links as Linux follows.
MOST_LINKS = 40
# Pairs of the host's and the container's folder.
Volumes = Sequence[Sequence[str]]


def host_place(path: str, volumes: Volumes) -> str | None:
    """Where the host has a path of the container whose parents are no links; None where no volume has it.

    A volume inside of another one hides it.
    """
    over = [pair for pair in volumes if path == pair[1] or path.startswith(pair[1].rstrip("/") + "/")]
    if not over:
        return None
    host, container = max(over, key=lambda pair: len(pair[1]))
    # The folder that is mounted may itself be a link: mount follows it.
    return os.path.join(os.path.realpath(host), os.path.relpath(path, container))


def place_inside(path: str, volumes: Volumes) -> tuple[str | None, str]:
    """What the container finds at a path: ``(host path, path in the container)``, all links followed.

    The first is None where the path leads to a place that no volume has. A path that does not exist is
    no link: its host path is returned, for the caller to find missing.
    """
    done, todo, links = "/", path.split("/"), 0
    while todo:
        word = todo.pop(0)
        if word in ("", "."):
            continue
        if word == "..":
            done = os.path.dirname(done)
            continue
        done = os.path.join(done, word)
        here = host_place(done, volumes)
        if here is None or not os.path.islink(here):
            continue
        links += 1
        if links > MOST_LINKS:
            return None, path
        target = os.readlink(here)
        done = "/" if target.startswith("/") else os.path.dirname(done)
        todo = target.split("/") + todo
    here = host_place(done, volumes)
    return (None if here is None else os.path.normpath(here)), done
