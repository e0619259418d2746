"""Put a release in place, start it, pass the gate, or put the former one back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from r1deploy.ansible.runner import Play
from r1deploy.connection import Remote
from r1deploy.errors import GateError, LockedError, R1Error
from r1deploy.modes import mode_of
from r1deploy.observe.view import View, between, texts_in
from r1deploy.planning.findings import Check
from r1deploy.planning.recorded import Active, Record, Switched
from r1deploy.planning.records import remembered
from r1deploy.planning.rolevars import Variables, fixed_groups
from r1deploy.planning.switchtime import took
from r1deploy.planning.whatserves import needs_ray
from r1deploy.run import Run
from r1deploy.serving.answers import endpoint_of, key_on_head, now
from r1deploy.serving.gate import Gate, Passed
from r1deploy.serving.stopwatch import ENGINE, GATE, Stopwatch
from r1deploy.signals import Stopped


@dataclass(frozen=True)
class Served:
    """What a start ends with; ``warnings``: who can reach the service, said once a start.

    ``switched`` None: it served already, or an interrupted run had begun the start.
    """

    passed: Passed
    already: bool
    switched: Switched | None = None
    warnings: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Gap:
    """What a switch would stop, and for how long nobody is answered, going by the last start.

    ``stops`` None: nothing serves, so nothing is stopped. ``differences`` between the two, as the records know them.
    """

    stops: str | None
    starts: str
    seconds: float | None
    differences: tuple[str, ...]


Confirm = Callable[[Gap], None]


def differing(view: View, wanted: Record) -> tuple[str, ...]:
    """What the active release and a wanted one differ in."""
    record = view.plan.serving.record
    return between(view, record, wanted) if record else ()


def gives_way(view: View, wanted: Record) -> bool:
    """Whether something serves that is stopped for another release: then somebody waits for the new one."""
    serving = view.plan.serving
    return bool(serving.serves) and not serving.is_(wanted)


def agree(view: View, wanted: Record, told: Gap | None, confirm: Confirm) -> Gap:
    """Have it confirmed that something which serves is stopped for another release, unless that was told already."""
    serving = view.plan.serving
    stops = serving.name if gives_way(view, wanted) else None
    seconds = serving.active.seconds if serving.active else None
    gap = Gap(stops, name_of(wanted), seconds, differing(view, wanted))
    if stops and gap != told:
        confirm(gap)
    return gap


def switch(run: Run, view: View, wanted: Record, watch: Stopwatch | None = None) -> Served:
    """Put ``wanted`` in place and start it; what served before comes back where it fails.

    In: the watch of a switch that has begun. Raises GateError, ApplyError.
    """
    active = view.plan.serving.active
    former = former_of(active, wanted)
    watch = watch or Stopwatch(gives_way(view, wanted))
    try:
        if is_starting(view, wanted):
            run.say("an interrupted run has started it already: waiting for it")
            return pass_gate(run, view, wanted, active_of(view, wanted, active), None)
        return start(run, view, wanted, active_of(view, wanted, active), watch)
    except LockedError:
        raise  # the next run joins what was begun, as after a kill
    except R1Error as error:
        if watch.spared:
            run.say(f"nothing was stopped: release {view.plan.serving.name} serves on")
            raise
        back = find(view, former) if former else None
        if back is None:
            end_failed(run, view, wanted)
            raise
        watch.failed()
        raise put_back(run, view, (wanted, back), error, watch) from error


def former_of(active: Active | None, wanted: Record) -> tuple[str, str] | None:
    """The release and configuration to go back to: the last one that passed its gate, and is not the wanted one."""
    if active is None:
        return None
    if (active.release, active.config) != (wanted.release, wanted.config):
        if active.proven or not active.previous:
            return active.release, active.config
    elif active.proven:
        return None
    if active.previous and active.previous != {"release": wanted.release, "config": wanted.config}:
        return active.previous["release"], active.previous["config"]
    return None


def is_starting(view: View, wanted: Record) -> bool:
    """Whether every host has it in place and nothing of it is missing, but nobody has waited for the gate."""
    observed = view.probed.observed
    places = [observed[host.name].state.active for host in view.desired.hosts]
    name = (wanted.release, wanted.config)
    in_place = all(active and (active.release, active.config) == name and not active.proven for active in places)
    return in_place and view.plan.serving.whole


def end_failed(run: Run, view: View, failed: Record) -> None:
    """A release that failed, with nothing to go back to: what is left of it frees the chips."""
    variables: Variables = {"service_name": failed.container, "service_cluster": run.settings.cluster}
    outcome = run.play(view.desired, Play("stop.yml", fixed_groups(view.desired), variables))
    said = "what it had started was ended" if outcome.ok else "what it had started could not be ended"
    run.say(f"release {name_of(failed)} failed, and there is no former one to go back to; {said}")


def find(view: View, name: tuple[str, str]) -> Record | None:
    """The record of a release and configuration on the head."""
    state = view.probed.observed[view.desired.head.name].state.releases.get(name[0])
    return state.records.get(name[1]) if state else None


def name_of(record: Record) -> str:
    """``release/config``."""
    return f"{record.release}/{record.config}"


def active_of(view: View, wanted: Record, former: Active | None) -> Variables:
    """What active.json says from the switch on; ``proven`` is set when the gate is passed."""
    releases = view.probed.observed[view.desired.head.name].state.releases
    back = former_of(former, wanted)
    previous = {"release": back[0], "config": back[1]} if back else (former.previous if former else None)
    return {
        "release": wanted.release,
        "config": wanted.config,
        "since": now(),
        "proven": False,
        "previous": previous,
        "switches": remembered(view.plan.serving.active, releases),
        "settings": settings_kept(view, wanted, previous),
    }


def settings_kept(view: View, wanted: Record, previous: Mapping[str, str] | None) -> Variables:
    """The settings of a release and of the one before it, as far as they are known. In: its record."""
    kept = view.plan.serving.active.settings if view.plan.serving.active else {}
    before = "/".join((previous["release"], previous["config"])) if previous else ""
    rows = {before: kept[before].root if before in kept else None, name_of(wanted): texts_in(view, wanted)}
    return {name: dict(texts) for name, texts in rows.items() if texts}


def start(run: Run, view: View, record: Record, active: Variables, watch: Stopwatch) -> Served:
    """Put a release in place on every host, start it on the head, pass the gate."""
    run.say(f"switching to release {name_of(record)} on {len(record.hosts)} hosts")
    watch.ray = needs_ray(record)
    return pass_gate(run, view, record, active, watch)


def pass_gate(run: Run, view: View, record: Record, active: Variables, watch: Stopwatch | None) -> Served:
    """Start the service, wait for the gate, and write down that it was passed. In: None where it is started already."""
    desired, groups = view.desired, fixed_groups(view.desired)
    variables = service_vars(run, record, active)
    began = time.monotonic()
    with run.head(view) as remote:
        gate = Gate(run, view, record, remote)
        if watch:
            gate.before()
            run.apply(desired, Play(mode_of(record.mode).play, groups, variables), watch.heard)
        run.at("gate")
        with engine_goes_on(record.hosts[0].name):
            passed = watched(run, gate, record, remote, (watch or Stopwatch(served=False)).begin)
            # What was joined in the middle says nothing of how long a start takes.
            switched = watch.end() if watch else None
            seconds = round(time.monotonic() - began, 1) if watch else None
            measured = {name_of(record): switched.model_dump()} if switched else {}
            proof = {**active, "proven": True, "answered": now(), "seconds": seconds}
            proof["switches"] = {**active["switches"], **measured}
            run.apply(desired, Play("proven.yml", groups, {**variables, "service_active": proof}))
        return Served(passed, already=False, switched=switched)


def watched(run: Run, gate: Gate, record: Record, remote: Remote, begin: Callable[[str], None]) -> Passed:
    """Wait until all nodes have joined and the endpoint answers. In: who hears what is waited for. Raises GateError."""
    nodes = gate.join() if len(record.hosts) > 1 else ()
    begin(ENGINE)
    key = key_on_head(run.layout, record, remote)
    endpoint = endpoint_of(run.settings.service, record, key, remote)
    gate.healthy(endpoint)
    begin(GATE)
    return gate.ready(endpoint, nodes)


@contextlib.contextmanager
def engine_goes_on(head: str) -> Iterator[None]:
    """While we wait for the gate, a signal ends the waiting only: say so."""
    try:
        yield
    except Stopped as stop:
        stop.goes_on = f"the engine on {head} goes on loading"
        stop.fix = "r1deploy serve waits for it again, r1deploy stop ends it"
        raise


def service_vars(run: Run, record: Record, active: Variables) -> Variables:
    """Variables of the role ``service``. In: what active.json will say."""
    return {
        "service_name": record.container,
        "service_cluster": run.settings.cluster,
        "service_release": record.release,
        "service_active": active,
        "service_state_dir": run.layout.top,
        "service_experiment": record.service,
        "service_folder": run.layout.config(record.release, record.config),
        "service_workers": [host.address for host in record.hosts[1:]],
        "service_ssh_port": record.ssh_port,
    }


def put_back(run: Run, view: View, both: tuple[Record, Record], error: R1Error, watch: Stopwatch) -> GateError:
    """A release failed: the former one serves again, and proves it. Returns the error to raise.

    In: the one that failed, the one to go back to.
    """
    failed, former = both
    run.say(f"release {name_of(failed)} failed: {error.message}")
    run.say(f"putting release {name_of(former)} back")
    try:
        served = start(run, view, former, active_of(view, former, None), watch)
        ending = f"release {name_of(former)} serves again"
        ending += f"; {took(served.switched)}" if served.switched else ""
    except R1Error as second:
        ending = f"release {name_of(former)} could not be put back: {second.message}"
    return GateError(
        error.code,
        f"{error.message}; {ending}",
        host=error.host,
        evidence=error.evidence,
        fix=error.fix,
        log=run.log,
    )
