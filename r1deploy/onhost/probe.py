"""The probe: one look at a host, read-only, as one small JSON document.

It starts no Docker client and no exec: it asks the engine through its socket and reads inside a
container through the root folder of the container's own process. The only
commands it runs are the vendor's smi tool and ``sudo -n true``.

Each part fails by itself: ``problems`` names it and says why, and the part is not there. Never "nothing there".
"""

import concurrent.futures
import glob
import http.client
import importlib.util
import json
import os
import platform
import pwd
import re
import shutil
import socket
import subprocess
import sys
import time

from . import asking, engine, lock
from .addresses import addresses_of, own_addresses
from .asking import Refused, output_of
from .checkpoint import content_digest, read_json
from .files import is_name, own_names, parse, read_end, read_sha256, read_text
from .gather import gather
from .mounts import look_from_inside
from .trees import load, state

SCHEMA = 1
SMI_SECONDS = 20
PORT_SECONDS = 3
MOST = 1 << 40
PUBLIC_KEY = re.compile(r"[a-z][A-Za-z0-9@.-]* [A-Za-z0-9+/_-]+=*")
FOREIGN = re.compile(r"(^|/)(raylet|gcs_server)(\s|$)|\bvllm serve\b|run_inference_engine|run_fs_serve_vllm|ray::")
ENGINE = re.compile(r"\bvllm serve\b|run_inference_engine")


# It becomes a part of a line of authorized_keys.
PROGRAM = re.compile(r"/[A-Za-z0-9._+/-]{1,254}")


def look_host():
    """Identity, Python, rights and clock."""
    user = pwd.getpwuid(os.getuid()).pw_name
    login = os.environ.get("SUDO_USER") or user
    sudo = os.getuid() == 0
    if not sudo:
        try:
            sudo = subprocess.run(["sudo", "-n", "true"], capture_output=True, timeout=10).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            sudo = False
    return {
        "hostname": socket.gethostname(),
        "machine_id": read_text("/etc/machine-id"),
        "boot_id": read_text("/proc/sys/kernel/random/boot_id"),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "python": platform.python_version(),
        "interpreter": sys.executable if PROGRAM.fullmatch(sys.executable or "") else None,
        "time": time.time(),
        "user": user,
        "login": login,
        "sudo": sudo,
        "tools": {
            "git": shutil.which("git") is not None,
            "rsync": shutil.which("rsync") is not None,
            "ssh_keygen": shutil.which("ssh-keygen") is not None,
            "requests": importlib.util.find_spec("requests") is not None,
        },
    }


def look_net(request):
    """The interface of the host's address, its own name, and who listens on the ports asked about."""
    address = request["address"]
    # Of several addresses of a name the one that is ours counts; a name may be known to the controller only.
    own_ones, resolved = own_addresses(), [*addresses_of(address), *request["numbers"]]
    ip = next((one for one in resolved if one in own_ones), resolved[0] if resolved else None)
    try:
        own = socket.gethostbyname(socket.gethostname())
    except OSError:
        own = None
    listening = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in (read_text(table, 64 << 20) or "").splitlines()[1:]:
            fields = row.split()
            if fields[3] == "0A":
                listening.add(int(fields[1].rsplit(":", 1)[1], 16))
    return {
        "address": address,
        "ip": ip,
        "nic": own_ones.get(ip),
        "nics": [name for _, name in socket.if_nameindex()],
        "hostname_ip": own,
        "ports_taken": sorted(listening & set(request["ports"])),
    }


def look_memory():
    """MiB of memory in all and available."""
    rows = dict(re.findall(r"^(\w+):\s+(\d+) kB$", read_text("/proc/meminfo") or "", re.M))
    try:
        info = os.statvfs("/dev/shm")
        shm = info.f_blocks * info.f_frsize >> 20
    except OSError:
        shm = 0
    return {
        "total_mib": int(rows["MemTotal"]) // 1024,
        "available_mib": int(rows["MemAvailable"]) // 1024,
        "shm_mib": shm,
    }


def free_gib(path):
    """GiB free on the file system of a path, or of its nearest existing parent."""
    while True:
        try:
            info = os.statvfs(path or "/")
            break
        except FileNotFoundError:
            path = os.path.dirname(path)
    return round(info.f_bavail * info.f_frsize / 2**30, 2)


