"""The checkpoint of this host for the probe: by its headers, and as the container will see it."""

from __future__ import annotations

import os
from typing import Any, Mapping

from .mounts import Volumes, place_inside
from .shards import absent, look_checkpoint, read_json
from .sums import content_digest


def look_weights(request: Mapping[str, Any], record: str) -> dict[str, Any] | None:
    """The checkpoint by its headers, and a digest of its content where ``r1deploy weights verify`` knows it."""
    path = request["weights"]
    if path is None:
        return None
    checkpoint = look_from_inside(path, request["model"], request["volumes"])
    checkpoint["outside"] = dict(list(checkpoint["outside"].items())[:5])
    checkpoint["missing"], checkpoint["bad"] = checkpoint["missing"][:5], checkpoint["bad"][:5]
    checkpoint["why"] = {name: checkpoint["why"][name] for name in checkpoint["bad"]} if checkpoint["bad"] else {}
    checkpoint["content"] = content_digest(read_json(record), path) if checkpoint["exists"] else None
    return checkpoint


def look_from_inside(path: str, inside: str, volumes: Volumes) -> dict[str, Any]:
    """As ``look_checkpoint``, judged as a container sees it, which follows links in its own tree.

    In: the folder's path on the host and in the container. ``outside`` is ``{file, or "." for the folder:
    where its link leads}`` of what the container would not find.
    """
    here, leads = place_inside(inside, volumes)
    if here is None:
        return dict(absent(path), outside={".": leads})
    folder = path if os.path.isdir(path) and os.path.realpath(path) == os.path.realpath(here) else here
    outside, places = {}, {}
    for name in links_in(folder):
        place, leads = place_inside(os.path.join(inside, name), volumes)
        if place is None:
            outside[name] = leads
        else:
            places[name] = place
    return dict(look_checkpoint(folder, places), path=path, outside=outside)


def links_in(folder: str) -> list[str]:
    """Names of the links of a folder, sorted; none where it is not there."""
    if not os.path.isdir(folder):
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_symlink())
