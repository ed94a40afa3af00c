// The router, its composition with the experts, and the load-balancing loss.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "moe/experts.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "tests/ops/finite_difference.h"

namespace hone::moe {
namespace {

using ops::Tape;
using ops::TapeScope;
using test::check_op;
using test::random_tensor;
using test::values_of;
using testing::ElementsAre;
using Tensors = std::vector<Tensor>;

/// Adds to the logits a different order of the experts for every token, 0.8 apart: a finite difference does
/// not change what the router chooses.
Tensor spread(Context& context, const Tensor& logits) {
  std::vector<float> offsets;
  const std::int64_t experts = logits.size(1);
  for (std::int64_t t = 0; t < logits.size(0); ++t)
    for (std::int64_t e = 0; e < experts; ++e)
      offsets.push_back(0.8F * static_cast<float>((e * (1 + t % 2) + 3 * t) % experts));
  return ops::add(context, logits,
                  Tensor::from<float>(context.stream(), offsets, logits.shape(), device::Purpose::kData));
}

test::Input logits_input(std::string name, std::int64_t tokens, std::int64_t experts) {
  return {.name = std::move(name), .shape = {tokens, experts}, .scale = 0.1, .is_f32 = true};
}

void check_router(std::int64_t experts, std::int64_t top_k, const RouterRule& rule, bool bias = false) {
  constexpr std::int64_t kTokens = 4;
  check_op({.inputs = {logits_input("logits", kTokens, experts)},
            .program = [=](Context& c, const Tensors& in) -> Tensors {
              std::vector<float> biases;
              for (std::int64_t e = 0; e < experts; ++e) biases.push_back(0.3F * static_cast<float>(e % 3));
              const Routing r =
                  route(c, spread(c, in[0]), top_k, rule,
                        bias ? Tensor::from<float>(c.stream(), biases, {experts}, device::Purpose::kData)
                             : Tensor());
              return {r.weights, r.statistics.probability_sums};
            },
            .kept_bytes = (kTokens * experts + 2 * kTokens * top_k) * 4});
}

TEST(Router, GradMatchesFiniteDifference) {
  check_router(5, 2, {});
}
TEST(Router, GradMatchesFiniteDifferenceWithNormalizedWeights) {
  check_router(5, 2, {.normalize = true});
}
TEST(Router, GradMatchesFiniteDifferenceWithOneChoice) {
  check_router(7, 1, {});
}
TEST(Router, GradMatchesFiniteDifferenceWhereAllAreChosen) {
  check_router(3, 3, {.normalize = true});
}
TEST(Router, GradMatchesFiniteDifferenceOfASoftmaxOfTheChosen) {
  check_router(5, 2, {.score = RouterRule::Score::kSoftmaxOfChosen});
  check_router(7, 3, {.score = RouterRule::Score::kSoftmaxOfChosen, .scaling = 2});
}
TEST(Router, GradMatchesFiniteDifferenceOfSigmoidsInGroups) {
  RouterRule rule{.score = RouterRule::Score::kSigmoid,
                  .group_score = RouterRule::GroupScore::kTopTwoSum,
                  .groups = 3,
                  .top_groups = 2,
                  .normalize = true,
                  .normalize_eps = 1e-20F,
                  .scaling = 2.5F};
  check_router(9, 3, rule, true);
  rule.normalize = false;
  check_router(9, 3, rule, true);
  rule.score = RouterRule::Score::kSoftmax;
  rule.group_score = RouterRule::GroupScore::kMax;
  check_router(9, 3, rule);
}

TEST(Router, ChoosesTheLargestAndBreaksTiesByIndex) {
  for (const auto isa : kernels::available_cpu_isas()) {
    Context context({}, 1);
    context.set_kernels(kernels::cpu_kernels(isa));
    const Tensor logits = Tensor::from<float>(
        context.stream(), std::vector<float>{0, 3, 1, 3, 2, 2, 2, 2, -9, 5, -8, -7}, {3, 4});
    const Routing r = route(context, logits, 2, {.normalize = true});
    EXPECT_THAT(r.experts_of.span<std::int32_t>(), ElementsAre(1, 3, 0, 1, 1, 3));
    EXPECT_THAT(r.statistics.counts.span<std::int32_t>(), ElementsAre(1, 3, 0, 2));
    EXPECT_THAT(r.offsets.span<std::int32_t>(), ElementsAre(0, 1, 4, 4, 6));
    EXPECT_THAT(r.permutation.span<std::int32_t>(), ElementsAre(2, 0, 3, 4, 1, 5)) << "stable";
    EXPECT_THAT(r.inverse.span<std::int32_t>(), ElementsAre(1, 4, 0, 2, 3, 5));
    EXPECT_THAT(values_of(r.weights), ElementsAre(0.5, 0.5, 0.5, 0.5, testing::Gt(0.99), testing::Lt(0.01)));
  }
}

// Transformers computes the logits of DeepSeek's routers in f32 whatever the model's dtype: so must the
// choice.
TEST(Router, ChoosesInABf16ModelByLogitsThatAreNotRounded) {
  constexpr std::int64_t kTokens = 200, kExperts = 32, kHidden = 96, kTopK = 4;
  for (const auto isa : kernels::available_cpu_isas()) {
    Context context({}, 1);
    context.set_kernels(kernels::cpu_kernels(isa));
    const Tensor x = random_tensor(context, {kTokens, kHidden}, 1, 1, 0, DType::kBF16);
    const Tensor gate = random_tensor(context, {kExperts, kHidden}, 2, 0.1, 0, DType::kBF16);
    const Routing r = route(context, ops::linear(context, x, gate, {}, {}, DType::kF32), kTopK,
                            {.score = RouterRule::Score::kSigmoid});
    const auto xs = values_of(x), gates = values_of(gate);
    int near = 0;  // choices that differ by what a sum in f32 may be off
    for (std::int64_t t = 0; t < kTokens; ++t) {
      std::vector<std::pair<double, std::int32_t>> scores;
      for (std::int64_t e = 0; e < kExperts; ++e) {
        double logit = 0;
        for (std::int64_t h = 0; h < kHidden; ++h)
          logit += xs[static_cast<std::size_t>(t * kHidden + h)] *
                   gates[static_cast<std::size_t>(e * kHidden + h)];
        scores.emplace_back(-1 / (1 + std::exp(-logit)), static_cast<std::int32_t>(e));
      }
      std::sort(scores.begin(), scores.end());
      for (std::size_t i = 0; i < kTopK; ++i) {
        near += scores[i + 1].first - scores[i].first < 2e-6 ? 1 : 0;
        if (r.experts_of.span<std::int32_t>()[static_cast<std::size_t>(t) * kTopK + i] == scores[i].second)
          continue;
        EXPECT_LT(scores[i + 1].first - scores[i].first, 2e-6) << "token " << t << " choice " << i;
      }
    }
    EXPECT_LE(near, 3) << "most choices prove something";
  }
}

TEST(Router, WithoutATapeKeepsNothing) {
  Context context({}, 1);
  const Tensor logits = random_tensor(context, {4, 3}, 1);
  const std::int64_t before = context.ledger().current(device::Purpose::kActivations);
  const Routing r = route(context, logits, 2, {.normalize = true});
  EXPECT_EQ(context.ledger().current(device::Purpose::kActivations) - before,
            (8 + 8 + 3 + 3 + 4 + 8 + 8) * 4);
}

TEST(Router, ArgumentsAreChecked) {
  Context context({}, 1);
  try {
    route(context, random_tensor(context, {4, 3}, 1), 4, {.normalize = true});
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), testing::StartsWith("[moe.route] top_k 4 of 3 experts"));
  }
  EXPECT_THROW(route(context, random_tensor(context, {4, 3}, 1), 2, {}, random_tensor(context, {4}, 1)),
               Error);
}

