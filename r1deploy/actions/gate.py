"""The gate: the proof that the service serves. Ray's nodes, the engine's log, health, model, one answer."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from r1deploy.connection import Remote
from r1deploy.engine import Answer, Endpoint
from r1deploy.errors import GateError, UnreachableError
from r1deploy.onhost import servingwatch
from r1deploy.planning.observed import Record
from r1deploy.runlock import lost
from r1deploy.settings.model import Settings

Say = Callable[[str], None]
Connect = Callable[[str], Remote]
Progress = Callable[[str, int, int], None]
POLL_SECONDS = 2.0
LOADING = re.compile(r"(\d+)% Completed \| (\d+)/(\d+)")
# What the engine's last lines mean, the first that fits. (pattern, sentence)
DIAGNOSES = (
    (r"out of memory|OutOfMemory", "a chip ran out of memory: lower engine.gpu_memory_utilization or max_model_len"),
    (r"connectFullMesh failed|127\.0\.0\.1", "nodes talk over loopback: check the hosts' names and *_SOCKET_IFNAME"),
    (r"unique IP address", "two nodes have the same VLLM_HOST_IP: check the addresses in the inventory"),
    (r"No such file or directory|does not appear to have|not found.*model", "the engine does not find the weights"),
    (r"placement group", "Ray has fewer chips than tp × pp asks for"),
    (r"error 801", "the image's driver libraries are newer than the host's driver"),
    (r"[Aa]ddress already in use", "the engine's port is taken"),
)


@dataclass(frozen=True)
class Passed:
    """What the gate saw."""

    endpoint: str
    model: str
    answer: Answer
    nodes: tuple[str, ...]


class Gate:
    """Watches one start of the service from the controller. In: ``connect``, host's name → a connection to it."""

    def __init__(
        self, record: Record, settings: Settings, remote: Remote, connect: Connect, say: Say, progress: Progress
    ) -> None:
        logs = f"{settings.state_dir}/releases/{record.release}/outputs/{record.service}/serve_logs"
        self.log = f"{logs}/host_0_localhost.output"
        self._pid = f"{logs}/pids/host_0_localhost.pid"
        self._record, self._settings, self._remote = record, settings, remote
        self._connect, self._say, self._progress = connect, say, progress
        self._offset = 0
        self.tail: list[str] = []
        self.cancelled: Callable[[], bool] = lambda: False

    def before(self) -> None:
        """Remember where the log ends: FlagScale appends to it for ever."""
        self._offset = int(self._look(nodes=False).get("size") or 0)

    def _look(self, nodes: bool) -> dict[str, Any]:
        order = {"op": "watch", "log": self.log, "pid_file": self._pid, "offset": self._offset, "nodes": nodes}
        found = self._ask(self._remote, order) or {}
        text = str(found.get("log") or "")
        self.tail = [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()][-15:]
        return dict(found)

    def join(self) -> tuple[str, ...]:
        """Wait until Ray has all nodes and chips. Raises GateError that names the missing ones."""
        wanted = {host.address: host for host in self._record.hosts}
        deadline = time.monotonic() + self._settings.service.join_timeout
        while True:
            found = self._look(nodes=True)
            nodes = {str(address): int(chips) for address, chips in found.get("nodes") or []}
            missing = [host for address, host in wanted.items() if address not in nodes]
            short = [host for address, host in wanted.items() if nodes.get(address, host.slots) != host.slots]
            if not missing and not short:
                self._say(f"Ray: {len(nodes)}/{len(wanted)} nodes, {sum(nodes.values())} chips")
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
            with contextlib.suppress(UnreachableError), self._connect(name) as remote:
                found = self._ask(remote, {"op": "versions"})
                if found and found != own:
                    differ.append(f"{found} on {name}")
        return f"; {own} on {self._record.hosts[0].name} and {', '.join(differ)} do not join" if own and differ else ""

    def ready(self, endpoint: Endpoint) -> Passed:
        """Wait for health, the model's id and one answer with tokens. Raises GateError."""
        limit = self._settings.service.ready_timeout
        deadline = time.monotonic() + limit
        while endpoint.health() != 200:
            found = self._look(nodes=False)
            self._report()
            if found.get("alive") is False:
                raise self._failed("ENGINE_DIED", "the engine ended before it answered")
            if time.monotonic() > deadline:
                said = f"; {endpoint.refused}" if endpoint.refused else ""
                raise self._failed("ENGINE_SILENT", f"no answer in {limit} s{said}")
            self._pause()
        models = endpoint.models() or []
        name = self._record.model
        if name not in models:
            raise self._failed("MODEL_WRONG", f"the engine serves {', '.join(models) or 'no model'}, not {name}")
        answer = endpoint.complete(max(30.0, deadline - time.monotonic()))
        if answer is None or not answer.real:
            raise self._failed("NO_TOKENS", "the engine is healthy but answers without a token")
        if not endpoint.direct:
            self._say("the endpoint was reached over SSH, not from here directly: r1deploy tunnel brings it here")
        return Passed(f"{endpoint.url}/v1", name, answer, ())

    def _pause(self) -> None:
        """Wait for the next look. Raises LockedError where the cluster is no longer ours."""
        if self.cancelled():
            raise lost(self._record.hosts[0].name)
        time.sleep(POLL_SECONDS)

    def _report(self) -> None:
        for line in reversed(self.tail):
            found = LOADING.search(line)
            if found:
                self._progress("loading weights", int(found.group(2)), int(found.group(3)))
                return

    def _failed(self, code: str, message: str) -> GateError:
        self._look(nodes=False)
        text = "\n".join(self.tail)
        why = next((sentence for pattern, sentence in DIAGNOSES if re.search(pattern, text)), None)
        return GateError(
            code, message, host=self._record.hosts[0].name, evidence=self.tail, fix=why or "r1deploy logs --serve"
        )
