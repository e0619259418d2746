"""One tree of errors: a class per exit code, a stable code per cause.

Raising never prints and never logs. One place (``r1deploy.cli``) turns an
error into a message, a JSON document and an exit code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, TypedDict, Unpack

if TYPE_CHECKING:
    from pathlib import Path

# Every code that is raised anywhere, with one line for the docs. Tests hold it against the sources.
ErrorCode: Final[dict[str, str]] = {
    "BUG": "r1deploy itself failed; the traceback is in the log file",
    "INTERRUPTED": "the run was interrupted; the message says on which hosts work may still go on",
    "USAGE": "the command line is not one that r1deploy knows",
    "HOSTFILE_MISSING": "the hostfile is not there or cannot be read",
    "HOSTFILE_EMPTY": "the hostfile names no host",
    "HOSTFILE_ENCODING": "the hostfile is not UTF-8 text",
    "HOSTFILE_LINE": "a line of the hostfile is not `ADDRESS slots=N type=gpu`",
    "HOSTFILE_ADDRESS": "an address is neither a host name nor an IPv4 address",
    "HOSTFILE_DUPLICATE": "two hosts have the same name or address",
    "HOSTFILE_SLOTS": "the number of slots is missing, not a number, 0 or absurd",
    "HOSTFILE_TYPE": "a type is neither gpu nor cpu, or only some hosts have one",
    "INVENTORY_MISSING": "the inventory is not there or cannot be read",
    "INVENTORY_EMPTY": "the inventory names no host",
    "INVENTORY_INVALID": "Ansible cannot read the inventory",
    "INVENTORY_VALUE": "a host variable of the inventory has a value that cannot be used",
    "PROBE_INCOMPLETE": "a host did not answer the probe, or not with all it was asked",
    "LIMIT_EMPTY": "--limit matches no host",
    "LIMIT_WITHOUT_HEAD": "--limit leaves out the head",
    "FILE_EXISTS": "a file that would be written is there already",
    "SETTINGS_MISSING": "the folder of the settings is not there, or r1deploy.yaml has another name",
    "SETTINGS_YAML": "a settings file cannot be read as YAML",
    "SETTINGS_UNKNOWN_KEY": "a setting does not exist; the message names the nearest one",
    "SETTINGS_VALUE": "a setting has a value of the wrong type or out of range",
    "PROFILE_UNKNOWN": "no vendor profile has this name",
    "LOCK_INVALID": "r1deploy.lock cannot be read",
    "LOCK_WRITE": "r1deploy.lock cannot be written",
    "BUILDER_UNKNOWN": "builder names a host that is not in the inventory",
    "API_KEY_MISSING": "service.api_key_file cannot be read",
    "API_KEY_INVALID": "the API key holds a character that no HTTP header can carry",
    "HOSTKEY_CHANGED": "a host's SSH key is not the one in known_hosts",
    "HOSTKEY_UNKNOWN": "a host's SSH key is not in known_hosts",
    "SSH_AUTH": "SSH refuses the login to a host",
    "SSH_KEY_FILE": "the key file for the login to a host is missing, or cannot be used",
    "SSH_DNS": "a host's name does not resolve",
    "SSH_REFUSED": "nothing listens on a host's SSH port",
    "SSH_NO_ROUTE": "there is no route to a host",
    "SSH_TIMEOUT": "a host does not answer in time",
    "SSH_FAILED": "SSH to a host failed in another way; its last lines are shown",
    "SSH_DROPPED": "sshd on a host, or on a jump host, drops the login before it begins",
    "SHELL_ENDS": "the login's shell on a host ends before our command begins",
    "SHELL_NOISY": "the login's shell on a host prints text, which breaks rsync",
    "CONTROL_PATH": "the path of SSH's control socket here is too long",
    "SUDO_TTY": "sudo on a host wants a terminal (requiretty)",
    "SUDO_PASSWORD": "sudo on a host asks for a password",
    "SUDO_REFUSED": "the login cannot become root on a host",
    "PYTHON_MISSING": "a host has no Python 3 where we look for it",
    "PYTHON_OLD": "a host's Python is older than 3.8",
    "TOOLS_MISSING": "a host lacks a program or Python module that the steps call",
    "ENGINE_DOWN": "the Docker Engine of a host does not answer",
    "ENGINE_ISOLATED": "the Docker Engine of a host maps users or runs rootless",
    "ENGINE_OLD": "the Docker Engine of a host is too old",
    "MEMORY_LOW": "a host has less memory available than memory.available_gib",
    "DISK_FULL": "a host has not enough free space, or none was left during a step",
    "ADDRESS_ELSEWHERE": "no interface of a host carries its address in the inventory",
    "INTERFACE_MISSING": "the settings name an interface that a host does not have",
    "HOSTNAME_LOOPBACK": "a host resolves its own name to a loopback address",
    "IDENTITY_TWICE": "two hosts have the same machine-id or host name",
    "CLOCK_SKEW": "a host's clock is far from those of the others",
    "PORT_TAKEN": "something listens on the engine's port already",
    "SHM_SMALL": "a host's /dev/shm is smaller than container.shm_size",
    "FOREIGN_PROCESSES": "Ray or an engine that is not ours runs on a host; FlagScale would kill it",
    "CONTAINER_FOREIGN": "a container that is not of this cluster holds our name",
    "SERVICE_RUNNING": "a step would disturb the running service",
    "DRIVER_MISSING": "the vendor's smi tool is not there, fails or shows no driver",
    "DRIVER_DIFFERS": "the hosts have different driver versions",
    "API_OPEN": "a warning: the API listens on all interfaces without a key",
    "RAY_OPEN": "a warning: Ray listens on all interfaces, and it has no key",
    "TRUST_ROOT": "a warning: root in the head's container is root on the workers",
    "CHIPS_MISMATCH": "a host has another number of chips than the inventory says",
    "CHIP_SICK": "the smi tool does not show a chip's name or UUID as it should",
    "CHIP_BUSY": "memory of a chip is in use before the start",
    "TOPOLOGY": "tp × pp does not fit the chips of the hosts",
    "WEIGHTS_MISSING": "the checkpoint is not there, or not a checkpoint",
    "WEIGHTS_DAMAGED": "shards of the checkpoint are missing, truncated or damaged",
    "WEIGHTS_DIFFER": "the hosts hold different checkpoints",
    "WEIGHTS_TOO_LARGE": "the checkpoint does not fit in the memory of the chips",
    "WEIGHTS_BUSY": "another run writes to the checkpoint, or it changed while it was read",
    "WEIGHTS_COPY_FAILED": "the checkpoint could not be brought to a host",
    "MANIFEST_INVALID": "the checkpoint's sha256 file is not in sha256sum's form, or does not name every shard",
    "PEER_UNREACHABLE": "a host cannot reach another one of the cluster",
    "HUB_CLIENT_MISSING": "pip cannot get the client of the checkpoint's hub",
    "HUB_AUTH": "the hub asks for a login, or refuses it",
    "HUB_MISSING": "the hub has no such checkpoint, or no such revision",
    "HUB_NO_ROUTE": "the hub does not answer, or the connection to it breaks again and again",
    "HUB_TLS": "the hub's certificate is not trusted",
    "HUB_FAILED": "the hub's client failed in another way; its last lines are shown",
    "GIT_CLIENT_MISSING": "git is not installed on this machine",
    "GIT_DNS": "a git server's name does not resolve",
    "GIT_AUTH": "a git server refuses the login",
    "GIT_MISSING": "a git repository does not exist",
    "GIT_NO_ROUTE": "a git server does not answer",
    "GIT_REF_GONE": "a repository has no such branch, tag or commit",
    "GIT_FAILED": "git failed in another way; its last lines are shown",
    "PATCH_MISSING": "FlagScale's commit holds no patch for the device type and backends",
    "PATCH_UNFIT": "git cannot apply the decrypted patch to the tree",
    "PATCH_TAMPERED": "an encrypted patch is not the one that r1deploy.lock names",
    "KEY_MISSING": "the vendor's key is not there",
    "KEY_NOT_FOLDER": "patch.key_dir is a file, not a folder",
    "KEY_MODE": "the vendor's key is open to others, or cannot be read",
    "KEY_NOT_PEM": "the vendor's key is no PEM private key",
    "KEY_PASSPHRASE": "the vendor's key asks for a passphrase",
    "KEY_WRONG": "the vendor's key does not decrypt the patch",
    "TARBALL_MISSING": "the image's tarball is not there",
    "TARBALL_DAMAGED": "the image's tarball cannot be read, or has another sha256",
    "TARBALL_OTHER": "the tarball holds another image than image.name",
    "DELIVERY_MISSING": "the folder of the vendor's delivery is not there",
    "DELIVERY_PART": "--without names no part of a delivery",
    "DELIVERY_DAMAGED": "files of the vendor's delivery are missing or have another sha256 than their list says",
    "IMAGE_ARCH": "the image is for another kind of machine than a host",
    "IMAGE_OTHER": "the image that a host got is not the one that r1deploy.lock names",
    "KERNELS_BROKEN": "operators of FlagGems fail, hang or are wrong on a chip of a host",
    "STEP_FAILED": "a step failed on a host; its last lines are shown",
    "STILL_DIFFERS": "differences are left after all steps ran",
    "ANSIBLE_FAILED": "Ansible itself could not run",
    "NOT_BOOTSTRAPPED": "serve was asked for while changes are due",
    "DIAG_SERVING": "diag finds Ray or an engine on a host: it would share chips and ports with it",
    "DIAG_CHIP": "diag found a chip that miscomputes, hangs or is missing",
    "DIAG_KERNEL": "diag found operators that fail, hang or are wrong in this image",
    "DIAG_NETWORK": "diag found that the hosts cannot talk as the engine will",
    "DIAG_MISSING": "service.require_diag asks for a diag of this release that found nothing wrong",
    "DIAG_WRITE": "this machine cannot keep what diag found",
    "RELEASE_UNREADY": "a new container cannot import Ray or the engine, or has another Ray than the head's",
    "RAY_NODES_MISSING": "not all nodes or chips joined Ray in time",
    "ENGINE_DIED": "the engine ended before it answered",
    "ENGINE_SILENT": "the engine did not answer in time",
    "MODEL_WRONG": "the engine serves another model than was asked for",
    "NO_TOKENS": "the engine is healthy but answers without a token",
    "LOCKED": "another run holds the cluster",
    "LOCK_LOST": "this run no longer holds the cluster",
    "ROLLBACK_NOTHING": "there is no such release to go back to",
    "ROLLBACK_AMBIGUOUS": "more than one release begins like that",
    "ROLLBACK_INCOMPLETE": "the release is not whole on every host",
    "RESET_NAME": "reset was given another name than the cluster's",
    "LAB_FAILED": "the lab on this machine failed",
    "TUNNEL_FAILED": "a port of the head cannot be brought here over SSH",
    "YES_MISSING": "what would be done has to be agreed to, and there is no terminal to ask at",
    "TTY_MISSING": "shell needs a terminal",
    "REGISTRY_PASSWORD": "the file with the registry's password cannot be read or is open to others",
    "REGISTRY_AUTH": "the registry refuses the login",
    "REGISTRY_TAG": "the registry has no such image or tag",
    "REGISTRY_LIMIT": "the registry allows no more pulls for now",
    "REGISTRY_TLS": "the registry's certificate is not trusted by a host's Docker Engine",
    "REGISTRY_NO_ROUTE": "a host's Docker Engine does not reach the registry",
    "GIT_TLS": "a git server's certificate is not trusted",
    "GIT_PROXY": "the proxy to a git server refuses or does not answer",
    "BUNDLE_MISSING": "the bundle, or what was unpacked of it, is not there",
    "BUNDLE_DAMAGED": "a bundle is not what was written: not one byte may differ",
    "BUNDLE_OTHER": "a bundle is of another deployment than r1deploy.lock",
    "BUNDLE_INCOMPLETE": "a bundle cannot be made: something that belongs in it is not here",
    "EVAL_MISSING": "evalscope is not installed here, or not as this r1deploy pins it",
    "EVAL_INSTALL": "evalscope's environment cannot be made; pip's last lines are shown",
    "EVAL_BUSY": "another r1deploy on this machine works with what eval needs",
    "EVAL_SET": "--sets names no set of eval",
    "EVAL_DATA": "the folder of eval.data lacks a set",
    "EVAL_LENGTH": "eval.max_tokens does not fit into the model's length",
    "EVAL_FETCH": "a set cannot be fetched from the hub; the client's last lines are shown",
    "EVAL_URL": "--against names no endpoint",
    "EVAL_SILENT": "an endpoint that eval has to ask does not answer, or serves another model",
    "EVAL_CHANGED": "another release serves at the end of eval than at its beginning",
    "EVAL_FAILED": "evalscope ended with an error; its last lines are shown",
    "EVAL_UNKNOWN": "there is no such kept run of eval",
    "STATISTICS_MISSING": "the libraries that eval computes intervals and tests with are not installed here",
    "CONTAINER_MISSING": "a host has no running container of the cluster",
}


class Details(TypedDict, total=False):
    """What is known of an error besides its code and message."""

    host: str | None
    """Inventory name of the host it is about."""
    evidence: Sequence[str]
    """Last lines of what failed."""
    fix: str | None
    """What the user can do."""
    log: Path | None
    """The file with the full log."""


class R1Error(Exception):
    """Base of all errors of r1deploy; by itself it stands for a bug.

    In: a code of ``ErrorCode``, what happened (with where), and by name what else is known: see ``Details``.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, message: str, **details: Unpack[Details]) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.host = details.get("host")
        self.evidence = tuple(details.get("evidence", ()))
        self.fix = details.get("fix")
        self.log = details.get("log")

    def to_dict(self) -> dict[str, object]:
        """Return the error for ``--json``: only JSON types, every key always there."""
        return {
            "code": self.code,
            "message": self.message,
            "host": self.host,
            "evidence": list(self.evidence),
            "fix": self.fix,
            "log": None if self.log is None else str(self.log),
            "exit_code": self.exit_code,
        }


