"""The checkpoint on the hosts: look, hash, bring to the hosts that lack it, pull from a hub.

What reads and writes runs on the hosts (``r1deploy.onhost.checkpointwork``, sent over
SSH): 671 GB never pass through the controller. Whether two hosts see one folder is
found out with a file of random content, since a share has many file systems and a
path or a device number proves nothing.
"""

from __future__ import annotations

import io
import os
import secrets
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1deploy.actions.context import Context
from r1deploy.actions.look import refuse_unreachable
from r1deploy.actions.resolve import Say
from r1deploy.actions.weights_rows import row_of
from r1deploy.cluster.host import Host
from r1deploy.connection import Lines, Remote, Session, answer_in
from r1deploy.errors import ApplyError, ConfigError, PreflightError, R1Error, UsageError
from r1deploy.onhost.sums import parse_sums
from r1deploy.planning.checks import fits, named
from r1deploy.planning.findings import Check
from r1deploy.runner.probe import Probed, probe
from r1deploy.settings.load import weights_host_path
from r1deploy.settings.model import Settings
from r1deploy.signals import Stopped
from r1deploy.units import size_of

WORKERS = 8
# What a user asks a hub's package by.
CLIENTS = {"huggingface": "huggingface_hub", "modelscope": "modelscope"}
Answer = dict[str, Any]
Progress = Callable[[str, int, int], None]
FIXES = {
    "DISK_FULL": "df -h on the host; free space there, or set engine.model and container.volumes to a larger disk",
    "WEIGHTS_BUSY": "wait for the other run, or see on the host what writes there",
    "PEER_UNREACHABLE": "open all TCP ports between the hosts' addresses: Ray needs them too",
    "HUB_AUTH": "set HF_TOKEN (or MODELSCOPE_API_TOKEN) in the environment as R1DEPLOY_WEIGHTS__ENV__…, or weights.env",
    "HUB_MISSING": "check weights.hub, weights.repo and weights.revision",
    "HUB_NO_ROUTE": "set HTTPS_PROXY or HF_ENDPOINT in weights.env, and run it again: it goes on where it ended",
    "HUB_TLS": "set REQUESTS_CA_BUNDLE and SSL_CERT_FILE in weights.env to a file on the host",
    "HUB_FAILED": "run it again: it goes on where it ended",
    "WEIGHTS_COPY_FAILED": "run it again: it goes on where it ended",
    "MANIFEST_INVALID": "where the checkpoint is good, in its folder: sha256sum *.json *.safetensors > SHA256SUMS",
}
REFUSALS = {"WEIGHTS_BUSY", "MANIFEST_INVALID"}


@dataclass
class Hosts:
    """The hosts of the cluster with a connection to each."""

    context: Context
    probed: Probed
    path: str
    remotes: dict[str, Remote] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The merged settings."""
        return self.context.settings

    @property
    def all(self) -> tuple[Host, ...]:
        """Hosts in the inventory's order."""
        return self.probed.hosts

    def run(
        self, host: Host, op: str, progress: Progress | None = None, payload: bytes = b"", **request: Any
    ) -> Answer:
        """Do one thing on a host and return its answer. Raises PreflightError, ApplyError, UnreachableError."""
        last: Answer = {}

        def take(line: str) -> None:
            row = row_of(op, answer_in(line))
            if row is None or row["kind"] == "note":
                return
            if row["kind"] == "progress":
                if progress:
                    progress(host.name, row["done"], row["total"])
            elif row["kind"] == "ready":
                request["ready"](row)
            else:
                last.clear()
                last.update(row)

        def feed(session: Session) -> None:
            session.send(payload)
            session.finish_input()

        order = {"op": op, "path": self.path, "record": f"{self.settings.state_dir}/weights.json", **request}
        order.pop("ready", None)
        remote = self.remotes[host.name]
        code, said = remote.script("checkpointwork", order, Lines(take).write, feed=feed)
        if last.get("kind") == "error":
            raise refusal(host.name, last)
        if last.get("kind") != "done" or code != 0:
            raise remote.no_answer(f"weights: {op}", code, said)
        return last

    def on_each(self, hosts: Sequence[Host], do: Callable[[Host], Answer]) -> dict[str, Answer]:
        """Do something on many hosts at once; all of them end before the first error is raised."""
        with ThreadPoolExecutor(max(len(hosts), 1)) as pool:
            jobs: dict[str, Future[Answer]] = {host.name: pool.submit(do, host) for host in hosts}
            try:
                errors = {name: error for name, job in jobs.items() if (error := job.exception()) is not None}
            except Stopped:
                self.close()
                raise
        if errors:
            raise joined(errors)
        return {name: job.result() for name, job in jobs.items()}

    def close(self) -> None:
        """Close the connections: what runs there ends within a second."""
        for remote in self.remotes.values():
            remote.close()


