"""What ``r1deploy weights`` does on a host: look, hash, offer to other hosts, fetch from one, pull from a hub.

rsync and the hub's client are programs of their own. Each answer is a marked line of JSON: ``progress``
rows at least once a second, at the end one ``done`` or ``error``. When nobody reads
them any more (the controller is gone) writing fails, and the work ends with it.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

from .checkpoint import (
    SUMS,
    content_files,
    known_sums,
    look_checkpoint,
    parse_sums,
    read_json,
    shards_of,
    stamp,
)
from .files import open_plain, read_bytes, read_text
from .offer import serve, wait_for_end
from .private import locked

MARK = "r1:"
LOCKS = "/run/r1deploy"
SUMS_LIMIT = 16 << 20
TICK = 0.5
PARTIAL = ".r1deploy-partial"
WRITING = threading.Lock()
# The hub's own client in a process of its own: its prints and threads stay there. argv: what, order as JSON.
CLIENT = r"""
import json, os, sys
what, order = sys.argv[1], json.loads(sys.argv[2])
sys.path.insert(0, order["client"])
repo, revision, folder = order["repo"], order["revision"], order["path"]
def answer(**row):
    print("\nr1:" + json.dumps(row), flush=True)
def listed_huggingface():
    from huggingface_hub import HfApi
    info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    rows = [{"name": f.rfilename, "size": f.size, "sha256": f.lfs.sha256 if f.lfs else None,
             "sha1": None if f.lfs else f.blob_id} for f in info.siblings]
    return {"revision": info.sha, "files": rows}
def got_huggingface():
    from huggingface_hub import snapshot_download
    snapshot_download(repo, revision=revision, local_dir=folder, max_workers=order["workers"])
def listed_modelscope():
    from modelscope.hub.api import HubApi
    rows = HubApi().get_model_files(repo, revision=revision, recursive=True)
    return {"revision": revision, "files": [
        {"name": f["Path"], "size": f["Size"], "sha256": f.get("Sha256") or None, "sha1": None}
        for f in rows if f["Type"] != "tree"]}
def got_modelscope():
    from modelscope.hub.snapshot_download import snapshot_download
    snapshot_download(repo, revision=revision, local_dir=folder, max_workers=order["workers"])
try:
    answer(done=globals()[what + "_" + order["hub"]]())
except BaseException as error:
    status = getattr(getattr(error, "response", None), "status_code", None)
    chain = []
    while error is not None and len(chain) < 6:
        chain.append(type(error).__name__ + ": " + str(error))
        error = error.__cause__ or error.__context__
    answer(error=chain, status=status)
    sys.exit(1)
"""


class Refused(Exception):
    """Work that cannot go on: a code, a sentence, the last lines of what failed."""

    def __init__(self, code, message, tail=()):
        Exception.__init__(self, message)
        self.code, self.tail = code, list(tail)


def say(kind, **row):
    """One answer to the controller."""
    with WRITING:
        sys.stdout.write(MARK + json.dumps(dict(row, kind=kind), separators=(",", ":")) + "\n")
        sys.stdout.flush()


def there(path):
    """The folder itself, or its nearest parent that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def free_bytes(path):
    """Bytes free for a folder that may not exist yet."""
    info = os.statvfs(there(path))
    return info.f_bavail * info.f_frsize


@contextlib.contextmanager
def alone(path):
    """One run at a time writes to a checkpoint; the lock goes with the process that holds it. Raises Refused."""
    name = LOCKS + "/weights-%s.lock" % hashlib.sha256(path.encode()).hexdigest()[:12]
    handle = locked(name, lambda _: True)
    if handle is None:
        raise Refused("WEIGHTS_BUSY", "another run writes to %s (%s)" % (path, read_text(name) or "?"))
    with os.fdopen(handle, "r+") as stream:
        stream.truncate(0)
        stream.write("pid %d since %s" % (os.getpid(), time.strftime("%H:%M:%S")))
        stream.flush()
        yield