class UsageError(R1Error):
    """The command line asks for something that cannot be meant."""

    exit_code = 2


class ConfigError(R1Error):
    """The configuration (hostfile, inventory, settings, lock file) is refused."""

    exit_code = 3


class UnreachableError(R1Error):
    """A host cannot be reached, or its probe came back incomplete."""

    exit_code = 4


class PreflightError(R1Error):
    """Preflight refuses; ``blockers`` are the findings (dataclasses, mappings or text)."""

    exit_code = 5

    def __init__(self, code: str, message: str, *, blockers: Sequence[object] = (), **details: Unpack[Details]) -> None:
        super().__init__(code, message, **details)
        self.blockers = tuple(blockers)

    def to_dict(self) -> dict[str, object]:
        """Return the error for ``--json``, the blockers included."""
        return super().to_dict() | {"blockers": [_plain(blocker) for blocker in self.blockers]}


class ApplyError(R1Error):
    """A step failed on a host, or a difference was left after it."""

    exit_code = 6


class GateError(R1Error):
    """The gate did not see the service serve."""

    exit_code = 7


class LockedError(R1Error):
    """Another run holds the cluster."""

    exit_code = 8


class Interrupted(R1Error):
    """The run was cancelled from outside."""

    exit_code = 130


def _plain(value: object) -> object:
    """Return ``value`` made of JSON types only; what has no such form becomes text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        return [_plain(item) for item in value]
    return str(value)
