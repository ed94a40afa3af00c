// AVX-512 with BF16, and AMX: eight registers of up to 16 rows of 64 bytes, and TDPBF16PS, which multiplies
// two of them: C (16 x 16 f32) += A (16 rows of 32 bf16 along k) * B (16 pairs along k of 16 columns each).
// It takes numbers below 2^-126 for 0, as VDPBF16PS does, and adds up the even and the odd k of a product
// apart, in order, before both join C. For units in avx512_amx/ only (see isa.h).
//
// Written as assembly because GCC 12's intrinsics do not tell the compiler that a tile load reads memory.
#pragma once

#include "kernels/cpu/simd_avx512_bf16.h"

namespace hone::kernels::cpu {

struct Avx512Amx : Avx512Bf16Ops<Avx512Amx> {
  static constexpr bool kAmx = true;
  static constexpr Index kL2Bytes = 2 << 20;  // of every processor with AMX so far

  /// How many rows, and bytes of each, every tile register has: what LDTILECFG reads.
  struct alignas(64) TileShapes {
    std::uint8_t palette, start_row, reserved[14];
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
  };
  /// Sets the shapes; all tiles become 0.
  [[gnu::always_inline]] static void configure_tiles(const TileShapes& shapes) {
    asm volatile("ldtilecfg %0" : : "m"(shapes));
  }
  /// Gives the tiles back, so that the system need not save them with the thread.
  [[gnu::always_inline]] static void release_tiles() { asm volatile("tilerelease"); }

  template <int kTile>
  [[gnu::always_inline]] static void zero_tile() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  /// Rows `stride` bytes apart.
  template <int kTile>
  [[gnu::always_inline]] static void load_tile(const void* p, Index stride) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(p), "r"(stride) : "memory");
  }
  template <int kTile>
  [[gnu::always_inline]] static void store_tile(void* p, Index stride) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(kTile), "r"(p), "r"(stride) : "memory");
  }
  /// Tile kC += tile kA * tile kB.
  template <int kC, int kA, int kB>
  [[gnu::always_inline]] static void multiply_tiles() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
};

}  // namespace hone::kernels::cpu
