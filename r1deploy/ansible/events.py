"""ansible-runner's events as types, and a failure's cause read from what SSH or a module said."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from r1deploy.ssh import Login

Kind = Literal["play", "task", "start", "ok", "changed", "failed", "unreachable", "skipped"]
KINDS: dict[str, Kind] = {
    "playbook_on_play_start": "play",
    "playbook_on_task_start": "task",
    "runner_on_start": "start",
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
    "runner_on_skipped": "skipped",
}


@dataclass(frozen=True)
class Event:
    """One thing that happened: ``step`` is the play's, ``task`` the task's name."""

    kind: Kind
    step: str
    task: str
    host: str | None
    result: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Failure:
    """Why a host failed: a stable code, a sentence, the last lines of the failed thing."""

    host: str
    step: str
    task: str
    code: str
    message: str
    evidence: tuple[str, ...] = ()
    fix: str | None = None
    unreachable: bool = False


# A module's message may be the whole output of a program; the evidence has its end.
LONGEST = 300
TARBALL = "or take a tarball: docker save on a machine that has the image, then image.tarball"
# What OpenSSH, sudo and the Docker Engine say, in the order in which to look. (pattern, code, sentence, fix)
CAUSES: tuple[tuple[str, str, str, str], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for server \S+ does not match",
        "HOSTKEY_CHANGED",
        "its SSH host key is not the one in known_hosts",
        "if the host was installed anew: {forget}; then log in once by hand: {ssh}",
    ),
    (
        r"Host key verification failed|No \S+ host key is known",
        "HOSTKEY_UNKNOWN",
        "its SSH host key is not in known_hosts",
        "compare its fingerprint with the host's console, then log in once: {ssh}",
    ),
    (
        r"is your shell clean\?",
        "SHELL_NOISY",
        "the login's shell prints text, which breaks rsync",
        "keep .bashrc, .profile and /etc/profile.d silent where no terminal is; this must print nothing: {ssh} true",
    ),
    (
        r"ControlPath \S+ too long|too long for Unix domain socket",
        "CONTROL_PATH",
        "the path of SSH's control socket here is too long",
        "set TMPDIR here to a shorter folder",
    ),
    (
        r"no such identity: |Identity file \S+ not accessible|UNPROTECTED PRIVATE KEY FILE|"
        r"Load key [^\n]*: (?:invalid format|error in libcrypto|bad permissions|Permission denied)",
        "SSH_KEY_FILE",
        "the key file for the login is missing, or cannot be used",
        "look at the file in ssh.key_file (inventory: ansible_ssh_private_key_file): there, 0600, a private key?",
    ),
    (
        r"Permission denied|Too many authentication failures|no mutual signature",
        "SSH_AUTH",
        "SSH refuses the login",
        "check ssh.user and ssh.key_file, or: {copy_id}",
    ),
    (
        r"Could not resolve hostname|Name or service not known",
        "SSH_DNS",
        "its name does not resolve",
        "use an address, or mend DNS or /etc/hosts here",
    ),
    (
        r"Connection refused",
        "SSH_REFUSED",
        "nothing listens on its SSH port",
        "start sshd on the host, or set ssh.port",
    ),
    (r"No route to host|Network is unreachable", "SSH_NO_ROUTE", "there is no route to it", "{ping}"),
    (r"timed out|Timeout", "SSH_TIMEOUT", "it does not answer in time", "is the host up? {ping}"),
    (
        r"kex_exchange_identification: |Connection (closed|reset) by UNKNOWN port|Connection reset by \S+ port|"
        r"Error reading SSH protocol banner|Exceeded MaxStartups",
        "SSH_DROPPED",
        "its sshd, or a jump host's, drops the login before it begins",
        "is something else logging in there? raise MaxStartups in the sshd_config; then run it again",
    ),
    (
        r"must have a tty to run sudo",
        "SUDO_TTY",
        "sudo wants a terminal (requiretty), and there is none",
        "switch it off for the login in a file of /etc/sudoers.d on the host: Defaults:{user} !requiretty",
    ),
    (
        r"Incorrect sudo password",
        "SUDO_PASSWORD",
        "sudo does not take the password",
        "correct ansible_become_password in the inventory; is the login allowed to use sudo at all?",
    ),
    (
        r"[Mm]issing sudo password|a password is required",
        "SUDO_PASSWORD",
        "sudo asks for a password",
        "allow it without (NOPASSWD) on the host, or set ansible_become_password in the inventory",
    ),
    (r"is not in the sudoers", "SUDO_REFUSED", "the login may not use sudo", "log in as root or allow sudo"),
    (
        r"python[0-9.]*['\"]?:? (not found|No such file|command not found|Permission denied)|exec: \S+: not found",
        "PYTHON_MISSING",
        "it has no Python 3 at /usr/bin/python3, on PATH, or where ansible_python_interpreter says",
        "apt-get install python3, or correct ansible_python_interpreter in the inventory",
    ),
    (
        r"SSL certificate problem|server certificate verification failed|self.signed certificate in",
        "GIT_TLS",
        "a server's certificate is not trusted there",
        "set site.ca_bundle to a PEM file with the CA that signed it",
    ),
    (
        r"resolve proxy|from proxy after CONNECT|CONNECT tunnel failed|error: 407|Proxy CONNECT aborted",
        "GIT_PROXY",
        "the proxy refuses or does not answer",
        "check site.https_proxy (and its login), or name the server in site.no_proxy",
    ),
    (
        r"not our ref|reference is not a tree|did not contain [0-9a-f]{40}|bad object [0-9a-f]{40}",
        "GIT_REF_GONE",
        "the repository or its mirror lacks the commit",
        "check git.instead_of; update the mirror",
    ),
    (
        r"cannot pull [^\n]*(toomanyrequests|429 Too Many|rate limit)",
        "REGISTRY_LIMIT",
        "the registry allows no more pulls for now",
        f"wait, or log in with image.registry_user; {TARBALL}",
    ),
    (
        r"cannot pull [^\n]*(unauthorized|access denied|denied:|authentication required|basic auth|401 |403 )",
        "REGISTRY_AUTH",
        "the registry refuses the login, or has no such repository for it",
        f"check image.registry_user, the file image.registry_password_file and image.name; {TARBALL}",
    ),
    (
        r"cannot pull [^\n]*(manifest unknown|name unknown|not found|no such image)",
        "REGISTRY_TAG",
        "the registry has no such tag",
        f"check image.name; {TARBALL}",
    ),
    (
        r"cannot pull [^\n]*(x509|certificate)",
        "REGISTRY_TLS",
        "the Docker Engine does not trust the registry's certificate",
        f"put its CA into /etc/docker/certs.d/REGISTRY/ca.crt on the host; {TARBALL}",
    ),
    (
        r"cannot pull [^\n]*(dial tcp|no such host|refused|[Tt]imeout|unreachable|proxyconnect|EOF|reset by peer)",
        "REGISTRY_NO_ROUTE",
        "the host's Docker Engine does not reach the registry",
        f"its proxy is the engine's own setting (proxies in /etc/docker/daemon.json); {TARBALL}",
    ),
    (
        r"diff\.patch\S*: sha256 \w+, r1deploy\.lock says",
        "PATCH_TAMPERED",
        "an encrypted patch on the host is not the one that r1deploy.lock names",
        "do not go on; compare with the vendor's delivery",
    ),
    (
        r"git apply[^\n]*\n[^\n]*(?:No valid patches in input|patch failed|patch does not apply|already exists)",
        "PATCH_UNFIT",
        "the vendor's patch does not fit the tree of its commit",
        "patch.commit has to name the commit of this hardware's inference patch; see r1deploy config --sources",
    ),
    (
        r"sha256 \w+, r1deploy\.lock says",
        "TARBALL_DAMAGED",
        "the tarball arrived with another sha256 than it left with",
        "run the same command again; if it stays: check memory and disk of {address}",
    ),
    (
        r"has the id .*r1deploy\.lock says",
        "IMAGE_OTHER",
        "the image is not the one that r1deploy.lock names",
        "if the new one is meant: r1deploy bootstrap --upgrade image; else bring the old one back",
    ),
    (
        r"invalid tar header|archive/tar: ",
        "TARBALL_DAMAGED",
        "its Docker Engine cannot read the tarball",
        "ask for the file again, or unpack it here and set image.tarball to the result",
    ),
    (r"[Nn]o space left on device", "DISK_FULL", "its disk is full", "df -h; free space and run again"),
)
CODES = (*tuple(dict.fromkeys(row[1] for row in CAUSES)), "PROBE_INCOMPLETE", "STEP_FAILED")
SSH_CODES = frozenset(row[1] for row in CAUSES if row[1].startswith(("SSH_", "HOSTKEY_")))


def event_of(raw: dict[str, Any]) -> Event | None:
    """An event of ansible-runner as ours; None for the kinds that do not matter here."""
    kind = KINDS.get(_word(raw.get("event")))
    if kind is None:
        return None
    data = _mapping(raw.get("event_data"))
    result = _mapping(data.get("res"))
    if kind == "ok" and result.get("changed"):
        kind = "changed"
    if kind == "failed" and data.get("ignore_errors"):
        kind = "ok"
    step = step_of(_word(data.get("play")) or _word(data.get("name")))
    return Event(kind, step, _word(data.get("task")), _word(data.get("host")) or None, result)


def _word(found: object) -> str:
    """A text as it is; what is none is empty."""
    return found if isinstance(found, str) else ""


def _mapping(found: object) -> dict[str, Any]:
    """A mapping as it is; a module may answer with anything."""
    return found if isinstance(found, dict) else {}


def _parts(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A result, and those of its items that failed."""
    items = result.get("results")
    return [result, *(row for row in map(_mapping, items if isinstance(items, list) else ()) if row.get("failed"))]


