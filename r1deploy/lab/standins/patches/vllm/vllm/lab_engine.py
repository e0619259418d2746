"""The light engine of the r1deploy lab: a stand-in for vLLM on many chips.

It waits for the cluster's chips, "loads" the weights, and answers in vLLM's
protocol with sentences that say what it is. How it is told to misbehave:
R1LAB_ENGINE_FAULT, a file r1lab-engine-fault beside the weights, or
/dev/r1lab-engine.json ({"fault": …, "load_seconds": …}); the last one wins.
What it is told to answer: lab_answers.py.
"""

import glob
import json
import os
import sys
import threading
import time
from http.server import ThreadingHTTPServer

from vllm import _C
from vllm.lab_api import Api, State

CONTROL = "/dev/r1lab-engine.json"
LOAD = "/dev/r1lab-load.json"
TOTAL_MIB = 32768


def log(text, where="lab_engine.py:1", level="INFO"):
    print(f"{level} {time.strftime('%m-%d %H:%M:%S')} {where}] {text}", flush=True)


def control():
    try:
        with open(CONTROL) as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return {}


def fault(model):
    """The fault that is asked for, or ''."""
    found = os.environ.get("R1LAB_ENGINE_FAULT", "")
    beside = os.path.join(model, "r1lab-engine-fault")
    if os.path.isfile(beside):
        with open(beside) as stream:
            found = stream.read().strip() or found
    return control().get("fault") or found


def load_seconds():
    return float(control().get("load_seconds", os.environ.get("R1LAB_LOAD_SECONDS", "3")))


def local_chips():
    return len(glob.glob("/dev/iluvatar[0-9]*"))


class Cluster:
    """The Ray cluster, or this host alone where no Ray runs (vLLM then starts a private one)."""

    def __init__(self):
        import ray

        self.ray = ray
        try:
            address = ray.init(address="auto")["address"]
            log(f"Connecting to existing Ray cluster at address: {address}...", "worker.py:1514")
            self.joined = True
        except ConnectionError as error:
            log(str(error), "ray_utils.py:244", "WARNING")
            log("Started a local Ray instance.", "worker.py:1821")
            self.joined = False

    def nodes(self):
        if not self.joined:
            return [{"NodeManagerAddress": "127.0.0.1", "Resources": {"GPU": local_chips()}, "r1lab": {}}]
        try:
            return [node for node in self.ray.nodes() if node["Alive"]]
        except OSError as error:
            sys.exit(f"ray.exceptions.RaySystemError: lost the Ray cluster: {error}")

    def chips(self):
        return sum(node["Resources"].get("GPU", 0) for node in self.nodes())

    def wait_for(self, wanted):
        """As vLLM: patience without an error, while the chips are too few."""
        started, pause = time.monotonic(), 2
        while self.chips() < wanted:
            if time.monotonic() - started > 1800:
                sys.exit("ValueError: Cannot provide a placement group of the requested chips within 1800 seconds.")
            time.sleep(pause)
            log(
                f"Waiting for creating a placement group of specs for {time.monotonic() - started:.0f} seconds. "
                f"specs=[{{'GPU': 1.0}} x {wanted}]. Check `ray status` to see if you have enough resources.",
                "ray_utils.py:212",
            )
            pause = min(pause * 2, 10)

    def hold(self, mib):
        """Show the chips as used for as long as this process lives."""
        while True:
            try:
                self.ray.call(self.ray.current_address(), {"op": "lease", "mib": mib})
            except (OSError, ValueError, AttributeError):
                if self.joined:
                    log("lost the Ray cluster", level="ERROR")
                    os._exit(1)
            time.sleep(1)


def check_nodes(nodes):
    """First-start failures of real clusters that can be seen from the nodes' own environment."""
    given = [node["r1lab"].get("env", {}).get("VLLM_HOST_IP") for node in nodes]
    named = [address for address in given if address]
    if len(set(named)) != len(named):
        sys.exit(f"RuntimeError: Every node should have a unique IP address. Got {len(nodes)} nodes, addresses {named}")
    for node in nodes:
        interface = node["r1lab"].get("env", {}).get("GLOO_SOCKET_IFNAME")
        if interface and interface not in node["r1lab"].get("interfaces", []):
            sys.exit(
                "RuntimeError: Gloo connectFullMesh failed: "
                f"no interface {interface} on node {node['NodeManagerAddress']}"
            )


