// The router and its gradient.
#pragma once

#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/rows.h"

namespace hone::kernels::cpu {

/// Takes the largest of n floats (a whole number of vectors), the first where several are equal: returns its
/// index and leaves -infinity in its place.
template <class Isa>
[[gnu::always_inline]] inline Index take_largest(float* x, Index n) {
  const auto taken = Isa::set(-__builtin_inff());
  auto most = taken;
  for (Index j = 0; j < n; j += Isa::kLanes) most = Isa::max(most, Isa::load(x + j));
  const auto largest = Isa::set(Isa::max_of(most));
  Index j = 0;
  unsigned lanes = Isa::equal(Isa::load(x), largest);
  while (lanes == 0) lanes = Isa::equal(Isa::load(x + (j += Isa::kLanes)), largest);
  const Index lane = __builtin_ctz(lanes);
  // A whole vector is written: one that was just written is read again faster than one with a new piece.
  auto v = Isa::load(x + j);
  v = Isa::iota() == Isa::set(static_cast<float>(lane)) ? taken : v;
  Isa::store(x + j, v);
  return j + lane;
}

/// Routes one token. `keys`: scratch of the experts rounded up to whole vectors.
template <class Isa>
[[gnu::always_inline]] inline void route_token(const RouterArgs& a, Index token, float* keys) {
  const Index padded = round_up(a.experts, Isa::kLanes);
  const float* logits = a.logits + token * a.experts;
  float* probabilities = a.probabilities + token * a.experts;
  std::int32_t* experts = a.experts_of + token * a.top_k;
  float* weights = a.weights + token * a.top_k;
  const auto none = Isa::set(-__builtin_inff()), lowest = Isa::set(-__FLT_MAX__);
  // A NaN counts as the least, so that a diverged model still routes to experts that exist; what is taken,
  // and what fills the last vector, is below that.
  for_lanes<Isa>(
      a.experts, [&](Index j, auto lanes) __attribute__((always_inline)) {
        Isa::store(keys + j, none);
        store<Isa>(keys + j, Isa::max(load<Isa>(logits + j, lanes), lowest), lanes);
      });
  for (Index slot = 0; slot < a.top_k; slot++) {
    experts[slot] = static_cast<std::int32_t>(take_largest<Isa>(keys, padded));
  }
  const auto largest = Isa::set(logits[experts[0]]);
  const double sum = sum_lanes<Isa>(
      a.experts, [&](Index j, auto lanes, auto so_far) __attribute__((always_inline)) {
        store<Isa>(probabilities + j, Isa::exp(load<Isa>(logits + j, lanes) - largest), lanes);
        return so_far + load<Isa>(probabilities + j, lanes);
      });
  const auto scale = Isa::set(static_cast<float>(1 / sum));
  for_lanes<Isa>(
      a.experts, [&](Index j, auto lanes) __attribute__((always_inline)) {
        store<Isa>(probabilities + j, load<Isa>(probabilities + j, lanes) * scale, lanes);
      });
  float chosen = 0;
  for (Index slot = 0; slot < a.top_k; slot++) chosen += weights[slot] = probabilities[experts[slot]];
  if (!a.normalize) return;
  for (Index slot = 0; slot < a.top_k; slot++) weights[slot] /= chosen;
}

/// Scratch of every thread, taken before the parallel region, where running out of memory can be reported.
template <class Isa>
[[gnu::always_inline]] inline std::size_t reserve_scratch(Index floats, int threads, Stream& stream) {
  const std::size_t bytes = static_cast<std::size_t>(floats) * sizeof(float);
  for (int t = 0; t < threads; t++) stream.workspace(t, bytes);
  return bytes;
}

template <class Isa>
void RowKernels<Isa>::router(const RouterArgs& a, Stream& stream) {
  const int threads = stream.num_threads();
  const std::size_t bytes = reserve_scratch<Isa>(round_up(a.experts, Isa::kLanes), threads, stream);
  sum_rows<Isa>(a.tokens, a.experts, a.probability_sums, DType::kF32, false, stream,
                [&](Index token, ColumnSums<Isa>& sums) {
                  route_token<Isa>(a, token,
                                   static_cast<float*>(stream.workspace(omp_get_thread_num(), bytes)));
                  const float* p = a.probabilities + token * a.experts;
                  float* sum = sums.next();
                  for_lanes<Isa>(
                      a.experts, [&](Index j, auto lanes) __attribute__((always_inline)) {
                        store<Isa>(sum + j, load<Isa>(sum + j, lanes) + load<Isa>(p + j, lanes), lanes);
                      });
                });
}

/// Adds the gradient of the chosen probabilities to `dp`.
template <class Isa>
[[gnu::always_inline]] inline void add_chosen(const RouterGradArgs& a, Index token, float* dp) {
  const float* p = a.probabilities + token * a.experts;
  const std::int32_t* chosen = a.experts_of + token * a.top_k;
  const float* w = a.weights + token * a.top_k;
  const float* dw = a.dweights + token * a.top_k;
  float sum = 1, mean = 0;  // w = p / sum: dp = (dw - <dw, w>) / sum
  if (a.normalize) {
    sum = 0;
    for (Index i = 0; i < a.top_k; i++) {
      sum += p[chosen[i]];
      mean += dw[i] * w[i];
    }
  }
  for (Index i = 0; i < a.top_k; i++) dp[chosen[i]] += (dw[i] - mean) / sum;
}

template <class Isa, class T>
void router_grad_rows(const RouterGradArgs& a, Stream& stream) {
  const std::size_t bytes = reserve_scratch<Isa>(a.experts, stream.num_threads(), stream);
  over_rows<Isa>(a.tokens, a.experts, stream, [&](Index token) {
    const float* p = a.probabilities + token * a.experts;
    auto* dp = static_cast<float*>(stream.workspace(omp_get_thread_num(), bytes));
    if (a.has_dprobability_sums) {
      __builtin_memcpy(dp, a.dprobability_sums, bytes);
    } else {
      __builtin_memset(dp, 0, bytes);
    }
    if (a.has_dweights) add_chosen<Isa>(a, token, dp);
    const auto dot = static_cast<float>(sum_lanes<Isa>(
        a.experts, [&](Index j, auto lanes, auto sum) __attribute__((always_inline)) {
          return Isa::fma(load<Isa>(dp + j, lanes), load<Isa>(p + j, lanes), sum);
        }));
    T* dlogits = static_cast<T*>(a.dlogits) + token * a.experts;
    for_lanes<Isa>(
        a.experts, [&](Index j, auto lanes) __attribute__((always_inline)) {
          store<Isa>(dlogits + j, load<Isa>(p + j, lanes) * (load<Isa>(dp + j, lanes) - Isa::set(dot)),
                     lanes);
        });
  });
}

template <class Isa>
void RowKernels<Isa>::router_grad(const RouterGradArgs& a, Stream& stream) {
  with_dtype(a.dlogits_dtype, [&](auto t) { router_grad_rows<Isa, TypeOf<decltype(t)>>(a, stream); });
}

}  // namespace hone::kernels::cpu