def _texts(found: object) -> list[str]:
    """A list's entries as texts; what is no list is none."""
    return [str(line) for line in found] if isinstance(found, list) else []


def step_of(play: str) -> str:
    """Plays are called ``step: what it does``."""
    return play.split(":", 1)[0].strip().lower()


def failure_of(event: Event, login: Login | None = None) -> Failure:
    """Name the cause of a failed or unreachable event. In: how to reach the host, for what its fix advises."""
    host = event.host or "?"
    way = login or Login(host, host)
    said = text_of(event.result)
    evidence = tuple(evidence_of(event.result))
    whole = "\n".join((said, *evidence))
    lines = tuple(line for line in said.splitlines() if line.strip()) or ("no message",)
    unreachable = event.kind == "unreachable"
    for pattern, code, sentence, fix in CAUSES:
        unreachable_only = code.startswith(("SSH_", "HOSTKEY_"))
        if (unreachable or not unreachable_only) and re.search(pattern, whole):
            # The lines that show it: a job's own error may be a mere exit code, with the cause in its output.
            elsewhere = evidence and not re.search(pattern, said)
            shown = up_to(pattern, evidence) if elsewhere else lines[-6:]
            forget = way.forget(whole) if "{forget}" in fix else ""
            hint = fix.format(**way.words(), forget=forget)
            return Failure(host, event.step, event.task, code, sentence, shown, hint, unreachable)
    code = "SSH_FAILED" if unreachable else "STEP_FAILED"
    # Of a traceback the last line says what happened.
    message = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    if len(message) > LONGEST:
        message = message[:LONGEST].rpartition(" ")[0] + " …"
    return Failure(host, event.step, event.task, code, message, evidence, None, unreachable)


