// Reference router, plan and experts against formulas and finite differences in double.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/kernels/finite_difference.h"

namespace hone::test {
namespace {

using namespace kernels;

constexpr std::size_t kTokens = 5, kExperts = 4, kTopK = 2, kHidden = 3, kFfn = 2;

struct Routed {
  std::vector<float> logits, probabilities, weights, sums;
  std::vector<std::int32_t> experts, counts, offsets, permutation, inverse;
  explicit Routed(const Numbers& from, const RouterRule& rule, const std::vector<float>& bias = {})
      : logits(to_floats(from)),
        probabilities(from.size()),
        weights(kTokens * kTopK),
        sums(kExperts),
        experts(kTokens * kTopK),
        counts(kExperts),
        offsets(kExperts + 1),
        permutation(kTokens * kTopK),
        inverse(kTokens * kTopK) {
    device::CpuStream stream = make_stream(2);
    reference::router({.logits = logits.data(),
                       .tokens = kTokens,
                       .experts = kExperts,
                       .top_k = kTopK,
                       .rule = rule,
                       .correction_bias = bias.empty() ? nullptr : bias.data(),
                       .has_correction_bias = !bias.empty(),
                       .probabilities = probabilities.data(),
                       .weights = weights.data(),
                       .experts_of = experts.data(),
                       .probability_sums = sums.data()},
                      stream);
    order();
  }
  /// Every n-th slot goes nowhere.
  void lose(std::size_t n) {
    for (std::size_t i = 0; i < experts.size(); i += n) experts[i] = -1;
    order();
  }

