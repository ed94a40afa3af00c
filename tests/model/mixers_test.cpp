// Mixers alone: a fused projection computes what its parts compute, and keeps no more for the gradient; what
// has no family yet computes its formula.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/parameters.h"
#include "tests/tolerance.h"

namespace hone::model {
namespace {

constexpr std::int64_t kHidden = 32, kTokens = 11;

/// A mixer with its own parameters, all trainable.
class Alone {
 public:
  template <typename Spec>
  Alone(ops::Context& context, const Spec& spec)
      : context_(context), parameters_(context, list(spec), DType::kF32) {
    parameters_.set_trainable({}, DType::kF32);
    mixer_ = make_mixer(spec, "m", parameters_, 1e-6);
  }

  /// Copies the rows of `parts`, one after another, into parameter `name`.
  void gather(const std::string& name, const Alone& from, const std::vector<std::string>& parts) {
    auto* to = parameters_.value(name).as<float>();
    for (const auto& part : parts) {
      const Tensor& x = from.parameters_.value(part);
      std::memcpy(to, x.data(), static_cast<std::size_t>(x.numel()) * sizeof(float));
      to += x.numel();
    }
  }
  void randomize() {
    DecoderSpec spec;
    spec.initializer_range = 0.2;
    parameters_.initialize(context_, spec, 3);
  }
  ParameterSet& parameters() { return parameters_; }
  struct Result {
    std::vector<double> values;
    std::int64_t kept = 0;  // bytes of activations, the result's and those that the tape keeps
  };
  const Mixer& mixer() const { return *mixer_; }
  Result run(const Tensor& h, const Pass& pass) {
    ops::Tape tape;
    const ops::TapeScope recording(context_, &tape);
    const auto before = context_.ledger().current(device::Purpose::kActivations);
    std::vector<moe::RoutingStatistics> statistics;
    const Tensor y = mixer_->forward(context_, h, {}, pass, statistics);
    const auto kept = context_.ledger().current(device::Purpose::kActivations) - before;
    const auto values = y.span<float>();
    return {{values.begin(), values.end()}, kept};
  }

 private:
  template <typename Spec>
  static std::vector<ParameterSpec> list(const Spec& spec) {
    ParameterList all(kHidden);
    list_parameters(spec, "m", all);
    return all.take();
  }
  ops::Context& context_;
  ParameterSet parameters_;
  std::unique_ptr<Mixer> mixer_;
};

class Fused : public testing::Test {
 protected:
  Fused() : rope_({.rotary_dim = 6}) {
    std::vector<float> values(kTokens * kHidden);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 37 % 101) / 50 - 1;
    h_ = Tensor::from<float>(context_.stream(), values, Shape{kTokens, kHidden});
    ops::require_grad(h_, DType::kF32);
    const std::vector<std::int32_t> lengths{7, 4};
    pass_.layout = ops::SequenceLayout::make(context_, lengths);
    pass_.ropes.push_back(rope_.prepare(context_, lengths));
  }
  void expect_same(Alone& fused, Alone& separate) {
    const auto a = fused.run(h_, pass_), b = separate.run(h_, pass_);
    EXPECT_LT(test::relative_distance(a.values, b.values), test::tolerance(DType::kF32, kHidden));
    EXPECT_LE(a.kept, b.kept);
  }
  ops::Context context_{{}, 1};
  RotaryTables rope_;
  Tensor h_;
  Pass pass_;
};

TEST_F(Fused, QueriesKeysAndValues) {
  AttentionSpec spec{.heads = 4, .kv_heads = 2, .head_dim = 8};
  Alone separate(context_, spec);
  separate.randomize();
  spec.fused_qkv = true;
  Alone fused(context_, spec);
  fused.gather("m.qkv_proj.weight", separate, {"m.q_proj.weight", "m.k_proj.weight", "m.v_proj.weight"});
  fused.gather("m.o_proj.weight", separate, {"m.o_proj.weight"});
  expect_same(fused, separate);
}

TEST_F(Fused, GateAndUp) {
  DenseSpec spec{.ffn = 24};
  Alone separate(context_, spec);
  separate.randomize();
  spec.fused_gate_up = true;
  Alone fused(context_, spec);
  fused.gather("m.gate_up_proj.weight", separate, {"m.gate_proj.weight", "m.up_proj.weight"});
  fused.gather("m.down_proj.weight", separate, {"m.down_proj.weight"});
  expect_same(fused, separate);
}

/// down activation(up x) of relu^2, in double. up: (ffn, hidden) and down: (hidden, ffn) from these elements
/// on.
std::vector<double> relu2_network(const std::vector<double>& x, const float* up, const float* down,
                                  std::size_t ffn) {
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < ffn; ++i) {
    double h = 0;
    for (std::size_t j = 0; j < x.size(); ++j) h += double{up[i * x.size() + j]} * x[j];
    h = std::max(h, 0.0) * std::max(h, 0.0);
    for (std::size_t j = 0; j < x.size(); ++j) y[j] += double{down[j * ffn + i]} * h;
  }
  return y;
}

