"""Verify chips, kernels and network before the weights are loaded."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1deploy.assurance.chippart import ChipResult, measure_chips
from r1deploy.assurance.diagkept import PartResult, keep
from r1deploy.assurance.diagplaces import Grounds, grounds_of, of_release, refuse_serving
from r1deploy.assurance.kernelpart import chips_of, measure_kernels
from r1deploy.assurance.kernelreport import KernelReport
from r1deploy.assurance.network import NetworkResult, measure_network
from r1deploy.assurance.partresults import chips_kept, kernels_kept, network_kept
from r1deploy.assurance.partwork import Heard
from r1deploy.errors import ApplyError
from r1deploy.observe.blocking import hosts_of
from r1deploy.observe.view import View, lock_of_any, look
from r1deploy.planning.diagrecord import Part
from r1deploy.run import Run
from r1deploy.runlock import lost
from r1deploy.signals import Stopped

CODES: Mapping[Part, str] = {"chips": "DIAG_CHIP", "kernels": "DIAG_KERNEL", "network": "DIAG_NETWORK"}
FIXES: Mapping[Part, str] = {
    "chips": "take the chip, or its host, out of the inventory; then r1deploy diag chips",
    "kernels": "switch off what the list names, or take a FlagGems that fits the image; then r1deploy diag kernels",
    "network": "mend what is named, then r1deploy diag network",
}
# What a part does now: the part, a host, ``what it is at: how far it is``.
Told = Callable[[Part, str, str], None]
About = ChipResult | Mapping[str, KernelReport] | NetworkResult
SCHEMA = 1


class Found(ApplyError):
    """Something is wrong: the run itself went to its end."""


@dataclass(frozen=True)
class Proof:
    """One part: what was measured, its short form, and the file with all of it."""

    about: About
    result: PartResult
    file: Path


@dataclass
class Diagnosis:
    """All parts of one run, of one release."""

    release: str
    config: str | None
    parts: dict[Part, Proof] = field(default_factory=dict)
    time: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    def error(self) -> Found | None:
        """The findings of all parts as one error: the first one gives the code. None: nothing is wrong."""
        wrong = {part: proof.result for part, proof in self.parts.items() if not proof.result.ok}
        if not wrong:
            return None
        rows = [f"{part}: {row}" for part, result in wrong.items() for row in result.findings]
        fix = "\n".join(FIXES[part] for part in wrong)
        return Found(
            CODES[next(iter(wrong))],
            rows[0] if len(rows) == 1 else f"{len(rows)} findings",
            evidence=rows if len(rows) > 1 else (),
            fix=fix,
        )

    def document(self) -> dict[str, Any]:
        """All of it as JSON types; the rows of the hosts are in the files only."""
        error = self.error()
        return {
            "schema": SCHEMA,
            "time": self.time,
            "ok": error is None,
            "error": error.to_dict() if error else None,
            "release": self.release,
            "config": self.config,
            "parts": {
                part: {
                    "ok": proof.result.ok,
                    "file": str(proof.file),
                    **{key: value for key, value in proof.result.document.items() if key != "rows"},
                }
                for part, proof in self.parts.items()
            },
        }


def diag(run: Run, parts: Sequence[Part], host: str | None, told: Told) -> Diagnosis:
    """Verify the parts in their order on one host or all, in the containers; nothing of it stays there.

    Raises UsageError, UnreachableError, LockedError; PreflightError where an engine runs, or a container is missing.
    """
    view, grounds = survey(run, host)
    run.refuse_held(view)
    done = Diagnosis(grounds.release, grounds.config)
    with contextlib.suppress(Found), leaving_nothing(), run.hold(view, "diag"):
        view, grounds = survey(run, host)
        done.release, done.config = grounds.release, grounds.config
        say_places(run, view, grounds)
        prover = Prover(run, view, grounds, done, told)
        for part in parts:
            done.parts[part] = prover.prove(part)
        error = done.error()
        if error:
            raise error  # so that the history has its code
    return done


def survey(run: Run, host: str | None) -> tuple[View, Grounds]:
    """Look at the hosts; those that take part and the head have to answer, and nothing may run there."""
    view = look(run.context, lock_of_any(run.context, run.say))
    hosts = hosts_of(view, host)
    hosts_of(view, view.desired.head.name)
    refuse_serving(view, hosts)
    return view, grounds_of(view, hosts)


def say_places(run: Run, view: View, grounds: Grounds) -> None:
    """Say what is unlike what somebody would expect."""
    if grounds.release != view.desired.release.id:
        run.say(f"release {grounds.release} is active and is measured; r1deploy.yaml describes another one")
    for name, place in grounds.places.items():
        if not place.env:
            run.say(f"{name}: no env.sh of this release: the environment is the container's own")


@dataclass(frozen=True)
class Prover:
    """Measures part by part; ``done`` is what the parts before have found."""

    run: Run
    view: View
    grounds: Grounds
    done: Diagnosis
    told: Told

    def prove(self, part: Part) -> Proof:
        """One part on all hosts, and its result kept. Raises LockedError LOCK_LOST where the lock went under us."""

        def heard(host: str, words: str) -> None:
            self.refuse_lost()
            self.told(part, host, words)

        self.run.at(part)
        about, result = {"chips": self._chips, "kernels": self._kernels, "network": self._network}[part](heard)
        self.refuse_lost()
        return Proof(about, result, keep(self.run, of_release(self.view, self.grounds), result))

    def refuse_lost(self) -> None:
        """Somebody else may start an engine now: the work on a host ends with its next words."""
        if self.run.lost:
            raise lost(self.view.desired.head.name)

    def _chips(self, heard: Heard) -> tuple[About, PartResult]:
        found = measure_chips(self.run, self.view, self.grounds.places, heard)
        return found, chips_kept(found)

    def _kernels(self, heard: Heard) -> tuple[About, PartResult]:
        runs = measure_kernels(self.run, self.view, self.grounds.places, self.counted, heard)
        found = {host: KernelReport(each) for host, each in runs.items()}
        return found, kernels_kept(found, self.counted)

    def _network(self, heard: Heard) -> tuple[About, PartResult]:
        found = measure_network(self.run, self.view, self.grounds.places, heard)
        return found, network_kept(found, self.counted)

    @property
    def counted(self) -> dict[str, int]:
        """Chips by host: those that PyTorch counted, where it was asked, else those of the probe."""
        proof = self.done.parts.get("chips")
        chips = proof.about if proof and isinstance(proof.about, ChipResult) else None
        return {host: chips_of(self.view, host, len(chips.chips(host)) if chips else 0) for host in self.grounds.places}


@contextlib.contextmanager
def leaving_nothing() -> Iterator[None]:
    """After a signal nothing goes on: what runs in the containers ends with its connection."""
    try:
        yield
    except Stopped as stop:
        stop.goes_on = stop.goes_on or "what ran in the containers ends within seconds"
        stop.fix = "run the same command again: it begins anew"
        raise