def enable_flag_gems(nodes):
    """Each worker tries by itself; one that cannot says nothing, as FlagScale's does."""
    for node in nodes:
        told = node["r1lab"]
        if told.get("env", {}).get("USE_FLAGGEMS", "").lower() in ("1", "true") and told.get("flag_gems"):
            print(
                f"(RayWorkerWrapper pid={told['pid']}, ip={node['NodeManagerAddress']}) "
                "INFO lab_engine.py:1] Successfully enabled flag_gems as default ops implementation.",
                flush=True,
            )
    if os.environ.get("USE_FLAGGEMS", "").lower() in ("1", "true"):
        try:
            import flag_gems

            flag_gems.enable()
        except (ImportError, RuntimeError):
            return
        log("Successfully enabled flag_gems as default ops implementation.")


def load(model, wanted_fault):
    """Read every shard, as slowly as asked."""
    if wanted_fault == "hang":
        log("(asked to hang while loading)")
        while True:
            time.sleep(60)
    with open(os.path.join(model, "model.safetensors.index.json")) as stream:
        shards = sorted(set(json.load(stream)["weight_map"].values()))
    pace = load_seconds() / max(len(shards), 1)
    show("", 0, len(shards), pace)
    for number, shard in enumerate(shards, 1):
        with open(os.path.join(model, shard), "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            json.loads(stream.read(length))
        time.sleep(pace)
        show("", number, len(shards), pace)
        if wanted_fault == "crash-while-loading":
            sys.exit("RuntimeError: CUDA error: out of memory (asked for by the r1deploy lab)")
    log(f"Loading weights took {load_seconds():.2f} seconds", "loader.py:430")


def show(prefix, done, total, pace):
    """vLLM's progress bar, a line each."""
    took, left = int(done * pace), int((total - done) * pace)
    print(
        f"{prefix}Loading safetensors checkpoint shards: {100 * done // total:3d}% Completed | {done}/{total} "
        f"[{took // 60:02d}:{took % 60:02d}<{left // 60:02d}:{left % 60:02d}, {pace:.2f}s/it]",
        flush=True,
    )


def check_model(model):
    if not os.path.isfile(os.path.join(model, "config.json")):
        sys.exit(
            f"OSError: Incorrect path_or_model_id: '{model}'. Please provide either the path to a local folder "
            "or the repo_id of a model on the Hub."
        )


def serve(options):
    """Everything `vllm serve` does here, to the end of the process."""
    model = options.model
    log("vLLM API server version 0.7.3 (the r1deploy lab's stand-in engine)", "api_server.py:840")
    log(f"args: {vars_shown(options)}", "api_server.py:841")
    wanted_fault = fault(model)
    if wanted_fault == "crash-at-start":
        sys.exit("RuntimeError: CUDA error: invalid device ordinal (asked for by the r1deploy lab)")
    check_model(model)
    world = options.tensor_parallel_size * options.pipeline_parallel_size
    cluster = Cluster()
    cluster.wait_for(world)
    nodes = cluster.nodes()
    check_nodes(nodes)
    log(f"Initializing an LLM engine (v0.7.3) on {len(nodes)} nodes, {world} chips, C extension {_C.__name__}")
    enable_flag_gems(nodes)
    held = int(TOTAL_MIB * options.gpu_memory_utilization)
    if cluster.joined:
        threading.Thread(target=cluster.hold, args=(held,), daemon=True).start()
    load(model, wanted_fault)
    return answer(options, wanted_fault)


def vars_shown(options):
    """The arguments without the secret one."""
    return {name: "***" if name == "api_key" and value else value for name, value in vars(options).items() if value}


def answer(options, wanted_fault):
    name = options.served_model_name or options.model
    state = State(
        model="r1lab-wrong-model" if wanted_fault == "wrong-model" else name,
        root=options.model,
        max_model_len=options.max_model_len,
        # Read at every request: an engine may go bad, or well again, while it serves.
        fault=lambda: fault(options.model),
        key=options.api_key or os.environ.get("VLLM_API_KEY", ""),
        tokens_of=_C.tokens_of,
    )
    handler = type("Handler", (Api,), {"state": state})
    ThreadingHTTPServer.daemon_threads = True
    try:
        server = ThreadingHTTPServer((options.host or "0.0.0.0", options.port), handler)
    except OSError as error:
        sys.exit(f"OSError: {error}: port {options.port}")
    log(f"Starting vLLM API server on http://{options.host or '0.0.0.0'}:{options.port}", "api_server.py:958")
    print("INFO:     Application startup complete.", flush=True)
    server.serve_forever()
    return 0