// The whole layer: router and experts share x, and the routing weights' gradient flows back into the router.
TEST(MoeLayer, GradMatchesFiniteDifference) {
  constexpr std::int64_t kTokens = 3;
  constexpr std::int64_t kExperts = 4;
  for (const bool normalize : {false, true}) {
    // Kept: x; of the router probabilities, weights, choices and the plan; the pre-activation.
    const std::int64_t routing = kTokens * kExperts + 2 * kTokens * 2 + (kExperts + 1) + 2 * kTokens * 2;
    check_op({.inputs = {{.name = "x", .shape = {kTokens, 5}},
                         {.name = "gate", .shape = {kExperts, 5}, .scale = 0.05, .is_weight = true},
                         {.name = "gate_up", .shape = {kExperts, 6, 5}, .scale = 0.5, .is_weight = true},
                         {.name = "down", .shape = {kExperts, 5, 3}, .scale = 0.5, .is_weight = true},
                         {.name = "residual", .shape = {kTokens, 5}, .is_f32 = true}},
              .program = [=](Context& c, const Tensors& in) -> Tensors {
                const Tensor logits = ops::linear(c, in[0], in[1], {}, {}, DType::kF32);
                const Routing r = route(c, spread(c, logits), 2, {.normalize = normalize});
                const ExpertWeights weights{in[2], in[3], {}, {}};
                return {experts(c, in[0], weights, {}, r, in[4])};
              },
              .kept_bytes = (kTokens * 5 + routing + kTokens * 2 * 6) * 4});
  }
}

