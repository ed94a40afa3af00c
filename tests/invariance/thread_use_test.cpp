// One training step on shapes for which every kernel that can uses two threads, which is asserted: the same
// bits on 1, 2 and 3. Regions that GCC compiles for OpenMP all start with GOMP_parallel, whose number of
// threads is noted here on its way.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "base/rng.h"
#include "model/causal_lm.h"
#include "tests/hub/support.h"
#include "train/optimizer.h"
#include "train/step.h"

namespace {
std::atomic<unsigned> most_threads{0};
}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libgomp's own name, taken over in this program
extern "C" void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags) {
  using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
  static const auto kReal = reinterpret_cast<Parallel>(::dlsym(RTLD_NEXT, "GOMP_parallel"));
  most_threads = std::max(most_threads.load(), threads);
  kReal(body, data, threads, flags);
}

namespace hone::test {
namespace {

/// The most threads that each slot's regions had.
std::map<std::string, unsigned, std::less<>> threads_of_slot;

template <class Args>
kernels::Kernel<Args> inner = nullptr;
template <class Args>
std::string slot_name;
template <class Args>
void watched(const Args& a, device::Stream& stream) {
  most_threads = 1;
  inner<Args>(a, stream);
  unsigned& most = threads_of_slot[slot_name<Args>];
  most = std::max(most, most_threads.load());
}

kernels::KernelTable watched_table() {
  kernels::KernelTable table = kernels::cpu_kernels(kernels::choose_cpu_isa());
  kernels::for_each_slot(table, []<class Args>(std::string_view name, kernels::Kernel<Args>& slot) {
    inner<Args> = slot;
    slot_name<Args> = name;
    slot = watched<Args>;
  });
  return table;
}

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
    const kernels::KernelTable table = watched_table();
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
#if !defined(__GNUC__) || defined(__clang__)
  GTEST_SKIP() << "parallel regions are not GOMP_parallel's";
#endif
  const auto one = train(1);
  for (const int threads : {2, 3}) {
    threads_of_slot.clear();
    EXPECT_EQ(train(threads), one) << threads;
    // Not these: one number for all layers; four scalars; and copies, which here are of single losses in f32.
    const std::set<std::string> serial{"load_balancing", "finish_norm", "copy"};
    EXPECT_GE(threads_of_slot.size(), 20U);
    for (const auto& [slot, most] : threads_of_slot) {
      if (serial.contains(slot)) continue;
      EXPECT_EQ(most, static_cast<unsigned>(threads)) << slot;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ThreadUse,
                         testing::Combine(testing::Values("qwen3_moe-default", "qwen2_moe-default"),
                                          testing::Values(DType::kF32, DType::kBF16)));

}  // namespace
}  // namespace hone::test
