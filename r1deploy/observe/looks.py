"""One look at each host: the probe through OpenSSH, all hosts at once."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from r1deploy.ansible.events import Event
from r1deploy.ansible.failures import Failure, failure_of
from r1deploy.errors import R1Error, UnreachableError
from r1deploy.hostlink import HostLink
from r1deploy.onhost.addresses import addresses_of
from r1deploy.session import Kept
from r1deploy.shipping import command, parcel
from r1deploy.ssh import Login, logins_at_once
from r1deploy.sshprocess import SSH_FAILS, SshProcess
from r1deploy.together import together

MARK = "r1probe:"
# The probe ends by itself before that; a host that only keeps the line open does not.
LONGEST_SECONDS = 120
AT_ONCE = 64
TASK = "Look at the host"


def look_at(logins: Sequence[Login], request: Mapping[str, Any]) -> dict[str, Any | Failure]:
    """What each host's probe answers, as JSON, or why it does not, by its name. In: what all of them are asked."""
    links = [SshProcess(login) for login in logins]
    works = {link.name: partial(answer_of, link, request) for link in links}
    try:
        ended = together(works, logins_at_once(logins, AT_ONCE))
    finally:
        for link in links:
            link.close()
    return {name: failure_in(name, row) if isinstance(row, R1Error) else row for name, row in ended.items()}


def answer_of(link: HostLink, request: Mapping[str, Any]) -> Any:
    """What the probe answers, or a Failure where it does not. Raises UnreachableError, PreflightError."""
    address = link.login.inside or link.login.address
    own = {**request, "address": address, "numbers": addresses_of(address)}
    session = link.start(f"exec {command(link.login.python(), 'probe')}")
    most, taken = 2 * int(request["limit"]), 0
    kept = Kept(most)
    try:
        session.deadline = time.monotonic() + LONGEST_SECONDS
        with contextlib.suppress(UnreachableError):  # it ended: what it says tells why
            session.send(parcel("probe", own))
        session.finish_input()
        for data in session.read():
            kept.write(data)
            taken += len(data)
            session.refuse_late()
            # Twice: what a noisy login shell says around it is skipped, up to a point.
            if taken > most:
                return failed(link.login, {"msg": f"the host's answer has more than {most} bytes"})
        return answer_in(link, kept.text, session.code(), session.said.text)
    finally:
        session.close()


def answer_in(link: HostLink, text: str, code: int, said: str) -> Any:
    """The JSON behind the mark, or a Failure. In: what was printed, the exit code, what was said as errors."""
    line = next((row for row in text.splitlines() if MARK in row), None)
    if line is None and code == SSH_FAILS:
        return link.cause(said.strip())
    if line is None:
        tail = [row[:500] for row in (said.strip() or text.strip()).splitlines()[-5:]]
        return failed(link.login, {"msg": "the probe gave no answer", "rc": code, "tail": tail})
    try:
        return json.loads(line.partition(MARK)[2])
    except (ValueError, RecursionError) as error:
        return failed(link.login, {"msg": f"the probe's answer is no JSON: {error}"})


def failed(login: Login, result: dict[str, Any]) -> Failure:
    """A failure of the probe itself: the host let us in, and gave no answer that can be used."""
    return failure_of(Event("failed", "probe", TASK, login.host, result), login)


def failure_in(host: str, error: R1Error) -> Failure:
    """An error of ours as a failure."""
    message = str(error).removeprefix(f"{host}: ")
    unreachable = isinstance(error, UnreachableError)
    return Failure(host, "probe", TASK, error.code, message, tuple(error.evidence), error.fix, unreachable)
