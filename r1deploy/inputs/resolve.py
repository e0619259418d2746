"""Lock what the settings ask for: refs to commits, ciphertexts to sha256, the tarball to an image id.

All of it is read here on the controller, before any host is changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from r1deploy.inputs.tarball import lock_image
from r1deploy.errors import ConfigError, PreflightError
from r1deploy.settings import gitlogin, redact, site
from r1deploy.settings.lockfile import Lock, LockedImage, LockedPatch, LockedSource
from r1deploy.settings.model import Settings, Source
from r1deploy.settings.redact import without_login

KEY = "private_key.pem"
COMMIT = re.compile(r"^[0-9a-f]{40}$")
GIT_SECONDS = 120
FIXES = {
    "GIT_TLS": "set site.ca_bundle to a PEM file with the CA that signed it",
    "GIT_PROXY": "check site.https_proxy (and its login), or name the host in site.no_proxy",
}
Say = Callable[[str], None]
CAUSES = (
    (r"SSL certificate|certificate verif|self.signed cert|local issuer", "GIT_TLS", "its certificate is not trusted"),
    (
        r"resolve proxy|from proxy after CONNECT|CONNECT tunnel failed|error: 407|Proxy CONNECT aborted",
        "GIT_PROXY",
        "the proxy refuses or does not answer",
    ),
    (r"Could not resolve host", "GIT_DNS", "its host does not resolve"),
    (r"Authentication failed|could not read Username|Permission denied", "GIT_AUTH", "it asks for a login"),
    (r"not found|does not appear to be a git repository|not exported", "GIT_MISSING", "there is no such repository"),
    (r"unable to connect|Connection refused|timed out|Failed to connect|No route", "GIT_NO_ROUTE", "no connection"),
)


def cache_folder() -> Path:
    """Where clones of upstreams are kept here."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "r1deploy" / "git"


def git(settings: Settings, *arguments: str, seconds: int = GIT_SECONDS) -> bytes:
    """Output of a git command that never asks and never hangs. Raises PreflightError with git's own last lines."""
    mirrors = {url: f"file://{path}" for url, path in settings.git.mirrors.items()}
    # Of two rules the longer one holds; of two for the same URL the last one, so a mirror here comes last.
    places = {**settings.git.instead_of, **mirrors}.items()
    rules = [f"url.{gitlogin.bare(mirror)}.insteadOf={gitlogin.bare(prefix)}" for prefix, mirror in places]
    arguments = tuple(gitlogin.bare(word) for word in arguments)
    argv = ["git", *(word for rule in rules for word in ("-c", rule)), *arguments]
    own = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -oBatchMode=yes", "LC_ALL": "C"}
    known = gitlogin.environment(gitlogin.logins(settings), int(os.environ.get("GIT_CONFIG_COUNT") or 0))
    env = {**os.environ, **own, **site.with_ca(settings.site), **known}
    try:
        done = subprocess.run(argv, env=env, capture_output=True, timeout=seconds, check=False)
    except FileNotFoundError:
        raise PreflightError("GIT_CLIENT_MISSING", "git is not installed here", fix="apt-get install git") from None
    except subprocess.TimeoutExpired:
        raise PreflightError("GIT_NO_ROUTE", f"git {command_of(arguments)}: no answer in {seconds} s") from None
    if done.returncode != 0:
        lines = redact.text(redact.hide(done.stderr.decode("utf-8", "replace"))).strip().splitlines()[-5:]
        code, why = cause_of(settings, "\n".join(lines))
        fix = FIXES.get(code, f"check it by hand: git ls-remote {url_of(arguments)}")
        raise PreflightError(code, f"git {command_of(arguments)}: {why}", evidence=lines, fix=fix)
    return done.stdout


def url_of(arguments: tuple[str, ...]) -> str:
    """The URL of a command line, as it can be shown; the word URL where there is none."""
    urls = [word for word in arguments if re.match(r"[a-z+]+://|/|[^/:]+@[^/:]+:", word)]
    return shlex.quote(without_login(urls[-1])) if urls else "URL"


