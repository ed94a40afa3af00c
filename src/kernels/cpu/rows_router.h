// The router and its gradient.
#pragma once

#include <type_traits>

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

/// Calls f with the kind of scores as a constant.
template <class F>
[[gnu::always_inline]] inline void with_score(RouterRule::Score score, const F& f) {
  using Score = RouterRule::Score;
  if (score == Score::kSigmoid) {
    f(std::integral_constant<Score, Score::kSigmoid>{});
  } else if (score == Score::kSoftmaxOfChosen) {
    f(std::integral_constant<Score, Score::kSoftmaxOfChosen>{});
  } else {
    f(std::integral_constant<Score, Score::kSoftmax>{});
  }
}

/// p = e^(x - the largest x), n of them; returns the sum. p may be x.
template <class Isa>
[[gnu::always_inline]] inline double exponentials(const float* x, Index n, float* p) {
  const auto none = Isa::set(-__builtin_inff());
  auto most = none;
  for_lanes<Isa>(
      n, [&](Index j, auto lanes) __attribute__((always_inline)) {
        most = Isa::max(first_lanes<Isa>(load<Isa>(x + j, lanes), none, lanes), most);
      });
  const auto largest = Isa::set(Isa::max_of(most));
  return sum_lanes<Isa>(
      n, [&](Index j, auto lanes, auto so_far) __attribute__((always_inline)) {
        store<Isa>(p + j, Isa::exp(load<Isa>(x + j, lanes) - largest), lanes);
        return so_far + load<Isa>(p + j, lanes);
      });
}

template <class Isa>
[[gnu::always_inline]] inline void multiply(float* x, Index n, float factor) {
  const auto f = Isa::set(factor);
  for_lanes<Isa>(
      n, [&](Index j, auto lanes)
             __attribute__((always_inline)) { store<Isa>(x + j, load<Isa>(x + j, lanes) * f, lanes); });
}

/// What ranks the group of `size` keys. `scratch`: a vector.
template <class Isa>
[[gnu::always_inline]] inline float group_rank(const RouterRule& rule, const float* keys, Index size,
                                               float* scratch) {
  const auto none = Isa::set(-__builtin_inff());
  auto best = none, second = none;
  for_lanes<Isa>(
      size, [&](Index j, auto lanes) __attribute__((always_inline)) {
        const auto key = first_lanes<Isa>(load<Isa>(keys + j, lanes), none, lanes);
        second = Isa::max(second, Isa::min(best, key));
        best = Isa::max(best, key);
      });
  if (rule.group_score == RouterRule::GroupScore::kMax) return Isa::max_of(best);
  Isa::store(scratch, best);
  take_largest<Isa>(scratch, Isa::kLanes);
  const float sum = Isa::max_of(best) + Isa::max_of(Isa::max(second, Isa::load(scratch)));
  return sum > -__FLT_MAX__ ? sum : -__FLT_MAX__;  // above what is taken
}

/// Leaves the keys of the rule's top_groups, and -infinity in the others' places. `ranks`: scratch of the
/// groups rounded up to whole vectors, and a vector.
template <class Isa>
[[gnu::always_inline]] inline void limit_to_groups(const RouterRule& rule, float* keys, Index experts,
                                                   float* ranks) {
  const Index size = experts / rule.groups, padded = round_up(rule.groups, Isa::kLanes);
  const auto none = Isa::set(-__builtin_inff());
  for (Index g = 0; g < padded; g += Isa::kLanes) Isa::store(ranks + g, none);
  for (Index g = 0; g < rule.groups; g++)
    ranks[g] = group_rank<Isa>(rule, keys + g * size, size, ranks + padded);
  for (Index i = 0; i < rule.top_groups; i++) take_largest<Isa>(ranks, padded);
  for (Index g = 0; g < rule.groups; g++) {
    if (ranks[g] == -__builtin_inff()) continue;  // taken
    for_lanes<Isa>(
        size, [&](Index j, auto lanes)
                  __attribute__((always_inline)) { store<Isa>(keys + g * size + j, none, lanes); });
  }
}

