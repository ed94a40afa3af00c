// The instruction sets as types. Every template that an instruction-set unit instantiates has one of these
// among its arguments, so that the linker can never take code made for one processor for another.
//
// A unit is a file in src/kernels/cpu/units/; cmake/isa.cmake compiles it once for each instruction set, with
// its -m flags. It includes the header with the kernel and the instruction set's (HONE_ISA_HEADER), and
// instantiates the kernel for its type (HONE_ISA). Such units (and the headers they share) call no inline
// function or template of std that the compiler might leave out of line: the linker keeps one copy of those,
// and an older processor could meet an instruction it lacks.
// scripts/check_isa_symbols.sh, a test, looks for such copies in the object files.
#pragma once

#include <cstdint>

namespace hone::kernels::cpu {

struct Avx2;        // simd_avx2.h
struct Avx512;      // simd_avx512.h: F, BW, DQ, VL
struct Avx512Bf16;  // simd_avx512_bf16.h: also BF16
struct Avx512Amx;   // simd_avx512_amx.h: also BF16 and AMX tiles

/// Counts, indices and strides.
using Index = std::int64_t;

/// The smaller and the larger of two counts; std::min may be left out of line (see above).
[[gnu::always_inline]] constexpr Index least(Index a, Index b) {
  return a < b ? a : b;
}
[[gnu::always_inline]] constexpr Index most(Index a, Index b) {
  return a > b ? a : b;
}
[[gnu::always_inline]] constexpr Index ceil_div(Index a, Index b) {
  return (a + b - 1) / b;
}
[[gnu::always_inline]] constexpr Index round_up(Index a, Index b) {
  return ceil_div(a, b) * b;
}

}  // namespace hone::kernels::cpu
