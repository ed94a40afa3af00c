// Gradient norm and optimizers: one pass over everything, at the speed of memory.
#pragma once

#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/rows_optimizer_compact.h"

namespace hone::kernels::cpu {

/// The sum of squares of one chunk: in f32. Where that overflows in double, and where squares may be below
/// f32's numbers of larger ones.
template <class Isa, class T>
[[gnu::always_inline]] inline double chunk_squares(const T* x, Index n) {
  const auto sum_times = [&](float factor) __attribute__((always_inline)) {
    const auto factors = Isa::set(factor);
    return sum_lanes<Isa>(
        n, [&](Index j, auto lanes, auto so_far) __attribute__((always_inline)) {
          const auto v = load<Isa>(x + j, lanes) * factors;
          return Isa::fma(v, v, so_far);
        });
  };
  const double sum = sum_times(1);
  if (sum < 0x1p-100) return sum_times(0x1p60F) * 0x1p-120;
  if (sum <= __DBL_MAX__) return sum;
  double exact = 0;
  for (Index j = 0; j < n; j++) {
    float lane[Isa::kLanes];
    Isa::store(lane, Isa::load(x + j, 1));
    exact += static_cast<double>(lane[0]) * lane[0];
  }
  return exact;
}

template <class Isa>
void RowKernels<Isa>::sum_of_squares(const SumOfSquaresArgs& a, Stream& stream) {
  const auto add = [&](const double* parts, Index n) {
    double sum = 0;
    for (Index i = 0; i < n; i++) sum += parts[i];
    a.scalars->sum_of_squares += sum;
    if (!(sum <= __DBL_MAX__) && a.scalars->nonfinite == 0) a.scalars->nonfinite = a.index + 1;
  };
  if (a.has_parts) {
    if (!stream.is_meta()) add(a.parts, a.num_parts);
    return;
  }
  constexpr Index kChunk = 4096;
  const Index chunks = ceil_div(a.n, kChunk);
  auto* sums =
      static_cast<double*>(stream.shared_workspace(static_cast<std::size_t>(chunks) * sizeof(double)));
  if (stream.is_meta()) return;
  with_dtype(a.dtype, [&](auto t) {
    const auto* x = static_cast<const TypeOf<decltype(t)>*>(a.x);
    stream.team().parallel_ranges(threads_for(a.n, stream), chunks, [&](Index begin, Index end, int) {
      for (Index c = begin; c < end; c++)
        sums[c] = chunk_squares<Isa>(x + c * kChunk, least(kChunk, a.n - c * kChunk));
    });
  });
  add(sums, chunks);
}

/// Calls step(j, lanes), which returns the new master weight, and stores that rounded to bf16 where a bf16
/// weight is kept: past the caches, as nothing reads it before the next forward pass.
template <class Isa, class Step>
[[gnu::always_inline]] inline void update(Index begin, Index end, BFloat16* weight, Step step) {
  constexpr Index kLanes = Isa::kLanes;
  Index j = begin;
  if (weight != nullptr && reinterpret_cast<std::uintptr_t>(weight + begin) % 64 == 0) {
    constexpr Index kLine = 32;  // bf16 in a cache line
    for (; j + kLine <= end; j += kLine)
      for (Index half = 0; half < kLine; half += 2 * kLanes) {
        const auto first = step(j + half, AllLanes{});
        const auto second = step(j + half + kLanes, AllLanes{});
        Isa::stream(weight + j + half, first, second);
      }
  }
  for_lanes<Isa>(
      end - j, [&](Index at, auto lanes) __attribute__((always_inline)) {
        const auto v = step(j + at, lanes);
        if (weight != nullptr) store<Isa>(weight + j + at, v, lanes);
      });
}

template <class Isa, class G>
void adamw_elements(const AdamWArgs& a, Stream& stream) {
  using Vec = typename Isa::Vec;
  const AdamWStep<Isa> all_steps(a);
  const auto* all_grad = static_cast<const G*>(a.grad);
  over_elements<Isa>(1, a.n, true, stream, [&](Index, Index begin, Index end) {
    auto *master = static_cast<float*>(a.master), *avg = static_cast<float*>(a.exp_avg),
         *avg_sq = static_cast<float*>(a.exp_avg_sq);
    const G* grad = all_grad;
    const AdamWStep<Isa> step = all_steps;
    update<Isa>(
        begin, end, a.has_weight ? static_cast<BFloat16*>(a.weight) : nullptr,
        [=](Index j, auto lanes) __attribute__((always_inline)) {
          Vec m = load<Isa>(avg + j, lanes), v = load<Isa>(avg_sq + j, lanes);
          const Vec w = step(load<Isa>(grad + j, lanes), m, v, load<Isa>(master + j, lanes));
          store<Isa>(avg + j, m, lanes);
          store<Isa>(avg_sq + j, v, lanes);
          store<Isa>(master + j, w, lanes);
          return w;
        });
  });
}

template <class Isa>
void RowKernels<Isa>::adamw(const AdamWArgs& a, Stream& stream) {
  if (stream.is_meta() || a.scalars->skip != 0) return;
  const bool compact = a.moments != MomentKind::kF32 || a.master_dtype == DType::kBF16;
  with_dtype(a.grad_dtype, [&](auto g) {
    using G = TypeOf<decltype(g)>;
    compact ? adamw_compact<Isa, G>(a, stream) : adamw_elements<Isa, G>(a, stream);
  });
}

template <class Isa, class G>
void sgd_elements(const SgdArgs& a, Stream& stream) {
  using Vec = typename Isa::Vec;
  const Vec clip = Isa::set(a.scalars->clip_factor), rate = Isa::set(a.rate_scale * a.scalars->learning_rate);
  const Vec decay = Isa::set(a.weight_decay), momentum = Isa::set(a.momentum);
  over_elements<Isa>(1, a.n, true, stream, [&](Index, Index begin, Index end) {
    float *master = static_cast<float*>(a.master), *buffer = a.momentum != 0 ? a.momentum_buffer : nullptr;
    const G* grad = static_cast<const G*>(a.grad);
    const bool first = a.first;
    update<Isa>(
        begin, end, a.has_weight ? static_cast<BFloat16*>(a.weight) : nullptr,
        [=](Index j, auto lanes) __attribute__((always_inline)) {
          const Vec old = load<Isa>(master + j, lanes);
          Vec step = Isa::fma(decay, old, load<Isa>(grad + j, lanes) * clip);
          if (buffer != nullptr) {
            if (!first) step = Isa::fma(momentum, load<Isa>(buffer + j, lanes), step);
            store<Isa>(buffer + j, step, lanes);
          }
          const Vec w = Isa::fnma(rate, step, old);
          store<Isa>(master + j, w, lanes);
          return w;
        });
  });
}

template <class Isa>
void RowKernels<Isa>::sgd(const SgdArgs& a, Stream& stream) {
  if (stream.is_meta() || a.scalars->skip != 0) return;
  with_dtype(a.grad_dtype, [&](auto g) {
    using G = TypeOf<decltype(g)>;
    a.master_dtype == DType::kBF16 ? sgd_compact<Isa, G>(a, stream) : sgd_elements<Isa, G>(a, stream);
  });
}

}  // namespace hone::kernels::cpu
