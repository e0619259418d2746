#!/bin/bash
# Of the r1deploy lab's vendor patch (a stand-in): removes what an earlier build left.
cd "$(dirname "$0")" || exit 1
rm -rf build build_pip
echo "clean_vllm: done"
