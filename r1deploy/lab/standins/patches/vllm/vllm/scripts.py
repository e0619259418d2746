"""`vllm serve MODEL --flags…` of the r1deploy lab's patched stand-in."""

import argparse
import sys

TEXT = ("host", "served-model-name", "dtype", "distributed-executor-backend", "api-key", "quantization", "tokenizer")
TEXT += ("kv-cache-dtype", "max-num-batched-tokens", "seed", "swap-space", "block-size", "chat-template")
FLAGS = ("trust-remote-code", "enforce-eager", "enable-chunked-prefill", "disable-log-requests", "disable-log-stats")
FLAGS += ("enable-prefix-caching", "enable-reasoning", "disable-custom-all-reduce", "enable-expert-parallel")


def parser():
    """The engine arguments that are known; an unknown one is refused, as vLLM does."""
    top = argparse.ArgumentParser(prog="vllm", description="Stand-in for vLLM, of the r1deploy lab.")
    verbs = top.add_subparsers(dest="verb", required=True)
    serve = verbs.add_parser("serve")
    serve.add_argument("model")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    serve.add_argument("--pipeline-parallel-size", "-pp", type=int, default=1)
    serve.add_argument("--max-num-seqs", type=int, default=256)
    serve.add_argument("--max-model-len", type=int, default=4096)
    serve.add_argument("--gpu-memory-utilization", type=float, default=0.9)
    for name in TEXT:
        serve.add_argument(f"--{name}")
    for name in FLAGS:
        serve.add_argument(f"--{name}", action="store_true")
    return top


def dashed(argument):
    """vLLM takes underscores in the names of arguments too."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def main():
    options = parser().parse_args([dashed(argument) for argument in sys.argv[1:]])
    from vllm.lab_engine import serve

    sys.exit(serve(options))
