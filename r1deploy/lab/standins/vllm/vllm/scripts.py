"""`vllm` of the unpatched stand-in: it serves nothing."""

import sys


def main():
    sys.exit("This vLLM is the r1deploy lab's stand-in without the vendor's patch: it has no engine.")