/// Floats of scratch that routing a token takes: the experts' keys, the groups' ranks and a vector.
template <class Isa>
[[gnu::always_inline]] inline Index router_scratch(const RouterArgs& a) {
  const Index keys = round_up(a.experts, Isa::kLanes);
  return a.rule.groups == 1 ? keys : keys + round_up(a.rule.groups, Isa::kLanes) + Isa::kLanes;
}

template <class Isa, RouterRule::Score kScore>
[[gnu::always_inline]] inline void route_token(const RouterArgs& a, Index token, float* keys) {
  using Score = RouterRule::Score;
  const RouterRule& rule = a.rule;
  const Index padded = round_up(a.experts, Isa::kLanes);
  const float* logits = a.logits + token * a.experts;
  float* probabilities = a.probabilities + token * a.experts;
  std::int32_t* experts = a.experts_of + token * a.top_k;
  float* weights = a.weights + token * a.top_k;
  if (kScore == Score::kSigmoid) {
    for_lanes<Isa>(
        a.experts, [&](Index j, auto lanes) __attribute__((always_inline)) {
          store<Isa>(probabilities + j, Isa::sigmoid(load<Isa>(logits + j, lanes)), lanes);
        });
  } else {
    const double sum = exponentials<Isa>(logits, a.experts, probabilities);
    multiply<Isa>(probabilities, a.experts, static_cast<float>(1 / sum));
  }
  const bool ranked_by_sum = rule.groups > 1 && rule.group_score == RouterRule::GroupScore::kTopTwoSum;
  const bool by_logit = kScore == Score::kSoftmaxOfChosen ||
                        (kScore == Score::kSoftmax && !a.has_correction_bias && !ranked_by_sum);
  const float* scores = by_logit ? logits : probabilities;
  const auto none = Isa::set(-__builtin_inff()), lowest = Isa::set(-__FLT_MAX__);
  // A NaN counts as the least, so that a diverged model still routes to experts that exist; what is taken,
  // and what fills the last vector, is below that.
  for_lanes<Isa>(
      a.experts, [&](Index j, auto lanes) __attribute__((always_inline)) {
        auto key = load<Isa>(scores + j, lanes);
        if (a.has_correction_bias) key = key + load<Isa>(a.correction_bias + j, lanes);
        Isa::store(keys + j, none);
        store<Isa>(keys + j, Isa::max(key, lowest), lanes);
      });
  if (rule.groups > 1) limit_to_groups<Isa>(rule, keys, a.experts, keys + padded);
  for (Index slot = 0; slot < a.top_k; slot++) {
    experts[slot] = static_cast<std::int32_t>(take_largest<Isa>(keys, padded));
    weights[slot] = (kScore == Score::kSoftmaxOfChosen ? logits : probabilities)[experts[slot]];
  }
  float factor = rule.scaling;
  if (kScore == Score::kSoftmaxOfChosen)
    factor = static_cast<float>(rule.scaling / exponentials<Isa>(weights, a.top_k, weights));
  if (factor != 1) multiply<Isa>(weights, a.top_k, factor);
  if (!rule.normalize) return;
  float chosen = rule.normalize_eps;
  for (Index slot = 0; slot < a.top_k; slot++) chosen += probabilities[experts[slot]];
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
  const std::size_t bytes = reserve_scratch<Isa>(router_scratch<Isa>(a), stream.num_threads(), stream);
  with_score(a.rule.score, [&](auto score) {
    sum_rows<Isa>(a.tokens, a.experts, a.probability_sums, DType::kF32, false, stream,
                  [&](Index token, ColumnSums<Isa>& sums, int thread) {
                    auto* keys = static_cast<float*>(stream.workspace(thread, bytes));
                    route_token<Isa, decltype(score)::value>(a, token, keys);
                    const float* p = a.probabilities + token * a.experts;
                    float* sum = sums.next();
                    for_lanes<Isa>(
                        a.experts, [&](Index j, auto lanes) __attribute__((always_inline)) {
                          store<Isa>(sum + j, load<Isa>(sum + j, lanes) + load<Isa>(p + j, lanes), lanes);
                        });
                  });
  });
}

