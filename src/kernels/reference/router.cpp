// Reference: the router, the plan and the load-balancing loss of a mixture of experts.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/reference/reference.h"
#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

namespace {

void route_token(const RouterArgs& a, std::int64_t token, std::vector<std::int32_t>& order) {
  const float* logits = a.logits + token * a.experts;
  float* probabilities = a.probabilities + token * a.experts;
  const auto experts = static_cast<std::size_t>(a.experts);
  // A NaN counts as the least, so that a diverged model still routes to experts that exist.
  const auto key = [&](std::int32_t e) { return std::isnan(logits[e]) ? -INFINITY : logits[e]; };
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t x, std::int32_t y) { return key(x) > key(y); });
  const double largest = logits[order[0]];
  double sum = 0;
  for (std::size_t e = 0; e < experts; ++e) sum += std::exp(logits[e] - largest);
  for (std::size_t e = 0; e < experts; ++e)
    probabilities[e] = static_cast<float>(std::exp(logits[e] - largest) / sum);
  double chosen = 0;
  for (std::int64_t slot = 0; slot < a.top_k; ++slot)
    chosen += probabilities[order[static_cast<std::size_t>(slot)]];
  for (std::int64_t slot = 0; slot < a.top_k; ++slot) {
    const std::int32_t e = order[static_cast<std::size_t>(slot)];
    a.experts_of[token * a.top_k + slot] = e;
    a.weights[token * a.top_k + slot] =
        static_cast<float>(a.normalize ? probabilities[e] / chosen : probabilities[e]);
  }
}

}  // namespace

void router(const RouterArgs& a, Stream& stream) {
  parallel_for(stream, a.tokens, [&](std::int64_t token) {
    std::vector<std::int32_t> order(static_cast<std::size_t>(a.experts));
    route_token(a, token, order);
  });
  parallel_for(stream, a.experts, [&](std::int64_t e) {
    double sum = 0;
    for (std::int64_t token = 0; token < a.tokens; ++token) sum += a.probabilities[token * a.experts + e];
    a.probability_sums[e] = static_cast<float>(sum);
  });
}

void router_grad(const RouterGradArgs& a, Stream& stream) {
  parallel_for(stream, a.tokens, [&](std::int64_t token) {
    const float* p = a.probabilities + token * a.experts;
    const std::int32_t* chosen = a.experts_of + token * a.top_k;
    std::vector<double> dp(static_cast<std::size_t>(a.experts));
    if (a.has_dprobability_sums)
      for (std::int64_t e = 0; e < a.experts; ++e) dp[static_cast<std::size_t>(e)] = a.dprobability_sums[e];
    if (a.has_dweights) {
      const float* w = a.weights + token * a.top_k;
      const float* dw = a.dweights + token * a.top_k;
      double sum = 1, mean = 0;  // w = p / sum: dp = (dw - <dw, w>) / sum
      if (a.normalize) {
        sum = 0;
        for (std::int64_t i = 0; i < a.top_k; ++i) {
          sum += p[chosen[i]];
          mean += static_cast<double>(dw[i]) * w[i];
        }
      }
      for (std::int64_t i = 0; i < a.top_k; ++i)
        dp[static_cast<std::size_t>(chosen[i])] += (dw[i] - mean) / sum;
    }
    double mean = 0;
    for (std::int64_t e = 0; e < a.experts; ++e) mean += dp[static_cast<std::size_t>(e)] * p[e];
    for (std::int64_t e = 0; e < a.experts; ++e)
      store(a.dlogits, a.dlogits_dtype, token * a.experts + e,
            p[e] * (dp[static_cast<std::size_t>(e)] - mean));
  });
}

void moe_plan(const MoePlanArgs& a, Stream&) {
  const std::int64_t pairs = a.tokens * a.top_k;
  std::fill_n(a.counts, a.experts, 0);
  for (std::int64_t i = 0; i < pairs; ++i) ++a.counts[a.experts_of[i]];
  a.offsets[0] = 0;
  for (std::int64_t e = 0; e < a.experts; ++e) a.offsets[e + 1] = a.offsets[e] + a.counts[e];
  std::vector<std::int32_t> next(a.offsets, a.offsets + a.experts);
  for (std::int64_t i = 0; i < pairs; ++i) {
    const std::int32_t row = next[static_cast<std::size_t>(a.experts_of[i])]++;
    a.permutation[row] = static_cast<std::int32_t>(i);
    a.inverse[i] = row;
  }
}

void load_balancing(const LoadBalancingArgs& a, Stream&) {
  const double n = static_cast<double>(a.layers * a.tokens);
  double loss = 0;
  for (std::int64_t e = 0; e < a.experts; ++e) {
    double count = 0, probability = 0;
    for (std::int64_t layer = 0; layer < a.layers; ++layer) {
      count += a.counts[layer][e];
      probability += a.probability_sums[layer][e];
    }
    const double factor = n > 0 ? a.coefficient * static_cast<double>(a.experts) * count / (n * n) : 0;
    loss += factor * probability;
    if (a.wants_dprobability_sums) a.dprobability_sums[e] = static_cast<float>(factor);
  }
  a.loss[0] = static_cast<float>(loss);
}

}  // namespace hone::kernels::reference
