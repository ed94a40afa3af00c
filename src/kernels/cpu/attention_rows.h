// Products of a few rows of queries with keys and values as they lie in memory.
#pragma once

#include "kernels/cpu/attention_blocks.h"

namespace hone::kernels::cpu {

/// How many rows ahead keys and values are prefetched.
inline constexpr Index kFewAhead = 32;

/// scores[row][i] = the product of row `row` of q and row keys[i], over k elements.
template <class Isa, class T, int kRows>
[[gnu::noinline]] void multiply_four_keys(const T* q, Index q_stride, const T* const (&keys)[4], Index k,
                                          float* scores, Index scores_stride) {
  using E = Stored<Compute<Isa, T>>;
  constexpr Index kStep = Isa::kLanes * kPerWord<E>;
  typename Isa::Vec sum[kRows][4];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; r++) sum[r][0] = sum[r][1] = sum[r][2] = sum[r][3] = Isa::zero();
  const auto step = [&](const auto& words) __attribute__((always_inline)) {
    typename Isa::Vec key[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) key[i] = words(keys[i]);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; r++) {
      const typename Isa::Vec x = words(q + r * q_stride);
#pragma GCC unroll 4
      for (int i = 0; i < 4; i++) sum[r][i] = multiply_add<Isa, E>(x, key[i], sum[r][i]);
    }
  };
  Index j = 0;
  for (; j + kStep <= k; j += kStep)
    step([&](const T* p) __attribute__((always_inline)) { return load_words<Isa, E>(p + j); });
  if (j < k)
    step([&](const T* p) __attribute__((always_inline)) { return load_words<Isa, E>(p + j, k - j); });
#pragma GCC unroll 4
  for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) scores[r * scores_stride + i] = Isa::sum(sum[r][i]);
  }
}

/// sums[row][0 … lanes) += sum over keys of p[row][key] * v[key][0 … lanes), in chains (micro_kernel.h):
/// kRows rows, kVecs vectors, the last of `last` lanes.
template <class Isa, class T, int kRows, int kVecs>
[[gnu::noinline]] void gather_values(const float* p, Index p_stride, const T* v, Index v_stride, Index keys,
                                     Index last, float* sums, Index sums_stride) {
  using Vec = typename Isa::Vec;
  const bool ragged = last < Isa::kLanes;
  for (Index begin = 0; begin < keys; begin += kChainWords) {
    Vec sum[kRows][kVecs];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 4
      for (int i = 0; i < kVecs; i++) sum[r][i] = Isa::zero();
    }
    for (Index k = begin; k < least(keys, begin + kChainWords); k++, v += v_stride) {
      prefetch_row(v + kFewAhead * v_stride, k + kFewAhead < keys ? (kVecs - 1) * Isa::kLanes + last : 0);
      Vec value[kVecs];
#pragma GCC unroll 4
      for (int i = 0; i + 1 < kVecs; i++) value[i] = Isa::load(v + i * Isa::kLanes);
      const T* end = v + (kVecs - 1) * Isa::kLanes;
      value[kVecs - 1] = ragged ? Isa::load(end, last) : Isa::load(end);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; r++) {
        const Vec x = Isa::broadcast(p + r * p_stride + k);
#pragma GCC unroll 4
        for (int i = 0; i < kVecs; i++) sum[r][i] = Isa::fma(x, value[i], sum[r][i]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; r++) {
#pragma GCC unroll 4
      for (int i = 0; i < kVecs; i++) {
        float* to = sums + r * sums_stride + i * Isa::kLanes;
        Isa::store(to, Isa::load(to) + sum[r][i]);
      }
    }
  }
}

}  // namespace hone::kernels::cpu