 private:
  void order() {
    device::CpuStream stream = make_stream(2);
    std::fill(permutation.begin(), permutation.end(), -12345);  // not to be read where there is no row
    reference::moe_plan({.experts_of = experts.data(),
                         .tokens = kTokens,
                         .top_k = kTopK,
                         .experts = kExperts,
                         .counts = counts.data(),
                         .offsets = offsets.data(),
                         .permutation = permutation.data(),
                         .inverse = inverse.data()},
                        stream);
  }
};

using Score = RouterRule::Score;

/// The weights of the given experts (0 where there is none), then the sums of probabilities.
Numbers route(const Numbers& logits, const std::vector<std::int32_t>& experts, const RouterRule& rule) {
  Numbers weights, sums(kExperts);
  for (std::size_t t = 0; t < kTokens; ++t) {
    const auto logit = [&](std::size_t e) { return logits[t * kExperts + e]; };
    double sum = 0, chosen = 0;
    for (std::size_t e = 0; e < kExperts; ++e) sum += std::exp(logit(e));
    const auto p = [&](std::size_t e) {
      return rule.score == Score::kSigmoid ? 1 / (1 + std::exp(-logit(e))) : std::exp(logit(e)) / sum;
    };
    const auto unnormalized = [&](std::size_t i) {
      const std::int32_t e = experts[t * kTopK + i];
      if (e < 0) return 0.0;
      const auto at = static_cast<std::size_t>(e);
      return rule.score == Score::kSoftmaxOfChosen ? std::exp(logit(at)) : p(at);
    };
    for (std::size_t e = 0; e < kExperts; ++e) sums[e] += p(e);
    for (std::size_t i = 0; i < kTopK; ++i) chosen += unnormalized(i);
    double divisor = 1;
    if (rule.score == Score::kSoftmaxOfChosen) divisor = chosen;
    if (rule.normalize) divisor = chosen + static_cast<double>(rule.normalize_eps);
    for (std::size_t i = 0; i < kTopK; ++i)
      weights.push_back(static_cast<double>(rule.scaling) * unnormalized(i) / divisor);
  }
  weights.insert(weights.end(), sums.begin(), sums.end());
  return weights;
}

/// gradients: of the weights, then of the sums.
RouterGradArgs gradient_args(const Routed& r, const std::vector<float>& gradients, const RouterRule& rule,
                             std::vector<float>& dlogits) {
  return {.probabilities = r.probabilities.data(),
          .experts_of = r.experts.data(),
          .weights = r.weights.data(),
          .dweights = gradients.data(),
          .dprobability_sums = gradients.data() + kTokens * kTopK,
          .has_dweights = true,
          .has_dprobability_sums = true,
          .dlogits = dlogits.data(),
          .tokens = kTokens,
          .experts = kExperts,
          .top_k = kTopK,
          .rule = rule};
}

TEST(Router, AndItsGradientMatchTheFormulaAndFiniteDifferences) {
  const Numbers logits = random_numbers(kTokens * kExperts, 1);
  const Numbers gradients =
      random_numbers(kTokens * kTopK + kExperts, 2);  // of the weights, then of the sums
  device::CpuStream stream = make_stream(2);
  std::vector<RouterRule> rules;
  for (const Score score : {Score::kSoftmax, Score::kSoftmaxOfChosen, Score::kSigmoid})
    for (const bool normalize : {false, true})
      if (!normalize || score != Score::kSoftmaxOfChosen)
        for (const float scaling : {1.0F, 2.5F})
          rules.push_back({.score = score,
                           .normalize = normalize,
                           .normalize_eps = scaling == 1 ? 0.0F : 0.125F,
                           .scaling = scaling});
  for (const RouterRule& rule : rules) {
    const Routed r(logits, rule);
    std::vector<float> got = r.weights;
    got.insert(got.end(), r.sums.begin(), r.sums.end());
    expect_close(got, route(logits, r.experts, rule), 16, "weights and sums");
    const auto g = to_floats(gradients);
    std::vector<float> dlogits(logits.size());
    reference::router_grad(gradient_args(r, g, rule, dlogits), stream);
    expect_close(
        dlogits,
        numeric_gradient([&](const Numbers& x) { return route(x, r.experts, rule); }, logits, gradients), 64,
        "dlogits");
  }
}

TEST(Router, GivesAChoiceOfNoExpertNoPart) {
  const Numbers logits = random_numbers(kTokens * kExperts, 1);
  Numbers gradients = random_numbers(kTokens * kTopK + kExperts, 2);
  device::CpuStream stream = make_stream(1);
  for (const RouterRule& rule :
       {RouterRule{.score = Score::kSigmoid, .normalize = true, .scaling = 3},
        RouterRule{.score = Score::kSoftmaxOfChosen}, RouterRule{.normalize = true}}) {
    Routed r(logits, rule);
    r.experts[1] = r.experts[6] = r.experts[7] = -1;  // one of a token's, all of a token's
    Numbers weights = route(logits, r.experts, rule);
    for (double& w : weights)
      if (std::isnan(w)) w = 0;  // 0 of a sum of 0
    for (std::size_t i = 0; i < r.weights.size(); ++i) r.weights[i] = static_cast<float>(weights[i]);
    const auto g = to_floats(gradients);
    const auto gradient_on = [&](const KernelTable& table) {
      std::vector<float> dlogits(logits.size());
      table.router_grad(gradient_args(r, g, rule, dlogits), stream);
      return dlogits;
    };
    const auto weights_of = [&](const Numbers& x) {
      Numbers all = route(x, r.experts, rule);
      for (double& w : all)
        if (std::isnan(w)) w = 0;
      return all;
    };
    const Numbers want = numeric_gradient(weights_of, logits, gradients);
    for (const CpuIsa isa : available_cpu_isas())
      expect_close(gradient_on(cpu_kernels(isa)), want, 64, "dlogits");
  }
}

void expect_choice(const KernelTable& table, const std::vector<float>& logits,
                   const std::vector<std::int32_t>& want, const RouterRule& rule,
                   const std::vector<float>& bias) {
  const auto experts = static_cast<std::int64_t>(logits.size()),
             top_k = static_cast<std::int64_t>(want.size());
  std::vector<float> probabilities(logits.size()), weights(want.size()), sums(logits.size());
  std::vector<std::int32_t> chosen(want.size());
  device::CpuStream stream = make_stream(1);
  table.router({.logits = logits.data(),
                .tokens = 1,
                .experts = experts,
                .top_k = top_k,
                .rule = rule,
                .correction_bias = bias.empty() ? nullptr : bias.data(),
                .has_correction_bias = !bias.empty(),
                .probabilities = probabilities.data(),
                .weights = weights.data(),
                .experts_of = chosen.data(),
                .probability_sums = sums.data()},
               stream);
  EXPECT_EQ(chosen, want);
  // Whatever chose them, they weigh by their scores alone.
  if (rule.score != Score::kSigmoid) return;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const float logit = logits[static_cast<std::size_t>(want[i])];
    if (!std::isnan(logit)) {
      EXPECT_NEAR(weights[i], 1 / (1 + std::exp(-logit)), 1e-6);
    }
  }
}

void expect_choice(const std::vector<float>& logits, const std::vector<std::int32_t>& want,
                   const RouterRule& rule = {}, const std::vector<float>& bias = {}) {
  for (const CpuIsa isa : available_cpu_isas()) {
    SCOPED_TRACE(name_of(isa));
    expect_choice(cpu_kernels(isa), logits, want, rule, bias);
  }
}

TEST(Router, TakesTheLowerIndexAmongEqualsAndExpertsThatExistAmongNaNs) {
  expect_choice({1, 3, 3, 0, 3}, {1, 2, 4});
  expect_choice({5, 5, 5, 5}, {0, 1});
  expect_choice({NAN, 2, NAN, 1}, {1, 3, 0});
  expect_choice({NAN, NAN, NAN}, {0, 1, 2});
  expect_choice({-INFINITY, -INFINITY, 4}, {2, 0, 1});
  std::vector<float> many(70, 1.0F);
  many[69] = many[33] = 2;
  expect_choice(many, {33, 69, 0, 1});
}

TEST(Router, ChoosesByTheCorrectedScore) {
  const RouterRule sigmoid{.score = Score::kSigmoid};
  expect_choice({1, 3, -2, 0, 2}, {1, 4}, sigmoid);
  expect_choice({1, 3, -2, 0, 2}, {2, 1}, sigmoid, {0, 0, 1, 0, 0});
  expect_choice({1, 1, 1, 1, 1}, {3, 0}, sigmoid, {0.2F, 0.1F, 0.1F, 0.3F, 0.2F});
  expect_choice({1, 3, -2, 0, 2}, {3, 0}, {}, {0.5F, -1, 0, 1, -1});
  expect_choice({1, 3, -2, 0, 2}, {0, 1}, {.score = Score::kSoftmaxOfChosen}, {2.5F, 0, 0, 0, 0.5F});
  expect_choice({1, NAN, -2, 0}, {0, 3, 2, 1}, sigmoid, {0, 9, 0, 0});
  expect_choice({1, 2, -2, 0}, {0, 3, 2, 1}, sigmoid, {0, NAN, 0, 0});
  // Score 1 in f32 each: equals.
  expect_choice({60, 80, 70, 90}, {0, 1}, sigmoid);
}

TEST(Router, ChoosesFromTheBestGroupsAlone) {
  // Groups {0, 1, 2}, {3, 4, 5}, {6, 7, 8}: the largest of all is in the first, the best two in the second.
  const std::vector<float> logits{4, -3, -3, 2, 2, 1, 0, 1, 1};
  RouterRule rule{.score = Score::kSigmoid, .groups = 3, .top_groups = 1};
  for (const Score score : {Score::kSigmoid, Score::kSoftmaxOfChosen}) {
    rule.score = score;
    rule.group_score = RouterRule::GroupScore::kMax;
    expect_choice(logits, {0, 1, 2}, rule);
    rule.group_score = RouterRule::GroupScore::kTopTwoSum;
    expect_choice(logits, {3, 4, 5}, rule);
    rule.top_groups = 2;
    expect_choice(logits, {3, 4, 7}, rule,
                  score == Score::kSigmoid ? std::vector<float>{-1, 0, 0, 0, 0, -1, 0, 0, 0}
                                           : std::vector<float>{-9, 0, 0, 0, 0, -1, 0, 0, 0});
    rule.top_groups = 1;
  }
  rule = {.groups = 3, .top_groups = 2};
  expect_choice(logits, {0, 3, 4, 5}, rule);
  rule.group_score = RouterRule::GroupScore::kTopTwoSum;  // of the probabilities: one large one is enough
  expect_choice(logits, {0, 3, 4, 5}, rule);
  // Equal groups: the first; groups of NaN: the last, and then their experts as well.
  expect_choice({1, 2, 2, 1, 1, 2}, {1, 2}, {.groups = 3, .top_groups = 2});
  expect_choice({NAN, NAN, NAN, NAN, -9, 1}, {5, 4},
                {.score = Score::kSoftmaxOfChosen,
                 .group_score = RouterRule::GroupScore::kTopTwoSum,
                 .groups = 3,
                 .top_groups = 1});
  expect_choice({NAN, NAN, NAN, NAN}, {0, 1, 2},
                {.score = Score::kSigmoid,
                 .group_score = RouterRule::GroupScore::kTopTwoSum,
                 .groups = 2,
                 .top_groups = 2});
  // Groups that no vector divides; the best in the last.
  std::vector<float> many(60, 1.0F);
  many[59] = 3;
  many[38] = many[39] = 2.5F;
  expect_choice(many, {59, 38, 39, 36},
                {.score = Score::kSigmoid,
                 .group_score = RouterRule::GroupScore::kTopTwoSum,
                 .groups = 5,
                 .top_groups = 2});
}

TEST(MoePlan, IsAStableSortByExpert) {
  const std::vector<std::int32_t> experts_of{2, 0, 2, 1, 0, 2};
  std::vector<std::int32_t> counts(4), offsets(5), permutation(6), inverse(6);
  device::CpuStream stream = make_stream(2);
  reference::moe_plan({.experts_of = experts_of.data(),
                       .tokens = 3,
                       .top_k = 2,
                       .experts = 4,
                       .counts = counts.data(),
                       .offsets = offsets.data(),
                       .permutation = permutation.data(),
                       .inverse = inverse.data()},
                      stream);
  EXPECT_EQ(counts, (std::vector<std::int32_t>{2, 1, 3, 0}));
  EXPECT_EQ(offsets, (std::vector<std::int32_t>{0, 2, 3, 6, 6}));
  EXPECT_EQ(permutation, (std::vector<std::int32_t>{1, 4, 3, 0, 2, 5}));
  EXPECT_EQ(inverse, (std::vector<std::int32_t>{3, 0, 4, 2, 1, 5}));
}

TEST(MoePlan, HasNoRowForAPairThatGoesNowhere) {
  const std::vector<std::int32_t> experts_of{2, -1, 2, 1, -1, -1};
  device::CpuStream stream = make_stream(2);
  for (const CpuIsa isa : available_cpu_isas()) {
    std::vector<std::int32_t> counts(4), offsets(5), permutation(6, 7), inverse(6);
    cpu_kernels(isa).moe_plan({.experts_of = experts_of.data(),
                               .tokens = 3,
                               .top_k = 2,
                               .experts = 4,
                               .counts = counts.data(),
                               .offsets = offsets.data(),
                               .permutation = permutation.data(),
                               .inverse = inverse.data()},
                              stream);
    EXPECT_EQ(counts, (std::vector<std::int32_t>{0, 1, 2, 0}));
    EXPECT_EQ(offsets, (std::vector<std::int32_t>{0, 0, 1, 3, 3}));
    EXPECT_EQ(permutation, (std::vector<std::int32_t>{3, 0, 2, 7, 7, 7}));
    EXPECT_EQ(inverse, (std::vector<std::int32_t>{1, -1, 2, 0, -1, -1}));
  }
}

/// What experts compute with, in double.
struct Mixture {
  Activation activation = Activation::kSilu;
  bool gated = true, biases = false;
  std::vector<std::int32_t> experts_of;  // -1: nowhere
  Numbers x, gate_up, down, gate_up_bias, down_bias, weights;
  std::size_t inner() const { return gated ? 2 * kFfn : kFfn; }
};
constexpr double kAlpha = 1.702, kLimit = 0.9;

/// f(gate) * up; up is 1 where there is none.
double activation_of(const Mixture& m, double gate, double up) {
  switch (m.activation) {
    case Activation::kIdentity:
      return gate * up;
    case Activation::kSilu:
      return gate / (1 + std::exp(-gate)) * up;
    case Activation::kGelu:
      return gate * std::erfc(-gate / std::sqrt(2.0)) / 2 * up;
    case Activation::kGeluTanh:
      return gate / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (gate + 0.044715 * std::pow(gate, 3)))) * up;
    case Activation::kRelu2:
      return std::pow(std::max(gate, 0.0), 2) * up;
    case Activation::kSigmoid:
      return up / (1 + std::exp(-gate));
    case Activation::kTanh:
      return std::tanh(gate) * up;
    case Activation::kClampedSilu: {
      const double g = std::min(gate, kLimit), u = std::clamp(up, -kLimit, kLimit);
      return g / (1 + std::exp(-kAlpha * g)) * (u + 1);
    }
  }
  return 0;
}