def up_to(pattern: str, lines: tuple[str, ...]) -> tuple[str, ...]:
    """The lines that a pattern is found in, and two before; what a tool says after its cause is its own traceback."""
    text = "\n".join(lines)
    found = re.search(pattern, text)
    if not found:
        return lines
    first, last = (text.count("\n", 0, place) for place in found.span())
    return lines[max(0, first - 2) : last + 1]


def text_of(result: dict[str, Any]) -> str:
    """The sentence of a failed result: a job's own error, else the module's message."""
    for source in _parts(result):
        job = job_answer(source)
        if job and "error" in job:
            return str(job["error"])
        for key in ("msg", "module_stderr", "stderr", "module_stdout"):
            value = source.get(key)
            if value and value != "One or more items failed" and "non-zero return code" not in str(value):
                return str(value)
    return str(result.get("msg") or "no message")


def evidence_of(result: dict[str, Any]) -> list[str]:
    """The last lines of the failed thing."""
    for source in _parts(result):
        job = job_answer(source)
        tail = _texts(job.get("tail") if job else None) or _texts(source.get("tail"))
        if tail:
            return tail
        for key in ("stderr", "module_stderr", "stdout"):
            lines = str(source.get(key) or "").strip().splitlines()
            if lines:
                return lines[-15:]
    return []


def job_answer(result: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON line that ``r1guest.py`` prints last, where the result is one of its."""
    lines = str(result.get("stdout") or result.get("msg") or "").strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        return None
    try:
        answer = json.loads(lines[-1])
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None
