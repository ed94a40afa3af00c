#!/usr/bin/env bash
# The examples on the demo's data: the loss must fall, and the models they write must load.
set -euo pipefail
hone=$1 example=$2 run=$3 source=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$hone" init "$source/demo/model" "$work/base" --seed 3
"$example" "$work/base" "$source/demo/data/train.jsonl" "$work/out"
"$hone" inspect "$work/out"
"$run" "$work/base" "$source/demo/data/train.jsonl" "$source/demo/data/valid.jsonl" "$work/run"
"$hone" inspect "$work/run/model"
cmp "$work/base/tokenizer.json" "$work/out/tokenizer.json"
