// What saves an optimizer's memory: eight-bit moments, weights without masters, updates as gradients are
// ready.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
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

using Values = std::map<std::string, std::vector<double>>;

struct Outcome {
  Values weights;
  std::vector<double> losses, norms;
  std::int64_t optimizer_bytes = 0, most_gradient_bytes = 0, weight_bytes = 0;
};

struct Training {
  DType dtype = DType::kF32;
  train::OptimizerOptions optimizer = {};
  train::StepOptions step = {.learning_rate = 1e-3, .clip = 0};
  int steps = 4;
  const char* model = "qwen3_moe-default";
};

std::vector<double> numbers(ops::Context& context, const Tensor& tensor) {
  const HostView view(context.stream(), tensor);
  std::vector<double> values(static_cast<std::size_t>(tensor.numel()));
  convert(tensor.dtype(), view.data(), DType::kF64, values.data(), values.size());
  return values;
}

Outcome train(const Training& training) {
  ops::Context context(device::default_device(), 2);
  auto model = model::CausalLM::from_pretrained(
      context, std::string(HONE_TEST_DATA) + "/golden/" + training.model, {.dtype = training.dtype});
  auto& parameters = model.decoder().parameters();
  parameters.set_trainable({}, training.dtype);
  train::Optimizer optimizer(context, model, training.optimizer);
  const CounterRng random(5, RngPurpose::kBench);
  std::uint64_t draw = 0;
  Outcome outcome;
  const auto& ledger = context.ledger();
  for (int step = 0; step < training.steps; ++step) {
    model::TokenBatch batch;
    for (int row = 0; row < 4; ++row) {
      std::vector<std::int32_t> ids(5 + random.below(draw++, 20));
      for (auto& id : ids) id = static_cast<std::int32_t>(random.below(draw++, 96));
      batch.add(ids, ids);
    }
    const auto result = train::train_step(context, model.decoder(), optimizer, {&batch, 1}, training.step);
    EXPECT_FALSE(result.skipped);
    outcome.losses.push_back(result.loss);
    outcome.norms.push_back(result.grad_norm);
  }
  EXPECT_EQ(optimizer.updates(), training.steps);
  outcome.optimizer_bytes = ledger.current(device::Purpose::kOptimizer);
  outcome.most_gradient_bytes = ledger.peak(device::Purpose::kGradients);
  outcome.weight_bytes = ledger.current(device::Purpose::kWeights);
  for (const auto& p : parameters.all()) outcome.weights[p.spec.name] = numbers(context, p.value);
  return outcome;
}

void expect_equal(const Outcome& got, const Outcome& want) {
  EXPECT_EQ(got.losses, want.losses);
  for (const auto& [name, values] : want.weights) EXPECT_EQ(got.weights.at(name), values) << name;
}

class AsReady : public testing::TestWithParam<const char*> {};

TEST_P(AsReady, WithoutClippingIsBitForBitTheSame) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const bool recompute : {false, true}) {
      Training training{.dtype = dtype, .model = GetParam()};
      training.step.recompute = recompute;
      const Outcome at_end = train(training);
      training.step.update_as_ready = true;
      const Outcome as_ready = train(training);
      expect_equal(as_ready, at_end);
      EXPECT_LT(as_ready.most_gradient_bytes, at_end.most_gradient_bytes);
    }
}