def count_of(text):
    """A number as a tool says it. Raises ValueError, TypeError: also for one that no machine has."""
    number = int(text)
    if number > MOST:
        raise ValueError("%d is too much" % number)
    return number


def look_chips(request):
    """What the smi tool says of the chips: one row a chip, driver version, problems as ``error``."""
    chip = request["chip"]
    nodes = len(glob.glob(chip["devices"]))
    vendors = [read_text(p) for p in glob.glob("/sys/bus/pci/devices/*/vendor")]
    found = {"devices": nodes, "pci": vendors.count(chip["pci_vendor"]), "chips": [], "driver": None, "error": None}
    tool = next((path for path in chip["smi"] if os.access(path, os.X_OK)), None)
    if tool is None:
        found["error"] = "none of " + ", ".join(chip["smi"]) + " is there"
        return found
    environment = dict(os.environ, LC_ALL="C", **chip["smi_env"])

    def ask(*arguments):
        # A tool whose chip or driver is broken may print anything, or never end.
        return output_of([tool, *arguments], SMI_SECONDS, environment)

    table, query, listing = (), tuple(chip["smi_query"]), tuple(chip["smi_list"])
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        jobs = {arguments: pool.submit(ask, *arguments) for arguments in {table, query, listing}}
        try:
            version = re.search(chip["smi_version_pattern"], jobs[table].result()[1])
            code, rows, errors = jobs[query].result()
            sick = {
                row.group(1): " ".join(row.group(0).split())[:80]
                for row in re.finditer(chip["smi_sick_pattern"] + ".*", jobs[listing].result()[1], re.M)
            }
        except (OSError, Refused) as error:
            found["error"] = tool + ": " + str(error)
            return found
    if version:
        found["driver"] = (version.group(1) or "")[:80]
    if code != 0:
        said = (errors or rows).strip().splitlines()
        found["error"] = tool + " fails: " + (said[-1][:300] if said else "exit code %d" % code)
        return found
    for row in re.finditer(chip["smi_pattern"], rows, re.M):
        said = row.groupdict()
        known = [chip["index"] for chip in found["chips"]]
        try:
            one = {
                "index": count_of(said["index"]),
                "name": sick.get(said["index"], said["name"])[:80],
                "memory_mib": count_of(said["memory"]),
                "used_mib": count_of(said["used"]),
            }
        except (TypeError, ValueError):
            one = None
        if one is None or one["index"] in known:
            # A chip of which the tool cannot say enough counts, as the same chip twice does, but not as a healthy one:
            # the row itself could begin with the name of one.
            name = "not a chip: " + " ".join(row.group(0).split())
            one = {"index": len(known), "name": name[:80], "memory_mib": 0, "used_mib": 0}
        found["chips"].append(one)
    return found


def look_engine():
    """The Docker Engine: version, store and folder, or why it does not answer."""
    if not os.path.exists(engine.SOCKET):
        rootless = sorted(glob.glob("/run/user/*/docker.sock"))
        more = "; a rootless one listens at " + rootless[0] if rootless else ""
        return {"ok": False, "error": "no Docker Engine: " + engine.SOCKET + " is not there" + more}
    try:
        status, version = engine.get("/version")
        _, info = engine.get("/info")
    except PermissionError:
        return {"ok": False, "error": "no right to use " + engine.SOCKET}
    except (OSError, ValueError, http.client.HTTPException, Refused) as error:
        return {"ok": False, "error": "the Docker Engine does not answer: " + str(error)}
    if status != 200:
        return {"ok": False, "error": "the Docker Engine answers %d" % status}
    if any("podman" in part.get("Name", "").lower() for part in version.get("Components") or []):
        return {"ok": False, "error": "Podman listens at " + engine.SOCKET + ", not a Docker Engine"}
    root = info.get("DockerRootDir", "/var/lib/docker")
    options = [option.split(",")[0] for option in info.get("SecurityOptions") or []]
    isolated = [name for name in ("userns", "rootless") if "name=" + name in options]
    return {
        "ok": True,
        "version": version["Version"],
        "isolated": isolated[-1] if isolated else None,
        "root": root,
        "free_gib": free_gib(root),
        "error": None,
    }


def look_image(name):
    """Id of an image by name, and the digests of its manifest where the engine knows them, or None."""
    status, found = engine.get("/images/" + name + "/json")
    if status != 200:
        return None
    names = [name for name in found.get("RepoDigests") or [] if "@sha256:" in name]
    digests = sorted({name.partition("@")[2] for name in names})[:50]
    return {"id": found["Id"], "arch": found.get("Architecture"), "digests": digests}