/// Adds the gradient of the chosen weights to `d`: that of the probabilities, or (kSoftmaxOfChosen) of the
/// logits.
template <RouterRule::Score kScore>
[[gnu::always_inline]] inline void add_chosen(const RouterGradArgs& a, Index token, float* d) {
  const RouterRule& rule = a.rule;
  const float* p = a.probabilities + token * a.experts;
  const std::int32_t* chosen = a.experts_of + token * a.top_k;
  const float* w = a.weights + token * a.top_k;
  const float* dw = a.dweights + token * a.top_k;
  float sum = rule.normalize_eps, mean = 0;
  for (Index i = 0; i < a.top_k; i++) {
    if (chosen[i] < 0) continue;
    sum += p[chosen[i]];
    mean += dw[i] * w[i];
  }
  for (Index i = 0; i < a.top_k; i++) {
    if (chosen[i] < 0) continue;
    const float scaled = rule.scaling * dw[i];
    if (kScore == RouterRule::Score::kSoftmaxOfChosen) {  // w = scaling * softmax of the chosen
      d[chosen[i]] += w[i] / rule.scaling * (scaled - mean);
    } else {  // w = scaling * p, or scaling * p / sum
      d[chosen[i]] += rule.normalize ? (scaled - mean) / sum : scaled;
    }
  }
}

template <class Isa, RouterRule::Score kScore, class T>
[[gnu::always_inline]] inline void router_grad_token(const RouterGradArgs& a, Index token, float* dp) {
  using Score = RouterRule::Score;
  const std::size_t bytes = static_cast<std::size_t>(a.experts) * sizeof(float);
  const float* p = a.probabilities + token * a.experts;
  T* dlogits = static_cast<T*>(a.dlogits) + token * a.experts;
  if (a.has_dprobability_sums) {
    __builtin_memcpy(dp, a.dprobability_sums, bytes);
  } else {
    __builtin_memset(dp, 0, bytes);
  }
  if (a.has_dweights && kScore != Score::kSoftmaxOfChosen) add_chosen<kScore>(a, token, dp);
  if (kScore == Score::kSigmoid) {
    const auto one = Isa::set(1.0F);
    for_lanes<Isa>(
        a.experts, [&](Index j, auto lanes) __attribute__((always_inline)) {
          const auto s = load<Isa>(p + j, lanes);
          store<Isa>(dlogits + j, load<Isa>(dp + j, lanes) * s * (one - s), lanes);
        });
    return;
  }
  const auto dot = Isa::set(static_cast<float>(sum_lanes<Isa>(
      a.experts, [&](Index j, auto lanes, auto sum) __attribute__((always_inline)) {
        return Isa::fma(load<Isa>(dp + j, lanes), load<Isa>(p + j, lanes), sum);
      })));
  const auto through_softmax = [&](auto* to) __attribute__((always_inline)) {
    for_lanes<Isa>(
        a.experts, [&](Index j, auto lanes) __attribute__((always_inline)) {
          store<Isa>(to + j, load<Isa>(p + j, lanes) * (load<Isa>(dp + j, lanes) - dot), lanes);
        });
  };
  if (kScore == Score::kSoftmax) return through_softmax(dlogits);
  through_softmax(dp);
  if (a.has_dweights) add_chosen<kScore>(a, token, dp);
  for_lanes<Isa>(
      a.experts, [&](Index j, auto lanes) __attribute__((always_inline)) {
        store<Isa>(dlogits + j, load<Isa>(dp + j, lanes), lanes);
      });
}

template <class Isa>
void RowKernels<Isa>::router_grad(const RouterGradArgs& a, Stream& stream) {
  const std::size_t bytes = reserve_scratch<Isa>(a.experts, stream.num_threads(), stream);
  with_dtype(a.dlogits_dtype, [&](auto t) {
    with_score(a.rule.score, [&](auto score) {
      over_rows<Isa>(a.tokens, a.experts, stream, [&](Index token, int thread) {
        auto* dp = static_cast<float*>(stream.workspace(thread, bytes));
        router_grad_token<Isa, decltype(score)::value, TypeOf<decltype(t)>>(a, token, dp);
      });
    });
  });
}

}  // namespace hone::kernels::cpu
