// Products of very few rows (a token being generated): dot products straight from memory, so that the weights
// stream through once and nothing is packed. Pairs of bf16 where the processor has them: on Intel's,
// VDPBF16PS has half the rate of an f32 multiply-add, but widening first was no faster (4 rows of 512: 20.7
// us beside 21.4; 1 row: 9.3 beside 8.5), as loads decide.
#pragma once

#include "kernels/cpu/gemm.h"

namespace hone::kernels::cpu {

/// As many rows as dot_block takes: with so few, packing the right operand would cost more than it saves.
inline constexpr Index kMaxDotRows = 4;

/// Row of the right operand that is panel column j, or null where the panel has none.
template <class Isa, class T>
[[gnu::always_inline]] inline const T* row_of(const AlongK<T>& b, Index j) {
  return b.data + j * b.stride;
}
template <class Isa, class T>
[[gnu::always_inline]] inline const T* row_of(const GateUp<T>& b, Index j) {
  const Index lane = j % kPanel<Isa>, row = j / kPanel<Isa> * Isa::kLanes + lane % Isa::kLanes;
  return row < b.ffn ? b.data + (lane < Isa::kLanes ? row : b.ffn + row) * b.stride : nullptr;
}

/// How many vectors of a row are multiplied in one chain; the chains are added up in f64 (see
/// micro_kernel.h).
inline constexpr Index kDotSteps = 64;

/// kRows rows of a times four rows of b (null, but not the first: 0), over k elements:
/// out[row * kPanel + column].
template <class Isa, class S, class T, int kRows>
[[gnu::noinline]] void dot_rows(const S* a, Index a_stride, const T* const (&b)[4], Index k, float* out) {
  using E = Stored<Compute<Isa, T>>;  // a dot product of floats is never split
  using Vec = typename Isa::Vec;
  constexpr Index kStep = Isa::kLanes * kPerWord<E>;
  Vec sum[kRows][4];
  typename Isa::Wide over[kRows][4];  // of the chains that are over
  for (int r = 0; r < kRows; r++) {
    for (int c = 0; c < 4; c++) {
      sum[r][c] = Isa::zero();
      over[r][c] = Isa::wide_zero();
    }
  }
  const T* rows[4];
  for (int c = 0; c < 4; c++) rows[c] = b[c] != nullptr ? b[c] : b[0];
  Index i = 0;
  while (i + kStep <= k) {
    for (Index end = least(k, i + kDotSteps * kStep); i + kStep <= end; i += kStep) {
      Vec y[4];
#pragma GCC unroll 4
      for (int c = 0; c < 4; c++) y[c] = load_words<Isa, E>(rows[c] + i);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; r++) {
        const Vec x = load_words<Isa, E>(a + r * a_stride + i);
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++) sum[r][c] = multiply_add<Isa, E>(x, y[c], sum[r][c]);
      }
    }
    for (int r = 0; r < kRows; r++) {
      for (int c = 0; c < 4; c++) {
        over[r][c] = Isa::add(over[r][c], sum[r][c]);
        sum[r][c] = Isa::zero();
      }
    }
  }
  if (i < k) {
    for (int r = 0; r < kRows; r++) {
      const Vec x = load_words<Isa, E>(a + r * a_stride + i, k - i);
      for (int c = 0; c < 4; c++) {
        sum[r][c] = multiply_add<Isa, E>(x, load_words<Isa, E>(rows[c] + i, k - i), Isa::zero());
        over[r][c] = Isa::add(over[r][c], sum[r][c]);
      }
    }
  }
  for (int r = 0; r < kRows; r++) {
    for (int c = 0; c < 4; c++) {
      out[r * kPanel<Isa> + c] = b[c] != nullptr ? static_cast<float>(Isa::sum(over[r][c])) : 0.0F;
    }
  }
}

/// gemm_block for 1 … kMaxDotRows rows: the same sinks, through finish. tile: kMaxDotRows * kPanel floats.
template <class Isa, class S, class B, class Sink>
void dot_block(const AlongK<S>& a, const B& b, Range rows, Range columns, Index k, float* tile, Sink& sink) {
  constexpr Index kWidth = kPanel<Isa>;
  using T = typename B::Element;
  const S* start = a.data + rows.begin * a.stride;
  for (Index j = columns.begin; j < columns.end; j += kWidth) {
    const Index width = least(kWidth, columns.end - j);
    for (Index c = 0; c < width; c += 4) {
      const T* four[4];
      for (Index i = 0; i < 4; i++) four[i] = c + i < width ? row_of<Isa>(b, j + c + i) : nullptr;
      if (four[0] == nullptr) {
        for (Index r = 0; r < rows.size(); r++) {
          for (Index i = 0; i < 4; i++) tile[r * kWidth + c + i] = 0;
        }
        continue;
      }
      switch (rows.size()) {
        case 1:
          dot_rows<Isa, S, T, 1>(start, a.stride, four, k, tile + c);
          break;
        case 2:
          dot_rows<Isa, S, T, 2>(start, a.stride, four, k, tile + c);
          break;
        case 3:
          dot_rows<Isa, S, T, 3>(start, a.stride, four, k, tile + c);
          break;
        default:
          dot_rows<Isa, S, T, 4>(start, a.stride, four, k, tile + c);
          break;
      }
    }
    sink.finish(rows.begin, rows.size(), j, width, tile);
  }
}

}  // namespace hone::kernels::cpu