def container_spec(found):
    """The attributes of a container that a release fixes."""
    host, config = found["HostConfig"], found["Config"]
    return {
        "shm_size": host.get("ShmSize"),
        "interactive": config.get("OpenStdin"),
        "tty": config.get("Tty"),
        "volumes": sorted(host.get("Binds") or []),
        "privileged": host.get("Privileged"),
        "cap_add": sorted(host.get("CapAdd") or []),
        "pid": host.get("PidMode"),
        "network": host.get("NetworkMode"),
        "devices": sorted(
            "{PathOnHost}:{PathInContainer}:{CgroupPermissions}".format(**row) for row in host.get("Devices") or []
        ),
    }


def installed_in(root):
    """The install record inside a container, and which parts of it still hold."""
    record = load(root + "/opt/r1deploy/installed.json")
    if not isinstance(record, dict) or not isinstance(record.get("parts"), dict):
        return None
    parts = {}
    for name, part in record["parts"].items():
        proof = part.get("proof") if isinstance(part, dict) else None
        if not is_name(name) or not isinstance(proof, dict):
            continue
        intact = all(read_sha256(root + path) == digest for path, digest in proof.items())
        tree, version = (value if isinstance(value, str) else None for value in map(part.get, ("tree", "version")))
        parts[name] = {"tree": tree, "version": version, "intact": intact}
    return {"parts": parts}


def container_root(found):
    """Folder through which a container's files can be read, or None."""
    pid = found["State"].get("Pid") or 0
    if pid:
        return "/proc/%d/root" % pid
    return (found.get("GraphDriver", {}).get("Data") or {}).get("UpperDir")


def look_containers(request):
    """Containers of this cluster, by label, and any other that holds our name."""
    label = json.dumps({"label": ["r1deploy.cluster=" + request["cluster"]]})
    _, ours = engine.get("/containers/json?all=1&filters=" + label.replace(" ", "").replace('"', "%22"))
    ids = [row["Id"] for row in ours]
    status, named = engine.get("/containers/" + request["container"] + "/json")
    if status == 200 and named["Id"] not in ids:
        ids.append(named["Id"])
    rows = []
    for identity in ids:
        status, found = engine.get("/containers/" + identity + "/json")
        if status != 200:
            continue
        labels = found["Config"].get("Labels") or {}
        root = container_root(found)
        rows.append(
            {
                "name": found["Name"].lstrip("/"),
                "id": identity,
                "image": found["Image"],
                "running": bool(found["State"].get("Running")),
                "paused": bool(found["State"].get("Paused")),
                "started_at": found["State"].get("StartedAt"),
                "cluster": labels.get("r1deploy.cluster"),
                "release": labels.get("r1deploy.release"),
                "spec": container_spec(found),
                "installed": installed_in(root) if root and labels.get("r1deploy.release") else None,
            }
        )
    return sorted(rows, key=lambda row: row["name"])


def git_head(path):
    """Commit that a clone's HEAD names, read from its files; None where there is no clone."""
    head = read_text(os.path.join(path, ".git", "HEAD"))
    if head is None or not head.startswith("ref: "):
        return head
    name = head[5:]
    direct = read_text(os.path.join(path, ".git", name))
    packed = re.search(r"^([0-9a-f]{40}) " + re.escape(name) + "$", read_text(path + "/.git/packed-refs") or "", re.M)
    return direct or (packed.group(1) if packed else None)


