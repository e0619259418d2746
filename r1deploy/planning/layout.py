"""Every path of ours on a host, in one place."""

from __future__ import annotations

from dataclasses import dataclass

# What the head's container sees of the trust's folder.
TRUST_MOUNT = "/root/.ssh"


def lock_file(cluster: str) -> str:
    """The lock of a cluster, on the head; /run is empty after a reboot, as a lock should be."""
    return f"/run/r1deploy/{cluster}.lock"


def list_file(cluster: str, what: str) -> str:
    """The list of files on their way, on each host, beside the locks."""
    return f"/run/r1deploy/{cluster}-{what}.json"


@dataclass(frozen=True)
class Layout:
    """Paths below ``top``, which is ``state_dir`` of the settings."""

    top: str

    @property
    def bin(self) -> str:
        """The scripts that lie on a host."""
        return f"{self.top}/bin"

    def script(self, name: str) -> str:
        """One of them."""
        return f"{self.bin}/{name}"

    @property
    def trees(self) -> str:
        """The folder of all trees."""
        return f"{self.top}/trees"

    def tree(self, name: str) -> str:
        """A built tree."""
        return f"{self.trees}/{name}"

    def mirror(self, tree: str, name: str) -> str:
        """A repository of the controller's, brought into a tree for the time of its clone."""
        return f"{self.tree(tree)}/mirrors/{name}"

    @property
    def releases(self) -> str:
        """The folder of all releases."""
        return f"{self.top}/releases"

    def release(self, release: str) -> str:
        """A release."""
        return f"{self.releases}/{release}"

    def build_log(self, release: str) -> str:
        """What unpatch and build printed."""
        return f"{self.release(release)}/build.log"

    def install_log(self, release: str) -> str:
        """What the installation printed."""
        return f"{self.release(release)}/install.log"

    def config(self, release: str, config: str | None) -> str:
        """A configuration of a release."""
        return f"{self.release(release)}/config/{config}"

    def outputs(self, release: str, service: str) -> str:
        """Where the engine writes; FlagScale's exp_dir."""
        return f"{self.release(release)}/outputs/{service}"

    def engine_log(self, release: str, service: str) -> str:
        """The engine's log on the head; FlagScale names it so, and the other ways of serving follow."""
        return f"{self.outputs(release, service)}/serve_logs/host_0_localhost.output"

    def engine_pid(self, release: str, service: str) -> str:
        """The engine's process id on the head."""
        return f"{self.outputs(release, service)}/serve_logs/pids/host_0_localhost.pid"

    @property
    def logs_of_builds(self) -> str:
        """A pattern for all logs of builds and installations."""
        return f"{self.releases}/*/*.log"

    @property
    def logs_of_engines(self) -> str:
        """A pattern for all logs of engines."""
        return f"{self.releases}/*/outputs/*/serve_logs/*.output"

    @property
    def trust(self) -> str:
        """The head's key and known_hosts."""
        return f"{self.top}/trust"

    @property
    def history(self) -> str:
        """A line for each run that touched the host."""
        return f"{self.top}/history.jsonl"

    @property
    def diag(self) -> str:
        """What ``diag`` found last on the host, by part."""
        return f"{self.top}/diag.json"

    @property
    def incoming(self) -> str:
        """The image's tarball on its way into the engine."""
        return f"{self.top}/incoming.tar"

    @property
    def weights_record(self) -> str:
        """What is known of the checkpoint's bytes."""
        return f"{self.top}/weights.json"

    def hub_client(self, name: str) -> str:
        """A hub's client for the host's Python."""
        return f"{self.top}/hub/{name}"