def refusal(host: str, row: Answer) -> R1Error:
    """An error that a host's script answered, as ours."""
    kind = PreflightError if row["code"] in REFUSALS else ApplyError
    code, fix = str(row["code"]), FIXES.get(str(row["code"]))
    return kind(code, f"{host}: {row['message']}", host=host, evidence=row["tail"], fix=fix)


def joined(errors: Mapping[str, BaseException]) -> BaseException:
    """The first error; the others stand in its evidence."""
    first, *others = errors.values()
    if isinstance(first, R1Error):
        first.evidence = (*first.evidence, *(str(error) for error in others))
    return first


@contextmanager
def open_hosts(context: Context) -> Iterator[Hosts]:
    """Connections to all hosts. Raises UnreachableError; ConfigError where no volume holds the checkpoint."""
    path = weights_host_path(context.settings)
    if path is None:
        raise ConfigError("SETTINGS_VALUE", "engine.model lies in no volume of the container", fix="container.volumes")
    probed = probe(context.target, context.settings)
    refuse_unreachable(probed)
    hosts = Hosts(context, probed, path)
    try:
        for host in probed.hosts:
            hosts.remotes[host.name] = context.remote(probed, host.name)
        yield hosts
    except Stopped as stop:
        stop.goes_on, stop.fix = "what is whole stays", "run the same command again: it goes on where it ended"
        raise
    finally:
        hosts.close()


def copies(hosts: Hosts) -> list[list[Host]]:
    """The hosts by the copy of the folder that they see: those of a share are together, in their order."""
    left, groups = list(hosts.all), []
    while left:
        group = sharers(hosts, left[0], left[1:])
        groups.append(group)
        left = [host for host in left if host not in group]
    return groups


def sharers(hosts: Hosts, first: Host, others: Sequence[Host]) -> list[Host]:
    """A host and those that see its folder; where it may not write there, it counts as alone."""
    if not others:
        return [first]
    token, secret = secrets.token_hex(8), secrets.token_hex(16)
    place = hosts.run(first, "mark", token=token, content=secret)["marked"]
    if place is None:
        return [first]
    try:
        look = hosts.on_each(others, lambda host: hosts.run(host, "seen", marked=place, content=secret))
    finally:
        hosts.run(first, "unmark", marked=place)
    return [first, *(host for host in others if look[host.name]["seen"])]