def command_of(arguments: tuple[str, ...]) -> str:
    """Git's verb in a command line that may begin with ``-C FOLDER``."""
    return arguments[2] if arguments[0] == "-C" else arguments[0]


def cause_of(settings: Settings, text: str) -> tuple[str, str]:
    """Code and sentence for what git said."""
    proxies = (settings.site.http_proxy, settings.site.https_proxy)
    for proxy in (urlsplit(url) for url in proxies if url):
        # A proxy that is down looks like a server that is: only the address tells.
        if proxy.hostname and re.search(rf"connect to {re.escape(proxy.hostname)} port {proxy.port or ''}", text):
            return "GIT_PROXY", f"no connection to the proxy {proxy.hostname}"
    return next(((code, why) for pattern, code, why in CAUSES if re.search(pattern, text)), ("GIT_FAILED", "git fails"))


def commit_of(settings: Settings, source: Source) -> str:
    """The commit that a branch, tag or commit names. Raises PreflightError GIT_REF_GONE."""
    if COMMIT.match(source.ref):
        return source.ref
    wanted = (f"refs/tags/{source.ref}^{{}}", f"refs/heads/{source.ref}", f"refs/tags/{source.ref}")
    rows = git(settings, "ls-remote", source.url, *wanted).decode().splitlines()
    found = {name: commit for commit, name in (row.split("\t") for row in rows)}
    for name in wanted:
        if name in found:
            return found[name]
    raise PreflightError(
        "GIT_REF_GONE",
        f"{without_login(source.url)} has no branch or tag {source.ref}",
        fix=f"git ls-remote {shlex.quote(without_login(source.url))} lists those there are",
    )


def ref_of(settings: Settings, source: Source) -> str | None:
    """The full name of a branch or tag; None for a commit, or where the remote has it no more."""
    if COMMIT.match(source.ref):
        return None
    wanted = (f"refs/heads/{source.ref}", f"refs/tags/{source.ref}")
    rows = git(settings, "ls-remote", source.url, *wanted).decode().splitlines()
    return next((row.split("\t")[1] for row in rows), None)


def clone_with(settings: Settings, commit: str) -> Path:
    """A clone of FlagScale, kept here, that holds a commit. Raises PreflightError where the commit is gone."""
    url = gitlogin.bare(settings.flagscale.url)
    clone = cache_folder() / (hashlib.sha256(url.encode()).hexdigest()[:16] + ".git")
    if not (clone / "HEAD").exists():
        clone.parent.mkdir(parents=True, exist_ok=True)
        git(settings, "init", "-q", "--bare", str(clone))
    have = subprocess.run(
        ["git", "-C", str(clone), "cat-file", "-e", f"{commit}^{{tree}}"], capture_output=True, check=False
    )
    if have.returncode != 0:
        try:
            git(settings, "-C", str(clone), "fetch", "-q", "--depth", "1", url, commit)
        except PreflightError as error:
            if error.code != "GIT_FAILED":
                raise
            fix = "check patch.commit and flagscale.url"
            message = f"{without_login(url)} has no commit {commit[:12]}"
            raise PreflightError("GIT_REF_GONE", message, evidence=error.evidence, fix=fix) from None
    return clone


def blobs(settings: Settings, commit: str, paths: list[str]) -> dict[str, bytes]:
    """Files of FlagScale at a commit, from a clone kept here. Raises PreflightError where commit or file is gone."""
    if not paths:
        return {}
    clone = clone_with(settings, commit)
    found = {}
    for path in paths:
        try:
            found[path] = git(settings, "-C", str(clone), "show", f"{commit}:{path}")
        except PreflightError as error:
            message = f"FlagScale {commit[:12]} has no {path}"
            fix = "check patch.device_type and patch.backends"
            raise PreflightError("PATCH_MISSING", message, evidence=error.evidence, fix=fix) from None
    return found


def patch_paths(settings: Settings) -> list[str]:
    """The patches inside FlagScale's tree."""
    suffix = "diff.patch.encrypted" if settings.patch.encrypted else "diff.patch"
    return [f"hardware/{settings.patch.device_type}/{backend}/{suffix}" for backend in settings.patch.backends]


