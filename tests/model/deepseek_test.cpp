// What the configurations of DeepSeek's families and of GLM-4.5 say: published ones, and what is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "model/causal_lm.h"
#include "model/families/family.h"
#include "tests/temporary_directory.h"

namespace hone::model {
namespace {

using nlohmann::json;
using Rule = kernels::RouterRule;

DecoderSpec spec_of(const json& config) {
  return find_family(config.at("model_type"))->spec(hub::ModelConfig::parse(config.dump(), "config.json"));
}
const MlaSpec& latent(const DecoderSpec& spec, std::size_t layer) {
  return std::get<MlaSpec>(spec.layers.at(layer).branches.at(0).mixer);
}
bool is_sparse(const DecoderSpec& spec, std::size_t layer) {
  return std::holds_alternative<MoeSpec>(spec.layers.at(layer).branches.at(1).mixer);
}
void expect_refused(json config, const json& change, const char* what) {
  config.update(change);
  try {
    spec_of(config);
    ADD_FAILURE() << change.dump() << " is taken";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUser);
    EXPECT_NE(std::string(e.what()).find(what), std::string::npos) << e.what();
  }
}

/// DeepSeek-V2-Lite as it was published.
const json kV2Lite{{"model_type", "deepseek_v2"},
                   {"aux_loss_alpha", 0.001},
                   {"attention_bias", false},
                   {"first_k_dense_replace", 1},
                   {"hidden_size", 2048},
                   {"intermediate_size", 10944},
                   {"kv_lora_rank", 512},
                   {"max_position_embeddings", 163840},
                   {"moe_intermediate_size", 1408},
                   {"moe_layer_freq", 1},
                   {"n_group", 1},
                   {"n_routed_experts", 64},
                   {"n_shared_experts", 2},
                   {"norm_topk_prob", false},
                   {"num_attention_heads", 16},
                   {"num_experts_per_tok", 6},
                   {"num_hidden_layers", 27},
                   {"num_key_value_heads", 16},
                   {"q_lora_rank", nullptr},
                   {"qk_nope_head_dim", 128},
                   {"qk_rope_head_dim", 64},
                   {"rope_scaling",
                    {{"beta_fast", 32},
                     {"beta_slow", 1},
                     {"factor", 40},
                     {"mscale", 0.707},
                     {"mscale_all_dim", 0.707},
                     {"original_max_position_embeddings", 4096},
                     {"type", "yarn"}}},
                   {"rope_theta", 10000},
                   {"routed_scaling_factor", 1.0},
                   {"scoring_func", "softmax"},
                   {"seq_aux", true},
                   {"topk_group", 1},
                   {"topk_method", "greedy"},
                   {"torch_dtype", "bfloat16"},
                   {"v_head_dim", 128},
                   {"vocab_size", 102400}};

TEST(DeepseekV2, LiteIsWhatItsFileSays) {
  const auto config = hub::ModelConfig::parse(kV2Lite.dump(), "config.json");
  const DecoderSpec spec = find_family("deepseek_v2")->spec(config);
  EXPECT_TRUE(config.unread_keys().empty()) << config.unread_keys().front();
  EXPECT_TRUE(spec.refusals.empty());
  const MlaSpec& mla = latent(spec, 0);
  EXPECT_EQ(mla.heads, 16);
  EXPECT_EQ(mla.q_lora_rank, 0);
  EXPECT_EQ(mla.rope_dim, 64);
  EXPECT_TRUE(mla.interleaved);
  const double mscale = 0.1 * 0.707 * std::log(40.0) + 1;
  EXPECT_DOUBLE_EQ(mla.scale, mscale * mscale / std::sqrt(192.0));
  EXPECT_DOUBLE_EQ(spec.ropes.front().attention_factor, 1) << "both mscales are the same";
  EXPECT_EQ(spec.ropes.front().rotary_dim, 64);
  EXPECT_FALSE(is_sparse(spec, 0));
  EXPECT_TRUE(is_sparse(spec, 1));
  const MoeSpec& moe = *spec.first_moe();
  EXPECT_EQ(moe.shared_ffn, 2816);
  EXPECT_FALSE(moe.shared_is_gated);
  EXPECT_FALSE(moe.has_correction_bias);
  EXPECT_EQ(moe.rule.groups, 1);
}

TEST(DeepseekV2, TakesGroupsWhereItsMethodSaysSo) {
  json config = kV2Lite;
  config.update({{"topk_method", "group_limited_greedy"},
                 {"n_group", 8},
                 {"topk_group", 3},
                 {"routed_scaling_factor", 16.0},
                 {"norm_topk_prob", true}});
  const Rule rule = spec_of(config).first_moe()->rule;
  EXPECT_EQ(rule.groups, 8);
  EXPECT_EQ(rule.top_groups, 3);
  EXPECT_EQ(rule.group_score, Rule::GroupScore::kMax);
  EXPECT_FALSE(rule.normalize) << "Transformers overlooks norm_topk_prob";
  EXPECT_EQ(rule.scaling, 16.0F);
  expect_refused(config, {{"n_group", 7}}, "n_group is 7, which does not divide the 64 experts");
  expect_refused(config, {{"topk_group", 9}}, "topk_group is 9, but there are only 8 groups");
  expect_refused(config, {{"n_group", 32}, {"topk_group", 2}}, "groups of 2 experts hold fewer than the 6");
  expect_refused(config, {{"n_group", nullptr}}, "n_group");
  expect_refused(config, {{"num_key_value_heads", 4}}, "num_key_value_heads is 4");
  config["topk_method"] = "lucky";
  EXPECT_NE(spec_of(config).refusals.at(0).find("topk_method is 'lucky'"), std::string::npos);
}

TEST(DeepseekV2, EveryOtherLayerMayBeSparse) {
  json config = kV2Lite;
  config["moe_layer_freq"] = 2;
  const DecoderSpec spec = spec_of(config);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(is_sparse(spec, i), i == 2 || i == 4) << i;
}

TEST(DeepseekV3, DefaultsAreTheClasss) {
  const DecoderSpec spec = spec_of({{"model_type", "deepseek_v3"}});
  EXPECT_EQ(spec.layers.size(), 61U);
  EXPECT_FALSE(is_sparse(spec, 2));
  EXPECT_TRUE(is_sparse(spec, 3));
  EXPECT_EQ(latent(spec, 0).q_lora_rank, 1536);
  EXPECT_DOUBLE_EQ(latent(spec, 0).scale, 1 / std::sqrt(192.0));
  const MoeSpec& moe = *spec.first_moe();
  EXPECT_EQ(moe.experts, 256);
  EXPECT_TRUE(moe.has_correction_bias);
  EXPECT_EQ(moe.rule.score, Rule::Score::kSigmoid);
  EXPECT_EQ(moe.rule.group_score, Rule::GroupScore::kTopTwoSum);
  EXPECT_EQ(moe.rule.groups, 8);
  EXPECT_EQ(moe.rule.top_groups, 4);
  EXPECT_TRUE(moe.rule.normalize);
  EXPECT_EQ(moe.rule.scaling, 2.5F);
  const auto other = spec_of({{"model_type", "deepseek_v3"}, {"scoring_func", "softmax"}});
  EXPECT_NE(other.refusals.at(0).find("scoring_func is 'softmax'"), std::string::npos);
  expect_refused({{"model_type", "deepseek_v3"}}, {{"n_routed_experts", 8}, {"topk_group", 8}}, "best two");
}

TEST(Glm4Moe, TurnsHalfAHeadByDefault) {
  const DecoderSpec spec = spec_of({{"model_type", "glm4_moe"}, {"head_dim", 128}, {"rope_theta", 1000000}});
  EXPECT_EQ(spec.ropes.front().rotary_dim, 64);
  const auto& attention = std::get<AttentionSpec>(spec.layers.at(0).branches.at(0).mixer);
  EXPECT_EQ(attention.norm, AttentionSpec::Norm::kNone);
  EXPECT_FALSE(is_sparse(spec, 0));
  EXPECT_EQ(spec.first_moe()->rule.groups, 1);
  EXPECT_EQ(spec_of({{"model_type", "glm4_moe"}, {"head_dim", 128}, {"partial_rotary_factor", 0.25}})
                .ropes.front()
                .rotary_dim,
            32);
}

const std::filesystem::path kMtp = std::filesystem::path(HONE_TEST_DATA) / "golden" / "deepseek_v3-mtp";
constexpr const char* kBias = "model.layers.1.mlp.gate.e_score_correction_bias";

std::string stored_type_of(const std::filesystem::path& directory, const std::string& key) {
  const auto checkpoint = hub::Checkpoint::open(directory);
  const auto* tensor = checkpoint.find(key);
  return tensor == nullptr ? "absent" : std::string(tensor->type().name);
}

TEST(CorrectionBias, IsF32InABf16ModelAndNeverTrained) {
  ops::Context context({}, 1);
  auto model = CausalLM::from_pretrained(context, kMtp, {.dtype = DType::kBF16});
  auto& parameters = model.decoder().parameters();
  const Parameter& bias = *parameters.find(kBias);
  EXPECT_EQ(bias.value.dtype(), DType::kF32);
  const auto frozen = parameters.set_trainable({"gate"}, DType::kBF16);
  EXPECT_FALSE(bias.trainable);
  EXPECT_EQ(bias.grad_slot, nullptr);
  EXPECT_TRUE(parameters.find("model.norm.weight")->trainable);
  std::int64_t counted = 0;
  for (const auto& p : parameters.all())
    if (!p.spec.is_buffer) counted += p.spec.shape.numel();
  EXPECT_EQ(parameters.num_elements(), counted);
  EXPECT_EQ(count_parameters(model.spec()).total, counted);
}

TEST(CorrectionBias, IsStoredInF32WhateverTheRestIs) {
  ops::Context context({}, 1);
  const test::TemporaryDirectory directory;
  auto model = CausalLM::from_pretrained(context, kMtp);
  model.decoder().parameters().set_trainable({}, DType::kF32);
  model.store_as(DType::kF16);
  model.save_pretrained(context, directory.path() / "f16");
  EXPECT_EQ(stored_type_of(directory.path() / "f16", kBias), "F32");
  EXPECT_EQ(stored_type_of(directory.path() / "f16", "model.layers.1.mlp.gate.weight"), "F16");
  EXPECT_EQ(stored_type_of(directory.path() / "f16", "model.layers.2.eh_proj.weight"), "BF16")
      << "passes through";

  CausalLM::from_config(context, kMtp / "config.json", DType::kBF16, 3)
      .save_pretrained(context, directory.path() / "new");
  EXPECT_EQ(stored_type_of(directory.path() / "new", kBias), "F32");
  EXPECT_EQ(stored_type_of(directory.path() / "new", "model.layers.1.mlp.gate.weight"), "BF16");
}

}  // namespace
}  // namespace hone::model
