"""A host of the cluster as every part of r1deploy knows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """One machine.

    ``name`` is its inventory name, ``address`` what the other hosts reach it by,
    ``slots`` its chips, ``type`` FlagScale's word for them. ``port`` and ``user``
    belong to the login and are None where the inventory says nothing; so does
    ``reach``, the address for SSH, which is None where it is ``address``.
    """

    name: str
    address: str
    slots: int
    type: str = "gpu"
    port: int | None = None
    user: str | None = None
    is_head: bool = False
    reach: str | None = None