def resolve(settings: Settings, lock: Lock | None, upgrade: frozenset[str], say: Say) -> Lock:
    """A lock that fits the settings; entries that still fit are kept as they are.

    In: names to resolve anew (``flaggems``, ``flagscale``, ``image``). Raises PreflightError with all that cannot be.
    """
    found, problems = resolved(settings, lock, upgrade, say)
    if not problems:
        return found
    first = problems[0]
    if len(problems) == 1:
        raise first
    message = "\n".join(
        [f"{len(problems)} things cannot be resolved", *(f"{row.message} ({row.code})" for row in problems)]
    )
    fixes = dict.fromkeys(row.fix for row in problems if row.fix)
    evidence = [line for row in problems for line in row.evidence]
    raise PreflightError(first.code, message, evidence=evidence, fix="\n".join(fixes) or None)


def resolved(
    settings: Settings, lock: Lock | None, upgrade: frozenset[str], say: Say
) -> tuple[Lock, list[PreflightError]]:
    """As ``resolve``, as far as it goes: what cannot be resolved is None in the lock, and told beside it."""
    old = lock or Lock(version=1)
    parts: dict[str, Callable[[], object]] = {
        "flaggems": lambda: resolved_source("flaggems", settings, old.flaggems, upgrade, say),
        "flagscale": lambda: resolved_source("flagscale", settings, old.flagscale, upgrade, say),
        "patch": lambda: resolved_patch(settings, old.patch, say),
        "image": lambda: resolved_image(settings, old.image, upgrade, say),
    }
    found: dict[str, object] = {}
    problems: list[PreflightError] = []
    for name, part in parts.items():
        try:
            found[name] = part()
        except PreflightError as error:
            problems.append(error)
    return Lock.model_validate({"version": 1, **found}), problems


def resolved_source(
    name: str, settings: Settings, held: LockedSource | None, upgrade: frozenset[str], say: Say
) -> LockedSource:
    """A repository's commit. In: the name of its section in the settings."""
    wanted: Source = getattr(settings, name)
    url = without_login(wanted.url)
    if held and (held.url, held.ref) == (url, wanted.ref) and name not in upgrade:
        return held
    commit = commit_of(settings, wanted)
    say(f"locked {name} {wanted.ref} at {commit[:12]}")
    return LockedSource(url=url, ref=wanted.ref, commit=commit)


def resolved_patch(settings: Settings, held: LockedPatch | None, say: Say) -> LockedPatch:
    """The sha256 of each ciphertext at the patch's commit."""
    paths = patch_paths(settings)
    if held and held.commit == settings.patch.commit and sorted(held.ciphertexts) == sorted(paths):
        return held
    found = blobs(settings, settings.patch.commit, paths)
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in found.items()}
    if paths:
        say(f"locked {len(paths)} patches of FlagScale {settings.patch.commit[:12]}")
    return LockedPatch(commit=settings.patch.commit, ciphertexts=digests)


def resolved_image(
    settings: Settings, held: LockedImage | None, upgrade: frozenset[str], say: Say
) -> LockedImage | None:
    """The tarball's image; without a tarball what is held, where it is of the wanted name."""
    fits = held is not None and held.name == settings.image.name
    if not settings.image.tarball or (fits and "image" not in upgrade):
        return held if fits else None
    image = lock_image(settings)
    say(f"locked {settings.image.name} as {str(image.id)[7:19]}")
    return image


