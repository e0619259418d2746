"""What each step has to do on a host: one method a step, named like it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from r1deploy.cluster.host import Host
from r1deploy.cluster.ranges import spoken
from r1deploy.modes import mode_of
from r1deploy.planning.changes import UNPAUSED, Row, Unknown, sha256, short
from r1deploy.planning.desired import INSTALL_PARTS, Desired, known_hosts
from r1deploy.planning.observed import Container, Observed
from r1deploy.planning.recorded import TreeState
from r1deploy.planning.whatserves import serving


class Look:
    """One method a step, named like it: yields changes, or one reason why there is nothing to do."""

    def __init__(self, desired: Desired, observed: Mapping[str, Observed]) -> None:
        self.desired = desired
        self.observed = observed
        self.serving = serving(desired.settings.cluster, tuple(host.name for host in desired.hosts), observed)

    def container_on(self, seen: Observed) -> Container | None:
        """The release's container on a host, under whatever name."""
        return seen.container_of(self.desired.settings.cluster, self.desired.release.id)

    def _built(self, name: str) -> TreeState | None:
        """The builder's tree, where it is whole."""
        seen = self.observed.get(self.desired.builder.name)
        tree = seen.state.trees.get(name) if seen else None
        return tree if tree and not tree.bad else None

    def host(self, _: Host, seen: Observed) -> Iterator[Row]:
        """Folders with their modes; the scripts in bin."""
        clean = True
        for path, wanted in self.desired.folders.items():
            current = seen.state.folders.get(path)
            if current != wanted:
                clean = False
                why = "is made" if current is None else "has another mode or owner"
                yield (path, current or "absent", wanted, f"the folder {why}")
        for name, digest in self.desired.helpers.items():
            has = seen.state.bin.get(name)
            if has != digest:
                clean = False
                yield (f"bin/{name}", short(has), short(digest), "script of this r1deploy")
        for path in seen.state.leftovers:
            clean = False
            yield (path, "there", "absent", "left by an interrupted run")
        if clean:
            yield "folders and scripts are as they should be"

    def image(self, _: Host, seen: Observed) -> Iterator[Row]:
        """The image by its id."""
        wanted = self.desired.image_id
        has = seen.image.id if seen.image else None
        name = self.desired.settings.image.name
        source = "tarball" if self.desired.settings.image.tarball else "registry"
        if wanted is None:
            yield (name, short(has), "id known after the pull", "nothing is locked yet")
        elif not self.desired.has_image(seen.image):
            yield (name, short(has), short(wanted), f"from the {source}")
        else:
            yield f"{name} is {short(has)}"

    def container(self, _: Host, seen: Observed) -> Iterator[Row]:
        """The release's container, attribute by attribute."""
        row = self.container_on(seen)
        if row is None:
            yield (self.desired.candidate_name, "absent", "running", "the release has no container here")
            return
        wanted = self.desired.container_spec
        different = [name for name in wanted if row.spec.get(name) != wanted[name]]
        for name in different:
            yield (f"{row.name}.{name}", str(row.spec.get(name)), str(wanted[name]), "recreated with the right setting")
        if self._other_image(row, seen):
            different.append("image")
            yield (
                f"{row.name}.image",
                short(row.image),
                short(self.desired.image_id),
                "recreated from the right image",
            )
        if row.paused:
            yield (row.name, "paused", "running", UNPAUSED)
        elif not row.running:
            yield (row.name, "stopped", "running", "started")
        elif not different:
            yield f"{row.name} runs with the right settings since {row.started_at}"

    def _tree(self, host: Host, seen: Observed, name: str, what: str) -> Iterator[Row]:
        """A built tree: on the builder whole, on the others equal to the builder's."""
        tree = seen.state.trees.get(name)
        builds = host == self.desired.builder
        wanted = self._built(name)
        if tree is not None and tree.bad:
            more = f" and {tree.bad_count - len(tree.bad)} more" if tree.bad_count > len(tree.bad) else ""
            todo = "built again" if builds else f"taken from {self.desired.builder.name}"
            yield (what, f"altered: {', '.join(tree.bad)}{more}", "as it was built", todo)
        elif tree is None:
            todo = "built here" if builds else f"taken from {self.desired.builder.name}"
            yield (what, "absent", name, todo)
        elif self.desired.builder.name not in self.observed:
            yield Unknown(f"whole, and compared with that of {self.desired.builder.name} once that answers")
        elif not builds and wanted is None:
            yield (what, short(tree.digest), "the new build", f"{self.desired.builder.name} builds it again")
        elif not builds and wanted is not None and tree.digest != wanted.digest:
            yield (what, short(tree.digest), short(wanted.digest), f"taken from {self.desired.builder.name}")

    def sources(self, host: Host, seen: Observed) -> Iterator[Row]:
        """On the builder the clones at their commits; everywhere the tree of FlagGems."""
        rows: list[Row] = []
        release = self.desired.release
        if host == self.desired.builder:
            clones = {
                "FlagGems": (release.flaggems.name, self.desired.flaggems_commit),
                "FlagScale": (release.flagscale.name, self.desired.flagscale_commit),
            }
            for name, (tree, commit) in clones.items():
                head = seen.state.sources.get(f"trees/{tree}/{name}")
                if head != commit:
                    rows.append((name, short(head), short(commit), "checked out with full history"))
        rows += self._tree(host, seen, release.flaggems.name, "FlagGems tree")
        yield from rows or ["FlagGems is there as it was built"]

    def _patched(self) -> bool:
        if not self.desired.settings.patch.backends:
            return True
        seen = self.observed.get(self.desired.builder.name)
        key = seen.state.sources.get(f"{self.desired.release.flagscale.name}/patched") if seen else None
        return key == self.desired.release.patch_key

    def patch(self, host: Host, seen: Observed) -> Iterator[Row]:
        """The patched tree, on the builder."""
        if not self.desired.settings.patch.backends:
            yield "there is no patch"
            return
        if host != self.desired.builder:
            yield f"{self.desired.builder.name} patches for all"
            return
        tree = seen.state.trees.get(self.desired.release.flagscale.name)
        backends = "+".join(self.desired.settings.patch.backends)
        wanted = f"{self.desired.settings.patch.device_type} {backends} of {short(self.desired.settings.patch.commit)}"
        if not self._patched():
            yield ("patch", "not applied", wanted, "unpatch.py with the key")
        elif tree is not None and tree.bad:
            yield ("patch", "tree altered", wanted, "unpatched again: the tree below it was altered")
        else:
            yield f"{wanted} is applied"

    def vllm(self, host: Host, seen: Observed) -> Iterator[Row]:
        """The patched and built tree."""
        rows: list[Row] = list(self._tree(host, seen, self.desired.release.flagscale.name, "FlagScale and vLLM"))
        if not rows and host == self.desired.builder and not self._patched():
            rows.append(("FlagScale and vLLM", "built from another patch", "built", "the patch is applied again"))
        yield from rows or ["FlagScale and vLLM are there as they were built"]

    def install(self, host: Host, seen: Observed) -> Iterator[Row]:
        """FlagGems, vLLM and FlagScale in the release's container, from the trees that are there."""
        release = self.desired.release
        container = self.container_on(seen)
        rebuilt = container is None or self._recreated(container, seen)
        record = container.installed if container and not rebuilt else None
        clean = True
        silent = self.desired.builder.name not in self.observed
        for part in INSTALL_PARTS:
            name = release.flaggems.name if part == "flaggems" else release.flagscale.name
            # Nobody knows a silent builder's tree: then the host's own is what its container has to hold.
            tree = seen.state.trees.get(name) if silent else self._built(name)
            has = record.parts.get(part) if record else None
            wanted = short(tree.digest) if tree else "the new build"
            if rebuilt:
                yield (part, "absent", wanted, "the container is new")
            elif has is None:
                yield (part, "absent", wanted, "not installed in the container")
            elif tree is None or has.tree != tree.digest:
                yield (part, short(has.tree), wanted, "another build is installed")
            elif not has.intact:
                yield (part, "altered", wanted, "its files in the container are not those that were verified")
            else:
                continue
            clean = False
        if clean:
            yield "installed and verified: " + ", ".join(INSTALL_PARTS)

    def _other_image(self, container: Container, seen: Observed) -> bool:
        """Whether a container was made from another image than the wanted one."""
        here = {seen.image.id} if seen.image and self.desired.has_image(seen.image) else set()
        return self.desired.image_id is not None and container.image not in {*self.desired.image_digests, *here}

    def _recreated(self, container: Container, seen: Observed) -> bool:
        wanted = self.desired.container_spec
        return self._other_image(container, seen) or any(container.spec.get(name) != wanted[name] for name in wanted)

    def trust(self, host: Host, seen: Observed) -> Iterator[Row]:
        """On the head the key and known_hosts; on a worker the one line."""
        if len(self.desired.hosts) == 1:
            yield "one host: nobody to trust"
            return
        if not mode_of(self.desired.settings.service.mode).trusts:
            yield f"service.mode {self.desired.settings.service.mode}: no host logs in to another"
            return
        head = self.observed.get(self.desired.head.name)
        # A public key whose private half is gone opens nothing: a new pair is made, and the workers take that one.
        pair = head is not None and "id_ed25519" in head.state.trust.files
        key = head.state.trust.public_key if head and pair else None
        if host.is_head:
            yield from list(self._trust_head(seen, key)) or ["key pair and known_hosts are there"]
        elif head is None:
            yield Unknown(f"{self.desired.head.name} does not answer: its key is not known")
        else:
            yield self._trust_worker(seen, key)

    def _trust_head(self, seen: Observed, key: str | None) -> Iterator[Row]:
        """The head's key, and what it knows of the workers' hosts."""
        if key is None:
            yield ("key pair", "absent", "ed25519", "a key of the cluster's own")
        mode = seen.state.trust.files.get("id_ed25519", (None, "0600"))[1]
        if mode != "0600":
            yield ("id_ed25519", f"mode {mode}", "mode 0600", "ssh refuses a key that others can read")
        # Without the keys of a host that does not answer, nobody can say what known_hosts has to hold.
        if all(worker.name in self.observed for worker in self.desired.workers):
            keys = {worker.name: self.observed[worker.name].ssh.host_keys for worker in self.desired.workers}
            text = known_hosts(self.desired.workers, keys)
            has = seen.state.trust.files.get("known_hosts", (None, ""))[0]
            if has != sha256(text):
                yield ("known_hosts", short(has), short(sha256(text)), f"host keys of {spoken(keys)}")

    def _trust_worker(self, seen: Observed, key: str | None) -> Row:
        """A worker's one line for the head's key."""
        why = "docker exec into our container, no more"
        if key is None:
            return ("authorized_keys", lines_of(seen), "the head's new key", why)
        if seen.ssh.authorized != (self.desired.authorized_line(key, seen.host.interpreter),):
            return ("authorized_keys", lines_of(seen), "one line, from the head", why)
        return f"{self.desired.head.name} may {why}"

    def config(self, host: Host, seen: Observed) -> Iterator[Row]:
        """The configuration folder, file by file; and the record of what is active, where a host has lost it."""
        if self.desired.config_id is None:
            yield Unknown("a host does not answer: its interface is part of the configuration")
            return
        lost = next((row for row in self.serving.unrecorded if row.host == host.name), None)
        if lost:
            yield ("active.json", lost.text, self.serving.name, "written down again; the service is not touched")
        release = seen.state.releases.get(self.desired.release.id)
        has = release.configs.get(self.desired.config_id, {}) if release else {}
        wanted = self.desired.configs[host.name]
        clean = lost is None
        for name, file in wanted.items():
            current = has.get(name)
            if current is None:
                yield (name, "absent", short(file.sha256), f"configuration {self.desired.config_id}")
            elif current[0] != file.sha256:
                yield (name, short(current[0]), short(file.sha256), "edited by hand")
            elif current[1] != file.mode:
                yield (name, f"mode {current[1]}", f"mode {file.mode}", "mode changed by hand")
            else:
                continue
            clean = False
        if clean:
            yield f"configuration {self.desired.config_id} is there"


def lines_of(seen: Observed) -> str:
    """How many lines of ours a host's authorized_keys holds."""
    count = len(seen.ssh.authorized)
    return "absent" if not count else f"{count} other line{'s' if count > 1 else ''}"
