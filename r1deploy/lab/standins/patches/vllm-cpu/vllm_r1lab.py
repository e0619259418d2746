"""The lab's patch of the real vLLM: `vllm serve` as one process, whatever tp and pp are asked for.

vLLM's CPU platform refuses Ray ("current platform cpu does not support ray"), so what the chips would
do together cannot be shown on CPUs. Ray itself is real and spans all hosts; the engine runs beside it
on the head. Everything else is vLLM's own.
"""

import sys

ALONE = ("tensor-parallel-size", "pipeline-parallel-size", "distributed-executor-backend")


def alone(arguments):
    """The arguments without those that need more than one process, and what was taken out."""
    kept, left_out = [], []
    rest = iter(arguments)
    for argument in rest:
        name, equals, _ = argument.removeprefix("--").replace("_", "-").partition("=")
        if argument.startswith("--") and name in ALONE:
            left_out.append(argument if equals else f"{argument} {next(rest, '')}")
        else:
            kept.append(argument)
    return kept, left_out


def main():
    from vllm.entrypoints.cli.main import main as vllm_main

    sys.argv[1:], left_out = alone(sys.argv[1:])
    if left_out:
        print(
            f"r1deploy lab: left out {', '.join(left_out)}: vLLM's CPU platform refuses Ray, so this engine is one "
            "process on the head. Distributed inference cannot be shown on CPUs.",
            flush=True,
        )
    return vllm_main()
