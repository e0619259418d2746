"""Where ``diag`` works on each host: the container of the release, and the environment that its engine will have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from r1deploy.assurance.inside import Place
from r1deploy.cluster.host import Host
from r1deploy.errors import PreflightError
from r1deploy.observe.blocking import container_of
from r1deploy.observe.view import View
from r1deploy.planning.observed import Container
from r1deploy.planning.recorded import Active
from r1deploy.render import ENV


@dataclass(frozen=True)
class Grounds:
    """Where to work on each host, and of which release that is."""

    places: dict[str, Place]
    release: str
    config: str | None


def grounds_of(view: View, hosts: Sequence[Host]) -> Grounds:
    """The places in the release that the settings describe; where it does not run, in what is active.

    Raises PreflightError CONTAINER_MISSING, also where the hosts' containers are of different releases.
    """
    containers = {host.name: standing(view, host) for host in hosts}
    releases = {row.release or "none": name for name, row in containers.items()}
    if len(releases) > 1:
        said = ", ".join(f"{release} on {host}" for release, host in releases.items())
        message = f"the containers that run are of different releases: {said}"
        raise PreflightError("CONTAINER_MISSING", message, fix="r1deploy bootstrap")
    python = view.desired.settings.python.executable
    files = {host.name: environment_of(view, host, containers[host.name]) for host in hosts}
    places = {name: Place(row.name, python, files[name]) for name, row in containers.items()}
    (release,) = releases
    config = next((path.split("/")[-2] for path in files.values() if path), None)
    return Grounds(places, release, config)


def of_release(view: View, grounds: Grounds) -> View:
    """The view with the release that was measured in the place of the one that the settings describe."""
    if grounds.release == view.desired.release.id:
        return view
    release = replace(view.desired.release, id=grounds.release)
    return replace(view, desired=replace(view.desired, release=release, config_id=grounds.config))


def standing(view: View, host: Host) -> Container:
    """The container to work in. Raises PreflightError CONTAINER_MISSING, also where it is paused."""
    seen, settings = view.probed.observed[host.name], view.desired.settings
    row = seen.container_of(settings.cluster, view.desired.release.id)
    if row is None or not row.running:
        row = seen.container_named(container_of(view, host))
    if row is None or row.paused:
        name = row.name if row else settings.container.name
        message = f"{host.name}: {name} is paused: nothing can run in it"
        raise PreflightError("CONTAINER_MISSING", message, host=host.name, fix="r1deploy bootstrap")
    return row


def environment_of(view: View, host: Host, container: Container) -> str:
    """The path of env.sh, as the container sees it; "" where the host has none of the container's release."""
    state = view.probed.observed[host.name].state
    release = container.release or ""
    found = state.releases.get(release)
    wanted = [view.desired.config_id] if release == view.desired.release.id else []
    for config in (*wanted, *active_config(state.active, release)):
        if config and found and ENV in found.configs.get(config, {}):
            return f"{view.desired.layout.config(release, config)}/{ENV}"
    return ""


def active_config(active: Active | None, release: str) -> list[str]:
    """The active configuration, where it is one of a release."""
    return [active.config] if active and active.release == release else []


def refuse_serving(view: View, hosts: Sequence[Host]) -> None:
    """Raise PreflightError DIAG_SERVING where Ray or an engine runs on one of the hosts, ours or not."""
    rows, fixes = [], []
    for host in hosts:
        processes = view.probed.observed[host.name].processes
        ours = [(row.pid, f"an engine in {row.container}") for row in processes.engines]
        ours += [(row.pid, f"Ray in {row.container}") for row in processes.raylets]
        rows += [f"{host.name}: {what} (pid {pid})" for pid, what in ours]
        rows += [f"{host.name}: not ours: {row.command} (pid {row.pid})" for row in processes.foreign]
        fixes += ["r1deploy stop"] if ours else []
        fixes += [f"on {host.name}: ps -fp {row.pid}; end it there" for row in processes.foreign]
    if rows:
        message = "diag would share chips and ports with what runs there"
        raise PreflightError(
            "DIAG_SERVING",
            f"{message}: {rows[0]}" if len(rows) == 1 else f"{message}: {len(rows)} processes",
            host=rows[0].partition(":")[0],
            evidence=rows if len(rows) > 1 else (),
            fix="\n".join(dict.fromkeys(fixes)),
        )
