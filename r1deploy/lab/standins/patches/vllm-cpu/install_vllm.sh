#!/bin/bash
# Of the r1deploy lab's vendor patch (a stand-in): installs the wheel that build_vllm.sh made.
cd "$(dirname "$0")" || exit 1
wheel=$(ls -t build_pip/vllm-*.whl 2>/dev/null | head -n 1)
if [ -z "$wheel" ]; then
    echo "install_vllm: no wheel in build_pip, run build_vllm.sh first" >&2
    exit 1
fi
exec python3 -m pip install --no-deps --no-index --force-reinstall "$wheel"