def prove_key(settings: Settings, ciphertexts: Mapping[str, str]) -> str:
    """Decrypt the patches' AES keys with the vendor's key; returns a sentence. Raises PreflightError with the fix.

    Format (FlagScale's encryption_utils): 16 bytes IV, 512 bytes RSA-OAEP(SHA-256) of a 32-byte AES key, data.
    """
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    path = key_file(settings)
    if path is None:
        return "no patch is encrypted"
    try:
        text = path.read_bytes()
        redact.remember(text.decode("ascii", "replace"))
        key = serialization.load_pem_private_key(text, password=None)
    except TypeError:
        # It takes the key's name only when it is whole; openssl asks for the passphrase by itself.
        name = shlex.quote(str(path))
        fix = f"openssl rsa -in {name} -out {name}.new && mv {name}.new {name}"
        raise PreflightError("KEY_PASSPHRASE", f"{path} asks for a passphrase", fix=fix) from None
    except ValueError:
        raise PreflightError(
            "KEY_NOT_PEM", f"{path} is no PEM private key", fix="ask the vendor for the key again"
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size != 4096:
        raise PreflightError("KEY_WRONG", f"{path} is not an RSA-4096 key", fix="ask the vendor for the key again")
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    for name, data in blobs(settings, settings.patch.commit, sorted(ciphertexts)).items():
        digest = hashlib.sha256(data).hexdigest()
        if digest != ciphertexts[name]:
            message = f"{name}: sha256 {digest[:12]}, r1deploy.lock says {ciphertexts[name][:12]}"
            raise PreflightError("PATCH_TAMPERED", message, fix="do not go on; compare with the vendor's delivery")
        try:
            good = len(key.decrypt(data[16:528], oaep)) == 32
        except ValueError:
            good = False
        if not good:
            message = f"{path} does not decrypt {name}"
            raise PreflightError("KEY_WRONG", message, fix=f"ask for the key of FlagScale {settings.patch.commit[:12]}")
    # Without one the patch itself could not be resolved, which is told elsewhere.
    return f"the key decrypts {len(ciphertexts)} patches" if ciphertexts else "the key is an RSA-4096 key"


def key_file(settings: Settings) -> Path | None:
    """The vendor's key, checked for place and mode; None where no patch is encrypted. Raises PreflightError."""
    if not (settings.patch.encrypted and settings.patch.backends):
        return None
    if settings.patch.key_dir is None:
        fix = "put private_key.pem into a folder (0700) and set patch.key_dir"
        raise PreflightError("KEY_MISSING", "the patch is encrypted and patch.key_dir is not set", fix=fix)
    folder = Path(settings.patch.key_dir)
    if folder.is_file():
        message = f"patch.key_dir is a file: {folder}"
        where = folder.parent if folder.name == KEY else f"FOLDER, where it is called {KEY}"
        raise PreflightError("KEY_NOT_FOLDER", message, fix=f"name its folder: patch.key_dir: {where}")
    path = folder / KEY
    if not path.is_file():
        raise PreflightError("KEY_MISSING", f"{path}: no such file", fix="the vendor sends private_key.pem by mail")
    quoted = shlex.quote(str(path))
    if not os.access(path, os.R_OK):
        raise PreflightError("KEY_MODE", f"{path} cannot be read", fix=f"as root: chown {os.geteuid()} {quoted}")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise PreflightError("KEY_MODE", f"{path} is open to others (mode {mode:04o})", fix=f"chmod 0600 {quoted}")
    return path


def password_file(settings: Settings) -> Path | None:
    """The registry's password, checked for place and mode; None where a pull needs none. Raises PreflightError."""
    if settings.image.tarball or settings.image.registry_password_file is None:
        return None
    path = Path(settings.image.registry_password_file)
    if not path.is_file() or not os.access(path, os.R_OK):
        message = f"image.registry_password_file: {path} cannot be read"
        raise PreflightError("REGISTRY_PASSWORD", message, fix="write the password into it, mode 0600")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        message = f"image.registry_password_file: {path} is open to others (mode {mode:04o})"
        raise PreflightError("REGISTRY_PASSWORD", message, fix=f"chmod 0600 {shlex.quote(str(path))}")
    return path


def need(lock: Lock) -> tuple[LockedSource, LockedSource, LockedPatch]:
    """The parts of a lock that every release needs. Raises ConfigError where one is missing."""
    if lock.flaggems is None or lock.flagscale is None or lock.patch is None:
        raise ConfigError("LOCK_INVALID", "r1deploy.lock is not complete", fix="remove it and run bootstrap again")
    return lock.flaggems, lock.flagscale, lock.patch


def lock_of_or_error(settings: Settings, lock: Lock | None, say: Say) -> tuple[Lock, list[PreflightError]]:
    """As ``resolve`` without an upgrade, with the errors in hand instead of raised."""
    return resolved(settings, lock, frozenset(), say)
