#!/bin/bash
# Of the r1deploy lab's vendor patch (a stand-in): makes the patched wheel out of the real vLLM's CPU wheel.
cd "$(dirname "$0")" || exit 1
set -o pipefail
mkdir -p build_pip
python3 repack.py /opt/r1lab/wheels build_pip 2>&1 | tee compile.log
code=$?
if [ $code -ne 0 ]; then
    echo "build_vllm: failed with code $code"
    exit $code
fi
echo "build_vllm: $(ls build_pip/*.whl)"
