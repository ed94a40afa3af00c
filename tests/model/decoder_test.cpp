// A pass in pieces: any split of the layers into ranges computes what the whole computes, bit for bit,
// forward and backward, as pipeline stages on tapes of their own would.
#include "model/decoder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "model/causal_lm.h"

namespace hone::model {
namespace {

std::vector<float> values_of(const Tensor& t) {
  const auto values = t.span<float>();
  return {values.begin(), values.end()};
}

class LayerRange : public testing::TestWithParam<std::string> {
 protected:
  LayerRange() : model_(CausalLM::from_pretrained(context_, kGoldens / GetParam(), {.dtype = DType::kF32})) {
    decoder().parameters().set_trainable({}, DType::kF32);
    batch_.add({5, 9, 3, 17, 4, 11, 6, 8});
    batch_.add({7, 3, 12});
  }
  Decoder& decoder() { return model_.decoder(); }
  std::vector<std::vector<float>> gradients() {
    std::vector<std::vector<float>> all;
    for (const auto& p : decoder().parameters().all()) {
      all.push_back(p.grad_slot->grad().defined() ? values_of(p.grad_slot->grad()) : std::vector<float>{});
      p.grad_slot->reset();
    }
    return all;
  }
  /// A gradient of the logits.
  Tensor given(const Tensor& logits) {
    std::vector<float> values(static_cast<std::size_t>(logits.numel()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.01F * static_cast<float>(i % 37) - 0.2F;
    return Tensor::from<float>(context_.stream(), values, logits.shape());
  }

  static inline const std::filesystem::path kGoldens = std::filesystem::path(HONE_TEST_DATA) / "golden";
  ops::Context context_;
  CausalLM model_;
  TokenBatch batch_;
};

TEST_P(LayerRange, IsHowTheWholeRuns) {
  std::vector<float> whole;
  {
    ops::Tape tape;
    const ops::TapeScope recording(context_, &tape);
    const Tensor logits = decoder().logits(context_, decoder().forward(context_, batch_).residual);
    whole = values_of(logits);
    tape.backward(context_, {{logits, given(logits)}});
  }
  const auto whole_gradients = gradients();
  const std::size_t layers = decoder().spec().layers.size();
  ASSERT_GE(layers, 2U);
  for (std::size_t split = 0; split <= layers; ++split) {
    SCOPED_TRACE(split);
    const Pass pass = decoder().begin_pass(context_, batch_);
    ops::Tape first, second;
    Tensor sent;
    {
      const ops::TapeScope recording(context_, &first);
      sent = decoder().run_layers(context_, pass, decoder().embed(context_, batch_), 0, split).residual;
    }
    Tensor received = sent.detach();
    const auto slot = ops::require_grad(received, DType::kF32);
    {
      const ops::TapeScope recording(context_, &second);
      const Tensor logits = decoder().logits(
          context_, decoder().run_layers(context_, pass, received, split, layers, true).residual);
      EXPECT_EQ(values_of(logits), whole);
      second.backward(context_, {{logits, given(logits)}});
    }
    first.backward(context_, {{sent, slot->grad()}});
    EXPECT_EQ(gradients(), whole_gradients);
  }
}

TEST(GemmaEmbedding, IsMultipliedByAFactorInTheComputeDtype) {
  ops::Context context;
  TokenBatch batch;
  batch.add({5, 90, 3});
  for (const auto& [dtype, factor] : {std::pair{DType::kF32, std::sqrt(24.0F)}, {DType::kBF16, 4.90625F}}) {
    auto model = CausalLM::from_pretrained(
        context, std::filesystem::path(HONE_TEST_DATA) / "golden" / "gemma2-v4", {.dtype = dtype});
    auto& decoder = model.decoder();
    const Tensor table = decoder.parameters().value("model.embed_tokens.weight");
    std::vector<float> want(3 * 24);
    for (std::size_t i = 0; i < 3; ++i)
      convert(dtype, table.rows(batch.ids[i], batch.ids[i] + 1).data(), DType::kF32, want.data() + i * 24,
              24);
    for (float& x : want) x *= factor;
    EXPECT_EQ(values_of(decoder.embed(context, batch)), want) << name_of(dtype);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, LayerRange,
                         testing::Values("llama-default", "qwen3_moe-aux", "olmo3-default", "phi3-default",
                                         "gemma2-default"),
                         [](const auto& named) {
                           std::string name = named.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace hone::model
