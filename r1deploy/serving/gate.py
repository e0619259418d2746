"""The gate: the proof that the service serves. Ray's nodes, the engine's log, health, model, one answer."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from typing import Any

from r1deploy.causes import ENGINE, cause_of
from r1deploy.connection import Remote
from r1deploy.errors import GateError, UnreachableError
from r1deploy.observe.view import View
from r1deploy.onhost import servingwatch
from r1deploy.planning.recorded import Record
from r1deploy.run import Run
from r1deploy.runlock import lost
from r1deploy.serving.endpoint import Answer, Endpoint

POLL_SECONDS = 2.0
LOADING = re.compile(r"(\d+)% Completed \| (\d+)/(\d+)")


@dataclass(frozen=True)
class Passed:
    """What the gate saw."""

    endpoint: str
    model: str
    answer: Answer
    nodes: tuple[str, ...]


class Gate:
    """Watches one start of the service from the controller. In: a connection to the head."""

    def __init__(self, run: Run, view: View, record: Record, remote: Remote) -> None:
        self.log = run.layout.engine_log(record.release, record.service)
        self.pid = run.layout.engine_pid(record.release, record.service)
        self._run, self._view, self._record, self._remote = run, view, record, remote
        self._settings = run.settings
        self._offset, self._deadline = 0, 0.0
        self.tail: list[str] = []

    def before(self) -> None:
        """Remember where the log ends: FlagScale appends to it for ever."""
        self._offset = int(self._look(nodes=False).get("size") or 0)

    def _look(self, nodes: bool) -> dict[str, Any]:
        order = {"op": "watch", "log": self.log, "pid_file": self.pid, "offset": self._offset, "nodes": nodes}
        answer = self._ask(self._remote, order) or {}
        text = str(answer.get("log") or "")
        self.tail = [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()][-15:]
        return dict(answer)

    def join(self) -> tuple[str, ...]:
        """Wait until Ray has all nodes and chips. Raises GateError that names the missing ones."""
        wanted = {host.address: host for host in self._record.hosts}
        deadline = time.monotonic() + self._settings.service.join_timeout
        while True:
            state = self._look(nodes=True)
            nodes = {str(address): int(chips) for address, chips in state.get("nodes") or []}
            missing = [host for address, host in wanted.items() if address not in nodes]
            short = [host for address, host in wanted.items() if nodes.get(address, host.slots) != host.slots]
            if not missing and not short:
                self._run.say(f"Ray: {len(nodes)}/{len(wanted)} nodes, {sum(nodes.values())} chips")
                return tuple(nodes)
            if time.monotonic() > deadline:
                break
            self._pause()
        others = self._other_versions([host.name for host in missing])
        names = ", ".join(host.name for host in missing + short)
        strangers = ", ".join(sorted(set(nodes) - set(wanted)))
        seen = f"; joined from other addresses: {strangers}" if strangers else ""
        raise GateError(
            "RAY_NODES_MISSING",
            f"Ray: {len(wanted) - len(missing)}/{len(wanted)} nodes joined, missing: {names}{seen}{others}",
            host=(missing + short)[0].name,
            evidence=self.tail,
            fix=f"docker rm -f {self._record.container} there, then r1deploy bootstrap: its Ray was changed by hand"
            if others
            else f"r1deploy preflight; then r1deploy logs --serve --host {(missing + short)[0].name}",
        )

    def _ask(self, remote: Remote, order: dict[str, Any]) -> Any:
        """What the container on a host answers, or None where it does not."""
        return remote.python_in(self._record.container, self._settings.python.executable, servingwatch, order)

    def _other_versions(self, names: list[str]) -> str:
        """The words for hosts whose Ray or Python is not the head's; empty where they agree or do not answer.

        Ray refuses such a node, and says so where FlagScale throws it away.
        """
        own = self._ask(self._remote, {"op": "versions"})
        differ = []
        for name in names:
            with contextlib.suppress(UnreachableError), self._run.remote(self._view, name) as remote:
                theirs = self._ask(remote, {"op": "versions"})
                if theirs and theirs != own:
                    differ.append(f"{theirs} on {name}")
        return f"; {own} on {self._record.hosts[0].name} and {', '.join(differ)} do not join" if own and differ else ""

    def healthy(self, endpoint: Endpoint) -> None:
        """Wait for health. Raises GateError."""
        limit = self._settings.service.ready_timeout
        self._deadline = time.monotonic() + limit
        while endpoint.health() != 200:
            state = self._look(nodes=False)
            self._report()
            if state.get("alive") is False:
                raise self._failed("ENGINE_DIED", "the engine ended before it answered")
            if time.monotonic() > self._deadline:
                said = f"; {endpoint.refused}" if endpoint.refused else ""
                raise self._failed("ENGINE_SILENT", f"no answer in {limit} s{said}")
            self._pause()

    def ready(self, endpoint: Endpoint, nodes: tuple[str, ...]) -> Passed:
        """Ask for the model's id and one answer with tokens. In: the nodes that joined. Raises GateError."""
        models = endpoint.models() or []
        name = self._record.model
        if name not in models:
            raise self._failed("MODEL_WRONG", f"the engine serves {', '.join(models) or 'no model'}, not {name}")
        answer = endpoint.complete(max(30.0, self._deadline - time.monotonic()))
        if answer is None or not answer.real:
            raise self._failed("NO_TOKENS", "the engine is healthy but answers without a token")
        if not endpoint.direct:
            self._run.say("the endpoint was reached over SSH, not from here directly: r1deploy tunnel brings it here")
        return Passed(f"{endpoint.url}/v1", name, answer, nodes)

    def _pause(self) -> None:
        """Wait for the next look. Raises LockedError where the cluster is no longer ours."""
        if self._run.lost:
            raise lost(self._record.hosts[0].name)
        time.sleep(POLL_SECONDS)

    def _report(self) -> None:
        for line in reversed(self.tail):
            match = LOADING.search(line)
            if match:
                self._run.bar("loading weights", int(match.group(2)), int(match.group(3)))
                return

    def _failed(self, code: str, message: str) -> GateError:
        self._look(nodes=False)
        text = "\n".join(self.tail)
        cause = cause_of(ENGINE, text)
        fix = cause.fix if cause else "r1deploy logs --serve"
        return GateError(code, message, host=self._record.hosts[0].name, evidence=self.tail, fix=fix)
