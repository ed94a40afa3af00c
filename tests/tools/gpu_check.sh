#!/usr/bin/env bash
# tools/gpu_check.py where most of what it runs is not there, and where a step fails unless kernels are launched in their turn: it goes on
# to the end, and says by what; nor are a small one's losses the same without graphs.  gpu_check.sh PYTHON TOOL
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/hone" <<'END'
#!/bin/sh
case $1 in
doctor) echo '{"gpu": {"cards": [{"device": "cuda:0", "memory_gib": 80}]}}' ;;
bench)
  case $*:$HONE_CUDA_PDL in
  *115m*--no-graph*) echo '{"loss": 2.5000002}' && exit ;;
  *115m*) echo '{"loss": 2.5}' && exit ;;
  'bench step'*:0 | 'bench kernels'*) ;;
  *) exit 3 ;;
  esac
  mkdir -p runs && echo 'no JSON' >runs/bench.json
  echo '{"step_ms": 1}'
  ;;
esac
END
chmod +x "$work/hone"
status=0
"$1" "$2" --root "$work" --out "$work/results.jsonl" --minutes 2 >"$work/said" || status=$?
fail() {
  echo "$1:"
  cat "$work/said"
  exit 1
}
[ $status = 1 ] || fail "exit code $status, not 1"
grep -q '^parity .* failed .* not started (.*No such file or directory' "$work/said" || fail "does not say what is not there"
grep -q '^passes without all of them, or without early launches$' "$work/said" || fail "does not find what a step fails by"
grep -q '^the same bits in turn .* failed .* without graphs: the loss is \[2.5000002\], and with them \[2.5\]$' "$work/said" || fail "takes another loss"
grep -q '^  2 passed: doctor, kernels beside their ceilings$' "$work/said" || fail "does not go on to the end"
grep -q '"check": "kernels beside their ceilings", "figure": {"step_ms": 1}' "$work/results.jsonl" || fail "keeps no figures"
