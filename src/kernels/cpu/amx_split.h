// Floats on AMX tiles: x = x1 + x2 + x3, three bf16, each the next eight bits of x, rounded, so that the sum
// is x itself. A product is the sum of six, a3 b1 + a2 b1 + a2 b2 + a1 b2 + a1 b3 + a1 b1; the three left out
// come to at most 2^-24 of |a b|, on average to far less, and of either sign. Six tile products of 15 times
// an FMA's rate each are faster than FMAs.
//
// Beside a chain of FMAs the error of a sum (rms, k of 512 to 2,049) is 0.35 to 0.45 times where the numbers
// are of one magnitude, 1.25 times where they are spread over 2^-60 to 2^60 (tests/kernels/split_test.cpp).
// First parts are rounded up by as much as 2^-9: a product that close to the largest float may overflow.
//
// AMX takes numbers below 2^-126 for 0: of floats below 2^-102 that is the last part or more, subnormal ones
// are 0, and so is what a product has below 2^-126.
//
// Infinity times a part that is 0 is not a number, though infinity times the float may be infinity. Packing
// notices floats that are not finite (their second and third part are 0); tiles near them are mended.
#pragma once

#include "kernels/cpu/micro_kernel.h"

namespace hone::kernels::cpu {

/// Word block of a packed operand: [plane][16][16 or 32 words]; planes of the left one are 32 rows of words,
/// those of the right one 16 words of a panel's columns.
inline constexpr Index kSplitBlock = 16;
inline constexpr Index kSplitElements = 2 * kSplitBlock;
inline constexpr Index kSplitRows = 32;
template <class Isa>
inline constexpr Index kSplitPlane = kSplitBlock* kPanel<Isa>;  // floats of a plane, on either side

/// One word block; kTall: more than 16 rows. Every tile is loaded just before it is needed and stays for as
/// many products as may be: 14 loads for 24.
template <class Isa, bool kTall>
[[gnu::always_inline]] inline void multiply_split_block(const char* a, const float* b) {
  static_assert(kSplitRows * kSplitBlock == kSplitPlane<Isa>);
  constexpr Index kPanelBytes = kPanel<Isa> * Index{sizeof(float)};
  constexpr Index kPlaneBytes = kSplitPlane<Isa> * Index{sizeof(float)};
  const auto left = [&](Index plane) __attribute__((always_inline)) {
    const char* from = a + plane * kPlaneBytes;
    Isa::template load_tile<4>(from, 64);
    Isa::template multiply_tiles<0, 4, 6>();
    Isa::template multiply_tiles<1, 4, 7>();
    if constexpr (kTall) {
      Isa::template load_tile<5>(from + 16 * 64, 64);
      Isa::template multiply_tiles<2, 5, 6>();
      Isa::template multiply_tiles<3, 5, 7>();
    }
  };
  const auto right = [&](Index plane) __attribute__((always_inline)) {
    const float* from = b + plane * kSplitPlane<Isa>;
    Isa::template load_tile<6>(from, kPanelBytes);
    Isa::template multiply_tiles<0, 4, 6>();
    if constexpr (kTall) Isa::template multiply_tiles<2, 5, 6>();
    Isa::template load_tile<7>(from + Isa::kLanes, kPanelBytes);
    Isa::template multiply_tiles<1, 4, 7>();
    if constexpr (kTall) Isa::template multiply_tiles<3, 5, 7>();
  };
  Isa::template load_tile<6>(b, kPanelBytes);
  Isa::template load_tile<7>(b + Isa::kLanes, kPanelBytes);
  left(2);
  left(1);
  right(1);
  left(0);
  right(2);
  right(0);
}

/// The float of a column of three planes of words, `half` of the word.
template <class Isa>
[[gnu::always_inline]] inline float join_parts(const float* word, Index half) {
  float part[3];
  for (Index p = 0; p < 3; p++) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, word + p * kSplitPlane<Isa>, sizeof bits);
    bits = half == 0 ? bits << 16 : bits & 0xffff0000;
    __builtin_memcpy(&part[p], &bits, sizeof bits);
  }
  return part[0] + (part[1] + part[2]);  // not finite: 0 and 0 follow
}

/// Sums once more, as floats, what is not a number in a tile of sums, if it was made from numbers that are
/// not finite. sums: [row][kPanel].
template <class Isa>
[[gnu::noinline]] void mend_sums(const MicroArgs& args, Index rows, float* sums) {
  constexpr Index kWidth = kPanel<Isa>;
  const auto* a = reinterpret_cast<const float*>(args.a);
  for (Index i = 0; i < rows; i++) {
    for (Index j = 0; j < kWidth; j++) {
      if (!__builtin_isnan(sums[i * kWidth + j])) continue;
      float sum = args.start != nullptr ? args.start[i * args.start_stride + j] : 0;
      bool finite = true;
      for (Index w = 0; w < args.words; w++) {
        const Index block = w / kSplitBlock * 3 * kSplitPlane<Isa>, word = w % kSplitBlock;
        for (Index half = 0; half < 2; half++) {
          const float x = join_parts<Isa>(a + block + i * kSplitBlock + word, half);
          const float y = join_parts<Isa>(args.b + block + word * kWidth + j, half);
          finite = finite && __builtin_isfinite(x) && __builtin_isfinite(y);
          sum += x * y;
        }
      }
      if (!finite) sums[i * kWidth + j] = sum;
    }
  }
}

}  // namespace hone::kernels::cpu
