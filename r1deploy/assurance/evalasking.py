"""Runs in evalscope's own environment, never in r1deploy's: asks the questions of the sets, or writes the sets down.

It reads one order (JSON) from standard input, so that no key is in an argument or in a file, and answers with lines of
JSON on standard output; what evalscope says goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

# Everything is the model's answer behind its thinking; an answer without thinking stays as it is.
THOUGHT = "</think>"
# One name in all paths, whatever the endpoint calls its model.
MODEL = "model"
SNAPSHOT = "configs/task_config.yaml"


def main() -> None:
    """Read the order, obey it."""
    order = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for name in list(os.environ):
        # The proxies of the user's environment are for the internet, not for the cluster.
        if order.get("direct") and name.lower().endswith("_proxy"):
            del os.environ[name]
    {"ask": ask, "fetch": fetch}[order["op"]](order, answers)


def say(answers: TextIO, **row: Any) -> None:
    """One line to r1deploy."""
    answers.write(json.dumps(row) + "\n")
    answers.flush()


def ask(order: dict[str, Any], answers: TextIO) -> None:
    """Say how many questions each set has, then ask those that have no answer yet."""
    from evalscope.api.registry import get_benchmark
    from evalscope.config import TaskConfig
    from evalscope.run import run_task

    # The address is no part of the task: evalscope would not go on with it at another port.
    os.environ["EVALSCOPE_BASE_URL"] = f"{order['url']}/v1"
    task = task_of(order)
    asked = {}
    for name in task["datasets"]:
        loaded = get_benchmark(name, TaskConfig(**task)).load_dataset()
        asked[name] = {subset: len(rows) for subset, rows in loaded.items() if len(rows)}
    say(answers, asked=asked)
    run_task(task)


def task_of(order: dict[str, Any]) -> dict[str, Any]:
    """The order in evalscope's words."""
    sets = order["sets"]
    work = order["work"]
    task = {
        "model": order["model"],
        "model_id": MODEL,
        "model_args": {"max_retries": 0},
        "api_key": order["key"] or "EMPTY",
        "eval_type": "openai_api",
        "datasets": list(sets),
        "dataset_args": {name: arguments(name, folder) for name, folder in sets.items()},
        "generation_config": {**order["sampling"], "stream": True, **order["patience"]},
        "eval_batch_size": order["batch"],
        "limit": order["limit"],
        "work_dir": work,
        "no_timestamp": True,
        "ignore_errors": True,
    }
    return {**task, "use_cache": work} if (Path(work) / SNAPSHOT).exists() else task


def arguments(name: str, folder: str) -> dict[str, Any]:
    """One set from its folder: evalscope asks for all subjects, also for those that the folder does not have."""
    from datasets import get_dataset_config_names
    from evalscope.api.registry import BENCHMARK_REGISTRY

    there = set(get_dataset_config_names(folder))
    subsets = [subset for subset in BENCHMARK_REGISTRY.get(name).subset_list if subset in there]
    found: dict[str, Any] = {"dataset_id": folder, "filters": {"remove_until": THOUGHT}}
    return {**found, "subset_list": subsets} if subsets else found


def fetch(order: dict[str, Any], answers: TextIO) -> None:
    """Write each set as a folder of JSON lines that ``ask`` reads. In: ``sets``, name → its new folder."""
    from evalscope.api.registry import get_benchmark
    from evalscope.config import TaskConfig

    for name, folder in order["sets"].items():
        benchmark = get_benchmark(name, TaskConfig(datasets=[name]))
        meta = benchmark.benchmark_meta
        # Of a set in one piece a column makes the subjects.
        subsets = [meta.default_subset] if benchmark.reformat_subset else meta.subset_list
        splits = [split for split in (meta.train_split, meta.eval_split) if split]
        hub = hub_of(meta, order["hub"], order["sources"].get(name))
        configs = [written(hub, subset, splits, Path(folder)) for subset in subsets]
        # JSON is YAML. Written last: a folder with it is whole.
        head = json.dumps({"configs": configs}, indent=1, ensure_ascii=False)
        (Path(folder) / "README.md").write_text(f"---\n{head}\n---\n", encoding="utf-8")
        say(answers, fetched=name)


def hub_of(meta: Any, hub: str, source: str | None) -> Any:
    """Where a set is read from: a hub, or a folder here in its place."""
    from evalscope.api.dataset.hub import DatasetHub

    if source:
        return DatasetHub(source)
    origin = meta.dataset_source
    return DatasetHub(origin.resolve_dataset_id(hub), data_source=hub, revision=origin.resolve_revision(hub))


def written(hub: Any, subset: str, splits: list[str], folder: Path) -> dict[str, Any]:
    """One configuration of a set as files; what the README says of it."""
    files = []
    for split in splits:
        path = f"{subset}_{split}.jsonl"
        hub.load(split=split, subset=subset).to_json(str(folder / path), force_ascii=False)
        files.append({"split": split, "path": path})
    return {"config_name": subset, "data_files": files}


if __name__ == "__main__":
    main()
