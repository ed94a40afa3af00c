// Rounding to blocks of FP8 (kernels/fp8.h), a vector at a time. The rounded numbers are stored in T, which
// holds them exactly, and multiplied as any others.
#pragma once

#include "kernels/cpu/rows.h"
#include "kernels/fp8.h"

namespace hone::kernels::cpu {

/// Which numbers share a scale.
enum class Fp8Blocks : std::uint8_t { kAlongRows, kSquares };

/// The bits of a vector as words.
template <std::size_t kBytes>
struct WordsOf;
template <>
struct WordsOf<32> {
  using type [[gnu::vector_size(32)]] = std::uint32_t;
};
template <>
struct WordsOf<64> {
  using type [[gnu::vector_size(64)]] = std::uint32_t;
};

template <class Isa>
struct Fp8Lanes {
  using Vec = typename Isa::Vec;
  using Bits = typename WordsOf<sizeof(Vec)>::type;

  [[gnu::always_inline]] static Bits larger(Bits a, Bits b) { return a > b ? a : b; }
  /// The largest of all lanes, in each.
  [[gnu::always_inline]] static Bits largest(Bits v) {
    std::uint32_t most = 0;
    for (int i = 0; i < Isa::kLanes; i++) most = v[i] > most ? v[i] : most;
    return (v & 0U) + most;
  }
  [[gnu::always_inline]] static Bits magnitude(Vec v) { return fp8_magnitude(__builtin_bit_cast(Bits, v)); }
  [[gnu::always_inline]] static Vec round(Vec v, const Fp8Scale<Bits>& scale) {
    const Bits bits = __builtin_bit_cast(Bits, v), magnitude = bits & 0x7fffffffU;
    const Vec scaled = __builtin_bit_cast(Vec, magnitude) * __builtin_bit_cast(Vec, scale.inverse);
    const Vec rounder = __builtin_bit_cast(Vec, fp8_rounder(__builtin_bit_cast(Bits, scaled)));
    const Vec rounded = (scaled + rounder - rounder) * __builtin_bit_cast(Vec, scale.scale);
    const Bits with_sign = __builtin_bit_cast(Bits, rounded) | (bits & 0x80000000U);
    const Bits nan = (bits & 0U) + 0x7fc00000U;
    return __builtin_bit_cast(Vec, magnitude < 0x7f800000U ? with_sign : nan);
  }
};

/// One tile of at most kFp8Side rows and columns. to may be from.
template <class Isa, class T>
void round_fp8_tile(const T* from, Index from_stride, Index rows, Index cols, Fp8Blocks blocks, T* to,
                    Index to_stride) {
  using Lanes = Fp8Lanes<Isa>;
  using Bits = typename Lanes::Bits;
  const auto largest_of_row = [&](Index i) __attribute__((always_inline)) {
    Bits most{};
    for_lanes<Isa>(
        cols, [&](Index j, auto lanes) __attribute__((always_inline)) {
          most = Lanes::larger(most, Lanes::magnitude(load<Isa>(from + i * from_stride + j, lanes)));
        });
    return most;
  };
  const auto round_row = [&](Index i, const Fp8Scale<Bits>& scale) __attribute__((always_inline)) {
    for_lanes<Isa>(
        cols, [&](Index j, auto lanes) __attribute__((always_inline)) {
          store<Isa>(to + i * to_stride + j,
                     Lanes::round(load<Isa>(from + i * from_stride + j, lanes), scale), lanes);
        });
  };
  switch (blocks) {
    case Fp8Blocks::kAlongRows:
      for (Index i = 0; i < rows; i++) round_row(i, fp8_scale(Lanes::largest(largest_of_row(i))));
      return;
    case Fp8Blocks::kSquares: {
      Bits most{};
      for (Index i = 0; i < rows; i++) most = Lanes::larger(most, largest_of_row(i));
      const auto scale = fp8_scale(Lanes::largest(most));
      for (Index i = 0; i < rows; i++) round_row(i, scale);
      return;
    }
  }
}

/// A matrix of T, in place where `to` is where it is; tiles are handed out, so that no block is two threads'.
template <class Isa, class T>
void round_fp8(const T* from, Index from_stride, Index rows, Index cols, Fp8Blocks blocks, T* to,
               Index to_stride, device::Stream& stream) {
  const Index row_tiles = ceil_div(rows, kFp8Side), col_tiles = ceil_div(cols, kFp8Side);
  stream.team().parallel_for(threads_for(rows * cols, stream), row_tiles * col_tiles, [&](Index tile, int) {
    const Index i = tile / col_tiles * kFp8Side, j = tile % col_tiles * kFp8Side;
    round_fp8_tile<Isa, T>(from + i * from_stride + j, from_stride, least(kFp8Side, rows - i),
                           least(kFp8Side, cols - j), blocks, to + i * to_stride + j, to_stride);
  });
}

}  // namespace hone::kernels::cpu
