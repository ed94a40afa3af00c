// One training step gives the same gradients however it is cut, packed, recomputed, threaded or vectorised.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "base/rng.h"
#include "model/causal_lm.h"
#include "tests/tolerance.h"
#include "train/optimizer.h"
#include "train/step.h"

namespace hone::test {
namespace {

using Gradients = std::map<std::string, std::vector<double>>;

struct Setting {
  int threads = 1;
  bool recompute = false;
  const kernels::KernelTable* kernels = nullptr;
  std::vector<std::string> freeze = {};
};

std::vector<model::TokenBatch> rows(int count) {
  const CounterRng random(5, RngPurpose::kBench);
  std::uint64_t draw = 0;
  std::vector<model::TokenBatch> result(static_cast<std::size_t>(count));
  for (auto& row : result) {
    std::vector<std::int32_t> ids(5 + random.below(draw++, 20));
    for (auto& id : ids) id = static_cast<std::int32_t>(random.below(draw++, 128));
    row.add(ids, ids);
  }
  return result;
}

/// The rows as one micro-batch of isolated documents.
std::vector<model::TokenBatch> packed(const std::vector<model::TokenBatch>& parts) {
  model::TokenBatch all;
  for (const auto& part : parts) all.add(part.ids, part.labels);
  return {all};
}

/// Gradients of one step's language-model loss on a golden checkpoint.
Gradients gradients(const std::vector<model::TokenBatch>& batches, const Setting& setting = {}) {
  ops::Context context({}, setting.threads);
  if (setting.kernels != nullptr) context.set_kernels(*setting.kernels);
  auto model = model::CausalLM::from_pretrained(
      context, std::string(HONE_TEST_DATA) + "/golden/qwen3_moe-default", {.dtype = DType::kF32});
  auto& parameters = model.decoder().parameters();
  parameters.set_trainable(setting.freeze, DType::kF32);
  train::Optimizer optimizer(context, model, {});
  const auto result = train::train_step(context, model.decoder(), optimizer, batches,
                                        {.learning_rate = 0, .clip = 0, .recompute = setting.recompute});
  EXPECT_FALSE(result.skipped);
  Gradients all{{"loss", {result.lm_loss}}};
  for (const auto& p : parameters.all()) {
    if (!p.trainable) continue;
    const Tensor grad = p.grad_slot->grad();
    auto& values = all[p.spec.name];
    values.resize(static_cast<std::size_t>(grad.numel()));
    convert(grad.dtype(), grad.data(), DType::kF64, values.data(), values.size());
  }
  return all;
}

void expect_near(const Gradients& got, const Gradients& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (const auto& [name, values] : expected)
    EXPECT_LT(relative_distance(got.at(name), values), 1e-5) << name;
}

TEST(StepInvariance, OnePackIsManyRows) {
  expect_near(gradients(packed(rows(8))), gradients(rows(8)));
}

// In one chain of f32 the sum over micro-batches is off by some 5e-7.
TEST(StepInvariance, TheLossOfManyMicroBatchesIsTheirSum) {
  const double together = gradients(packed(rows(1000))).at("loss").front();
  EXPECT_NEAR(gradients(rows(1000)).at("loss").front() / together, 1, 1.5e-7);
}

TEST(StepInvariance, TheOrderOfRowsDoesNotMatter) {
  auto reversed = rows(8);
  std::reverse(reversed.begin(), reversed.end());
  expect_near(gradients(packed(reversed)), gradients(packed(rows(8))));
}

TEST(StepInvariance, AStepWithoutATargetChangesNothing) {
  ops::Context context({}, 1);
  auto model = model::CausalLM::from_pretrained(
      context, std::string(HONE_TEST_DATA) + "/golden/qwen3_moe-default", {.dtype = DType::kF32});
  auto& parameters = model.decoder().parameters();
  parameters.set_trainable({}, DType::kF32);
  train::Optimizer optimizer(context, model, {.weight_decay = 0.5});
  std::vector<std::vector<float>> before;
  for (const auto& p : parameters.all())
    before.emplace_back(p.value.span<float>().begin(), p.value.span<float>().end());
  model::TokenBatch batch;
  const std::vector<std::int32_t> ids{1, 2, 3};
  batch.add(ids, std::vector<std::int32_t>(3, model::kIgnoredLabel));
  const std::vector<model::TokenBatch> batches{batch};
  const auto result = train::train_step(context, model.decoder(), optimizer, batches,
                                        {.learning_rate = 1, .aux_coefficient = 1});
  EXPECT_EQ(result.loss, 0);
  EXPECT_EQ(result.supervised, 0);
  EXPECT_EQ(result.tokens, 3);
  EXPECT_FALSE(result.skipped);
  EXPECT_EQ(optimizer.updates(), 0);
  for (std::size_t i = 0; i < before.size(); ++i) {
    const auto now = parameters.all()[i].value.span<float>();
    EXPECT_TRUE(std::equal(now.begin(), now.end(), before[i].begin())) << parameters.all()[i].spec.name;
  }
}

TEST(StepInvariance, RecomputeIsBitForBitTheSame) {
  EXPECT_EQ(gradients(packed(rows(8)), {.recompute = true}), gradients(packed(rows(8))));
}

TEST(StepInvariance, EveryInstructionSetAgreesWithTheReference) {
  const auto expected =
      gradients(packed(rows(8)), {.kernels = &kernels::cpu_kernels(kernels::CpuIsa::kReference)});
  for (const auto isa : kernels::available_cpu_isas()) {
    SCOPED_TRACE(kernels::name_of(isa));
    expect_near(gradients(packed(rows(8)), {.kernels = &kernels::cpu_kernels(isa)}), expected);
  }
}

TEST(StepInvariance, FreezingSomeLeavesTheOthersGradients) {
  auto all = gradients(packed(rows(8)));
  const auto some = gradients(packed(rows(8)), {.freeze = {"experts", "embed_tokens"}});
  EXPECT_LT(some.size(), all.size());
  for (const auto& [name, values] : some) EXPECT_EQ(values, all.at(name)) << name;
}

}  // namespace
}  // namespace hone::test
