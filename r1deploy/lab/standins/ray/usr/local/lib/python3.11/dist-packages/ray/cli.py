"""The commands of the stand-in `ray`: start, stop, status."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

import ray

HOME = os.path.dirname(os.path.abspath(ray.__file__))
GCS = os.path.join(HOME, "core/src/ray/gcs/gcs_server")
RAYLET = os.path.join(HOME, "core/src/ray/raylet/raylet")
NAMES = ("raylet", "gcs_server")
LOGS = "/tmp/ray/session_latest/logs"


def launch(name, argv):
    os.makedirs(LOGS, exist_ok=True)
    with open(f"{LOGS}/{name}.out", "ab") as log:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def reachable(address, seconds):
    until = time.monotonic() + seconds
    while True:
        try:
            return ray.call(address, {"op": "nodes"}, 1.0)
        except (OSError, ValueError):
            if time.monotonic() > until:
                return None
            time.sleep(0.2)


def start_head(options, ip):
    port = options.port or 6379
    running = ray.current_address()
    if running and reachable(running, 0):
        sys.exit(
            f"ConnectionError: Ray is trying to start at {ip}:{port}, but is already running at {running}. "
            "Please specify a different port using the `--port` flag of `ray start` command."
        )
    argv = [GCS, f"--log_dir={LOGS}", f"--gcs_server_port={port}", f"--node-ip-address={ip}"]
    child = launch("gcs_server", argv)
    if not reachable(f"{ip}:{port}", 5):
        child.kill()
        sys.exit(f"RuntimeError: Failed to start GCS at {ip}:{port}")
    return f"{ip}:{port}"


def start(options):
    ip = options.node_ip_address or ray.node_ip()
    print(f"\nLocal node IP: {ip}\n", flush=True)
    address = start_head(options, ip) if options.head else options.address
    if not address:
        sys.exit("ray start needs --head or --address=IP:PORT")
    if not reachable(address, 5):
        sys.exit(f"ConnectionError: Ray cannot connect to GCS at {address}; is the head running, the port open?")
    gpus = options.num_gpus
    if options.resources:
        try:
            json.loads(options.resources)
        except ValueError:
            sys.exit(f"`--resources={options.resources}` is not valid JSON")
    argv = [RAYLET, "--raylet_socket_name=/tmp/ray/session_latest/sockets/raylet", f"--node_ip_address={ip}"]
    argv += [f"--gcs-address={address}", f"--num_gpus={gpus or 0}"]
    child = launch("raylet", argv)
    time.sleep(0.5)
    if child.poll() is not None:
        sys.exit("RuntimeError: the raylet ended at its start")
    os.makedirs("/tmp/ray", exist_ok=True)
    with open(ray.CURRENT, "w") as stream:
        stream.write(address)
    print("--------------------\nRay runtime started.\n--------------------")
    print(f"(stand-in of the r1deploy lab; cluster {address})")
    return 0


def ray_processes():
    """Every process of this pid namespace that is named as Ray's: with --pid=host, the whole host's."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/comm") as stream:
                    name = stream.read().strip()
                with open(f"/proc/{entry}/stat") as stream:
                    state = stream.read().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if name in NAMES and state != "Z":
                found.append((name != "raylet", int(entry)))
    return [pid for _, pid in sorted(found)]


def stop(_options):
    found = ray_processes()
    for kind in (signal.SIGTERM, signal.SIGKILL):
        for pid in ray_processes():
            try:
                os.kill(pid, kind)
            except ProcessLookupError:
                pass
        until = time.monotonic() + 3
        while ray_processes() and time.monotonic() < until:
            time.sleep(0.1)
    if os.path.exists(ray.CURRENT):
        os.unlink(ray.CURRENT)
    print(f"Stopped all {len(found)} Ray processes." if found else "Did not find any active Ray processes.")
    return 0


def status(_options):
    address = ray.current_address()
    answer = reachable(address, 1) if address else None
    if not answer:
        sys.exit("Ray runtime not running: could not find any running Ray instance.")
    alive = [node for node in answer["nodes"] if node["Alive"]]
    gpus = sum(node["Resources"].get("GPU", 0) for node in alive)
    print("======== Autoscaler status (stand-in of the r1deploy lab) ========")
    print("Node status\n" + "-" * 63 + "\nActive:")
    for node in alive:
        print(f" 1 node_{node['NodeID']}  {node['NodeManagerAddress']}")
    print("Resources\n" + "-" * 63 + f"\nUsage:\n 0.0/{gpus} GPU")
    return 0


def main():
    parser = argparse.ArgumentParser(prog="ray", description="Stand-in for Ray, of the r1deploy lab.")
    parser.add_argument("--version", action="version", version=f"ray, version {ray.__version__}")
    verbs = parser.add_subparsers(required=True)
    begin = verbs.add_parser("start")
    begin.add_argument("--head", action="store_true")
    begin.add_argument("--address")
    begin.add_argument("--port", type=int)
    begin.add_argument("--num-gpus", type=int)
    begin.add_argument("--num-cpus", type=int)
    begin.add_argument("--resources")
    begin.add_argument("--node-ip-address")
    begin.set_defaults(run=start)
    end = verbs.add_parser("stop")
    end.add_argument("-f", "--force", action="store_true")
    end.set_defaults(run=stop)
    verbs.add_parser("status").set_defaults(run=status)
    options = parser.parse_args()
    return options.run(options)
