"""Texts of files on the hosts: one look at each host that has some to show."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

from pydantic import Field, ValidationError

from r1deploy.errors import R1Error
from r1deploy.hostlink import HostLink
from r1deploy.observe.context import Context
from r1deploy.observe.looks import AT_ONCE
from r1deploy.observe.probing import Probed
from r1deploy.planning.border import Part, Text
from r1deploy.planning.filediffs import Former
from r1deploy.session import ANSWER_SECONDS, Kept, answer_in
from r1deploy.ssh import logins_at_once
from r1deploy.sshprocess import SshProcess
from r1deploy.together import together


class Texts(Part):
    """What a host answers; a text is null where it cannot be read."""

    texts: dict[Text, Annotated[str, Field(max_length=64 << 10)] | None] = Field(max_length=64)


def read_formers(context: Context, probed: Probed, wanted: Sequence[Former]) -> dict[Former, str | None]:
    """The text of each file; None where its host does not give it: what changes is known without it."""
    paths: dict[str, list[str]] = {}
    for row in wanted:
        paths.setdefault(row.host, []).append(row.path)
    logins = [context.login(probed, host) for host in paths]
    links = {login.host: SshProcess(login) for login in logins}
    try:
        works = {host: partial(texts_on, link, paths[host]) for host, link in links.items()}
        found = together(works, logins_at_once(logins, AT_ONCE))
    finally:
        for link in links.values():
            link.close()
    return {row: None if isinstance(texts := found[row.host], R1Error) else texts.get(row.path) for row in wanted}


def texts_on(link: HostLink, paths: Sequence[str]) -> Mapping[str, str | None]:
    """Path → text on one host; without those that it does not give. Raises UnreachableError, PreflightError."""
    kept = Kept()
    session = link.module("filetexts", {"paths": list(paths)})
    try:
        session.finish_input()
        session.deadline = time.monotonic() + ANSWER_SECONDS
        for data in session.read():
            kept.write(data)
            session.refuse_late()
    finally:
        session.close()
    try:
        return Texts.model_validate(answer_in(kept.text)).texts
    except (ValidationError, RecursionError):
        return {}
