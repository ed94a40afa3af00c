// One training step gives the same gradients however it is cut, packed, recomputed, threaded or vectorised.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "base/rng.h"
#include "model/causal_lm.h"
#include "tensor/transfer.h"
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
  for (const auto& part : parts) all.add(part.ids, part.labels, part.weights);
  return {all};
}

/// The row with that weight for every token.
model::TokenBatch weighted(const model::TokenBatch& row, float weight) {
  model::TokenBatch result;
  result.add(row.ids, row.labels, std::vector<float>(row.ids.size(), weight));
  return result;
}

/// Gradients of one step's language-model loss on a golden checkpoint.
Gradients gradients(const std::vector<model::TokenBatch>& batches, const Setting& setting = {}) {
  ops::Context context(device::default_device(), setting.threads);
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
    convert(grad.dtype(), HostView(context.stream(), grad).data(), DType::kF64, values.data(), values.size());
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
  ops::Context context(device::default_device(), 1);
  auto model = model::CausalLM::from_pretrained(
      context, std::string(HONE_TEST_DATA) + "/golden/qwen3_moe-default", {.dtype = DType::kF32});
  auto& parameters = model.decoder().parameters();
  parameters.set_trainable({}, DType::kF32);
  train::Optimizer optimizer(context, model, {.weight_decay = 0.5});
  std::vector<std::vector<float>> before;
  const auto bits = [&](const Tensor& value) {
    const HostCopy copy(context.stream(), value);
    const auto floats = copy.values<float>();
    return std::vector<float>(floats.begin(), floats.end());
  };
  for (const auto& p : parameters.all()) before.push_back(bits(p.value));
  model::TokenBatch batch;
  const std::vector<std::int32_t> ids{1, 2, 3};
  batch.add(ids, std::vector<std::int32_t>(3, kIgnoredLabel));
  const std::vector<model::TokenBatch> batches{batch};
  const auto result = train::train_step(context, model.decoder(), optimizer, batches,
                                        {.learning_rate = 1, .aux_coefficient = 1});
  EXPECT_EQ(result.loss, 0);
  EXPECT_EQ(result.supervised, 0);
  EXPECT_EQ(result.tokens, 3);
  EXPECT_FALSE(result.skipped);
  EXPECT_EQ(optimizer.updates(), 0);
  for (std::size_t i = 0; i < before.size(); ++i)
    EXPECT_EQ(bits(parameters.all()[i].value), before[i]) << parameters.all()[i].spec.name;
}

TEST(StepInvariance, AWeightOfTwoIsTheRowTwice) {
  auto twice = rows(8);
  twice.push_back(twice.front());
  auto once = rows(8);
  once.front() = weighted(once.front(), 2);
  const auto expected = gradients(packed(twice));
  expect_near(gradients(packed(once)), expected);
  expect_near(gradients(once), expected);  // a micro-batch with weights, and seven without
  expect_near(gradients(once, {.recompute = true}), expected);
  const auto alone = gradients(packed(rows(8)));
  EXPECT_GT(relative_distance(expected.at("model.norm.weight"), alone.at("model.norm.weight")), 1e-2);
}

TEST(StepInvariance, AWeightOfATokenIsItsOwn) {
  model::TokenBatch row;
  row.add({3, 14, 15, 92, 65}, {kIgnoredLabel, 14, kIgnoredLabel, 92, 65}, {9, 3, 9, 0, 1});
  EXPECT_EQ(row.supervised(), 2);
  EXPECT_EQ(row.loss_weight(), 4);
  std::vector<model::TokenBatch> apart(4);
  for (std::size_t i = 0; i < apart.size(); ++i) {
    std::vector<std::int32_t> labels(5, kIgnoredLabel);
    labels[i < 3 ? 1 : 4] = row.ids[i < 3 ? 1 : 4];
    apart[i].add(row.ids, labels);
  }
  expect_near(gradients({row}), gradients(packed(apart)));
}

TEST(StepInvariance, WeightsThatAreAllTheSameChangeNothing) {
  const auto with = [](float weight) {
    auto all = rows(8);
    for (auto& row : all) row = weighted(row, weight);
    return all;
  };
  EXPECT_EQ(gradients(packed(with(1))), gradients(packed(rows(8))));
  EXPECT_EQ(gradients(packed(with(0.25))), gradients(packed(rows(8))));  // products with 2^-2 are exact
  EXPECT_EQ(gradients(with(0.25)), gradients(rows(8)));
  for (const float weight : {3.0F, 1e-12F, 1e12F}) {
    SCOPED_TRACE(weight);
    expect_near(gradients(packed(with(weight))), gradients(packed(rows(8))));
  }
}

