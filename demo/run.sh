#!/usr/bin/env bash
# The main job in small: make a mixture-of-experts checkpoint, fine-tune it on a chat data set, and see what it learnt on questions that no
# training row contains. Writes everything under runs/demo.
set -euo pipefail
cd "$(dirname "$0")/.."
hone=${1:-build/hone}
base=runs/demo/base run=runs/demo/run test=demo/data/test.jsonl

if [ ! -f "$base/model.safetensors" ]; then "$hone" init demo/model "$base" --seed 1; fi
matched() { "$hone" eval "$1" "$test" --exact-match --json | tail -1 | sed 's/.*"exact_match":\([0-9.e+-]*\).*/\1/' | awk '{printf "%.1f", 100 * $1}'; }
before=$(matched "$base")
"$hone" train demo/recipe.yaml
after=$(matched "$run/model")

echo
echo "held-out exact match: $before % -> $after %"
echo "model:  $run/model (a Hugging Face directory)"
echo "report: $run/report.html"