def look_state(request):
    """Our folder on the host: trees, sources, releases with their configurations, what is active, trust."""
    top = request["state_dir"]
    found = {"exists": os.path.isdir(top), "free_gib": free_gib(top), "trees": {}, "sources": {}, "releases": {}}
    found["bin"] = {os.path.basename(path): read_sha256(path) for path in own_names(glob.glob(top + "/bin/*"))}
    found["folders"] = {}
    for path in request["folders"]:
        try:
            info = os.stat(path)
            found["folders"][path] = "%04o %d" % (info.st_mode & 0o7777, info.st_uid)
        except OSError:
            found["folders"][path] = None
    for path in own_names(glob.glob(top + "/trees/*")):
        name = os.path.basename(path)
        found["trees"][name] = state(path)
        for clone in own_names(map(os.path.dirname, glob.glob(path + "/*/.git"))):
            found["sources"][clone[len(top) + 1 :]] = git_head(clone)
        patched = load(os.path.join(path, "patched.json"))
        if isinstance(patched, dict):
            key = patched.get("key")
            found["sources"][name + "/patched"] = key if isinstance(key, str) else None
    for path in own_names(glob.glob(top + "/releases/*")):
        configs, records = {}, {}
        for folder in own_names(glob.glob(path + "/config/*")):
            configs[os.path.basename(folder)] = files_of(folder)
            records[os.path.basename(folder)] = load(folder + "/release.json")
        found["releases"][os.path.basename(path)] = {"configs": configs, "records": records}
    found["leftovers"] = leftovers_of(request)
    found["history"] = last_lines(top + "/history.jsonl", 20)
    found["active"] = active_of(top + "/active.json")
    found["trust"] = {
        "public_key": public_key_of(top + "/trust/id_ed25519.pub"),
        "files": files_of(top + "/trust") if os.path.isdir(top + "/trust") else {},
    }
    return found


def public_key_of(path):
    """The public key of a file, with its comment; None where there is none."""
    text = read_text(path) or ""
    return text if PUBLIC_KEY.fullmatch(" ".join(text.split()[:2])) and text.isprintable() else None


def active_of(path):
    """What serve wrote down as active; None where it wrote nothing. Raises ValueError: a damaged record is none."""
    if not os.path.lexists(path):
        return None
    found = load(path)
    if not isinstance(found, dict):
        raise ValueError("%s is damaged" % path)
    return found


def leftovers_of(request):
    """What a run that was cut leaves on a host, and the next one takes away."""
    top = request["state_dir"]
    user = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    patterns = ["/dev/shm/r1deploy-*", top + "/incoming*", top + "/trees/*/tmp", top + "/trees/*/incoming-*"]
    patterns += [folder + "/*.new" for folder in (top + "/bin", top + "/trees/*", top + "/releases/*/config/*")]
    patterns.append(os.path.join(os.path.expanduser("~" + user), request["remote_tmp"], "ansible-tmp-*"))
    owners = {0, os.getuid(), pwd.getpwnam(user).pw_uid}
    return [path for pattern in patterns for path in own_names(glob.glob(pattern)) if owner_of(path) in owners][:50]


def owner_of(path):
    """User id of a file's owner, not of what a link points to; None where it is gone."""
    try:
        return os.lstat(path).st_uid
    except OSError:
        return None


def last_lines(path, count):
    """The last lines of a file of JSON lines, parsed; lines that are cut are left out."""
    rows = []
    for line in read_end(path)[-count:]:
        try:
            rows.append(parse(line))
        except ValueError:
            continue
    return rows


def look_lock(path):
    """What the cluster's lock says, where the process that holds it lives; else None.

    An owner that has ended does not run any more: who wants the lock next waits for the last of its processes.
    """
    found = lock.read(path) if lock.is_held(path) else None
    return None if found is None or found.get("ended") else found


def files_of(folder):
    """``{relative path: [sha256, mode]}`` of the files below a folder."""
    rows = {}
    for path, _, names in os.walk(folder):
        for name in names:
            full = os.path.join(path, name)
            try:
                mode = "%04o" % (os.lstat(full).st_mode & 0o7777)
            except FileNotFoundError:
                continue  # gone since the folder was read
            rows[os.path.relpath(full, folder)] = [read_sha256(full), mode]
    return rows


def look_ssh(request):
    """The host's own public keys, and the lines of ours in the trusted user's authorized_keys."""
    keys = []
    for path in sorted(glob.glob("/etc/ssh/ssh_host_*_key.pub")):
        key = " ".join((read_text(path) or "").split()[:2])
        if PUBLIC_KEY.fullmatch(key):
            keys.append(key)
    home = os.path.expanduser("~" + request["trust_user"])
    lines = (read_text(home + "/.ssh/authorized_keys") or "").splitlines()
    mark = "r1deploy:" + request["cluster"]
    return {"host_keys": keys, "authorized": [line for line in lines if line.endswith(mark)]}


