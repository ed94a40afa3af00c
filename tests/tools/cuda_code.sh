#!/usr/bin/env bash
# tools/cuda_code.py on disassemblies with planted bugs, which a script in place of cuobjdump prints: each kernel is named with what is wrong,
# and those that are right are counted.  cuda_code.sh PYTHON TOOL
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
objects=$work/CMakeFiles/hone_kernels_cuda.dir/src/kernels/cuda
mkdir -p "$objects"
: >"$objects/planted.cu.o"
# print ARCHITECTURE KERNEL INSTRUCTION…: as cuobjdump -sass does.
print() {
  local at=0 line
  printf '\narch = %s\n\n\t\tFunction : %s\n' "$1" "$2"
  shift 2
  for line; do
    printf '        /*%04x*/  %s ;   /* 0x0000000000000000 */\n' $at "$line"
    at=$((at + 16))
  done
}
disassemble() {
  printf '#!/bin/sh\ncat %q\n' "$work/sass" >"$work/cuobjdump"
  chmod +x "$work/cuobjdump"
  "$1" "$2" "$work" --cuobjdump "$work/cuobjdump"
}

setup=('S2R R0, SR_TID.X' '@P0 BRA 0x30' 'SYNCS.EXCH.64 URZ, [UR4], UR6' 'PREEXIT' 'ACQBULK' 'LDG.E R2, desc[UR4][R2.64]' '@P1 EXIT' 'STG.E desc[UR4][R4.64], R2' 'EXIT')
{
  print sm_90a right "${setup[@]}"
  print sm_100 far_away 'BRA 0x30' 'LDG.E R2, desc[UR4][R2.64]' 'EXIT' 'LDS R0, [R1]' 'ACQBULK' 'BRA 0x10'
  print sm_90a multiplies 'ACQBULK' '@P0 BRA 0x60' 'MEMBAR.ALL.GPU' 'QGMMA.64x16x32.F32.E4M3.E4M3 R24, gdesc[UR20], R24, gsb0' '@P1 BRA 0x30' 'EXIT' 'MEMBAR.ALL.GPU' 'BRA 0x20'
  print sm_100 of_another_card 'LDC R1, c[0x0][0x28]' 'EXIT' 'BRA 0x20'
  print sm_80 of_an_older_card 'LDG.E R2, desc[UR4][R2.64]' 'EXIT'
} >"$work/sass"
said=$(disassemble "$@")
[ "$said" = '3 kernels and cards wait before they touch memory, and fence nothing among wgmma; 1 are empty, for other cards' ] || { echo "of what is right: $said"; exit 1; }

{
  print sm_90a right "${setup[@]}"
  print sm_100 loads_early 'LDG.E.CONSTANT R0, desc[UR4][R2.64]' "${setup[@]}"
  print sm_90a loads_on_a_way 'PREEXIT' '@!P0 BRA 0x40' 'ACQBULK' 'EXIT' 'UTMALDG.2D [UR8], [UR4]' 'BRA 0x20'
  print sm_120 leaves '@P0 EXIT' 'ACQBULK' 'STG.E desc[UR4][R4.64], R2' 'EXIT'
  print sm_90a never_waits 'PREEXIT' 'STS [R0], R1' 'EXIT'
  print sm_90a jumps 'BRX R4 -0x30' 'ACQBULK' 'EXIT'
  print sm_90a fences 'ACQBULK' 'HGMMA.64x16x16.F32.BF16 R24, gdesc[UR20], R24' '@!P0 BRA 0x50' '@P1 BRA 0x10' 'EXIT' 'MEMBAR.SC.GPU' 'BRA 0x30'
} >"$work/sass"
if said=$(disassemble "$@"); then
  echo "takes what is wrong: $said"
  exit 1
fi
expected='planted.cu.o: loads_early on sm_100: LDG.E.CONSTANT at 0x0 before the wait
planted.cu.o: loads_on_a_way on sm_90a: UTMALDG.2D at 0x40 before the wait
planted.cu.o: leaves on sm_120: ends at 0x0 without having waited
planted.cu.o: never_waits on sm_90a: ends at 0x20 without having waited
planted.cu.o: jumps on sm_90a: BRX at 0x0: nobody knows where to
planted.cu.o: fences on sm_90a: MEMBAR.SC.GPU at 0x50 in a loop with its wgmma'
[ "$said" = "$expected" ] || { diff <(echo "$expected") <(echo "$said"); exit 1; }
