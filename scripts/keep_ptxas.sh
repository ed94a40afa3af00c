#!/usr/bin/env bash
# A compiler launcher of nvcc -Xptxas -v: what ptxas says of each kernel goes to OBJECT.ptxas (for tools/cuda_resources.py), everything else
# to the terminal.
out=
for ((i = 1; i < $#; ++i)); do
  [ "${!i}" != -o ] || { next=$((i + 1)) out=${!next}; }
done
[ -n "$out" ] || exec "$@"
said=$(mktemp)
trap 'rm -f "$said"' EXIT
"$@" 2>"$said"
status=$?
about='^ptxas info|^ +[0-9]+ bytes stack frame'
grep -E "$about" "$said" >"$out.ptxas"
grep -Ev "$about" "$said" >&2
exit $status
