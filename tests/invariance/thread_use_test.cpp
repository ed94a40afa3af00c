// One training step on shapes for which every kernel that can uses two threads, which is asserted: the same
// bits on 1, 2 and 3.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "base/rng.h"
#include "model/causal_lm.h"
#include "tests/hub/support.h"
#include "tests/kernels/watched_threads.h"
#include "train/optimizer.h"
#include "train/step.h"

namespace hone::test {
namespace {

/// 2,000 documents of up to 20 tokens: 2 experts for each of 20,000 tokens are more than the 32,768 pairs
/// from which the plan is counted on threads.
model::TokenBatch documents(std::uint64_t vocab) {
  const CounterRng random(5, RngPurpose::kBench);
  std::uint64_t draw = 0;
  model::TokenBatch batch;
  for (int i = 0; i < 2000; ++i) {
    std::vector<std::int32_t> ids(5 + random.below(draw++, 16));
    for (auto& id : ids) id = static_cast<std::int32_t>(random.below(draw++, vocab));
    batch.add(ids, ids);
  }
  return batch;
}

class ThreadUse : public testing::TestWithParam<std::tuple<const char*, DType>> {
 protected:
  void SetUp() override {
    std::ifstream in(std::string(HONE_TEST_DATA) + "/golden/" + std::get<0>(GetParam()) + "/config.json");
    auto config = nlohmann::json::parse(in);
    config["hidden_size"] = 64;
    config["head_dim"] = 16;
    config["vocab_size"] = 600;  // a table of more than the 16,384 elements that are worth a thread
    config["moe_intermediate_size"] = 48;
    config["shared_expert_intermediate_size"] = 48;
    config["intermediate_size"] = 96;
    config["mlp_only_layers"] = {0};
    config["num_hidden_layers"] = 2;
    config["output_router_logits"] = true;
    std::ofstream(directory_.path() / "config.json") << config;
  }

  /// Every parameter after two steps, and the loss.
  std::vector<std::vector<std::byte>> train(int threads) {
    const DType dtype = std::get<1>(GetParam());
    ops::Context context({}, threads);
    const kernels::KernelTable table = watched(kernels::cpu_kernels(kernels::choose_cpu_isa()));
    context.set_kernels(table);
    auto model = model::CausalLM::from_config(context, directory_.path(), dtype, 1);
    model.decoder().parameters().set_trainable({}, DType::kF32);
    train::Optimizer optimizer(context, model, {});
    std::vector<std::vector<std::byte>> all;
    const std::vector<model::TokenBatch> batches{documents(600)};
    for (int step = 0; step < 2; ++step) {
      const auto result = train::train_step(context, model.decoder(), optimizer, batches,
                                            {.learning_rate = 1e-2, .clip = 1, .aux_coefficient = 0.01});
      EXPECT_FALSE(result.skipped);
      const auto* loss = reinterpret_cast<const std::byte*>(&result.loss);
      all.emplace_back(loss, loss + sizeof result.loss);
    }
    for (const auto& p : model.decoder().parameters().all()) {
      const auto* bytes = static_cast<const std::byte*>(p.value.data());
      all.emplace_back(bytes, bytes + static_cast<std::size_t>(p.value.numel()) * size_of(dtype));
    }
    return all;
  }
  hub::test::TemporaryDirectory directory_;
};

TEST_P(ThreadUse, OfEveryKernelDoesNotChangeABit) {
  const auto one = train(1);
  for (const int threads : {2, 3}) {
    threads_used.clear();
    EXPECT_EQ(train(threads), one) << threads;
    // Not these: one number for all layers; four scalars; and copies, which here are of single losses in f32.
    const std::set<std::string> serial{"load_balancing", "finish_norm", "copy"};
    EXPECT_GE(threads_used.size(), 20U);
    for (const auto& [slot, used] : threads_used) {
      if (serial.contains(slot)) continue;
      EXPECT_EQ(used.most, threads) << slot;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ThreadUse,
                         testing::Combine(testing::Values("qwen3_moe-default", "qwen2_moe-default"),
                                          testing::Values(DType::kF32, DType::kBF16)));

}  // namespace
}  // namespace hone::test