TEST(StepInvariance, AnEvaluationIsWeightedAsAStep) {
  ops::Context context(device::default_device(), 1);
  auto model = model::CausalLM::from_pretrained(
      context, std::string(HONE_TEST_DATA) + "/golden/qwen3_moe-default", {.dtype = DType::kF32});
  auto once = rows(3);
  once.front() = weighted(once.front(), 2);
  auto twice = rows(3);
  twice.push_back(twice.front());
  const auto got = train::evaluate(context, model.decoder(), packed(once).front());
  const auto want = train::evaluate(context, model.decoder(), packed(twice).front());
  EXPECT_EQ(got.loss_weight, static_cast<double>(want.supervised));
  EXPECT_LT(got.supervised, want.supervised);
  EXPECT_NEAR(got.loss / want.loss, 1, 1e-6);
  EXPECT_NEAR(gradients(packed(once)).at("loss").front(), got.loss / got.loss_weight, 1e-5);
}

TEST(StepInvariance, RecomputeIsBitForBitTheSame) {
  EXPECT_EQ(gradients(packed(rows(8)), {.recompute = true}), gradients(packed(rows(8))));
}

/// What a step says of the norm, against the gradients that it leaves; and of how many gradients the squares
/// were not read for it.
void expect_norm_of_gradients(const std::vector<model::TokenBatch>& batches, DType dtype, int brought) {
  ops::Context context(device::default_device(), 1);
  static kernels::KernelTable own;
  static int in_parts;
  own = context.kernels();
  in_parts = 0;
  kernels::KernelTable counting = own;
  counting.sum_of_squares = [](const kernels::SumOfSquaresArgs& a, device::Stream& stream) {
    in_parts += a.has_parts ? 1 : 0;
    own.sum_of_squares(a, stream);
  };
  auto model = model::CausalLM::from_pretrained(
      context, std::string(HONE_TEST_DATA) + "/golden/qwen3_moe-default", {.dtype = dtype});
  context.set_kernels(counting);
  auto& parameters = model.decoder().parameters();
  parameters.set_trainable({}, dtype);
  train::Optimizer optimizer(context, model, {});
  const auto result =
      train::train_step(context, model.decoder(), optimizer, batches, {.learning_rate = 0, .clip = 1});
  double squares = 0;
  for (const auto& p : parameters.all()) {
    const Tensor grad = p.grad_slot->grad();
    std::vector<double> values(static_cast<std::size_t>(grad.numel()));
    convert(grad.dtype(), HostView(context.stream(), grad).data(), DType::kF64, values.data(), values.size());
    for (const double g : values) squares += g * g;
  }
  EXPECT_NEAR(result.grad_norm, std::sqrt(squares), 1e-6 * std::sqrt(squares));
  EXPECT_EQ(in_parts, brought);
  if (batches.size() > 1) return;
  const auto as_ready = train::train_step(context, model.decoder(), optimizer, batches,
                                          {.learning_rate = 0, .clip = 1, .update_as_ready = true});
  EXPECT_NEAR(as_ready.grad_norm, result.grad_norm, 1e-6 * result.grad_norm);
  EXPECT_EQ(in_parts, 2 * brought);
}

// Experts bring theirs along where the device's memory is not the host's.
TEST(StepInvariance, TheNormIsThatOfTheGradients) {
  constexpr int kExpertMatrices = 4;  // gate_up and down of two layers
  const auto check = [](bool apart) {
    for (const DType dtype : {DType::kF32, DType::kBF16})
      for (const auto& batches : {rows(3), packed(rows(3))}) {
        SCOPED_TRACE(fmt::format("{}, {} micro-batches, apart {}", name_of(dtype), batches.size(), apart));
        expect_norm_of_gradients(batches, dtype, apart ? kExpertMatrices : 0);
      }
  };
  const bool on_cpu = device::default_device().type == device::DeviceType::kCpu;
  const char* before = std::getenv("HONE_GUARDED");
  if (!on_cpu || before == nullptr) check(!on_cpu);
  if (!on_cpu) return;
  const std::string kept = before != nullptr ? before : "";
  ::setenv("HONE_GUARDED", "1", 1);
  check(true);
  before != nullptr ? ::setenv("HONE_GUARDED", kept.c_str(), 1) : ::unsetenv("HONE_GUARDED");
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