/// The experts' output token by token, straight from the definition.
Numbers mix(const Mixture& m) {
  Numbers y(kTokens * kHidden);
  for (std::size_t pair = 0; pair < kTokens * kTopK; ++pair) {
    if (m.experts_of[pair] < 0) continue;
    const std::size_t t = pair / kTopK, e = static_cast<std::size_t>(m.experts_of[pair]), inner = m.inner();
    Numbers pre(inner);
    for (std::size_t i = 0; i < inner; ++i) {
      if (m.biases) pre[i] = m.gate_up_bias[e * inner + i];
      for (std::size_t h = 0; h < kHidden; ++h)
        pre[i] += m.gate_up[(e * inner + i) * kHidden + h] * m.x[t * kHidden + h];
    }
    for (std::size_t h = 0; h < kHidden; ++h) {
      double sum = m.biases ? m.down_bias[e * kHidden + h] : 0;
      for (std::size_t i = 0; i < kFfn; ++i)
        sum += m.down[(e * kHidden + h) * kFfn + i] * activation_of(m, pre[i], m.gated ? pre[kFfn + i] : 1);
      y[t * kHidden + h] += m.weights[pair] * sum;
    }
  }
  return y;
}

/// The reference's y, and its gradients against differences of mix.
void check_mixture(Activation activation, bool gated, bool biases, bool lost) {
  Mixture m;
  m.activation = activation;
  m.gated = gated;
  m.biases = biases;
  Numbers logits = random_numbers(kTokens * kExperts, 1);
  for (std::size_t t = 0; t < kTokens; ++t) logits[t * kExperts + 2] = -9;  // an expert without tokens
  Routed r(logits, {.normalize = true});
  if (lost) r.lose(3);
  m.experts_of = r.experts;
  m.x = random_numbers(kTokens * kHidden, 2);
  m.gate_up = random_numbers(kExperts * m.inner() * kHidden, 3);
  m.down = random_numbers(kExperts * kHidden * kFfn, 4);
  m.gate_up_bias = random_numbers(kExperts * m.inner(), 6);
  m.down_bias = random_numbers(kExperts * kHidden, 7);
  m.weights = to_numbers(r.weights);
  const Numbers dy = random_numbers(m.x.size(), 5);
  auto x = to_floats(m.x), gate_up = to_floats(m.gate_up), down = to_floats(m.down), fdy = to_floats(dy);
  const auto gate_up_bias = to_floats(m.gate_up_bias), down_bias = to_floats(m.down_bias);
  std::vector<float> pre(kTokens * kTopK * m.inner()), y(x.size()), residual(x.size(), 1.0F);
  device::CpuStream stream = make_stream(2);
  ExpertsArgs a;
  a.x = as_matrix(x, kHidden);
  a.gate_up.data = gate_up.data();
  a.down.data = down.data();
  a.has_gate_up_bias = a.has_down_bias = m.biases;
  if (m.biases) {
    a.gate_up_bias = gate_up_bias.data();
    a.down_bias = down_bias.data();
  }
  a.activation = m.activation;
  a.gated = m.gated;
  a.alpha = static_cast<float>(kAlpha);
  a.limit = static_cast<float>(kLimit);
  a.weights = r.weights.data();
  a.offsets = r.offsets.data();
  a.permutation = r.permutation.data();
  a.inverse = r.inverse.data();
  a.pre_activation = pre.data();
  a.wants_pre_activation = true;
  a.residual = as_matrix(residual, kHidden);
  a.y = as_matrix(y, kHidden);
  a.experts = kExperts;
  a.top_k = kTopK;
  a.ffn = kFfn;
  reference::experts(a, stream);
  Numbers want = mix(m);
  for (double& v : want) v += 1;
  expect_close(y, want, 16, "y");

  std::vector<float> dx(x.size()), dw(m.weights.size(), 7.0F), dgu(gate_up.size(), 7.0F),
      dd(down.size(), 7.0F), dgub(gate_up_bias.size(), 7.0F), ddb(down_bias.size(), 7.0F);
  ExpertsGradArgs g;
  g.forward = a;
  g.dy = as_matrix(fdy, kHidden);
  g.dx = as_matrix(dx, kHidden);
  g.dweights = dw.data();
  g.dgate_up = dgu.data();
  g.ddown = dd.data();
  g.wants_dweights = g.wants_dgate_up = g.wants_ddown = true;
  g.wants_dgate_up_bias = g.wants_ddown_bias = m.biases;
  if (m.biases) {
    g.dgate_up_bias = dgub.data();
    g.ddown_bias = ddb.data();
  }
  reference::experts_grad(g, stream);
  const auto expect_gradient = [&](const std::vector<float>& got, Numbers Mixture::*of, const char* what) {
    const auto along = [&](const Numbers& v) {
      Mixture moved = m;
      moved.*of = v;
      return mix(moved);
    };
    expect_close(got, numeric_gradient(along, m.*of, dy), 64, what);
  };
  expect_gradient(dx, &Mixture::x, "dx");
  expect_gradient(dw, &Mixture::weights, "dweights");
  expect_gradient(dgu, &Mixture::gate_up, "dgate_up");
  expect_gradient(dd, &Mixture::down, "ddown");
  if (!m.biases) return;
  expect_gradient(dgub, &Mixture::gate_up_bias, "dgate_up_bias");
  expect_gradient(ddb, &Mixture::down_bias, "ddown_bias");
}

