#!/usr/bin/env bash
# Speed, measured here and now: every kernel beside the machine's ceiling, then a whole training step in f32 and bf16.
set -euo pipefail
hone=${1:-build/hone}
"$hone" bench kernels
for dtype in f32 bf16; do
  "$hone" bench step bench/qwen3_moe_115m --batch 4 --seq 512 --dtype "$dtype" --steps 10
done