def look_processes(containers):
    """Processes of Ray and the engine: ours by the container's cgroup, the others foreign."""
    ours = {row["id"]: row["name"] for row in containers if row["release"]}
    foreign, raylets, engines = [], [], []
    for folder in glob.glob("/proc/[0-9]*"):
        raw = read_text(folder + "/cmdline")
        if not raw:
            continue
        command = raw.replace("\0", " ").strip()
        if not FOREIGN.search(command):
            continue
        groups = read_text(folder + "/cgroup") or ""
        inside = re.search(r"[0-9a-f]{64}", groups)
        name = next((ours[identity] for identity in ours if identity in groups), None)
        pid = int(os.path.basename(folder))
        if name is None:
            where = inside.group(0)[:12] if inside else None
            foreign.append({"pid": pid, "command": command[:120], "container": where})
        elif re.search(r"(^|/)raylet(\s|$)", command):
            gcs = re.search(r"--gcs-address=(\S+)", command)
            raylets.append({"pid": pid, "container": name, "gcs": gcs.group(1) if gcs else None})
        elif ENGINE.search(command):
            engines.append({"pid": pid, "container": name})
    return {"foreign": foreign[:20], "raylets": raylets, "engines": engines}


def service_port(request):
    """The port of what is active on this host, as its own record says; the settings' where nothing is."""
    top = request["state_dir"]
    active = load(top + "/active.json")
    names = [active.get("release"), active.get("config")] if isinstance(active, dict) else []
    if len(names) == 2 and all(isinstance(name, str) and re.fullmatch(r"[0-9a-f]{1,64}", name) for name in names):
        record = load(top + "/releases/%s/config/%s/release.json" % tuple(names))
        port = record.get("port") if isinstance(record, dict) else None
        if isinstance(port, int) and 0 < port < 65536:
            return port
    return request["ports"][0]


def look_service(port):
    """What answers on the service's port: /health's status and model ids. Anybody on the host may answer there."""
    answer = {"port": port, "health": None, "models": []}
    try:
        place = ("127.0.0.1", port)
        answer["health"], _ = asking.get(socket.AF_INET, place, "/health", PORT_SECONDS)
        status, body = asking.get(socket.AF_INET, place, "/v1/models", PORT_SECONDS)
        rows = parse(body.decode("utf-8", "replace")).get("data") if status == 200 else None
        names = [row.get("id") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        answer["models"] = [name[:200] for name in names if isinstance(name, str)][:20]
    except (OSError, ValueError, AttributeError, http.client.HTTPException, Refused):
        pass  # nothing, or no engine
    return answer


def look_weights(request, record):
    """The checkpoint by its headers, and a digest of its content where ``r1deploy weights verify`` proved it."""
    path = request["weights"]
    if path is None:
        return None
    found = look_from_inside(path, request["model"], request["volumes"])
    found["outside"] = dict(list(found["outside"].items())[:5])
    found["missing"], found["bad"] = found["missing"][:5], found["bad"][:5]
    found["why"] = {name: found["why"][name] for name in found["bad"]} if found["bad"] else {}
    found["content"] = content_digest(read_json(record), path) if found["exists"] else None
    return found


def docker_parts(request):
    """What the Docker Engine knows, and the processes by its containers."""
    seen = look_engine()
    yield "engine", seen
    yield "image", look_image(request["image"]) if seen["ok"] else None
    containers = look_containers(request) if seen["ok"] else []
    yield "containers", containers
    yield "processes", look_processes(containers)


def jobs_of(request):
    """The parts of the answer and what finds them; the jobs run side by side."""

    def one(name, look, *arguments):
        return (name,), lambda: iter([(name, look(*arguments))])

    return [
        one("host", look_host),
        one("net", look_net, request),
        one("memory", look_memory),
        (("engine", "image", "containers", "processes"), lambda: docker_parts(request)),
        one("state", look_state, request),
        one("ssh", look_ssh, request),
        one("lock", look_lock, request["lock"]),
        one("chips", look_chips, request),
        (("service",), lambda: iter([("service", look_service(service_port(request)))])),
        one("weights", look_weights, request, request["state_dir"] + "/weights.json"),
    ]


def main(text):
    """Look at all and print one marked line. In: the order as JSON."""
    request = json.loads(text)
    found, problems = gather(jobs_of(request), request["seconds"], request["limit"])
    answer = dict(found, schema=SCHEMA, problems=problems)
    sys.stdout.write("r1probe:" + json.dumps(answer, separators=(",", ":")) + "\n")