TEST(Experts, AndTheirGradientsMatchTheFormulaAndFiniteDifferences) {
  for (const auto activation :
       {Activation::kIdentity, Activation::kSilu, Activation::kGelu, Activation::kGeluTanh,
        Activation::kRelu2, Activation::kSigmoid, Activation::kTanh, Activation::kClampedSilu})
    for (const bool gated : {true, false})
      for (const bool biases : {false, true}) {
        if (activation == Activation::kClampedSilu && !gated) continue;
        SCOPED_TRACE(static_cast<int>(activation));
        check_mixture(activation, gated, biases, biases);
      }
}

/// What an expert of one row of k numbers, `data` with one scale, gives for the unit vectors: the numbers.
std::vector<float> decoded(WeightKind kind, const std::vector<std::uint8_t>& data, const void* scales,
                           std::size_t k, const KernelTable& table) {
  std::vector<float> x(k * k), down(k), weights(k, 1.0F), y(k), wide(k * k);
  std::vector<std::int32_t> offsets{0, static_cast<std::int32_t>(k)}, rows(k);
  std::iota(rows.begin(), rows.end(), 0);
  for (std::size_t i = 0; i < k; ++i) x[i * k + i] = 1;
  down[0] = 1;
  ExpertsArgs a;
  a.x = as_matrix(x, static_cast<std::int64_t>(k));
  a.gate_up = {data.data(), scales, kind};
  a.down.data = down.data();
  a.activation = Activation::kIdentity;
  a.gated = false;
  a.weights = weights.data();
  a.offsets = offsets.data();
  a.permutation = a.inverse = rows.data();
  a.y = as_matrix(wide, static_cast<std::int64_t>(k));
  a.experts = a.top_k = a.ffn = 1;
  device::CpuStream stream = make_stream(1);
  table.experts(a, stream);
  for (std::size_t i = 0; i < k; ++i) y[i] = wide[i * k];
  return y;
}

