#!/usr/bin/env python3
"""What r1deploy runs inside the container: unpatch, build, install.

Each job takes its order as one JSON document (what is secret, the key of ``unpatch`` and
the proxies, and what is long, follows on standard input, never in an argument), holds a lock so that a second run waits
for one that is still at work, writes all that its commands print to a log, and leaves a
mark only when its effect was checked. It prints one line of JSON:
``{"changed": bool, ...}`` or, with exit code 1, ``{"error": text, "tail": [lines]}``.
With ``--check`` it only looks: ``changed`` says whether the job would do something.

Standard library only, Python 3.8 or newer. One file, and longer than the others for that: it is copied into its place
on the hosts, and runs in the container from there.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import fcntl
import glob
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Iterator, Mapping, Sequence

RECORD = "/opt/r1deploy/installed.json"
CA_VARIABLES = ("GIT_SSL_CAINFO", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
Order = Mapping[str, Any]
# What followed on standard input.
Given = Mapping[str, Any]


class JobError(Exception):
    """A job that failed, with the last lines of its log."""

    def __init__(self, text: str, tail: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.tail = list(tail)


def load(path: str) -> Any:
    """A JSON document or None."""
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def store(path: str, document: object) -> None:
    """Write a JSON document whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as stream:
        json.dump(document, stream, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(path + ".new", path)


@contextlib.contextmanager
def only_one(folder: str) -> Iterator[None]:
    """Hold the lock of a job; wait while another run of the same job is at work.

    In: a folder that only root may enter: who can open a lock's file, if only to read it, can hold it for ever.
    """
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o700)
    with open(os.path.join(folder, "lock"), "a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def tail_of(path: str, lines: int = 15) -> list[str]:
    """The last lines of a log."""
    try:
        with open(path, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 16384))
            return stream.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []


