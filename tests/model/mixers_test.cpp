// Mixers alone: a fused projection computes what its parts compute, and keeps no more for the gradient.
#include <gtest/gtest.h>

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
  struct Result {
    std::vector<double> values;
    std::int64_t kept = 0;  // bytes of activations, the result's and those that the tape keeps
  };
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

}  // namespace
}  // namespace hone::model
