"""Releases that are on the hosts: what each consists of, and what of it is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from r1deploy.cluster.ranges import FEWEST, spoken
from r1deploy.planning.desired import INSTALL_PARTS, Desired
from r1deploy.planning.observed import Observed
from r1deploy.planning.recorded import Active, Record, ReleaseState, Switched, TreeState


@dataclass(frozen=True)
class Held:
    """A release with one configuration, as the head's records name it; the last switch to it, where one is known."""

    record: Record
    state: str
    problems: tuple[str, ...]
    switched: Switched | None = None

    @property
    def name(self) -> str:
        """``release/config``."""
        return f"{self.record.release}/{self.record.config}"


def names_of(active: Active | None) -> dict[str, str]:
    """``release/config`` → active or previous."""
    if active is None:
        return {}
    names = {f"{active.release}/{active.config}": "active"}
    if active.previous:
        names.setdefault(f"{active.previous['release']}/{active.previous['config']}", "previous")
    return names


def held(cluster: str, head: str, observed: Mapping[str, Observed]) -> list[Held]:
    """Every release of the head's records, with what is missing of it on which host.

    In: the cluster's name; the head's name; what was found, by host name.
    """
    active = observed[head].state.active
    states, switches = names_of(active), active.switches if active else {}
    rows = []
    for release in observed[head].state.releases.values():
        for record in release.records.values():
            if record is not None:
                name = f"{record.release}/{record.config}"
                problems = tuple(missing(cluster, record, observed))
                rows.append(Held(record, states.get(name, "prepared"), problems, switches.get(name)))
    order = {"active": 0, "previous": 1, "prepared": 2}
    return sorted(rows, key=lambda row: (order[row.state], row.name))


def remembered(active: Active | None, releases: Mapping[str, ReleaseState]) -> dict[str, Any]:
    """Switches for the next active.json, of JSON types: those to what is still on the head. In: the head's releases."""
    there = {f"{release}/{config}" for release, state in releases.items() for config in state.configs}
    rows = active.switches if active else {}
    return {name: row.model_dump() for name, row in rows.items() if name in there}


def missing(cluster: str, record: Record, observed: Mapping[str, Observed]) -> Iterator[str]:
    """What forbids to serve a record again, host by host."""
    for host in record.hosts:
        seen = observed.get(host.name)
        if seen is None:
            yield f"{host.name}: it does not answer"
            continue
        for problem in problems_of(cluster, record, host.files, seen):
            yield f"{host.name}: {problem}"


def problems_of(cluster: str, record: Record, files: Mapping[str, str], seen: Observed) -> Iterator[str]:
    """What is missing of a record on one host."""
    trees: dict[str, TreeState] = {}
    for name in record.trees:
        tree = seen.state.trees.get(name)
        if tree is None:
            yield f"the tree {name} is gone"
        elif tree.bad:
            yield f"the tree {name} is altered: {', '.join(tree.bad)}"
        else:
            trees[name] = tree
    container = seen.container_of(cluster, record.release)
    if container is None:
        yield "its container is gone"
    else:
        if record.image and container.image != record.image:
            yield f"its container has the image {container.image[7:19]}, not {record.image[7:19]}"
        installed = container.installed.parts if container.installed else {}
        gone = [part for part in INSTALL_PARTS if part not in installed or not installed[part].intact]
        if container.running and gone:
            yield f"not whole in its container: {', '.join(gone)}"
    state = seen.state.releases.get(record.release)
    has = state.configs.get(record.config, {}) if state else {}
    wrong = [name for name, digest in files.items() if has.get(name, (None, ""))[0] != digest]
    if wrong:
        yield f"configuration files are gone or altered: {', '.join(wrong)}"


def differences(old: Record, new: Record) -> Iterator[str]:
    """What two records differ in, one line each: ``image: 0123 → 4567``."""
    pairs = {name: (getattr(old, name), getattr(new, name)) for name in ("image", "mode", "model", "port", "container")}
    names = {*old.commits, *new.commits}
    pairs |= {name: (old.commits.get(name), new.commits.get(name)) for name in sorted(names)}
    pairs["hosts"] = (spoken(host.name for host in old.hosts), spoken(host.name for host in new.hosts))
    for name, (was, now) in pairs.items():
        if was != now:
            yield f"{name}: {shown(was)} → {shown(now)}"
    if set(old.trees) != set(new.trees) and old.commits == new.commits and old.image == new.image:
        yield "patch or vllm.build: another tree"
    for name, hosts in files_between(old, new).items():
        setting = SETTINGS_IN.get(name.split("/")[0], name)
        for where in hosts if len(hosts) < FEWEST else [spoken(hosts)]:
            yield f"{setting}: another {name} on {where}"


def files_between(old: Record, new: Record) -> dict[str, list[str]]:
    """Files that two records both have and differ in, with their hosts."""
    files = {host.name: host.files for host in old.hosts}
    found: dict[str, list[str]] = {}
    for host in new.hosts:
        both = sorted(name for name in host.files.keys() & files.get(host.name, {}).keys() if not names_folder(name))
        for name in both:
            if host.files[name] != files[host.name][name]:
                found.setdefault(name, []).append(host.name)
    return found


# Which settings a rendered file holds.
SETTINGS_IN = {"serve": "engine", "env.sh": "env or an interface", "api_key.sh": "service.api_key_file"}


def names_folder(name: str) -> bool:
    """Whether a file names the folder that it lies in: then it differs between any two configurations."""
    return name.startswith("config_") or name in ("serve.sh", "ray.sh")


def shown(value: object) -> str:
    """A value of a record for people: hashes short."""
    text = str(value).removeprefix("sha256:")
    return text[:12] if len(text) in (40, 64) else text


def unneeded(desired: Desired, observed: Mapping[str, Observed]) -> dict[str, dict[str, list[str]]]:
    """What may go, by host: ``containers`` by name, ``paths`` of releases, configurations and trees.

    The active and the previous release stay, and so does the one that the settings ask for.
    """
    cluster, at = desired.settings.cluster, desired.layout
    head = observed[desired.head.name].state
    keep = {*names_of(head.active), desired.name}
    releases = {name.split("/")[0] for name in keep}
    trees = {desired.release.flaggems.name, desired.release.flagscale.name}
    for seen in observed.values():
        for state in seen.state.releases.values():
            trees |= {
                tree for record in state.records.values() if record and record.release in releases
                for tree in record.trees
            }  # fmt: skip
    rows: dict[str, dict[str, list[str]]] = {}
    for host, seen in observed.items():
        containers = [
            row.name
            for row in seen.containers
            if row.cluster == cluster and row.release and row.release not in releases
        ]
        paths = [at.release(name) for name in seen.state.releases if name not in releases]
        paths += [
            at.config(name, config)
            for name, state in seen.state.releases.items()
            if name in releases
            for config in state.configs
            if f"{name}/{config}" not in keep
        ]
        paths += [at.tree(name) for name in seen.state.trees if name not in trees]
        if containers or paths:
            rows[host] = {"containers": containers, "paths": paths}
    return rows