def manifest_of(settings: Settings) -> dict[str, str] | None:
    """The sums that the settings name. Raises PreflightError MANIFEST_INVALID."""
    if settings.weights.manifest is None:
        return None
    path = Path(settings.weights.manifest)
    try:
        found: dict[str, str] = parse_sums(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PreflightError("MANIFEST_INVALID", f"{path}: {error}", fix=FIXES["MANIFEST_INVALID"]) from None
    return found


def where(group: Sequence[Host]) -> str | None:
    """A copy's hosts in words: None stands for the cluster."""
    return ", ".join(host.name for host in group)


def verify(context: Context, progress: Progress, say: Say) -> list[Check]:
    """Every copy of the checkpoint: headers, sums where there is a manifest or another copy, memory of the chips."""
    wanted = manifest_of(context.settings)
    with open_hosts(context) as hosts:
        groups = copies(hosts)
        say("; ".join(f"one copy on {where(group)}" for group in groups))
        first = [group[0] for group in groups]
        answers = hosts.on_each(first, lambda host: prove(hosts, host, wanted, len(groups) > 1, progress))
        rows = [row for group in groups for row in judge(hosts.path, group, answers[group[0].name])]
        rows += differing(groups, answers)
        whole = [answer["weights"] for answer in answers.values() if answer["weights"]["shards"]]
        if whole:
            largest = max(whole, key=lambda row: int(row["bytes"]))
            ok, detail = fits(context.settings, largest["bytes"], largest["layers"])
            fix = "more chips, or a smaller checkpoint"
            rows.append(Check("weights fit", None, ok, detail, "WEIGHTS_TOO_LARGE", fix))
    return rows


def prove(hosts: Hosts, host: Host, sums: Mapping[str, str] | None, hashing: bool, progress: Progress) -> Answer:
    """Verify on one host. In: sums that the files must have; whether to hash without any."""
    source = hosts.settings.weights.manifest
    return hosts.run(host, "verify", progress, sums=sums, hash=hashing, source=source)


def judge(path: str, group: Sequence[Host], answer: Answer) -> Iterator[Check]:
    """Findings on one copy: names and sizes of what is wrong."""
    seen, host = answer["weights"], where(group)
    again = "r1deploy weights pull, or r1deploy weights push from a good host"
    if not seen["exists"] or not seen["shards"] or not seen["config"]:
        what = "is not there" if not seen["exists"] else "no safetensors" if not seen["shards"] else "no config.json"
        yield Check("weights", host, False, f"{path}: {what}", "WEIGHTS_MISSING", again)
        return
    if seen["missing"] or seen["bad"]:
        yield Check("weights", host, False, f"{path}: {damage(seen)}", "WEIGHTS_DAMAGED", again)
        return
    yield Check("weights", host, True, f"{seen['shards']} shards, {size_of(seen['bytes'])}", "WEIGHTS_DAMAGED")
    if not answer["sums"]:
        detail = "no manifest, one copy: headers and sizes only (weights.manifest)"
        yield Check("weights sha256", host, True, detail, "WEIGHTS_DAMAGED")
        return
    source = f" as in {answer['source']}" if answer["source"] else ", no manifest"
    took = f"{size_of(answer['hashed'])} read in {answer['seconds']:.0f} s"
    bad = [f"{name} has another sha256" for name in answer["differ"]] + [f"no {name}" for name in answer["absent"]]
    if bad:
        detail = f"{path}: {few(bad)} ({answer['source']})"
        yield Check("weights sha256", host, False, detail, "WEIGHTS_DAMAGED", again)
    elif answer["unlisted"]:
        detail = f"{answer['source']} does not name {few(answer['unlisted'])}"
        yield Check("weights sha256", host, False, detail, "MANIFEST_INVALID", "ask for the whole manifest")
    else:
        yield Check("weights sha256", host, True, f"{len(answer['sums'])} files{source}; {took}", "WEIGHTS_DAMAGED")


def damage(seen: Answer) -> str:
    """Missing and broken shards of a copy."""
    said = [f"missing {few(seen['missing'])}"] if seen["missing"] else []
    said += (
        [f"cut or damaged {few([named(name, seen['why'].get(name)) for name in seen['bad']])}"] if seen["bad"] else []
    )
    return "; ".join(said)


def few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def differing(groups: Sequence[Sequence[Host]], answers: Mapping[str, Answer]) -> Iterator[Check]:
    """Copies that are whole by themselves and hold other bytes than the first one."""
    whole = [group for group in groups if answers[group[0].name]["sums"]]
    for group in whole[1:]:
        one, two = answers[whole[0][0].name]["sums"], answers[group[0].name]["sums"]
        names = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
        detail = f"{few(names)} differ from {where(whole[0])}'s" if names else f"the same bytes as on {where(whole[0])}"
        fix = f"r1deploy weights push --from {whole[0][0].name}, if that one is right"
        yield Check("same weights", where(group), not names, detail, "WEIGHTS_DIFFER", fix)


@dataclass(frozen=True)
class Pushed:
    """What a push did: the host it read from, the hosts that got the checkpoint, those that see the source's."""

    source: str
    targets: tuple[str, ...]
    shared: tuple[str, ...]
    files: int
    bytes: int


def host_named(hosts: Hosts, name: str | None) -> Host | None:
    """A host by its inventory name; None for None. Raises UsageError."""
    if name is None:
        return None
    for host in hosts.all:
        if host.name == name:
            return host
    known = ", ".join(host.name for host in hosts.all)
    raise UsageError("LIMIT_EMPTY", f"{name}: no such host", fix=f"hosts are: {known}")


def push(context: Context, source: str | None, progress: Progress, say: Say) -> Pushed:
    """Bring the checkpoint of one host to those that do not see it, all at once, and prove what arrived.

    Raises PreflightError before anything is written: no whole copy, no room, no rsync. ApplyError after.
    """
    wanted = manifest_of(context.settings)
    with open_hosts(context) as hosts:
        given = host_named(hosts, source)
        looks = hosts.on_each(hosts.all, lambda host: hosts.run(host, "look"))
        good = [host for host in hosts.all if whole_copy(looks[host.name]["weights"])]
        chosen = given or next(iter(good), None)
        if chosen is None or chosen not in good:
            raise no_source(hosts, chosen, looks)
        groups = copies(hosts)
        own = next(group for group in groups if chosen in group)
        targets = [group[0] for group in groups if group is not own]
        shared = tuple(host.name for host in own if host is not chosen)
        if not targets:
            return Pushed(chosen.name, (), shared, 0, 0)
        refuse_no_rsync([chosen, *targets], looks)
        proven = prove(hosts, chosen, wanted, True, progress)
        for check in judge(hosts.path, [chosen], proven):
            if not check.ok:
                message = f"{chosen.name}: {check.detail}"
                raise PreflightError(check.code, message, host=chosen.name, fix=check.fix)
        sizes = {name: int(size) for name, size in looks[chosen.name]["sizes"].items() if not hidden(name)}
        refuse_no_room(hosts.path, targets, sizes, looks)
        say(f"from {chosen.name} to {where(targets)}: {size_of(sum(sizes.values()))}")
        send(hosts, chosen, targets, sizes, progress)
        arrived = check_arrived(hosts, chosen, targets, sizes, proven["sums"], progress)
        return Pushed(chosen.name, tuple(host.name for host in targets), shared, arrived, sum(sizes.values()))


def whole_copy(seen: Answer) -> bool:
    """Whether headers and sizes of a copy are all right."""
    return bool(seen["shards"] and seen["config"] and not seen["missing"] and not seen["bad"])


def hidden(name: str) -> bool:
    """Caches and partial files at the top of the folder; they are not sent."""
    return name.startswith(".") or "/.r1deploy-partial/" in f"/{name}"


def no_source(hosts: Hosts, chosen: Host | None, looks: Mapping[str, Answer]) -> PreflightError:
    """No host has a whole checkpoint, or the one that was named has not."""
    rows = []
    for host in [chosen] if chosen else hosts.all:
        seen = looks[host.name]["weights"]
        what = damage(seen) if seen["exists"] and seen["shards"] else "no checkpoint"
        rows.append(f"{host.name}: {what or 'no config.json'}")
    code = "WEIGHTS_DAMAGED" if any(looks[host.name]["weights"]["shards"] for host in hosts.all) else "WEIGHTS_MISSING"
    fix = "r1deploy weights pull" if chosen is None else "name another host, or: r1deploy weights pull"
    return PreflightError(code, f"{hosts.path} is whole on no host: {rows[0]}", evidence=rows[1:], fix=fix)


def refuse_no_rsync(hosts: Sequence[Host], looks: Mapping[str, Answer]) -> None:
    """Raise PreflightError TOOLS_MISSING where a host has no rsync."""
    for host in hosts:
        if not looks[host.name]["rsync"]:
            message = f"{host.name}: rsync is not installed"
            raise PreflightError("TOOLS_MISSING", message, host=host.name, fix="apt-get install rsync")


def refuse_no_room(path: str, targets: Sequence[Host], sizes: Mapping[str, int], looks: Mapping[str, Answer]) -> None:
    """Raise PreflightError DISK_FULL where what is still to come does not fit."""
    for host in targets:
        there = looks[host.name]["sizes"]
        need = sum(size for name, size in sizes.items() if there.get(name) != size)
        free = int(looks[host.name]["free"])
        if need > free:
            message = f"{host.name}: {size_of(need)} are to come, {size_of(free)} are free for {path}"
            raise PreflightError("DISK_FULL", message, host=host.name, fix=FIXES["DISK_FULL"])


def send(
    hosts: Hosts,
    source: Host,
    targets: Sequence[Host],
    sizes: Mapping[str, int],
    progress: Progress,
    names: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """One copy from a host to many. In: sizes by name; by host the names to send again whatever their size says."""
    password, ready, offers = secrets.token_hex(24), threading.Event(), []
    allowed = [host.address for host in targets]

    def opened(row: Answer) -> None:
        offers.append(row)
        ready.set()

    def offer() -> None:
        try:
            hosts.run(source, "offer", password=password, allowed=allowed, address=source.address, ready=opened)
        except (R1Error, OSError) as error:
            failed.append(error)
        finally:
            ready.set()

    failed: list[BaseException] = []
    # A connection of its own: closing it ends the offer, and nothing else.
    kept = hosts.remotes[source.name]
    hosts.remotes[source.name] = hosts.context.remote(hosts.probed, source.name)
    thread = threading.Thread(target=offer, daemon=True)
    try:
        thread.start()
        ready.wait()
        if not offers:
            raise failed[0]
        hosts.on_each(
            targets,
            lambda host: hosts.run(
                host,
                "fetch",
                progress,
                address=source.address,
                port=int(offers[0]["port"]),
                password=password,
                sizes=dict(sizes),
                names=list((names or {}).get(host.name, ())),
            ),
        )
    finally:
        hosts.remotes[source.name].close()
        hosts.remotes[source.name] = kept
        thread.join(10)
        broken = sys.exc_info()[0] is not None
        # Closing only tells it to end: done is what is gone.
        with suppress(R1Error) if broken else nullcontext():
            for row in offers:
                hosts.run(source, "ended", process=str(row["process"]))


def check_arrived(
    hosts: Hosts,
    source: Host,
    targets: Sequence[Host],
    sizes: Mapping[str, int],
    sums: Mapping[str, str],
    progress: Progress,
) -> int:
    """Hash at the targets; files that had the right size and time and other bytes are sent once more.

    Returns the number of files that were proven. Raises ApplyError WEIGHTS_DAMAGED.
    """

    def bad() -> dict[str, list[str]]:
        found = hosts.on_each(targets, lambda host: prove(hosts, host, sums, True, progress))
        rows = {}
        for host in targets:
            answer = found[host.name]
            rows[host.name] = [*answer["differ"], *answer["absent"], *answer["weights"]["missing"]]
            rows[host.name] += [name for name in answer["weights"]["bad"] if name not in rows[host.name]]
        return {name: names for name, names in rows.items() if names}

    left = bad()
    if left:
        again = [host for host in targets if host.name in left]
        send(hosts, source, again, sizes, progress, left)
        left = bad()
    if left:
        rows = [f"{name}: {few(names)}" for name, names in left.items()]
        message = f"{rows[0]} arrived with other bytes than {source.name} has"
        fix = "check memory and disk of that host"
        raise ApplyError("WEIGHTS_DAMAGED", message, host=next(iter(left)), evidence=rows[1:], fix=fix)
    return len(sums)


@dataclass(frozen=True)
class Pulled:
    """What a pull did; ``downloaded`` are the bytes that were not there yet."""

    host: str
    revision: str | None
    files: int
    bytes: int
    downloaded: int
    checks: tuple[Check, ...]


def pull(context: Context, name: str | None, progress: Progress, say: Say) -> Pulled:
    """Download the checkpoint on one host with the hub's own client, resumable, and verify it there.

    Raises ApplyError, PreflightError.
    """
    wanted = manifest_of(context.settings)
    weights = context.settings.weights
    with open_hosts(context) as hosts:
        host = host_named(hosts, name) or hosts.all[0]
        machine = hosts.probed.observed[host.name].host
        version = ".".join(machine.python.split(".")[:2])
        key = f"{weights.hub}-py{version}-{machine.arch}"
        place = f"{context.settings.state_dir}/hub/{key}"
        payload = b""
        if not hosts.run(host, "look", client=place)["client"]:
            payload = client(weights.hub, version, machine.arch, key, say)
        say(f"{host.name}: {weights.repo} from {weights.hub} to {hosts.path}")
        answer = hosts.run(
            host,
            "pull",
            progress,
            payload,
            client_bytes=len(payload),
            client=place,
            hub=weights.hub,
            repo=weights.repo,
            revision=weights.revision,
            env=dict(weights.env),
            workers=WORKERS,
        )
        proven = prove(hosts, host, wanted, True, progress)
        checks = tuple(judge(hosts.path, [host], proven))
    return Pulled(host.name, answer["revision"], answer["files"], answer["bytes"], answer["downloaded"], checks)


def client(hub: str, version: str, arch: str, key: str, say: Say) -> bytes:
    """The hub's client for a host's Python, as a tar file; pip here gets it once.

    Not from the container's image, which comes with ``bootstrap`` only, and not with the host's pip,
    which is often not there: pip here has its index, proxy and certificates already. Raises PreflightError.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    kept = Path(base) / "r1deploy" / "hub" / f"{key}.tar.gz"
    if kept.is_file():
        return kept.read_bytes()
    say(f"getting {CLIENTS[hub]} for Python {version} on {arch} with pip")
    with tempfile.TemporaryDirectory(prefix="r1-hub-") as folder:
        argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        argv += ["--target", folder, "--only-binary=:all:", "--implementation", "cp", "--python-version", version]
        for tag in ("manylinux2014", "manylinux_2_17", "manylinux_2_28"):
            argv += ["--platform", f"{tag}_{arch}"]
        done = subprocess.run([*argv, CLIENTS[hub]], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()][-5:]
            message = f"pip cannot get {CLIENTS[hub]} for Python {version}"
            fix = "give pip here its index or proxy (PIP_INDEX_URL, PIP_FIND_LINKS, HTTPS_PROXY)"
            raise PreflightError("HUB_CLIENT_MISSING", message, evidence=lines, fix=fix)
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=3) as archive:
            archive.add(folder, arcname=".")
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}")
    partial.write_bytes(stream.getvalue())
    partial.replace(kept)
    return stream.getvalue()
