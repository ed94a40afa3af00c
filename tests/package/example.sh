#!/usr/bin/env bash
# examples/fine_tune.cpp on the demo's data: the loss must fall, and the model it writes must load.
set -euo pipefail
hone=$1 example=$2 source=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$hone" init "$source/demo/model" "$work/base" --seed 3
"$example" "$work/base" "$source/demo/data/train.jsonl" "$work/out"
"$hone" inspect "$work/out"
cmp "$work/base/tokenizer.json" "$work/out/tokenizer.json"