def run(
    argv: Sequence[str],
    log: str,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> None:
    """Run a command into the log; its whole process group ends with the time-out."""
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, "ab") as stream:
        stream.write(("\n$ " + " ".join(argv) + "\n").encode())
        stream.flush()
        process = subprocess.Popen(
            argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise JobError(f"{argv[0]}: not done after {timeout:.0f} s", tail_of(log)) from None
    if code != 0:
        reason = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
        if code in (-9, 137):
            reason += " (killed: out of memory?)"
        raise JobError(f"{' '.join(argv)}: {reason}", tail_of(log))


@contextlib.contextmanager
def memory_folder() -> Iterator[str]:
    """A 0700 folder in memory that is gone when this process is, however it ends.

    A tmpfs in a mount namespace of this process and its children: nobody else sees it, and the kernel takes it away
    with the last of them, also when the whole container is killed. /dev/shm would not do: with the host's /dev mounted
    it is the host's. Without the right to mount, /dev/shm has to do after all, and a child that waits for the end of a
    pipe which only this process holds takes the folder away.
    """
    path = tempfile.mkdtemp(prefix="r1deploy-")
    if private_tmpfs(path):
        yield path
        return
    os.rmdir(path)
    with watched_folder() as path:
        yield path


def private_tmpfs(path: str) -> bool:
    """Mount a tmpfs of our own over a folder; False where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, recursive_private = 0x00020000, 0x4000 | 0x40000
    if libc.unshare(new_namespace) != 0:
        return False
    if libc.mount(b"none", b"/", None, recursive_private, None) != 0:
        return False
    return bool(libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", 0, b"size=1m,mode=0700") == 0)


@contextlib.contextmanager
def watched_folder() -> Iterator[str]:
    """A 0700 folder in /dev/shm that a child removes when this process ends, kill -9 included."""
    path = tempfile.mkdtemp(prefix="r1deploy-", dir="/dev/shm")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(writer)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(1, 2)
        os.read(reader, 1)
        shutil.rmtree(path, ignore_errors=True)
        os._exit(0)
    os.close(reader)
    os.set_inheritable(writer, False)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(writer)
        os.waitpid(child, 0)


def git(clone: str, *arguments: str) -> bytes:
    """Output of a git command in a clone."""
    argv = ["git", "-c", "safe.directory=*", "-C", clone, *arguments]
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise JobError(f"git {arguments[0]} fails", lines[-5:])
    return done.stdout


def check_ciphertexts(order: Order) -> None:
    """The encrypted patches in the clone are the locked ones."""
    for path, wanted in order["ciphertexts"].items():
        blob = git(order["clone"], "show", f"{order['commit']}:{path}")
        found = hashlib.sha256(blob).hexdigest()
        if found != wanted:
            raise JobError(f"{path}: sha256 {found[:12]}, r1deploy.lock says {wanted[:12]}")


def patched_tree(order: Order) -> str:
    """Where unpatch.py puts the patched tree."""
    return os.path.join(order["clone"], "build", order["device_type"], os.path.basename(order["clone"]))


def unpatch_due(order: Order) -> bool:
    """Whether the patched tree is not there, or another one."""
    mark = load(os.path.join(order["root"], "patched.json")) or {}
    return bool(order["force"] or mark.get("key") != order["key"] or not os.path.isdir(patched_tree(order)))


def unpatch(order: Order, given: Given) -> dict[str, Any]:
    """Run FlagScale's unpatch.py with the key in memory; the patched tree is the effect."""
    mark = os.path.join(order["root"], "patched.json")
    tree, key = patched_tree(order), given.get("key", "").encode()
    with only_one(os.path.join(order["root"], ".job")):
        if not unpatch_due(order):
            return {"changed": False}
        for stale in ("patched.json", "built.json", "manifest.json", "stamps.json"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(order["root"], stale))
        check_ciphertexts(order)
        # unpatch.py leaves the decrypted patch and two copies of the tree in its temporary folder.
        scratch = os.path.join(order["root"], "tmp")
        shutil.rmtree(scratch, ignore_errors=True)
        os.makedirs(scratch, mode=0o700)
        try:
            with memory_folder() as secret:
                argv = unpatch_argv(order)
                if key:
                    path = os.path.join(secret, "private_key.pem")
                    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as stream:
                        stream.write(key)
                    argv += ["--key-path", secret]
                env = dict(os.environ, TMPDIR=scratch, GIT_TERMINAL_PROMPT="0", GIT_CONFIG_GLOBAL=order["git_config"])
                run(argv, order["log"], cwd=order["clone"], env=env, timeout=order["timeout"])
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if not os.path.isdir(tree):
            raise JobError(f"unpatch.py ended well but there is no {tree}", tail_of(order["log"]))
        store(mark, {"key": order["key"], "commit": order["commit"], "time": int(time.time())})
    return {"changed": True, "tree": tree}


def unpatch_argv(order: Order) -> list[str]:
    """Command line of unpatch.py; always with --commit, since the default takes the newest patch of the history."""
    return [
        order["python"],
        os.path.join(order["clone"], "tools", "patch", "unpatch.py"),
        "--backend",
        *order["backends"],
        "--task",
        order["task"],
        "--device-type",
        order["device_type"],
        "--commit",
        order["commit"],
    ]


def build_due(order: Order) -> bool:
    """Whether the build or its wheel is not there, or another one."""
    mark = load(os.path.join(order["root"], "built.json")) or {}
    return bool(order["force"] or mark.get("key") != order["key"] or not glob.glob(order["wheels"] + "/*.whl"))


def build(order: Order, _: Given) -> dict[str, Any]:
    """Run the build commands and make the wheel; mark the tree when both are there."""
    mark = os.path.join(order["root"], "built.json")
    with only_one(os.path.join(order["root"], ".job")):
        if not build_due(order):
            return {"changed": False}
        for stale in ("built.json", "manifest.json", "stamps.json"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(order["root"], stale))
        deadline = time.monotonic() + order["timeout"]
        for command in order["commands"]:
            left = max(1, deadline - time.monotonic())
            run(["bash", "-c", command], order["log"], cwd=order["cwd"], timeout=left)
        shutil.rmtree(order["wheels"], ignore_errors=True)
        source = order["source"]
        # FlagScale's build backend lies in its own folder; without this it is "No module named custom_build_backend".
        env = dict(os.environ, PYTHONPATH=source + ":" + os.environ.get("PYTHONPATH", ""))
        argv = [
            order["python"],
            "-m",
            "pip",
            "wheel",
            source,
            "--no-build-isolation",
            "--no-deps",
            "-w",
            order["wheels"],
        ]
        run(argv, order["log"], cwd=source, env=env, timeout=order["timeout"])
        found = glob.glob(order["wheels"] + "/*.whl")
        if len(found) != 1:
            raise JobError(f"expected one wheel in {order['wheels']}, found {len(found)}", tail_of(order["log"]))
        store(mark, {"key": order["key"], "time": int(time.time())})
    return {"changed": True, "wheel": os.path.basename(found[0])}


def proof_of(dist: str) -> tuple[str, dict[str, str]]:
    """Version of an installed distribution and the sha256 of its RECORD, which holds every file's hash."""
    try:
        found = importlib.metadata.distribution(dist)
    except importlib.metadata.PackageNotFoundError:
        raise JobError(f"{dist} is not installed after its installation") from None
    files = [str(path) for path in found.files or [] if str(path).endswith((".dist-info/RECORD", ".egg-info/PKG-INFO"))]
    proof = {}
    for name in files:
        path = os.path.realpath(str(found.locate_file(name)))
        with open(path, "rb") as stream:
            proof[path] = hashlib.sha256(stream.read()).hexdigest()
    if not proof:
        raise JobError(f"{dist}: no RECORD to prove the installation with")
    return found.version, proof


def intact(part: Mapping[str, Any]) -> bool:
    """Whether what was proven at installation is still there."""
    for path, wanted in part.get("proof", {}).items():
        try:
            with open(path, "rb") as stream:
                if hashlib.sha256(stream.read()).hexdigest() != wanted:
                    return False
        except OSError:
            return False
    return bool(part.get("proof"))


def install_part(part: Mapping[str, Any], order: Order) -> dict[str, Any]:
    """Install one part and prove it by import: by commands, from a wheel, or not at all (it is the image's own)."""
    if part["commands"]:
        for command in part["commands"]:
            run(["bash", "-c", command], order["log"], cwd=part["cwd"], timeout=order["timeout"])
    elif part.get("wheels"):
        wheels = glob.glob(part["wheels"] + "/*.whl")
        if len(wheels) != 1:
            raise JobError(f"expected one wheel in {part['wheels']}, found {len(wheels)}")
        argv = [order["python"], "-m", "pip", "install", "--no-deps", "--no-index", "--force-reinstall", wheels[0]]
        run(argv, order["log"], timeout=order["timeout"])
    version, proof = json.loads(
        in_python(order, f"import r1guest,json;print(json.dumps(r1guest.proof_of({part['dist']!r})))")
    )
    for module in part["modules"]:
        in_python(order, f"import {module}")
    return {"tree": part["tree"], "version": version, "proof": proof}


def in_python(order: Order, code: str) -> str:
    """Last line that code prints in a new interpreter of the image, away from any source tree."""
    env = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.abspath(__file__)), PYTHONDONTWRITEBYTECODE="1")
    argv = [order["python"], "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, cwd="/", env=env, timeout=order["timeout"], check=False)
    if done.returncode != 0:
        raise JobError(f"{code.split(';')[0]} fails", done.stderr.strip().splitlines()[-15:])
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def part_due(record: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    """Whether a part is not installed from its tree, or no longer as it was."""
    held = record["parts"].get(part["name"], {})
    return bool(held.get("tree") != part["tree"] or not intact(held))


def install_due(order: Order) -> bool:
    """Whether a part, or the check of the imports, is missing."""
    record = load(RECORD) or {"parts": {}}
    return any(part_due(record, part) for part in order["parts"]) or record.get("imports") != order["imports"]


def install(order: Order, given: Given) -> dict[str, Any]:
    """Install what differs from the record, verify FlagGems on a chip and FlagScale's imports, write the record."""
    check_driver(order)
    with only_one("/opt/r1deploy/.job"):
        record = load(RECORD) or {"parts": {}}
        changed, kernels = [], ""
        computing: dict[str, Any] = {}
        for part in order["parts"]:
            if not part_due(record, part):
                continue
            record["parts"].pop(part["name"], None)
            store(RECORD, record)
            found = install_part(part, order)
            changed.append(part["name"])
            # What is to compute is installed when it did, beside all the others: they may bring another compiler.
            (computing if part.get("computes") else record["parts"])[part["name"]] = found
            store(RECORD, record)
        if computing:
            kernels = prove_kernels(order, given["kernels"])
            record["parts"].update(computing)
            store(RECORD, record)
        if changed or record.get("imports") != order["imports"]:
            missing = [name for name in order["imports"] if not imports(order, name)]
            if missing:
                raise JobError("the image lacks Python modules that FlagScale imports: " + ", ".join(missing))
            record["imports"] = order["imports"]
            store(RECORD, record)
            changed.append("imports")
    return {"changed": bool(changed), "parts": changed, "kernels": kernels}


def prove_kernels(order: Order, asked: Mapping[str, Any]) -> str:
    """Run the first part of ``diag kernels`` in the image's Python; returns what was verified, or why nothing was.

    In: ``package``, its modules by name of file; its ``order``; the ``environment`` of the engine. Raises JobError.
    """
    with tempfile.TemporaryDirectory(prefix="r1deploy-") as folder:
        package, file = os.path.join(folder, "onhost"), os.path.join(folder, "answer.json")
        os.mkdir(package)
        for name, text in asked["package"].items():
            with open(os.path.join(package, os.path.basename(name)), "w", encoding="utf-8") as stream:
                stream.write(text)
        path = os.pathsep.join(filter(None, [folder, asked["environment"].get("PYTHONPATH")]))
        env = {**os.environ, **asked["environment"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        argv = [order["python"], "-m", "onhost.firstkernels", json.dumps(asked["order"]), file]
        run(argv, order["log"], cwd="/", env=env, timeout=order["timeout"])
        answer = load(file)
    if not answer["right"]:
        raise JobError(answer["said"])
    return str(answer["said"])


def check_driver(order: Order) -> None:
    """The image's driver libraries fit the host's driver: the smi tool inside shows a runtime version.

    An image newer than the host's driver fails at the first allocation only; then the table says N/A.
    """
    tool = next((path for path in order["smi"] if os.access(path, os.X_OK)), None)
    if tool is None:
        return
    env = dict(os.environ, **order["smi_env"])
    done = subprocess.run([tool], capture_output=True, text=True, env=env, timeout=60, check=False)
    found = re.search(order["smi_version_pattern"], done.stdout)
    if done.returncode != 0 or found is None or found.group(2) == "N/A":
        said = (done.stderr or done.stdout).strip().splitlines()[-10:]
        raise JobError(f"the image does not fit the host's driver: no version from {tool} in the container", said)


def imports(order: Order, module: str) -> bool:
    """Whether a module imports in the image's Python."""
    try:
        in_python(order, f"import {module}")
    except JobError:
        return False
    return True


JOBS: dict[str, Callable[[Order, Given], dict[str, Any]]] = {"unpatch": unpatch, "build": build, "install": install}
DUE = {"unpatch": unpatch_due, "build": build_due, "install": install_due}


@contextlib.contextmanager
def site(given: Mapping[str, Any]) -> Iterator[None]:
    """The environment of the site for everything that a job starts; its CAs lie in memory meanwhile."""
    os.environ.update(given.get("environment") or {})
    if not given.get("ca"):
        yield
        return
    with memory_folder() as folder:
        path = os.path.join(folder, "ca.pem")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(given["ca"] + "\n")
        os.environ.update(dict.fromkeys(CA_VARIABLES, path))
        yield


def main(argv: list[str]) -> int:
    """``r1guest.py [--check] JOB ORDER``: ORDER is JSON in base64; standard input is JSON: key, environment, ca, …"""
    os.umask(0o022)
    job, text = argv[-2:]
    order = json.loads(base64.b64decode(text))
    if argv[1] == "--check":
        print(json.dumps({"changed": DUE[job](order)}))
        return 0
    given = json.loads((not sys.stdin.isatty() and sys.stdin.read()) or "{}")
    try:
        with site(given):
            answer = JOBS[job](order, given)
    except JobError as error:
        print(json.dumps({"error": str(error), "tail": error.tail}))
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
