// Learning rates and decay by parameter pattern.
#include <gtest/gtest.h>

#include <map>

#include "train/optimizer.h"
#include "train/recipe.h"
#include "train/step.h"

namespace hone::train {
namespace {

using Group = OptimizerOptions::Group;
using Weights = std::map<std::string, std::vector<float>>;

/// The masters of a small golden model after one step, whose gradients do not depend on the options.
Weights after_a_step(const OptimizerOptions& options, double learning_rate) {
  ops::Context context;
  auto model =
      model::CausalLM::from_pretrained(context, std::string(HONE_TEST_DATA) + "/golden/llama-default");
  model.decoder().parameters().set_trainable({}, DType::kF32);
  Optimizer optimizer(context, model, options);
  model::TokenBatch batch;
  const std::vector<std::int32_t> ids{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
  batch.add(ids, ids);
  train_step(context, model.decoder(), optimizer, std::span(&batch, 1),
             {.learning_rate = learning_rate, .clip = 0});
  Weights weights;
  for (const auto& t : optimizer.state())
    if (t.name.starts_with("master."))
      weights[t.name.substr(7)].assign(t.tensor.as<float>(), t.tensor.as<float>() + t.tensor.numel());
  return weights;
}

class OptimizerGroup : public testing::TestWithParam<OptimizerOptions::Type> {};

TEST_P(OptimizerGroup, AGroupIsAnOptimizerWithItsRateAndDecay) {
  OptimizerOptions plain{.type = GetParam(), .momentum = 0.9, .weight_decay = 0.1};
  OptimizerOptions grouped = plain;
  // The first that matches: lm_head is the second's although the third matches it, too.
  grouped.groups = {Group{.match = "layers\\.0\\..*norm", .weight_decay = 0.5},
                    Group{.match = "lm_head|embed", .rate_scale = 0.25, .weight_decay = 0.0},
                    Group{.match = "head|q_proj", .rate_scale = 4}};
  OptimizerOptions without_decay = plain;
  without_decay.weight_decay = 0;
  const double rate = 0.0625;
  const auto result = after_a_step(grouped, rate);
  const auto rest = after_a_step(plain, rate);
  const auto head = after_a_step(without_decay, rate / 4);
  const auto query = after_a_step(plain, rate * 4);
  int norms = 0, heads = 0, queries = 0;
  for (const auto& [name, weights] : result) {
    if (name.find("layers.0.") != std::string::npos && name.find("norm") != std::string::npos) {
      EXPECT_NE(weights, rest.at(name)) << name << ": a norm does not decay, but for a group that says so";
      ++norms;
    } else if (name.find("lm_head") != std::string::npos || name.find("embed") != std::string::npos) {
      EXPECT_EQ(weights, head.at(name)) << name;
      ++heads;
    } else if (name.find("q_proj") != std::string::npos) {
      EXPECT_EQ(weights, query.at(name)) << name;
      ++queries;
    } else {
      EXPECT_EQ(weights, rest.at(name)) << name;
    }
  }
  EXPECT_GT(norms * heads * queries, 0);
}

INSTANTIATE_TEST_SUITE_P(Types, OptimizerGroup,
                         testing::Values(OptimizerOptions::Type::kAdamW, OptimizerOptions::Type::kSgd),
                         [](const auto& test) {
                           return test.param == OptimizerOptions::Type::kAdamW ? "adamw" : "sgd";
                         });

TEST(OptimizerGroups, AreReadFromARecipeAndBack) {
  const std::string text =
      "model: {path: m}\ndata: {train: t}\noutput: o\ntrain:\n  optimizer:\n    groups:\n"
      "    - {match: 'lm_head|embed', lr_scale: 0.1, weight_decay: 0}\n    - {match: norm, weight_decay: "
      "1e-3}\n";
  const auto recipe = parse_recipe(text, "r", {});
  ASSERT_EQ(recipe.optimizer.groups.size(), 2U);
  EXPECT_EQ(recipe.optimizer.groups[0].match, "lm_head|embed");
  EXPECT_EQ(recipe.optimizer.groups[0].rate_scale, 0.1);
  EXPECT_EQ(recipe.optimizer.groups[0].weight_decay, 0.0);
  EXPECT_EQ(recipe.optimizer.groups[1].rate_scale, 1.0);
  const auto again = parse_recipe(recipe.resolved, "r", {});
  ASSERT_EQ(again.optimizer.groups.size(), 2U);
  EXPECT_EQ(again.optimizer.groups[1].weight_decay, 1e-3);
}

}  // namespace
}  // namespace hone::train
