// Training with products of operands in FP8: it learns as training without does, whatever the threads.
#include <gtest/gtest.h>

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

struct Fp8Setting {
  bool fp8 = true;
  DType dtype = DType::kBF16;
  int threads = 1, steps = 30;
  float broken = 0;  // an element of a down matrix before the first step
};

struct Fp8Run {
  std::vector<double> losses;
  std::vector<double> weights;
  bool skipped = false;
};

/// Texts with something to learn: each token follows from the one before.
model::TokenBatch following_tokens(std::uint64_t seed) {
  const CounterRng random(seed, RngPurpose::kBench);
  model::TokenBatch result;
  for (std::uint64_t row = 0; row < 8; ++row) {
    std::vector<std::int32_t> ids{static_cast<std::int32_t>(random.below(row, 128))};
    while (ids.size() < 48) ids.push_back((ids.back() * 5 + 7) % 128);
    result.add(ids, ids);
  }
  return result;
}

Fp8Run train_in_fp8(const Fp8Setting& setting) {
  ops::Context context(device::default_device(), setting.threads);
  auto model = model::CausalLM::from_pretrained(
      context, std::string(HONE_TEST_DATA) + "/golden/qwen3_moe-default", {.dtype = setting.dtype});
  auto& parameters = model.decoder().parameters();
  parameters.set_trainable({}, setting.dtype);
  parameters.multiply_in_fp8(setting.fp8);
  if (setting.broken != 0) {
    const Tensor value = parameters.value("model.layers.1.mlp.experts.down_proj").detach();
    Staging staging(context.stream(), value);
    std::fill_n(reinterpret_cast<BFloat16*>(staging.data()), value.numel(), BFloat16(setting.broken));
    staging.send();
  }
  train::Optimizer optimizer(context, model, {});
  Fp8Run trained;
  for (int step = 0; step < setting.steps; ++step) {
    const std::vector<model::TokenBatch> batches{following_tokens(static_cast<std::uint64_t>(step))};
    const auto result =
        train::train_step(context, model.decoder(), optimizer, batches, {.learning_rate = 3e-3, .clip = 1});
    trained.losses.push_back(result.lm_loss);
    trained.skipped = trained.skipped || result.skipped;
  }
  for (const auto& p : parameters.all()) {
    std::vector<double> values(static_cast<std::size_t>(p.value.numel()));
    convert(p.value.dtype(), HostView(context.stream(), p.value).data(), DType::kF64, values.data(),
            values.size());
    trained.weights.insert(trained.weights.end(), values.begin(), values.end());
  }
  return trained;
}

TEST(Fp8Training, LearnsAsTrainingWithoutDoes) {
  const Fp8Run fp8 = train_in_fp8({}), plain = train_in_fp8({.fp8 = false});
  EXPECT_NE(fp8.losses, plain.losses);
  EXPECT_LT(plain.losses.back(), 0.7 * plain.losses.front());
  // The loss falls from 5.4 to 1.5. Two runs as good as each other are less than half a step apart (0.064; it
  // is 0.025).
  const double half_a_step =
      (plain.losses.front() - plain.losses.back()) / static_cast<double>(plain.losses.size()) / 2;
  for (std::size_t i = 0; i < plain.losses.size(); ++i)
    EXPECT_NEAR(fp8.losses[i], plain.losses[i], half_a_step) << "step " << i;
}

TEST(Fp8Training, HasTheSameBitsOnAnyNumberOfThreads) {
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    const Fp8Run one = train_in_fp8({.dtype = dtype, .steps = 4});
    for (const int threads : {2, 3}) {
      const Fp8Run several = train_in_fp8({.dtype = dtype, .threads = threads, .steps = 4});
      EXPECT_EQ(several.losses, one.losses);
      EXPECT_EQ(several.weights, one.weights);
    }
  }
}

TEST(Fp8Training, SkipsAStepThatIsNotFinite) {
  const Fp8Run trained = train_in_fp8({.steps = 1, .broken = INFINITY});
  EXPECT_TRUE(trained.skipped);
}

}  // namespace
}  // namespace hone::test
