#!/usr/bin/env bash
# The main job in the lab: from a hostfile to an answer of the served model, and again.
# KEEP=1 leaves the lab and the demo's folder. ENGINE=vllm serves with the real vLLM, on CPUs.
set -euo pipefail
r1deploy=${R1DEPLOY:-r1deploy}
lab=${R1DEPLOY_LAB_DIR:-$HOME/.local/state/r1deploy/${R1DEPLOY_LAB_NAME:-lab}}
folder=$(mktemp -d -t r1deploy-demo-XXXXXX)

step() { printf '\n$ r1deploy %s\n' "$*"; "$r1deploy" "$@"; }
finish() {
    code=$?
    if [ "${KEEP:-}" = 1 ]; then
        printf '\nKept: the lab (r1deploy lab down removes it) and %s\n' "$folder"
    else
        rm -rf "$folder"
        step lab down
    fi
    [ $code = 0 ] || echo "demo failed with exit code $code"
}
trap finish EXIT

step lab up --install --engine "${ENGINE:-light}"
cd "$folder"
# What a user edits: where the image, the key and the repositories of this site are.
echo; echo "$ cp $lab/r1deploy.yaml ."
cp "$lab/r1deploy.yaml" .
step init "$lab/hostfile.txt"
step bootstrap inventory.ini --yes
step serve
echo
echo "== Again: nothing is to do, and nothing changes."
step bootstrap
step status
step stop
