"""Starts a service as FlagScale does: one script on the head, ssh and docker exec to the others.

Contract: the same files, the same lines in the same order, the same traps (no
-e in the script, its output dropped, patterns killed on the whole pid
namespace, success said whatever failed).
"""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import time

import psutil
from omegaconf import OmegaConf

from flagscale.runner import hostfile

PATTERNS = ("run_inference_engine", "run_fs_serve_vllm", "vllm serve")
SCRIPTS = {True: "flagscale/serve/run_fs_serve_vllm.py", False: "flagscale/serve/run_inference_engine.py"}
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HOST = "host_0_localhost"


def free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def vllm_folder():
    try:
        import vllm

        return os.path.dirname(vllm.__path__[0])
    except (ImportError, AttributeError):
        return f"{ROOT}/vllm"


class ServeRunner:
    """One service, described by a composed configuration."""

    def __init__(self, config):
        OmegaConf.set_struct(config, False)
        self.config = config
        experiment = config.experiment
        self.deploy = experiment.get("deploy") or {}
        self.envs = experiment.get("envs") or {}
        self.before = (experiment.get("cmds") or {}).get("before_start") or ""
        self.after = (experiment.get("cmds") or {}).get("after_stop") or ""
        runner = experiment.get("runner") or {}
        self.docker, self.ssh_port = runner.get("docker"), runner.get("ssh_port", 22)
        self.logs = os.path.join(os.path.abspath(experiment.exp_dir), "serve_logs")
        self.scripts, self.pids = os.path.join(self.logs, "scripts"), os.path.join(self.logs, "pids")
        self.check_engine()
        os.makedirs(self.scripts, exist_ok=True)
        self.write_config()
        self.nodes = hostfile.read(hostfile.find(runner.get("hostfile")))

    def check_engine(self):
        if not self.config.get("serve"):
            raise ValueError(f"No 'serve' configuration found in task config: {self.config.get('serve')}")
        for item in self.config.serve:
            if item.get("serve_id") == "vllm_model" and self.deploy.get("port"):
                item.engine_args["port"] = self.deploy["port"]

    def write_config(self):
        self.yaml = os.path.join(self.scripts, "serve.yaml")
        OmegaConf.save(self.config, self.yaml, resolve=True)

    def after_before(self, command):
        return f"{self.before} && {command}" if self.before else command

    def remote(self, address, command):
        """The line that runs a command in a worker's container; its quotes are the real one's."""
        command = self.after_before(command)
        if self.docker:
            command = f"docker exec {self.docker} /bin/bash -c '{command}'"
        return f'ssh -n -p {self.ssh_port} {address} "{command}"'

    def clean_lines(self, also=""):
        lines = ["ray_path=$(realpath $(which ray))", "# clean nodes "]
        lines += [self.remote(address, f"${{ray_path}} stop{also}") for address, _ in self.nodes[1:]]
        lines.append(self.after_before("${ray_path} stop"))
        return lines + [f"pkill -f '{pattern}'" for pattern in PATTERNS]

    def resources(self, node):
        if node["type"] in ("gpu", "cpu"):
            return f"--num-{node['type']}s={node['slots']}"
        # Any other type ends as JSON without its quotes: Ray refuses it.
        shown = json.dumps({node["type"]: node["slots"]}).replace('"', '\\"')
        return f"--resources='{shown}'"

    def ray_lines(self):
        (head, first), *workers = self.nodes
        address = f"{head}:{free_port()}"
        port = address.rpartition(":")[2]
        start = f"${{ray_path}} start --head --port={port} {self.resources(first)}"
        lines = ["# start cluster", "# master node", self.after_before(start)]
        if workers:
            lines += ["", "# worker nodes"]
        for worker, node in workers:
            lines.append(self.remote(worker, f"${{ray_path}} start --address={address} {self.resources(node)}"))
        return lines

    def local_lines(self):
        """Without a hostfile: Ray only for FlagScale's own serving."""
        start = "${ray_path} start --head"
        if not self.deploy.get("use_fs_serve", True):
            return [self.before] if self.before else []
        return ["ray_path=$(realpath $(which ray))", self.after_before(start)]

    def launch_lines(self):
        script = SCRIPTS[bool(self.deploy.get("use_fs_serve", True))]
        words = [f"{key}={value}" for key, value in self.envs.items()]
        words += ["python", script, f"--config-path={self.yaml}"]
        output, pid = os.path.join(self.logs, f"{HOST}.output"), os.path.join(self.pids, f"{HOST}.pid")
        return [
            f"mkdir -p {self.logs}",
            f"mkdir -p {self.pids}",
            "",
            f"cd {ROOT}",
            "",
            f'cmd="{shlex.join(words)} --log-dir={self.logs}"',
            "",
            "echo '=========== launch task ==========='",
            f'nohup bash -c "$cmd; sync" >> {output} 2>&1 & echo $! > {pid}',
            "",
        ]

    def path_lines(self):
        more = f"{vllm_folder()}:{ROOT}"
        return [
            'if [ -z "$PYTHONPATH" ]; then',
            f"    export PYTHONPATH={more}",
            "else",
            f'    export PYTHONPATH="$PYTHONPATH:{more}"',
            "fi",
        ]

    def write_script(self, kind, lines):
        path = os.path.join(self.scripts, f"{HOST}_{kind}.sh")
        with open(path, "w") as stream:
            stream.write("\n".join(["#!/bin/bash", "", "set -x", "", self.before, "", *lines]) + "\n")
        os.chmod(path, 0o755)
        return path

    def run(self):
        nodes = [*self.clean_lines(), "", *self.ray_lines()] if self.nodes else self.local_lines()
        path = self.write_script("run", [*self.path_lines(), "", *nodes, *self.launch_lines()])
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"[{when},000 FlagScale logger.py:25 INFO] Run the local command: bash {path}", flush=True)
        # The last line of the script always succeeds, so check=True never fails; the output is dropped.
        subprocess.run(f"bash {path}", shell=True, check=True, capture_output=True)

    def stop(self):
        """As dangerous as the real one: r1deploy never calls it."""
        with open(os.path.join(self.pids, f"{HOST}.pid")) as stream:
            kill_tree(int(stream.readline()))
        lines = self.clean_lines(" && pkill -f python") if self.nodes else [f"pkill -f '{p}'" for p in PATTERNS]
        path = self.write_script("stop", [*lines, "pkill -f multiprocessing", self.after])
        subprocess.run(f"bash {path}", shell=True, check=False, capture_output=True)


def kill_tree(pid):
    try:
        tree = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for victim in [*(child.pid for child in tree), pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
