// AMX's eight tiles as arrays of each thread, and the four instructions that hone gives them. For units in
// this folder only (see kernels/cpu/isa.h).
#pragma once

#include "kernels/cpu/simd_avx512_amx.h"

namespace hone::kernels::cpu {

struct EmulatedAmx : AmxVectorOps<EmulatedAmx> {
  struct Tile {
    alignas(64) float rows[16][16];
  };
  inline static thread_local Tile tiles[8];
  inline static thread_local TileShapes shapes_now;

  /// An access to a tile whose shape is not set is a fault, as it is on the processor.
  static int rows_of(int tile) {
    if (shapes_now.palette != 1 || shapes_now.rows[tile] == 0 || shapes_now.row_bytes[tile] != 64)
      __builtin_trap();
    return shapes_now.rows[tile];
  }
  static void configure_tiles(const TileShapes& shapes) {
    shapes_now = shapes;
    __builtin_memset(tiles, 0, sizeof tiles);
  }
  static void release_tiles() { shapes_now = TileShapes{}; }

  template <int kTile>
  static void zero_tile() {
    rows_of(kTile);
    __builtin_memset(&tiles[kTile], 0, sizeof(Tile));
  }
  /// Rows past the tile's are 0.
  template <int kTile>
  static void load_tile(const void* p, Index stride) {
    __builtin_memset(&tiles[kTile], 0, sizeof(Tile));
    for (int i = 0; i < rows_of(kTile); i++) {
      __builtin_memcpy(tiles[kTile].rows[i], static_cast<const char*>(p) + i * stride, 64);
    }
  }
  template <int kTile>
  static void store_tile(void* p, Index stride) {
    for (int i = 0; i < rows_of(kTile); i++) {
      __builtin_memcpy(static_cast<char*>(p) + i * stride, tiles[kTile].rows[i], 64);
    }
  }
  /// TDPBF16PS: a row of C += the products of even k, summed in order, plus those of odd k; numbers below
  /// 2^-126 are 0.
  template <int kC, int kA, int kB>
  static void multiply_tiles() {
    if (rows_of(kB) != 16 || rows_of(kA) != rows_of(kC)) __builtin_trap();
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040);  // what is computed between the two barriers takes and makes no denormals
    asm volatile("" ::: "memory");
    alignas(64) float even_b[16][16], odd_b[16][16];
    for (int k = 0; k < 16; k++) {
      const Vec b = load(tiles[kB].rows[k]);
      store(even_b[k], half<0>(b));
      store(odd_b[k], half<1>(b));
    }
    for (int i = 0; i < rows_of(kC); i++) {
      Vec even = zero(), odd = zero();
      for (int k = 0; k < 16; k++) {
        const Vec a = broadcast(&tiles[kA].rows[i][k]);
        even = fma(half<0>(a), load(even_b[k]), even);
        odd = fma(half<1>(a), load(odd_b[k]), odd);
      }
      float* c = tiles[kC].rows[i];
      store(c, load(c) + (even + odd));
    }
    asm volatile("" ::: "memory");
    _mm_setcsr(mode);
  }

 private:
  template <int kOdd>
  static Vec half(Vec pairs) {
    const __m512i u = _mm512_castps_si512(pairs);
    const __m512i mask = _mm512_set1_epi32(static_cast<int>(0xffff0000));
    return _mm512_castsi512_ps(kOdd ? _mm512_and_si512(u, mask) : _mm512_slli_epi32(u, 16));
  }
};

}  // namespace hone::kernels::cpu