// Tied embeddings, experts, latent attention, shared experts.
INSTANTIATE_TEST_SUITE_P(Models, AsReady,
                         testing::Values("qwen3_moe-default", "gemma3_text-default", "deepseek_v3-default",
                                         "gpt_oss-default"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(AsReadyClipped, ByTheNormOfTheStepBeforeAndTheFirstByItsOwn) {
  Training training;
  training.optimizer.type = train::OptimizerOptions::Type::kSgd;  // whose step is the gradient's length
  training.step.clip = 1e-2;
  training.steps = 1;
  const Outcome first = train(training);
  training.step.update_as_ready = true;
  const Outcome ready = train(training);
  for (const auto& [name, values] : first.weights)
    EXPECT_LT(relative_distance(ready.weights.at(name), values), 1e-6) << name;
  EXPECT_NEAR(ready.norms[0] / first.norms[0], 1, 1e-6);
  training.steps = 2;
  const Outcome two = train(training);
  // The second step's length is clip * norm / (the first's norm).
  double length = 0;
  for (const auto& [name, values] : two.weights)
    for (std::size_t i = 0; i < values.size(); ++i)
      length += std::pow(values[i] - ready.weights.at(name)[i], 2);
  const double want = training.step.learning_rate * training.step.clip * two.norms[1] / two.norms[0];
  EXPECT_NEAR(std::sqrt(length) / want, 1, 1e-2);
}

TEST(AsReadyClipped, AFirstGradientThatIsNotFiniteChangesNothing) {
  ops::Context context(device::default_device(), 1);
  auto model = model::CausalLM::from_pretrained(
      context, std::string(HONE_TEST_DATA) + "/golden/qwen3_moe-default", {.dtype = DType::kF32});
  auto& parameters = model.decoder().parameters();
  parameters.set_trainable({}, DType::kF32);
  train::Optimizer optimizer(context, model, {.weight_decay = 0.5});
  const std::string broken = "model.norm.weight";
  Staging staging(context.stream(), parameters.find(broken)->value);
  std::vector<float> values(staging.bytes().size() / sizeof(float), 1);
  values[3] = NAN;
  std::memcpy(staging.bytes().data(), values.data(), staging.bytes().size());
  staging.send();
  Values before;
  for (const auto& p : parameters.all()) before[p.spec.name] = numbers(context, p.value);
  model::TokenBatch batch;
  const std::vector<std::int32_t> ids{1, 2, 3, 4};
  batch.add(ids, ids);
  const auto result = train::train_step(context, model.decoder(), optimizer, {&batch, 1},
                                        {.learning_rate = 1e-3, .clip = 1, .update_as_ready = true});
  EXPECT_TRUE(result.skipped);
  EXPECT_EQ(result.nonfinite, "loss");
  for (const auto& p : parameters.all())
    if (p.spec.name != broken) {
      EXPECT_EQ(numbers(context, p.value), before.at(p.spec.name)) << p.spec.name;
    }
}

TEST(EightBit, MomentsTakeAQuarterAndLearnAsWell) {
  Training training{.steps = 30};
  training.step.learning_rate = 3e-3;
  const Outcome whole = train(training);
  training.optimizer.state = train::OptimizerOptions::State::k8Bit;
  const Outcome coded = train(training);
  EXPECT_LT(coded.optimizer_bytes, whole.optimizer_bytes);
  double moved = 0, apart = 0;
  const Outcome start = train({.steps = 0});
  for (const auto& [name, values] : whole.weights)
    for (std::size_t i = 0; i < values.size(); ++i) {
      moved += std::pow(values[i] - start.weights.at(name)[i], 2);
      apart += std::pow(values[i] - coded.weights.at(name)[i], 2);
    }
  EXPECT_GT(apart, 0);
  EXPECT_LT(std::sqrt(apart / moved), 0.25) << "how far eight bits lead astray, of the way gone";
}

TEST(WithoutMasters, SmallUpdatesAddUp) {
  // Of a weight w a step of 1e-4 w is a fortieth of what bf16 can tell apart.
  Training training{.dtype = DType::kBF16, .steps = 60};
  training.step.learning_rate = 2e-6;
  const Outcome masters = train(training), start = train({.dtype = DType::kBF16, .steps = 0});
  training.optimizer.master = train::OptimizerOptions::Master::kBF16;
  const Outcome none = train(training);
  EXPECT_LT(none.optimizer_bytes, masters.optimizer_bytes);
  // Along the way that masters went, one without them must go the same distance on average.
  Training exact = training;
  exact.dtype = DType::kF32;
  exact.optimizer.master = train::OptimizerOptions::Master::kF32;
  const Outcome way = train(exact), origin = train({.steps = 0});
  double along = 0, length = 0;
  for (const auto& [name, values] : way.weights)
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double step = values[i] - origin.weights.at(name)[i];
      along += step * (none.weights.at(name)[i] - start.weights.at(name)[i]);
      length += step * step;
    }
  EXPECT_NEAR(along / length, 1, 0.25);
}

TEST(WithoutMasters, AreTheSameInEveryRun) {
  Training training{.dtype = DType::kBF16};
  training.optimizer.master = train::OptimizerOptions::Master::kBF16;
  training.optimizer.state = train::OptimizerOptions::State::k8Bit;
  const Outcome once = train(training);
  expect_equal(train(training), once);
  training.optimizer.seed = 1;
  EXPECT_NE(train(training).weights, once.weights);
}

}  // namespace
}  // namespace hone::test
