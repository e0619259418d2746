"""Stand-in for Ray, of the r1deploy lab: a head that counts nodes, and nothing else.

Real processes named as Ray's (gcs_server, raylet) run on real hosts and talk
over the hosts' network, so that joining, missing and leaving are real. No task
can be run.
"""

import json
import os
import socket

__version__ = "2.43.0+r1lab"
CURRENT = "/tmp/ray/ray_current_cluster"
_address = None


def call(address, request, timeout=3.0):
    """One request to a gcs_server: a JSON line there, a JSON line back."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as link:
        link.sendall(json.dumps(request).encode() + b"\n")
        with link.makefile() as stream:
            line = stream.readline()
    if not line:
        raise ConnectionError(f"no answer from {address}")
    return json.loads(line)


def node_ip():
    """The address of the interface with the default route, as real Ray finds it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 80))
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def current_address():
    given = os.environ.get("RAY_ADDRESS")
    if given and given != "auto":
        return given
    try:
        with open(CURRENT) as stream:
            return stream.read().strip()
    except OSError:
        return None


def init(address=None, **_ignored):
    """Connect to the running cluster; real Ray would start a private one without an address."""
    global _address
    found = address if address not in (None, "auto") else current_address()
    if not found:
        raise ConnectionError(
            "Could not find any running Ray instance. Please specify the one to connect to by setting "
            "`--address` flag or `RAY_ADDRESS` environment variable."
        )
    try:
        call(found, {"op": "nodes"})
    except OSError as error:
        raise ConnectionError(f"Failed to connect to Ray cluster at {found}: {error}") from error
    _address = found
    return {"address": found}


def is_initialized():
    return _address is not None


def shutdown():
    global _address
    _address = None


def nodes():
    """One entry a node, dead ones too, in real Ray's shape."""
    if _address is None:
        raise RuntimeError("Ray has not been started yet. You can start Ray with 'ray.init()'.")
    return call(_address, {"op": "nodes"})["nodes"]


def cluster_resources():
    total = {}
    for node in nodes():
        if node["Alive"]:
            for name, amount in node["Resources"].items():
                total[name] = total.get(name, 0.0) + amount
    return total
