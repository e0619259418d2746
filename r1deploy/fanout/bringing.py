"""Bring files from a host that has them to those that lack some: a list first, then what is lacked, as one stream each.

The controller sends orders. The list goes as the files do: it would be the largest of them otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from r1deploy.cluster.host import Host
from r1deploy.errors import ApplyError, R1Error
from r1deploy.fanout.filerows import End, FileOp, Listed, Prepared, file_row_of
from r1deploy.fanout.offering import offered
from r1deploy.fanout.relayrows import Arrived, Refused
from r1deploy.fanout.spreading import Load, Told, Way, refusal_of, spread_to
from r1deploy.onhost.filelist import numbers_in
from r1deploy.session import Lines, answer_in
from r1deploy.ssh import logins_at_once
from r1deploy.together import together
from r1deploy.units import size_of

Ended = dict[str, R1Error | None]
# Files that arrive with other bytes are sent once more.
ROUNDS = 2


@dataclass(frozen=True)
class Files:
    """What is brought: what is below the ``parts`` of a root, but for names that match ``skip``.

    ``what``: it, in a word. ``exact``: folders that hold nothing else afterwards. ``list``: where the list lies on each
    host meanwhile, in a folder that only root can enter. ``follow``: whether a link that leads out of the root
    counts as the file that it leads to. ``record``: where the sums of a checkpoint are remembered.
    ``wrong``: the code of the error where files arrive with other bytes.
    """

    what: str
    root: str
    parts: tuple[str, ...]
    list: str
    skip: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()
    follow: bool = False
    record: str | None = None
    wrong: str = "STEP_FAILED"

    @property
    def common(self) -> dict[str, Any]:
        """What every order about them holds."""
        return {"root": self.root, "list": self.list, **self.guarded}

    @property
    def guarded(self) -> dict[str, Any]:
        """What is remembered and locked: of a checkpoint, no second run writes to it, nor to its list."""
        locks = str(PurePosixPath(self.list).parent)
        return {"record": self.record, "guards": self.root if self.record else None, "locks": locks}


class Bringing:
    """Files on their way. In: what makes a new way to a host; the host that has them; who hears of it."""

    def __init__(self, way_to: Callable[[Host], Way], source: Host, files: Files, told: Told) -> None:
        self._way_to, self._source, self._files, self._told = way_to, source, files, told

    def run(self, targets: Sequence[Host]) -> Ended:
        """Bring them. Returns by host None where it has all, or why not. Raises what ends the source: R1Error."""
        files = self._files
        listed = self._ask(self._source, "list", parts=files.parts, skip=files.skip, follow=files.follow)
        assert isinstance(listed, Listed)
        try:
            return self._brought(targets, listed)
        except R1Error:
            with contextlib.suppress(R1Error):  # the source may be what failed
                self._ask(self._source, "forget")
            raise

    def _brought(self, targets: Sequence[Host], listed: Listed) -> Ended:
        ended: Ended = {}
        left = self._list_to(targets, listed, ended)
        for number in range(ROUNDS + 1):
            lacking = self._lacking(left, ended, listed)
            hosts = [host for host in left if host.name in lacking]
            if not hosts:
                break
            if number == ROUNDS:
                ended.update({name: self._wrong(name, row) for name, row in lacking.items()})
                break
            self._say(lacking, number)
            left = self._stream_to(hosts, lacking, listed, ended)
        self._ask(self._source, "forget")
        return ended

    def _list_to(self, targets: Sequence[Host], listed: Listed, ended: Ended) -> list[Host]:
        """The list itself, as the only file of a list. Returns the hosts that have it."""
        place = PurePosixPath(self._files.list)
        row = [place.name, "file", listed.size, listed.sha256, 0o600, 0]
        order = {
            "root": str(place.parent),
            "private": True,
            "files": [row],
            "lacks": "01",
            "starts": {},
            **self._files.guarded,
            "record": None,
        }
        self._spread(targets, order, dict.fromkeys([host.name for host in targets], "01"), ended)
        return [host for host in targets if ended[host.name] is None]

    def _lacking(self, hosts: Sequence[Host], ended: Ended, listed: Listed) -> dict[str, Prepared]:
        """What each lacks, where it lacks something; hosts that fail are written down in ``ended``."""
        order = {"sha256": listed.sha256, "exact": self._files.exact}
        at_once = logins_at_once([self._way_to(host).login for host in hosts], len(hosts))
        works = {host.name: partial(self._ask, host, "prepare", **order) for host in hosts}
        lacking = {}
        for name, answer in together(works, at_once).items():
            if isinstance(answer, R1Error):
                self._told.say(f"skipped {answer.message} ({answer.code})")
                ended[name] = answer
            elif isinstance(answer, Prepared) and answer.files:
                lacking[name] = answer
        return lacking

    def _say(self, lacking: Mapping[str, Prepared], number: int) -> None:
        most = max(lacking.values(), key=lambda row: row.bytes)
        again = "once more, " if number else ""
        what = f"{most.files} file{'s' if most.files > 1 else ''}, {size_of(most.bytes)}"
        way = f"from {self._source.name} from host to host: {', '.join(lacking)}"
        self._told.say(f"{self._files.what}: {again}{what} {way}")

    def _stream_to(
        self, hosts: Sequence[Host], lacking: Mapping[str, Prepared], listed: Listed, ended: Ended
    ) -> list[Host]:
        """What anybody lacks, from where the one that has least of a file has it. Returns those with wrong files."""
        rows = list(lacking.values())
        bits = 0
        for row in rows:
            bits |= int.from_bytes(bytes.fromhex(row.lacks), "little")
        lacks = bits.to_bytes(max(len(row.lacks) for row in rows) // 2, "little").hex()
        numbers = {number for row in rows for number in row.starts}
        starts = {number: min(row.starts.get(number, 0) for row in rows if lacks_it(row, number)) for number in numbers}
        order = {**self._files.common, "sha256": listed.sha256, "lacks": lacks, "starts": starts}
        return self._spread(hosts, order, {name: row.lacks for name, row in lacking.items()}, ended)

    def _spread(
        self, targets: Sequence[Host], order: Mapping[str, Any], own: Mapping[str, str], ended: Ended
    ) -> list[Host]:
        """One stream. In: what says which; the files that each host lacks. Returns those with wrong files."""
        what = self._files.what
        with offered(self._way_to(self._source), self._source, targets, order, what) as offer:
            sinks = {name: {"own": bits} for name, bits in own.items()}
            origin, secret = offer.member, offer.secret
            load = Load(Path(order["root"]), offer.size, "", order, sinks, origin, secret, what)

            def check() -> None:
                self._told.check()
                offer.check()

            ways = {host.name: self._way_to(host) for host in targets}
            # A list has no bar.
            progress = self._told.progress if "list" in order else lambda *_: None
            members = spread_to(ways, targets, load, replace(self._told, check=check, progress=progress))
        ended.update({member.name: member.error for member in members})
        return [member.host for member in members if member.wrong and not member.error]

    def _wrong(self, name: str, row: Prepared) -> ApplyError:
        message = f"{name}: {self._files.what}: {row.files} files arrived with other bytes than {self._source.name} has"
        return ApplyError(self._files.wrong, message, host=name, fix="check memory and disk of that host")

    def _ask(self, host: Host, op: FileOp, **more: Any) -> End:
        """What a script answers. Raises R1Error."""
        way, last = self._way_to(host), list[End]()

        def take(line: str) -> None:
            row = file_row_of(op, answer_in(line))
            if isinstance(row, Arrived):
                self._told.progress(host.name, row.done, row.total)
            elif isinstance(row, Refused):
                raise refusal_of(self._files.what, row, way.login)
            elif row is not None:
                last[:] = [row]

        session = way.module("filework", {"op": op, **self._files.common, **more})
        try:
            lines = Lines(take)
            for data in session.read():
                lines.write(data)
            code, said = session.code(), session.said.text
        finally:
            way.close()
        if not last or code != 0:
            raise way.no_answer(f"{self._files.what}: {op}", code, said)
        return last[0]


def lacks_it(row: Prepared, number: str) -> bool:
    """Whether a host lacks a file, or has a part of it."""
    return number in row.starts or int(number) in numbers_in(row.lacks, int(number) + 1)
