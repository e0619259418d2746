"""Runs `vllm serve` with the flags of a serve.yaml; stand-in of the r1deploy lab."""

import argparse
import logging
import os
import subprocess

import yaml

logger = logging.getLogger("serve")


def flags(arguments):
    """Arguments as flags: false is dropped, lists and nulls become what Python prints."""
    found = []
    for name, value in arguments.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, dict):
            found += flags(value)
        elif isinstance(value, bool):
            found += [flag] if value else []
        else:
            values = value if isinstance(value, list) else [value]
            found += [flag, *(str(one) for one in values)]
    return found


def engine_arguments(path):
    with open(path) as stream:
        items = yaml.safe_load(stream).get("serve") or []
    item = next((one for one in items if one.get("serve_id") == "vllm_model"), None)
    if item is None:
        raise ValueError(f"No 'vllm_model' configuration found in task config: {items}")
    if item.get("engine") != "vllm":
        raise ValueError(f"Unsupported inference engine: {item.get('engine')}")
    specific = (item.get("engine_args_specific") or {}).get("vllm") or {}
    return {**specific, **(item.get("engine_args") or {})}


def main():
    logging.basicConfig(level=logging.WARNING)
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-path", required=True)
    parser.add_argument("--log-dir", default="outputs")
    arguments = engine_arguments(parser.parse_args().config_path)
    model = arguments.pop("model", None)
    if not model:
        raise ValueError("Either model must be specified in vllm_model.")
    command = ["vllm", "serve", str(model), *flags(arguments)]
    logger.info("[Serve]: Starting vllm serve with command: %s", command)
    # As with the real one, the return code reaches nobody: this process ends with 0.
    code = subprocess.Popen(command, env=os.environ).wait()
    logger.info("[Serve]: vllm serve exited with return code: %s", code)


if __name__ == "__main__":
    main()
