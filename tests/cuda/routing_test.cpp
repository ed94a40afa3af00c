// The router and the plan of cards beyond the cases of tests/kernels: sizes past a batch of loads, a block's
// shared memory and a segment of pairs; logits that are no numbers.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/cuda/register.h"
#include "tests/cuda/card_memory.h"
#include "tests/kernels/cases.h"

namespace hone::test {
namespace {

using kernels::RouterRule;

struct Size {
  std::int64_t tokens, experts, top_k;
};

class CudaRouting : public CardMemory {
 protected:
  const KernelTable& reference_ = kernels::cpu_kernels(kernels::CpuIsa::kReference);
  device::CpuStream host_ = make_stream(2);
};

Outputs plan(const KernelTable& table, device::Stream& stream, Size s,
             const std::vector<std::int32_t>& experts_of) {
  Arena arena;
  kernels::MoePlanArgs a;
  a.experts_of = arena.integers(experts_of);
  a.tokens = s.tokens;
  a.experts = s.experts;
  a.top_k = s.top_k;
  a.counts = arena.integer_output("counts", s.experts);
  a.offsets = arena.integer_output("offsets", s.experts + 1);
  a.permutation = arena.integer_output("permutation", s.tokens * s.top_k);
  a.inverse = arena.integer_output("inverse", s.tokens * s.top_k);
  table.moe_plan(a, stream);
  return arena.outputs();
}

// Around a segment of 256 pairs; 300 segments, more than a batch; 270,000 pairs, so that segments are longer;
// 300 and 1,000 experts, more than a batch. Random experts, some pairs nowhere; one expert has all.
TEST_F(CudaRouting, PlansAnyNumberOfSegmentsAndExperts) {
  for (const Size& s : {Size{255, 8, 1},
                        {256, 8, 1},
                        {257, 8, 1},
                        {300 * 64, 40, 4},
                        {67'500, 4, 4},
                        {90, 300, 8},
                        {40, 1000, 30}}) {
    Arena arena;
    std::vector<std::int32_t> random = arena.random_indices(s.tokens * s.top_k, s.experts + 1, false);
    for (auto& e : random) --e;
    const std::vector<std::int32_t> one(random.size(), static_cast<std::int32_t>(s.experts - 1));
    for (const auto& experts_of : {random, one}) {
      const Outputs got = plan(kernels::cuda_kernels(), card(), s, experts_of);
      ASSERT_FALSE(HasFailure()) << s.tokens << " x " << s.top_k;
      expect_equal(got, plan(reference_, host_, s, experts_of), "plan");
    }
  }
}

/// What is chosen, and the weights where they are numbers.
Outputs route(const KernelTable& table, device::Stream& stream, Size s, const RouterRule& rule,
              const std::vector<double>& logits, bool choice_alone) {
  Arena arena;
  kernels::RouterArgs a;
  a.logits = arena.floats(logits);
  a.tokens = s.tokens;
  a.experts = s.experts;
  a.top_k = s.top_k;
  a.rule = rule;
  const double tol = choice_alone ? 0 : 1e-5;
  const auto floats = [&](const char* name, std::int64_t n) {
    return static_cast<float*>(arena.output(name, 1, n, DType::kF32, false, tol).data);
  };
  a.experts_of = arena.integer_output("experts_of", s.tokens * s.top_k);
  a.probabilities = floats("probabilities", s.tokens * s.experts);
  a.weights = floats("weights", s.tokens * s.top_k);
  a.probability_sums = floats("probability_sums", s.experts);
  table.router(a, stream);
  Outputs outputs = arena.outputs();
  if (choice_alone) outputs.resize(1);
  return outputs;
}

// 3,000 experts: blocks of two warps; 12,000: one. Many are equal.
TEST_F(CudaRouting, RoutesToThousandsOfExperts) {
  for (const Size& s : {Size{3, 700, 20}, {5, 3000, 8}, {2, 12'000, 3}})
    for (const std::int64_t groups : {1, 100}) {
      RouterRule rule{.normalize = true};
      rule.groups = groups;
      rule.top_groups = groups > 1 ? 40 : 1;
      Arena arena;
      std::vector<double> logits;
      for (const std::int32_t i : arena.random_indices(s.tokens * s.experts, 500, false))
        logits.push_back(i / 100.0);
      const Outputs got = route(kernels::cuda_kernels(), card(), s, rule, logits, false);
      ASSERT_FALSE(HasFailure()) << s.experts;
      expect_near(got, route(reference_, host_, s, rule, logits, false), "router");
    }
}

TEST_F(CudaRouting, WhatIsNoNumberIsBelowAllThatAre) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInf = INFINITY;
  const Size s{6, 8, 5};
  const std::vector<double> logits{kNan,  1,     kNan,  -1e38, 2,    -kInf, 0,     kNan,   //
                                   kNan,  kNan,  kNan,  kNan,  kNan, kNan,  kNan,  kNan,   //
                                   0.0,   -0.0,  0.0,   -0.0,  -1,   1,     -0.0,  0.0,    //
                                   -1,    -2,    -3,    -4,    -5,   -6,    -7,    -8,     //
                                   -kInf, -kInf, -kInf, -kInf, 3,    -kInf, -kInf, -kInf,  //
                                   1,     1,     1,     1,     1,    1,     1,     1};
  for (const auto score :
       {RouterRule::Score::kSoftmax, RouterRule::Score::kSoftmaxOfChosen, RouterRule::Score::kSigmoid})
    for (const std::int64_t groups : {1, 4}) {
      RouterRule rule{.score = score};
      rule.groups = groups;
      rule.top_groups = groups > 1 ? 3 : 1;
      const Outputs got = route(kernels::cuda_kernels(), card(), s, rule, logits, true);
      ASSERT_FALSE(HasFailure());
      expect_equal(got, route(reference_, host_, s, rule, logits, true), "choice");
    }
}

Outputs balance(const KernelTable& table, device::Stream& stream, std::int64_t layers, std::int64_t experts) {
  Arena arena;
  kernels::LoadBalancingArgs a;
  std::vector<double> sums;
  for (std::int64_t i = 0; i < layers * experts; ++i) sums.push_back(0.01 * static_cast<double>(i % 97));
  a.probability_sums = arena.floats(sums);
  a.counts = arena.integers(arena.random_indices(layers * experts, 20, false));
  a.layers = layers;
  a.experts = experts;
  a.tokens = 40;
  a.loss = static_cast<float*>(arena.output("loss", 1, 1, DType::kF32, false, 1e-6).data);
  a.wants_dprobability_sums = true;
  a.dprobability_sums =
      static_cast<float*>(arena.output("dprobability_sums", 1, experts, DType::kF32, false, 1e-6).data);
  table.load_balancing(a, stream);
  return arena.outputs();
}

TEST_F(CudaRouting, BalancesMoreExpertsThanThreads) {
  const Outputs got = balance(kernels::cuda_kernels(), card(), 2, 700);
  ASSERT_FALSE(HasFailure());
  expect_near(got, balance(reference_, host_, 2, 700), "load_balancing");
}

}  // namespace
}  // namespace hone::test