/// aux = experts * sum over (slot, expert) of f P over the concatenated logits of all layers, as
/// Transformers' load_balancing_loss_func: f[k][e] = share of tokens whose k-th choice is e, P[e] = mean
/// probability.
double transformers_loss(const std::vector<std::vector<double>>& layers, std::size_t experts,
                         std::size_t top_k) {
  std::vector<double> f(top_k * experts);
  std::vector<double> p(experts);
  double rows = 0;
  for (const auto& logits : layers) {
    for (std::size_t t = 0; t < logits.size() / experts; ++t, ++rows) {
      const double* row = logits.data() + t * experts;
      double sum = 0;
      for (std::size_t e = 0; e < experts; ++e) sum += std::exp(row[e]);
      for (std::size_t e = 0; e < experts; ++e) p[e] += std::exp(row[e]) / sum;
      std::vector<std::size_t> order(experts);
      std::iota(order.begin(), order.end(), 0U);
      std::stable_sort(order.begin(), order.end(), [row](auto a, auto b) { return row[a] > row[b]; });
      for (std::size_t k = 0; k < top_k; ++k) f[k * experts + order[k]] += 1;
    }
  }
  double loss = 0;
  for (std::size_t k = 0; k < top_k; ++k)
    for (std::size_t e = 0; e < experts; ++e) loss += f[k * experts + e] / rows * p[e] / rows;
  return static_cast<double>(experts) * loss;
}

TEST(LoadBalancingLoss, IsTransformersFormula) {
  for (const auto isa : kernels::available_cpu_isas()) {
    Context context({}, 1);
    context.set_kernels(kernels::cpu_kernels(isa));
    for (const std::int64_t experts : {3, 8, 33}) {
      std::vector<RoutingStatistics> layers;
      std::vector<std::vector<double>> logits;
      for (std::uint64_t layer = 0; layer < 3; ++layer) {
        const Tensor t = random_tensor(context, {13, experts}, layer);
        logits.push_back(values_of(t));
        layers.push_back(route(context, t, 3, {.normalize = layer % 2 == 0}).statistics);
      }
      const double wanted = transformers_loss(logits, static_cast<std::size_t>(experts), 3);
      const Tensor loss = load_balancing_loss(context, layers, 13, 0.25F);
      EXPECT_NEAR(values_of(loss)[0], 0.25 * wanted, 1e-6 * wanted);
    }
  }
}

TEST(LoadBalancingLoss, PerfectBalanceGivesTopK) {
  Context context({}, 1);
  std::vector<float> logits(16, 0);
  for (std::size_t t = 0; t < 4; ++t) logits[t * 4 + t] = logits[t * 4 + (t + 1) % 4] = 1e-6F;
  const Routing r =
      route(context, Tensor::from<float>(context.stream(), logits, {4, 4}), 2, {.normalize = true});
  EXPECT_NEAR(values_of(load_balancing_loss(context, {r.statistics}, 4, 1))[0], 2, 1e-5);
}

TEST(LoadBalancingLoss, GradMatchesFiniteDifference) {
  check_op({.inputs = {logits_input("first", 4, 5), logits_input("second", 4, 5)},
            .program = [](Context& c, const Tensors& in) -> Tensors {
              std::vector<RoutingStatistics> layers;
              for (const Tensor& logits : in)
                layers.push_back(route(c, spread(c, logits), 2, {.normalize = true}).statistics);
              return {load_balancing_loss(c, layers, 4, 20)};
            },
            .is_loss = true,
            .kept_bytes = (5 + 2 * (4 * 5 + 2 * 4 * 2)) * 4});
}

TEST(LoadBalancingLoss, AddsToTheLanguageModelLoss) {
  Context context({}, 1);
  const auto grads = [&](bool lm, bool aux) {
    Tensor h = random_tensor(context, {6, 4}, 1);
    Tensor gate = random_tensor(context, {5, 4}, 2);
    ops::require_grad(h, DType::kF32);
    ops::require_grad(gate, DType::kF32);
    Tape tape;
    const TapeScope scope(context, &tape);
    const Routing r = route(context, ops::linear(context, h, gate), 2, {.normalize = true});
    Tensor total;
    if (lm) {
      total = ops::linear_cross_entropy(context, h, random_tensor(context, {9, 4}, 3),
                                        test::ints(context, {0, 1, 2, 3, 4, 8}), 0.3F)
                  .loss;
    }
    if (aux) {
      const Tensor loss = load_balancing_loss(context, {r.statistics}, 6, 0.5F);
      total = lm ? ops::add(context, total, loss) : loss;
    }
    tape.backward(context, total);
    return values_of(h.grad_slot()->grad());
  };
  auto sum = grads(true, false);
  const auto aux = grads(false, true);
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += aux[i];
  EXPECT_LT(test::relative_error(grads(true, true), sum), 1e-6);
}

TEST(LoadBalancingLoss, LayersMustHaveTheSameExperts) {
  Context context({}, 1);
  const Routing a = route(context, random_tensor(context, {4, 3}, 1), 2, {.normalize = true});
  const Routing b = route(context, random_tensor(context, {4, 5}, 1), 2, {.normalize = true});
  EXPECT_THROW(load_balancing_loss(context, {a.statistics, b.statistics}, 4, 1), Error);
  EXPECT_THROW(load_balancing_loss(context, {}, 4, 1), Error);
}

}  // namespace
}  // namespace hone::moe
