// AVX-512 with BF16, and AMX: eight registers of up to 16 rows of 64 bytes, and TDPBF16PS, which multiplies
// two of them: C (16 x 16 f32) += A (16 rows of 32 bf16 along k) * B (16 pairs along k of 16 columns each).
// It takes numbers below 2^-126 for 0, as VDPBF16PS does, and adds up the even and the odd k of a product
// apart, in order, before both join C. For units in avx512_amx/ only (see isa.h).
//
// The tiles are written as assembly because GCC 12's intrinsics do not tell the compiler that a tile load
// reads memory.
#pragma once

#include "kernels/cpu/simd_avx512_bf16.h"

namespace hone::kernels::cpu {

/// What is done with vectors around AMX tiles. The tiles are Avx512Amx's, and those that the tests emulate.
template <class Isa>
struct AmxVectorOps : Avx512Bf16Ops<Isa> {
  using typename Avx512Ops<Isa>::Vec;
  using Avx512Ops<Isa>::kLanes;
  using Avx512Ops<Isa>::store;
  static constexpr bool kAmx = true;
  static constexpr Index kL2Bytes = 2 << 20;  // of every processor with AMX so far

  /// How many rows, and bytes of each, every tile register has: what LDTILECFG reads.
  struct alignas(64) TileShapes {
    std::uint8_t palette, start_row, reserved[14];
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
  };
  /// The even and the odd ones of 32 floats.
  [[gnu::always_inline]] static void unzip(Vec low, Vec high, Vec& even, Vec& odd) {
    const __m512i twos = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    even = _mm512_permutex2var_ps(low, twos, high);
    odd = _mm512_permutex2var_ps(low, _mm512_add_epi32(twos, _mm512_set1_epi32(1)), high);
  }
  /// Stores three vectors of pairs of bf16, `plane` floats apart, whose sum is the pairs of an element of
  /// `even` with the one of `odd`. Returns whether all of these are finite; others have themselves, 0 and 0.
  [[gnu::always_inline]] static bool split(Vec even, Vec odd, float* to, Index plane) {
    const Vec even1 = round_part(even), odd1 = round_part(odd);
    store(to, pair(even1, odd1));
    const Vec even_rest = even - even1, odd_rest = odd - odd1;
    const Vec even2 = round_part(even_rest), odd2 = round_part(odd_rest);
    store(to + plane, pair(even2, odd2));
    const Vec even3 = even_rest - even2, odd3 = odd_rest - odd2;
    store(to + 2 * plane, pair(even3, odd3));
    // The last part is not a number where the float is not finite, or so large that its first part is not.
    if (_mm512_cmp_ps_mask(even3, odd3, _CMP_UNORD_Q) == 0) [[likely]]
      return true;
    return split_special(even, odd, to, plane);
  }

 private:
  /// To eight bits, halves away from 0.
  [[gnu::always_inline]] static Vec round_part(Vec v) {
    const __m512i u = _mm512_add_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(0x8000));
    return _mm512_castsi512_ps(_mm512_and_si512(u, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
  }
  /// The high halves of `even` below those of `odd`.
  [[gnu::always_inline]] static Vec pair(Vec even, Vec odd) {
    const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(even), 16);
    const __m512i mask = _mm512_set1_epi32(static_cast<int>(0xffff0000));
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(low, _mm512_castps_si512(odd), mask, 0xf8));
  }
  /// split, lane by lane.
  [[gnu::noinline]] static bool split_special(Vec even, Vec odd, float* to, Index plane) {
    alignas(64) std::uint32_t bits[2][kLanes];
    store(reinterpret_cast<float*>(bits[0]), even);
    store(reinterpret_cast<float*>(bits[1]), odd);
    auto* halves = reinterpret_cast<std::uint16_t*>(to);
    bool finite = true;
    for (Index i = 0; i < kLanes; i++) {
      for (Index half = 0; half < 2; half++) {
        std::uint32_t rest = bits[half][i];
        const bool number = (rest & 0x7fffffff) <= 0x7f800000, infinite = (rest & 0x7fffffff) == 0x7f800000;
        finite = finite && number && !infinite;
        for (Index part = 0; part < 3; part++) {
          std::uint16_t* out = halves + 2 * (part * plane + i) + half;
          if (!number || infinite) {
            *out = part > 0 ? 0 : static_cast<std::uint16_t>(rest >> 16 | (number ? 0 : 0x40));
            continue;
          }
          std::uint32_t high = (rest + 0x8000) & 0xffff0000;
          if ((high & 0x7f800000) == 0x7f800000) high = rest & 0xffff0000;  // or it would be infinite
          *out = static_cast<std::uint16_t>(high >> 16);
          float value, first;
          __builtin_memcpy(&value, &rest, sizeof value);
          __builtin_memcpy(&first, &high, sizeof first);
          value -= first;
          __builtin_memcpy(&rest, &value, sizeof rest);
        }
      }
    }
    return finite;
  }
};

struct Avx512Amx : AmxVectorOps<Avx512Amx> {
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