def look(request):
    """The checkpoint by its headers, what is free, and whether the hub's client is here."""
    path = request["path"]
    found = look_checkpoint(path)
    sizes = {}
    for top, _, names in os.walk(path):
        for name in names:
            full = os.path.join(top, name)
            with contextlib.suppress(OSError):
                sizes[os.path.relpath(full, path)] = os.stat(full).st_size
    return {
        "weights": found,
        "free": free_bytes(path),
        "sizes": sizes,
        "rsync": shutil.which("rsync") is not None,
        "client": os.path.isdir(request["client"]) if request.get("client") else None,
    }


def mark(request):
    """Leave a file of random content beside the checkpoint; where it is seen too, the folder is shared."""
    folder = there(request["path"])
    name = os.path.join(folder, ".r1deploy-%s" % request["token"])
    try:
        with open(name, "x") as stream:
            stream.write(request["content"])
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return {"marked": None, "why": str(error)}
    return {"marked": name}


def seen(request):
    """Whether the file that another host left is here, with its content."""
    try:
        with open(request["marked"]) as stream:
            return {"seen": stream.read() == request["content"]}
    except OSError:
        return {"seen": False}


def unmark(request):
    """Take the file away again."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(request["marked"])
    return {}


def verify(request):
    """Headers first; then sha256 of every file, on all cores, against the sums that are given or lie there."""
    path = request["path"]
    found = look_checkpoint(path)
    answer = {"weights": found, "sums": {}, "differ": [], "absent": [], "unlisted": [], "hashed": 0, "seconds": 0}
    if not found["exists"] or found["missing"] or found["bad"] or not found["shards"]:
        return answer
    wanted, source = request.get("sums"), request.get("source")
    if wanted is None and os.path.exists(os.path.join(path, SUMS)):
        source = SUMS
        try:
            wanted = parse_sums(read_bytes(os.path.join(path, SUMS), SUMS_LIMIT).decode("utf-8"))
        except ValueError as error:
            raise Refused("MANIFEST_INVALID", "%s: %s" % (os.path.join(path, SUMS), error))
    answer["source"] = source
    if wanted is None and not request["hash"]:
        return answer
    own = content_files(path)
    names = sorted(set(own) | {name for name in wanted or {} if os.path.isfile(os.path.join(path, name))})
    began = time.time()
    answer["sums"], answer["hashed"] = sums_of(path, names, request["record"])
    answer["seconds"] = round(time.time() - began, 1)
    if wanted is not None:
        answer["absent"] = sorted(set(wanted) - set(names))
        answer["differ"] = [name for name in names if name in wanted and wanted[name] != answer["sums"][name]]
        answer["unlisted"] = sorted(name for name in shards_of(path) if name not in wanted)
    return answer


def sums_of(path, names, record):
    """(``{name: sha256}``, bytes that had to be read); what did not change since the last time is not read again."""
    known = known_sums(read_json(record), path, names)
    rows = {name: [*stamp(os.path.join(path, name)), known[name]] for name in known}
    left = sorted((name for name in names if name not in known), key=lambda name: -os.stat(path + "/" + name).st_size)
    total = sum(os.stat(os.path.join(path, name)).st_size for name in left)
    count, stop = [0], threading.Event()

    def one(name):
        full = os.path.join(path, name)
        before, digest = stamp(full), hashlib.sha256()
        with open_plain(full) as stream:
            while not stop.is_set():
                block = stream.read(4 << 20)
                if not block:
                    break
                digest.update(block)
                with WRITING:
                    count[0] += len(block)
        if stamp(full) != before:
            raise Refused("WEIGHTS_BUSY", "%s changed while it was read" % full)
        return name, [*before, digest.hexdigest()]

    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        jobs = [pool.submit(one, name) for name in left]
        try:
            while True:
                done, waiting = concurrent.futures.wait(jobs, timeout=TICK)
                say("progress", done=count[0], total=total)
                if not waiting:
                    break
            rows.update(job.result() for job in jobs)
        except BaseException:
            stop.set()
            raise
    if left:
        os.makedirs(os.path.dirname(record), exist_ok=True)
        partial = record + ".new"
        with open(partial, "w", encoding="utf-8") as stream:
            json.dump({"version": 1, "path": path, "files": rows}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, record)
    return {name: rows[name][-1] for name in names}, total


def offer(request):
    """Let the other hosts read the checkpoint, with one password and from their addresses only, until we end."""
    serve(request, say)


def ended(request):
    """Wait until an offer is gone: its process, its connections, its password."""
    return {"killed": wait_for_end(request["process"], 10)}


def fetch(request):
    """Copy the checkpoint of the host that offers it.

    A file has its name only when it is whole; one that was cut waits in a folder of its own, from which
    the next run goes on. With ``names`` only those, whatever their size and time say.
    """
    path = request["path"]
    with alone(path):
        os.makedirs(path, exist_ok=True)
        argv = ["rsync", "-rlt", "--partial-dir=" + PARTIAL, "--timeout=60", "--contimeout=15", "--exclude=/.*"]
        stdin = b""
        if request["names"]:
            argv += ["--ignore-times", "--files-from=-", "--from0"]
            stdin = b"".join(name.encode() + b"\0" for name in request["names"])
        argv += ["rsync://r1deploy@%s:%d/weights/" % (request["address"], request["port"]), path + "/"]
        total = sum(request["sizes"].values())

        def done():
            size = 0
            for name, length in request["sizes"].items():
                for place in (name, os.path.join(os.path.dirname(name), PARTIAL, os.path.basename(name))):
                    with contextlib.suppress(OSError):
                        size += min(os.stat(os.path.join(path, place)).st_size, length)
                        break
                else:
                    for row in os.scandir(os.path.join(path, os.path.dirname(name))):
                        if row.name.startswith("." + os.path.basename(name) + "."):
                            size += row.stat().st_size
            return size

        code, tail = watched(argv, {"RSYNC_PASSWORD": request["password"]}, stdin, done, total)
        if code != 0:
            text = "\n".join(tail)
            if "No space left" in text:
                raise Refused("DISK_FULL", "its disk is full", tail)
            if "Connection refused" in text or "timeout" in text or "timed out" in text or "No route" in text:
                where = "%s:%d" % (request["address"], request["port"])
                raise Refused("PEER_UNREACHABLE", "it cannot reach %s, where the checkpoint is offered" % where, tail)
            raise Refused("WEIGHTS_COPY_FAILED", "rsync ends with code %d" % code, tail)
    return {}


def watched(argv, environment, stdin, done, total):
    """Run a program, say how far it is; (exit code, last lines). It ends with us."""
    with tempfile.TemporaryFile() as log:
        pipes = {"stdin": subprocess.PIPE, "stdout": log, "stderr": log}
        process = subprocess.Popen(argv, env={**os.environ, **environment}, start_new_session=True, **pipes)
        try:
            process.stdin.write(stdin)
            process.stdin.close()
            while process.poll() is None:
                say("progress", done=min(done(), total), total=total)
                time.sleep(TICK)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        log.seek(0)
        lines = log.read().decode("utf-8", "replace").replace("\r", "\n").splitlines()
    say("progress", done=min(done(), total), total=total)
    return process.returncode, [line for line in lines if line.strip()][-200:]


def ask(request, what, done, total):
    """An answer of the hub's client. Raises Refused with the cause."""
    argv = [sys.executable, "-s", "-E", "-c", CLIENT, what, json.dumps({k: request[k] for k in ORDER})]
    environment = {**request["env"], "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    _, tail = watched(argv, environment, b"", done, total)
    row = next((json.loads(line[len(MARK) :]) for line in reversed(tail) if line.startswith(MARK)), None)
    if row is not None and "done" in row:
        return row["done"]
    chain, status = (row["error"], row["status"]) if row else ([], None)
    text = "\n".join(chain or tail)
    lines = [line for part in (chain or tail) for line in part.splitlines() if line.strip()][-8:]
    name = "%s of %s" % (request["repo"], request["hub"])
    if "No space left" in text:
        raise Refused("DISK_FULL", "its disk is full", lines)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        raise Refused("HUB_TLS", "the hub's certificate is not trusted", lines)
    if status in (401, 403) or "Gated" in text:
        raise Refused("HUB_AUTH", "the hub asks for a login, or refuses it, for %s" % name, lines)
    missing = "the hub has no %s at %s" % (name, request["revision"] or "its default")
    if status == 404:
        raise Refused("HUB_MISSING", missing, lines)
    # Before the names of errors: a file that is "not found" here may be so because nobody answered.
    if any(word in text for word in ("Connect", "resolve host", "Timeout", "timed out", "RemoteProtocol", "ReadError")):
        raise Refused("HUB_NO_ROUTE", "the hub does not answer, or the connection breaks", lines)
    if "NotFound" in text or "not exist" in text:
        raise Refused("HUB_MISSING", missing, lines)
    raise Refused("HUB_FAILED", "the hub's client fails", lines)


ORDER = ("hub", "repo", "revision", "path", "workers", "client")


def pull(request):
    """Download a checkpoint with the hub's own client; whole files stay, and a cut one goes on where it ended."""
    path = request["path"]
    with alone(path):
        if request["client_bytes"]:
            unpack(request["client"], request["client_bytes"])
        listed = ask(request, "listed", lambda: 0, 0)
        request["revision"] = listed["revision"]
        sizes = {row["name"]: row["size"] or 0 for row in listed["files"]}
        total = sum(sizes.values())
        need = total - sum(size for name, size in sizes.items() if length_of(os.path.join(path, name)) == size)
        if need > free_bytes(path):
            numbers = (need / 2**30, free_bytes(path) / 2**30, there(path))
            raise Refused("DISK_FULL", "%.1f GiB are to come, %.1f GiB are free in %s" % numbers)
        os.makedirs(path, exist_ok=True)

        def done():
            size = 0
            for top, _, names in os.walk(path):
                for name in names:
                    with contextlib.suppress(OSError):
                        size += os.stat(os.path.join(top, name)).st_size
            return size

        for attempt in (3, 2, 1, 0):
            try:
                ask(request, "got", done, total)
                break
            except Refused as error:
                if error.code != "HUB_NO_ROUTE" or attempt == 0:
                    raise
                say("note", text="%s; going on, %d more times" % (error, attempt))
        short = [name for name, size in sizes.items() if length_of(os.path.join(path, name)) != size]
        if short:
            raise Refused("HUB_FAILED", "the hub's client left out, or cut: %s" % ", ".join(short[:5]))
        for row in listed["files"]:
            if row["sha1"] and git_blob(os.path.join(path, row["name"])) != row["sha1"]:
                raise Refused("WEIGHTS_DAMAGED", "%s is not what the hub says" % row["name"])
        sums = {row["name"]: row["sha256"] for row in listed["files"] if row["sha256"]}
        for row in listed["files"]:
            if row["sha1"]:
                with open(os.path.join(path, row["name"]), "rb") as stream:
                    sums[row["name"]] = hashlib.sha256(stream.read()).hexdigest()
        with open(os.path.join(path, SUMS + ".new"), "w", encoding="utf-8") as stream:
            stream.writelines("%s  %s\n" % (sums[name], name) for name in sorted(sums))
        os.replace(os.path.join(path, SUMS + ".new"), os.path.join(path, SUMS))
    return {"revision": request["revision"], "files": len(sizes), "bytes": total, "downloaded": need}


def length_of(path):
    """Bytes of a file; None where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def git_blob(path):
    """Git's id of a file, which hubs give for the small ones."""
    with open(path, "rb") as stream:
        data = stream.read()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def unpack(folder, length):
    """Unpack the hub's client, which follows the order on standard input."""
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    partial = tempfile.mkdtemp(prefix="hub-", dir=os.path.dirname(folder))
    try:
        with tempfile.TemporaryFile() as archive:
            archive.write(sys.stdin.buffer.read(length))
            archive.seek(0)
            with tarfile.open(fileobj=archive) as members:
                members.extractall(partial)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


OPS = {row.__name__: row for row in (look, mark, seen, unmark, verify, offer, ended, fetch, pull)}


def main(text):
    """Do what the request asks for, and answer once."""
    request = json.loads(text)
    try:
        say("done", **OPS[request["op"]](request))
    except BrokenPipeError:
        os._exit(1)
    except Refused as error:
        say("error", code=error.code, message=str(error), tail=error.tail[-8:])
        sys.exit(1)
    except OSError as error:
        full = error.errno in (28, 122)
        say("error", code="DISK_FULL" if full else "STEP_FAILED", message=str(error), tail=[])
        sys.exit(1)
