"""What programs say when they fail, and what it means: one table, a cause a row.

Each row has a paragraph in docs/errors.md, under its code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """A cause: the words that show it, its stable code (or the name of its paragraph), a sentence, and what mends it.

    ``sentence`` of a host's cause may name ``{found}``, a group of the pattern.
    ``fix`` of a host's cause may name ``{ssh}``, ``{copy_id}``, ``{ping}``, ``{forget}``, ``{address}``, ``{user}``.
    """

    pattern: str
    code: str
    sentence: str
    fix: str


TARBALL = "or take a tarball: docker save on a machine that has the image, then image.tarball"
# git's own word on a URL.
BY_HAND = "check it by hand: git ls-remote {url}"
# What OpenSSH, sudo, git and the Docker Engine say of a host, in the order in which to look.
ON_HOSTS: tuple[Cause, ...] = (
    Cause(
        r"FlagGems does not compute right: (?P<found>[^\n]+)",
        "KERNELS_BROKEN",
        "FlagGems does not compute right: {found}",
        "r1deploy diag kernels shows all operators; take a FlagGems that fits PyTorch and Triton of the image, or "
        "switch it off (env.USE_FLAGGEMS); where a compiler is only slow: diag.operator_seconds",
    ),
    Cause(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for server \S+ does not match",
        "HOSTKEY_CHANGED",
        "its SSH host key is not the one in known_hosts",
        "if the host was installed anew: {forget}; then log in once by hand: {ssh}",
    ),
    Cause(
        r"Host key verification failed|No \S+ host key is known",
        "HOSTKEY_UNKNOWN",
        "its SSH host key is not in known_hosts",
        "compare its fingerprint with the host's console, then log in once: {ssh}",
    ),
    Cause(
        r"is your shell clean\?",
        "SHELL_NOISY",
        "the login's shell prints text, which breaks rsync",
        "keep .bashrc, .profile and /etc/profile.d silent where no terminal is; this must print nothing: {ssh} true",
    ),
    Cause(
        r"ControlPath \S+ too long|too long for Unix domain socket",
        "CONTROL_PATH",
        "the path of SSH's control socket here is too long",
        "set TMPDIR here to a shorter folder",
    ),
    Cause(
        r"no such identity: |Identity file \S+ not accessible|UNPROTECTED PRIVATE KEY FILE|"
        r"Load key [^\n]*: (?:invalid format|error in libcrypto|bad permissions|Permission denied)",
        "SSH_KEY_FILE",
        "the key file for the login is missing, or cannot be used",
        "look at the file in ssh.key_file (inventory: ansible_ssh_private_key_file): there, 0600, a private key?",
    ),
    Cause(
        r"Permission denied|Too many authentication failures|no mutual signature",
        "SSH_AUTH",
        "SSH refuses the login",
        "check ssh.user and ssh.key_file, or: {copy_id}",
    ),
    Cause(
        r"Could not resolve hostname|Name or service not known",
        "SSH_DNS",
        "its name does not resolve",
        "use an address, or mend DNS or /etc/hosts here",
    ),
    Cause(
        r"Connection refused",
        "SSH_REFUSED",
        "nothing listens on its SSH port",
        "start sshd on the host, or set ssh.port",
    ),
    Cause(r"No route to host|Network is unreachable", "SSH_NO_ROUTE", "there is no route to it", "{ping}"),
    Cause(r"timed out|Timeout", "SSH_TIMEOUT", "it does not answer in time", "is the host up? {ping}"),
    Cause(
        r"kex_exchange_identification: |Connection (closed|reset) by UNKNOWN port|Connection reset by \S+ port|"
        r"Error reading SSH protocol banner|Exceeded MaxStartups",
        "SSH_DROPPED",
        "its sshd, or a jump host's, drops the login before it begins",
        "is something else logging in there? raise MaxStartups in the sshd_config; then run it again",
    ),
    Cause(
        r"must have a tty to run sudo",
        "SUDO_TTY",
        "sudo wants a terminal (requiretty), and there is none",
        "switch it off for the login in a file of /etc/sudoers.d on the host: Defaults:{user} !requiretty",
    ),
    Cause(
        r"Incorrect sudo password",
        "SUDO_PASSWORD",
        "sudo does not take the password",
        "correct ansible_become_password in the inventory; is the login allowed to use sudo at all?",
    ),
    Cause(
        r"[Mm]issing sudo password|a password is required",
        "SUDO_PASSWORD",
        "sudo asks for a password",
        "allow it without (NOPASSWD) on the host, or set ansible_become_password in the inventory",
    ),
    Cause(r"is not in the sudoers", "SUDO_REFUSED", "the login may not use sudo", "log in as root or allow sudo"),
    Cause(
        r"python[0-9.]*['\"]?:? (not found|No such file|command not found|Permission denied)|exec: \S+: not found",
        "PYTHON_MISSING",
        "it has no Python 3 at /usr/bin/python3, on PATH, or where ansible_python_interpreter says",
        "apt-get install python3, or correct ansible_python_interpreter in the inventory",
    ),
    Cause(
        r"SSL certificate problem|server certificate verification failed|self.signed certificate in",
        "GIT_TLS",
        "a server's certificate is not trusted there",
        "set site.ca_bundle to a PEM file with the CA that signed it",
    ),
    Cause(
        r"resolve proxy|from proxy after CONNECT|CONNECT tunnel failed|error: 407|Proxy CONNECT aborted",
        "GIT_PROXY",
        "the proxy refuses or does not answer",
        "check site.https_proxy (and its login), or name the server in site.no_proxy",
    ),
    Cause(
        r"not our ref|reference is not a tree|did not contain [0-9a-f]{40}|bad object [0-9a-f]{40}",
        "GIT_REF_GONE",
        "the repository or its mirror lacks the commit",
        "check git.instead_of; update the mirror",
    ),
    Cause(
        r"cannot pull [^\n]*(toomanyrequests|429 Too Many|rate limit)",
        "REGISTRY_LIMIT",
        "the registry allows no more pulls for now",
        f"wait, or log in with image.registry_user; {TARBALL}",
    ),
    Cause(
        r"cannot pull [^\n]*(unauthorized|access denied|denied:|authentication required|basic auth|401 |403 )",
        "REGISTRY_AUTH",
        "the registry refuses the login, or has no such repository for it",
        f"check image.registry_user, the file image.registry_password_file and image.name; {TARBALL}",
    ),
    Cause(
        r"cannot pull [^\n]*(manifest unknown|name unknown|not found|no such image)",
        "REGISTRY_TAG",
        "the registry has no such tag",
        f"check image.name; {TARBALL}",
    ),
    Cause(
        r"cannot pull [^\n]*(x509|certificate)",
        "REGISTRY_TLS",
        "the Docker Engine does not trust the registry's certificate",
        f"put its CA into /etc/docker/certs.d/REGISTRY/ca.crt on the host; {TARBALL}",
    ),
    Cause(
        r"cannot pull [^\n]*(dial tcp|no such host|refused|[Tt]imeout|unreachable|proxyconnect|EOF|reset by peer)",
        "REGISTRY_NO_ROUTE",
        "the host's Docker Engine does not reach the registry",
        f"its proxy is the engine's own setting (proxies in /etc/docker/daemon.json); {TARBALL}",
    ),
    Cause(
        r"diff\.patch\S*: sha256 \w+, r1deploy\.lock says",
        "PATCH_TAMPERED",
        "an encrypted patch on the host is not the one that r1deploy.lock names",
        "do not go on; compare with the vendor's delivery",
    ),
    Cause(
        r"git apply[^\n]*\n[^\n]*(?:No valid patches in input|patch failed|patch does not apply|already exists)",
        "PATCH_UNFIT",
        "the vendor's patch does not fit the tree of its commit",
        "patch.commit has to name the commit of this hardware's inference patch; see r1deploy config --sources",
    ),
    Cause(
        r"sha256 \w+, r1deploy\.lock says",
        "TARBALL_DAMAGED",
        "the tarball arrived with another sha256 than it left with",
        "run the same command again; if it stays: check memory and disk of {address}",
    ),
    Cause(
        r"has the id .*r1deploy\.lock says",
        "IMAGE_OTHER",
        "the image is not the one that r1deploy.lock names",
        "if the new one is meant: r1deploy bootstrap --upgrade image; else bring the old one back",
    ),
    Cause(
        r"invalid tar header|archive/tar: ",
        "TARBALL_DAMAGED",
        "its Docker Engine cannot read the tarball",
        "ask for the file again, or unpack it here and set image.tarball to the result",
    ),
    Cause(r"[Nn]o space left on device", "DISK_FULL", "its disk is full", "df -h; free space and run again"),
)
# What git says here.
GIT: tuple[Cause, ...] = (
    Cause(
        r"SSL certificate|certificate verif|self.signed cert|local issuer",
        "GIT_TLS",
        "its certificate is not trusted",
        "set site.ca_bundle to a PEM file with the CA that signed it",
    ),
    Cause(
        r"resolve proxy|from proxy after CONNECT|CONNECT tunnel failed|error: 407|Proxy CONNECT aborted",
        "GIT_PROXY",
        "the proxy refuses or does not answer",
        "check site.https_proxy (and its login), or name the host in site.no_proxy",
    ),
    Cause(r"Could not resolve host", "GIT_DNS", "its host does not resolve", BY_HAND),
    Cause(
        r"Authentication failed|could not read Username|Permission denied", "GIT_AUTH", "it asks for a login", BY_HAND
    ),
    Cause(
        r"not found|does not appear to be a git repository|not exported",
        "GIT_MISSING",
        "there is no such repository",
        BY_HAND,
    ),
    Cause(
        r"unable to connect|Connection refused|timed out|Failed to connect|No route",
        "GIT_NO_ROUTE",
        "no connection",
        BY_HAND,
    ),
)
GIT_UNKNOWN = Cause("", "GIT_FAILED", "git fails", BY_HAND)
# What the last lines of the engine's log say; the gate's own code tells how far the start came.
ENGINE: tuple[Cause, ...] = (
    Cause(
        r"out of memory|OutOfMemory",
        "engine-memory",
        "a chip ran out of memory",
        "a chip ran out of memory: lower engine.gpu_memory_utilization or max_model_len",
    ),
    Cause(
        r"connectFullMesh failed|127\.0\.0\.1",
        "engine-loopback",
        "nodes talk over loopback",
        "nodes talk over loopback: check the hosts' names and *_SOCKET_IFNAME",
    ),
    Cause(
        r"unique IP address",
        "engine-address-twice",
        "two nodes have the same address",
        "two nodes have the same VLLM_HOST_IP: check the addresses in the inventory",
    ),
    Cause(
        r"No such file or directory|does not appear to have|not found.*model",
        "engine-no-weights",
        "the engine does not find the weights",
        "the engine does not find the weights: r1deploy weights verify, and look at engine.model and container.volumes",
    ),
    Cause(
        r"placement group",
        "engine-few-chips",
        "Ray has too few chips",
        "Ray has fewer chips than tp × pp asks for: r1deploy preflight compares them with slots",
    ),
    Cause(
        r"error 801",
        "engine-driver",
        "the host's driver is too old for the image",
        "the image's driver libraries are newer than the host's driver: install the one that belongs to the image",
    ),
    Cause(
        r"[Aa]ddress already in use",
        "engine-port",
        "the engine's port is taken",
        "the engine's port is taken: ss -ltnp on the head",
    ),
)


def cause_of(table: tuple[Cause, ...], text: str) -> Cause | None:
    """The first cause whose words are in a text; None: it is none of them."""
    return next((row for row in table if re.search(row.pattern, text)), None)