/// Every code of FP8 e4m3 but NaN, and of FP4 e2m1, by the tables of the OCP specifications.
TEST(Experts, DecodeEveryCodeOfQuantisedWeights) {
  for (const KernelTable* table : {&cpu_kernels(CpuIsa::kReference), &cpu_kernels(choose_cpu_isa())}) {
    std::vector<std::uint8_t> fp8(256);
    std::iota(fp8.begin(), fp8.end(), 0);
    fp8[0x7f] = fp8[0xff] = 0;
    const std::vector<float> scales{0.25F, 2.0F};  // of 128 along k
    const auto numbers = decoded(WeightKind::kFp8Block, fp8, scales.data(), 256, *table);
    for (std::size_t code = 0; code < 256; ++code) {
      const auto mantissa = static_cast<double>(fp8[code] & 7U);
      const int exponent = fp8[code] >> 3 & 15;
      const double magnitude =
          exponent == 0 ? mantissa / 8 / 64 : (1 + mantissa / 8) * std::exp2(exponent - 7);
      const double scale = code < 128 ? 0.25 : -2.0;  // codes from 128 on are negative
      EXPECT_EQ(numbers[code], static_cast<float>(scale * magnitude)) << code;
    }
    const std::vector<float> fp4{0, 0.5F, 1, 1.5F, 2, 3, 4, 6, -0, -0.5F, -1, -1.5F, -2, -3, -4, -6};
    std::vector<std::uint8_t> pairs;
    for (unsigned code = 0; code < 32; code += 2)
      pairs.push_back(static_cast<std::uint8_t>(code % 16 | (code % 16 + 1) << 4));
    // From 2 on all are normal numbers: those below are 0 where f32 is multiplied by bf16 units in three
    // parts.
    for (const int exponent : {2, 120, 127, 200}) {
      const auto scale = static_cast<std::uint8_t>(exponent);
      const auto four_bits = decoded(WeightKind::kMxfp4, pairs, &scale, 32, *table);
      for (std::size_t i = 0; i < 32; ++i)
        EXPECT_EQ(four_bits[i], std::ldexp(fp4[i % 16], exponent - 127)) << i;
    }
    fp8.assign(32, 0x38);
    fp8[5] = 0x7f;
    EXPECT_TRUE(std::isnan(decoded(WeightKind::kFp8Block, fp8, scales.data(), 32, *table)[5]));
  }
}

TEST(LoadBalancing, IsTheTopKWhenAllExpertsShareEqually) {
  // f_e = top_k / experts, P_e = 1 / experts: experts * sum f_e P_e = top_k (Transformers' normalisation)
  const std::vector<float> sums(8, 8 * 0.25F);
  const std::vector<std::int32_t> counts(8, 8 * 2 / 4);
  float loss = 0, gradient[4];
  device::CpuStream stream = make_stream(1);
  reference::load_balancing({.probability_sums = sums.data(),
                             .counts = counts.data(),
                             .layers = 2,
                             .experts = 4,
                             .tokens = 8,
                             .coefficient = 0.5F,
                             .loss = &loss,
                             .dprobability_sums = gradient,
                             .wants_dprobability_sums = true},
                            stream);
  EXPECT_FLOAT_EQ(loss, 0.5F * 2);
  // d loss / d sum_e = coefficient * experts * f_e / n = 0.5 * 4 * 0.5 / 16
  for (const float g : gradient) EXPECT_FLOAT_EQ(g, 0.0625F);
}

}  // namespace
}  // namespace hone::test
