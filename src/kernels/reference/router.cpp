// Reference: the router, the plan and the load-balancing loss of a mixture of experts.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/reference/reference.h"
#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

namespace {

using Score = RouterRule::Score;
using GroupScore = RouterRule::GroupScore;

/// The probabilities of one token: a softmax, or sigmoids.
void score(const RouterArgs& a, const float* logits, float* probabilities) {
  double largest = -INFINITY, sum = 0;
  for (std::int64_t e = 0; e < a.experts; ++e) largest = std::fmax(largest, logits[e]);
  for (std::int64_t e = 0; e < a.experts; ++e) sum += std::exp(logits[e] - largest);
  for (std::int64_t e = 0; e < a.experts; ++e)
    probabilities[e] = static_cast<float>(
        a.rule.score == Score::kSigmoid ? sigmoid(logits[e]) : std::exp(logits[e] - largest) / sum);
}

/// What ranks the group of `size` keys; never below the least float.
float group_score(const RouterRule& rule, const float* keys, std::int64_t size) {
  float best = -INFINITY, second = -INFINITY;
  for (std::int64_t e = 0; e < size; ++e) {
    second = std::max(second, std::min(best, keys[e]));
    best = std::max(best, keys[e]);
  }
  return std::max(rule.group_score == GroupScore::kMax ? best : best + second, -FLT_MAX);
}

/// The indices of the largest `count` numbers, largest first, the lower index first among equals.
std::vector<std::int32_t> largest_of(const std::vector<float>& numbers, std::int64_t count) {
  std::vector<std::int32_t> order(numbers.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t x, std::int32_t y) {
    return numbers[static_cast<std::size_t>(x)] > numbers[static_cast<std::size_t>(y)];
  });
  order.resize(static_cast<std::size_t>(count));
  return order;
}

std::vector<std::int32_t> choose(const RouterArgs& a, const float* logits, const float* probabilities) {
  const RouterRule& rule = a.rule;
  const std::int64_t size = a.experts / rule.groups;
  const bool by_logit =
      rule.score == Score::kSoftmaxOfChosen || (rule.score == Score::kSoftmax && !a.has_correction_bias &&
                                                (rule.groups == 1 || rule.group_score == GroupScore::kMax));
  std::vector<float> keys;
  for (std::int64_t e = 0; e < a.experts; ++e) {
    const float key =
        (by_logit ? logits[e] : probabilities[e]) + (a.has_correction_bias ? a.correction_bias[e] : 0);
    // A NaN counts as the least, so that a diverged model still routes to experts that exist.
    keys.push_back(key > -FLT_MAX ? key : -FLT_MAX);
  }
  std::vector<float> groups;
  for (std::int64_t g = 0; g < rule.groups; ++g) groups.push_back(group_score(rule, &keys[g * size], size));
  std::vector<float> left(keys.size(), -INFINITY);
  for (const std::int32_t g : largest_of(groups, rule.top_groups))
    std::copy_n(keys.begin() + g * size, size, left.begin() + g * size);
  return largest_of(left, a.top_k);
}

void route_token(const RouterArgs& a, std::int64_t token) {
  const float* logits = a.logits + token * a.experts;
  float* probabilities = a.probabilities + token * a.experts;
  score(a, logits, probabilities);
  const auto chosen = choose(a, logits, probabilities);
  std::vector<double> weights;
  double largest = -INFINITY, sum = 0;
  for (const std::int32_t e : chosen) largest = std::fmax(largest, logits[e]);
  for (const std::int32_t e : chosen) {
    weights.push_back(a.rule.score == Score::kSoftmaxOfChosen ? std::exp(logits[e] - largest)
                                                              : probabilities[e]);
    sum += weights.back();
  }
  double divisor = 1;
  if (a.rule.score == Score::kSoftmaxOfChosen) divisor = sum;
  if (a.rule.normalize) divisor = sum + a.rule.normalize_eps;
  for (std::size_t slot = 0; slot < chosen.size(); ++slot) {
    const std::int64_t at = token * a.top_k + static_cast<std::int64_t>(slot);
    a.experts_of[at] = chosen[slot];
    a.weights[at] = static_cast<float>(weights[slot] / divisor * a.rule.scaling);
  }
}

}  // namespace

void router(const RouterArgs& a, Stream& stream) {
  parallel_for(stream, a.tokens, [&](std::int64_t token) { route_token(a, token); });
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
    std::vector<double> dp(static_cast<std::size_t>(a.experts));  // of the probabilities
    std::vector<double> dl(static_cast<std::size_t>(a.experts));  // of the logits
    if (a.has_dprobability_sums)
      for (std::int64_t e = 0; e < a.experts; ++e) dp[static_cast<std::size_t>(e)] = a.dprobability_sums[e];
    if (a.has_dweights) {
      const float* w = a.weights + token * a.top_k;
      const float* dw = a.dweights + token * a.top_k;
      const bool of_chosen = a.rule.score == Score::kSoftmaxOfChosen;
      double sum = a.rule.normalize_eps, mean = 0;
      for (std::int64_t i = 0; i < a.top_k; ++i) {
        if (chosen[i] < 0) continue;
        sum += p[chosen[i]];
        mean += static_cast<double>(dw[i]) * w[i];
      }
      for (std::int64_t i = 0; i < a.top_k; ++i) {
        if (chosen[i] < 0) continue;
        const auto e = static_cast<std::size_t>(chosen[i]);
        const double scaled = static_cast<double>(a.rule.scaling) * dw[i];
        if (of_chosen)  // w = scaling * softmax of the chosen
          dl[e] += w[i] / a.rule.scaling * (scaled - mean);
        else  // w = scaling * p, or scaling * p / sum
          dp[e] += a.rule.normalize ? (scaled - mean) / sum : scaled;
      }
    }
    double mean = 0;
    for (std::int64_t e = 0; e < a.experts; ++e) mean += dp[static_cast<std::size_t>(e)] * p[e];
    for (std::int64_t e = 0; e < a.experts; ++e) {
      const double d = dp[static_cast<std::size_t>(e)];
      const double by_p = a.rule.score == Score::kSigmoid ? d * p[e] * (1.0 - p[e]) : p[e] * (d - mean);
      store(a.dlogits, a.dlogits_dtype, token * a.experts + e, by_p + dl[static_cast<std::size_t>(e)]);
    }
  });
}

void moe_plan(const MoePlanArgs& a, Stream&) {
  const std::int64_t pairs = a.tokens * a.top_k;
  std::fill_n(a.counts, a.experts, 0);
  for (std::int64_t i = 0; i < pairs; ++i)
    if (a.experts_of[i] >= 0) ++a.counts[a.experts_of[i]];
  a.offsets[0] = 0;
  for (std::int64_t e = 0; e < a.experts; ++e) a.offsets[e + 1] = a.offsets[e] + a.counts[e];
  std::vector<std::int32_t> next(a.offsets, a.offsets + a.experts);
  for (std::int64_t i = 0; i < pairs; ++i) {
    a.inverse[i] = -1;
    if (a.experts_of[i] < 0) continue;
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
      count += a.counts[layer * a.experts + e];
      probability += a.probability_sums[layer * a.experts + e];
    }
    const double factor = n > 0 ? a.coefficient * static_cast<double>(a.experts) * count / (n * n) : 0;
    loss += factor * probability;
    if (a.wants_dprobability_sums) a.dprobability_sums[e] = static_cast<float>(factor);
  }
  a.loss[0] = static_cast<float>(loss);
}

}  // namespace hone::kernels::reference
