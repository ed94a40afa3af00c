// Which parameters' products may be of operands in FP8.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/causal_lm.h"

namespace hone::model {
namespace {

/// The names of layer `layer` and of what is in none, that multiply_in_fp8() takes and that it leaves,
/// without the layer's prefix.
std::pair<std::vector<std::string>, std::vector<std::string>> parted(const std::string& golden,
                                                                     std::size_t layer) {
  const auto description = describe(std::string(HONE_TEST_DATA) + "/golden/" + golden);
  ops::Context context(device::meta_of({}), 1);
  ParameterSet parameters(context, list_parameters(description.spec), DType::kBF16);
  parameters.multiply_in_fp8(true);
  std::pair<std::vector<std::string>, std::vector<std::string>> names;
  for (const auto& p : parameters.all()) {
    if (p.spec.layer >= 0 && p.spec.layer != static_cast<int>(layer)) continue;
    const std::string prefix = p.spec.layer >= 0 ? layer_prefix(layer) : "";
    EXPECT_EQ(p.handle().is_in_fp8(), p.in_fp8);
    EXPECT_EQ(p.handle().detach().is_in_fp8(), p.in_fp8);
    (p.in_fp8 ? names.first : names.second).push_back(p.spec.name.substr(prefix.size()));
  }
  parameters.multiply_in_fp8(false);
  for (const auto& p : parameters.all()) EXPECT_FALSE(p.handle().is_in_fp8());
  return names;
}

using testing::UnorderedElementsAre;

TEST(Fp8, IsForTheMatricesOfLinearLayers) {
  const auto [in, out] = parted("qwen2_moe-default", 0);
  EXPECT_THAT(in, UnorderedElementsAre(
                      "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight",
                      "self_attn.o_proj.weight", "mlp.experts.gate_up_proj", "mlp.experts.down_proj",
                      "mlp.shared_expert.gate_proj.weight", "mlp.shared_expert.up_proj.weight",
                      "mlp.shared_expert.down_proj.weight"));
  EXPECT_THAT(
      out, UnorderedElementsAre("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias",
                                "mlp.gate.weight", "mlp.shared_expert_gate.weight", "input_layernorm.weight",
                                "post_attention_layernorm.weight", "model.embed_tokens.weight",
                                "model.norm.weight", "lm_head.weight"));
}

TEST(Fp8, IsNotForBiasesOfExpertsAndSinks) {
  const auto [in, out] = parted("gpt_oss-default", 1);
  EXPECT_THAT(in, UnorderedElementsAre("self_attn.q_proj.weight", "self_attn.k_proj.weight",
                                       "self_attn.v_proj.weight", "self_attn.o_proj.weight",
                                       "mlp.experts.gate_up_proj", "mlp.experts.down_proj"));
  EXPECT_THAT(out, testing::IsSupersetOf({"self_attn.sinks", "mlp.router.weight", "mlp.router.bias",
                                          "mlp.experts.gate_up_proj_bias", "mlp.experts.down_proj_bias"}));
}

}  // namespace
}  // namespace hone::model
