#!/usr/bin/env bash
# Fails where code that is compiled for an instruction set could run on a processor without it: the linker keeps one copy of an inline
# function, so every one that a unit of src/kernels/cpu/units/ leaves out of line must have that instruction set in its name.
# usage: check_isa_symbols.sh OBJECT…   (of the targets hone_kernels_ISA)
set -euo pipefail

declare -A tag=([avx2]=Avx2 [avx512]=Avx512 [avx512_bf16]=Avx512Bf16 [avx512_amx]=Avx512Amx)
checked=0 failed=0
for object in "$@"; do
  isa=$(sed -n 's|.*/hone_kernels_\([a-z0-9_]*\)\.dir/.*|\1|p' <<<"$object")
  [ -n "${tag[$isa]:-}" ] || { echo "$object: for no known instruction set" >&2; exit 1; }
  checked=$((checked + 1))
  # W, V: weak code and data; u: one for the whole process. DW.ref.… is a pointer, the same in every unit. As mangled, 4Avx2: not every name
  # can be demangled.
  type=${tag[$isa]}
  shared=$(nm --defined-only "$object" | awk '$2 ~ /^[WVu]$/ && $3 !~ /^DW[.]ref[.]/' | grep -vE "[^0-9]${#type}$type" | c++filt || true)
  if [ -n "$shared" ]; then
    printf '%s: shared with units of other instruction sets:\n%s\n' "$object" "$shared" >&2
    failed=1
  fi
done
[ "$checked" -gt 0 ] || { echo "no unit of an instruction set among the objects" >&2; exit 1; }
exit "$failed"
