"""What a host's word may look like: types that every reader at a border is made of.

Numbers are such as a machine has, names fit into a path and a label, texts are not endless.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from r1deploy.modes import is_known

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}")

PROGRAM = re.compile(r"/[A-Za-z0-9._+/-]{1,254}")

PUBLIC_KEY = re.compile(r"[a-z][A-Za-z0-9@.-]* [A-Za-z0-9+/_-]+=*")


def _like(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"it is not {what}")
        return text

    return AfterValidator(check)


def _a_place(place: dict[str, str]) -> dict[str, str]:
    if set(place) != {"release", "config"}:
        raise ValueError("it is not a release and a configuration")
    return place


def _a_leftover(path: str) -> str:
    if not path.startswith("/") or "/../" in path or not NAME.fullmatch(path.rpartition("/")[2]):
        raise ValueError("it is not the path of a file of ours")
    return path


def _a_mode(name: str) -> str:
    if not is_known(name):
        raise ValueError("it is no way of serving")
    return name


# What a machine may have of anything; a float holds it exactly.
Count = Annotated[int, Field(ge=0, le=2**53)]

Seconds = Annotated[float, Field(ge=0, le=2**33, allow_inf_nan=False)]

Size = Annotated[float, Field(ge=0, le=2**53, allow_inf_nan=False)]

Text = Annotated[str, Field(max_length=4096)]

Program = Annotated[str, _like(PROGRAM, "an absolute path of letters, digits, dots and dashes")]

Port = Annotated[int, Field(ge=1, le=65535)]

# A part of a path, a label, a container's name.
Name = Annotated[str, _like(NAME, "a name of letters, digits, dots and dashes")]

Address = Annotated[str, _like(ADDRESS, "a host's name or address")]

PublicKey = Annotated[str, Field(max_length=16384), _like(PUBLIC_KEY, "a public key")]

ModeName = Annotated[str, AfterValidator(_a_mode)]

Place = Annotated[dict[str, Name], AfterValidator(_a_place)]

Leftover = Annotated[Text, AfterValidator(_a_leftover)]

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Part(BaseModel):
    """Base: frozen, and keys that a newer probe adds are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


P = TypeVar("P", bound=Part)


def shaped(shape: type[P], value: object) -> P | None:
    """A value of JSON, strictly; None where it has another shape than it must."""
    try:
        return shape.model_validate_json(json.dumps(value), strict=True)
    except (ValidationError, RecursionError):
        return None


def shaped_by_kind(shapes: Mapping[str, type[P]], line: object) -> P | None:
    """A line of a script, by its ``kind``; None where it is none of these, or has another shape than it must."""
    kind = line.get("kind") if isinstance(line, dict) else None
    return shaped(shapes[kind], line) if isinstance(kind, str) and kind in shapes else None
