// Defines peak_loops; for the units of src/kernels/cpu/units/.
#pragma once

#include "kernels/cpu/amx_kernel.h"
#include "kernels/cpu/peak_loops.h"
#include "kernels/cpu/rows.h"

namespace hone::kernels::cpu {

/// As many independent sums as hide the latency of a multiply-add on any processor so far.
inline constexpr int kPeakSums = 12;

/// Keeps the compiler from knowing or reusing a register's value.
template <class Isa>
[[gnu::always_inline]] inline void forget(typename Isa::Vec& v) {
  asm volatile("" : "+v"(v));
}

template <class Isa, bool kDot>
double multiply_add_rounds(Index rounds) {
  typename Isa::Vec sums[kPeakSums], a = Isa::set(1e-9F), b = Isa::set(1e-9F);
#pragma GCC unroll 16
  for (auto& sum : sums) sum = Isa::zero();
  for (Index i = 0; i < rounds; i++) {
#pragma GCC unroll 16
    for (auto& sum : sums) {
      if constexpr (kDot) {
        sum = Isa::dot(a, b, sum);
      } else {
        sum = Isa::fma(a, b, sum);
      }
      forget<Isa>(sum);  // or all sums would be computed as one: they add the same
    }
  }
#pragma GCC unroll 16
  for (auto& sum : sums) forget<Isa>(sum);
  return static_cast<double>(rounds) * kPeakSums * Isa::kLanes * (kDot ? 4 : 2);
}

/// The micro-kernel's inner loop on AMX tiles, from the first cache.
template <class Isa, class E>
double multiply_tile_rounds(Index rounds) {
  constexpr Index kRows = kTileRows<Isa, E>, kBlock = kWordBlock<Isa, E>, kBlocks = 8 / kPlanes<E>;
  constexpr Index kLeft = kPlanes<E> * kRows * kBlock, kRight = kPlanes<E> * kBlock * kPanel<Isa>;
  alignas(64) float left[kBlocks * kLeft], right[kBlocks * kRight];
  __builtin_memset(left, 0, sizeof left);
  __builtin_memset(right, 0, sizeof right);
  MicroKernel<Isa, E, true> kernel;
  kernel.configure(kRows);
  if constexpr (kSplit<E>) rounds /= 16;  // they take longer
  for (Index i = 0; i < rounds; i++) {
    const char* a = reinterpret_cast<const char*>(left + i % kBlocks * kLeft);
    const float* b = right + i % kBlocks * kRight;
    if constexpr (kSplit<E>) {
      multiply_split_block<Isa, true>(a, b);
    } else {
      multiply_word_block<Isa, true>(a, 64, b);
    }
  }
  return static_cast<double>(rounds * kRows * kPanel<Isa>) * static_cast<double>(kBlock) * 4;
}

template <class Isa>
double sum_array(const float* a, Index n, float* result) {
  *result = static_cast<float>(sum_lanes<Isa>(
      n, [&](Index j, auto lanes, auto sum)
             __attribute__((always_inline)) { return sum + load<Isa>(a + j, lanes); }));
  return static_cast<double>(n) * sizeof(float);
}

template <class Isa>
double copy_array(float* a, const float* b, Index n) {
  for (Index j = 0; j < n; j += 2 * Isa::kLanes)
    Isa::stream(a + j, Isa::load(b + j), Isa::load(b + j + Isa::kLanes));
  return static_cast<double>(n) * sizeof(float) * 2;
}

template <class Isa>
double triad_array(float* a, const float* b, const float* c, Index n) {
  const auto scale = Isa::set(0.5F);
  for (Index j = 0; j < n; j += 2 * Isa::kLanes) {
    const auto first = Isa::fma(scale, Isa::load(c + j), Isa::load(b + j));
    const Index next = j + Isa::kLanes;
    Isa::stream(a + j, first, Isa::fma(scale, Isa::load(c + next), Isa::load(b + next)));
  }
  return static_cast<double>(n) * sizeof(float) * 3;
}

template <class Isa>
PeakLoops peak_loops() {
  PeakLoops loops{
      multiply_add_rounds<Isa, false>, nullptr, nullptr, sum_array<Isa>, copy_array<Isa>, triad_array<Isa>};
  if constexpr (Isa::kAmx) {
    loops.dot_bf16 = multiply_tile_rounds<Isa, BFloat16>;
    loops.split_f32 = multiply_tile_rounds<Isa, SplitF32>;
  } else if constexpr (Isa::kDotBf16) {
    loops.dot_bf16 = multiply_add_rounds<Isa, true>;
  }
  return loops;
}

}  // namespace hone::kernels::cpu