/// Experts without a gate (Nemotron-H), as are their keys.
class Ungated : public Fused {
 protected:
  static constexpr std::int64_t kExperts = 6, kFfn = 10, kSharedFfn = 14;
  Ungated()
      : alone_(context_, MoeSpec{.experts = kExperts,
                                 .top_k = 2,
                                 .ffn = kFfn,
                                 .rule = {.score = moe::RouterRule::Score::kSigmoid, .normalize = true},
                                 .function = {.activation = kernels::Activation::kRelu2, .gated = false},
                                 .shared_ffn = kSharedFfn,
                                 .shared = "shared_experts",
                                 .shared_is_gated = false}) {
    alone_.randomize();
    for (const auto& p : alone_.parameters().all()) names_.push_back(p.spec.name);
  }
  float* at(const std::string& name) { return alone_.parameters().value(name).as<float>(); }
  /// sum of every result times its place's weight, in double.
  double loss() {
    const auto y = alone_.run(h_, pass_).values;
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * seed(i);
    return sum;
  }
  static double seed(std::size_t i) { return static_cast<double>(i * 13 % 29) / 14 - 1; }
  Alone alone_;
  std::vector<std::string> names_;
};

TEST_F(Ungated, ExpertsAreTheirFormula) {
  EXPECT_EQ(names_, (std::vector<std::string>{"m.gate.weight", "m.experts.up_proj", "m.experts.down_proj",
                                              "m.shared_experts.up_proj.weight",
                                              "m.shared_experts.down_proj.weight"}));
  const auto hidden = static_cast<std::size_t>(kHidden), ffn = static_cast<std::size_t>(kFfn);
  const auto y = alone_.run(h_, pass_).values;
  std::vector<double> wanted;
  for (std::size_t t = 0; t < kTokens; ++t) {
    const auto* row = h_.as<float>() + t * hidden;
    const std::vector<double> x(row, row + hidden);
    std::vector<std::pair<double, std::size_t>> scores;
    for (std::size_t e = 0; e < kExperts; ++e) {
      double logit = 0;
      for (std::size_t j = 0; j < hidden; ++j) logit += double{at("m.gate.weight")[e * hidden + j]} * x[j];
      scores.emplace_back(1 / (1 + std::exp(-logit)), e);
    }
    std::sort(scores.rbegin(), scores.rend());
    auto out = relu2_network(x, at("m.shared_experts.up_proj.weight"),
                             at("m.shared_experts.down_proj.weight"), static_cast<std::size_t>(kSharedFfn));
    for (std::size_t slot = 0; slot < 2; ++slot) {
      const auto [score, e] = scores[slot];
      const auto of_expert = relu2_network(x, at("m.experts.up_proj") + e * ffn * hidden,
                                           at("m.experts.down_proj") + e * ffn * hidden, ffn);
      for (std::size_t j = 0; j < hidden; ++j)
        out[j] += score / (scores[0].first + scores[1].first) * of_expert[j];
    }
    wanted.insert(wanted.end(), out.begin(), out.end());
  }
  EXPECT_LT(test::relative_distance(y, wanted), test::tolerance(DType::kF32, 4 * kHidden));
}

TEST_F(Ungated, GradientsAreFiniteDifferences) {
  {
    ops::Tape tape;
    const ops::TapeScope recording(context_, &tape);
    std::vector<moe::RoutingStatistics> statistics;
    const Tensor y = alone_.mixer().forward(context_, h_, {}, pass_, statistics);
    std::vector<float> seeds;
    for (std::size_t i = 0; i < static_cast<std::size_t>(y.numel()); ++i)
      seeds.push_back(static_cast<float>(seed(i)));
    tape.backward(context_, {{y, Tensor::from<float>(context_.stream(), seeds, y.shape())}});
  }
  const auto expect_slope = [&](const std::string& name, float* values, const Tensor& value) {
    const auto grad = value.grad_slot()->grad().span<float>();
    // along the gradient itself, so far that it shows and no token goes elsewhere
    double squares = 0;
    for (const float g : grad) squares += double{g} * double{g};
    ASSERT_GT(squares, 0) << name;
    const double step = 2e-3 / std::sqrt(squares);
    const std::vector<float> before(values, values + value.numel());
    const auto moved = [&](double by) {
      for (std::size_t i = 0; i < before.size(); ++i)
        values[i] = static_cast<float>(double{before[i]} + by * double{grad[i]});
      return loss();
    };
    const double slope = (moved(step) - moved(-step)) / (2 * step);
    std::copy(before.begin(), before.end(), values);
    EXPECT_NEAR(slope / squares, 1, 0.01) << name;
  };
  for (const auto& name : names_) expect_slope(name, at(name), alone_.parameters().value(name));
  expect_slope("h", h_.as<float>(), h_);
}

}  // namespace
}  // namespace hone::model
