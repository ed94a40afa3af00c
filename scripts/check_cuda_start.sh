#!/usr/bin/env bash
# Where there is no card, a program that has kernels for cards starts, computes on the CPU, and says in one line why it has no card.
set -euo pipefail
hone=$1
report=$("$hone" doctor --json | tail -1)
case $report in
*'"built_with_cuda":true'*) ;;
*) echo "check_cuda_start: $hone was built without CUDA" >&2; exit 1 ;;
esac
case $report in
*'"why_none":"'*) ;;
*) echo "$hone: built with CUDA, and here is a card"; exit 0 ;;
esac
if said=$("$hone" bench step "$(dirname "$0")/../demo/model" --device cuda 2>&1); then
  echo "check_cuda_start: computes on a card that is not there" >&2
  exit 1
fi
if [ "$(printf '%s\n' "$said" | wc -l)" != 1 ] || [[ $said != "hone: error: device cuda: "* ]]; then
  printf 'check_cuda_start: said\n%s\n' "$said" >&2
  exit 1
fi
echo "$hone: built with CUDA; $said"
