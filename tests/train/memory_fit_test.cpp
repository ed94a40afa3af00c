// The setting that makes a run fit: the first in order of cost whose forecast does.
#include "train/memory_fit.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "device/cuda_device.h"

namespace hone::train {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

Recipe recipe_of(const std::vector<std::string>& settings) {
  std::vector<std::string> all{"model.path=model", "data.train=train.jsonl", "output=run", "device=cuda"};
  all.insert(all.end(), settings.begin(), settings.end());
  return parse_recipe("{}", "settings", all);
}

/// A run of round numbers: weights 10, states 80 (8bit: 40; without masters 10 less), gradients 20,
/// activations 40 for each pack (recompute: 10).
MemoryForecast round_numbers(const Recipe& r) {
  std::int64_t states = r.optimizer.state == OptimizerOptions::State::k8Bit ? 40 : 80;
  if (r.optimizer.master == OptimizerOptions::Master::kBF16) states -= 10;
  const bool offloaded = r.optimizer.offload == OptimizerOptions::Offload::kHost;
  return {.weights = 10,
          .optimizer = offloaded ? 1 : states,
          .gradients = r.update_as_ready ? 0 : 20,
          .activations = (r.recompute ? 10 : 40) * r.micro_batch,
          .pinned = offloaded ? states : 0};
}

struct Wanted {
  std::vector<std::string> recipe;
  MemoryLimits limits;
  std::string settings;  // "": none fits
  bool has_begun = false;
};

TEST(FindSetting, TakesTheFirstThatFitsInOrderOfCost) {
  const std::vector<std::string> two{"train.global_batch=2", "train.micro_batch=2"};
  const std::vector<std::string> one{"train.global_batch=1", "train.micro_batch=1"};
  for (const auto& [recipe, limits, settings, has_begun] : std::vector<Wanted>{
           {two, {.device = 140}, "train.recompute=block"},
           {two, {.device = 130}, "train.recompute=block"},
           {two, {.device = 129}, "train.optimizer.offload=host"},
           {two, {.device = 129, .host = 50}, "train.recompute=block train.micro_batch=1"},
           {{"train.global_batch=12", "train.micro_batch=12", "train.recompute=block"},
            {.device = 150},
            "train.micro_batch=4"},
           {one, {.device = 149}, "train.recompute=block"},
           {one, {.device = 119}, "train.optimizer.state=8bit"},
           {one, {.device = 111}, "train.optimizer.state=8bit"},
           {one, {.device = 111, .host = 90}, "train.optimizer.offload=host", true},
           {one,
            {.device = 70},
            "train.recompute=block train.optimizer.update=as_ready train.optimizer.state=8bit"},
           {one,
            {.device = 25},
            "train.recompute=block train.optimizer.update=as_ready train.optimizer.offload=host"},
           {one, {.device = 21, .host = 29}, ""},
           {one, {.device = 20}, ""},
           // Accumulated gradients cannot be let go of.
           {{"train.global_batch=2", "train.recompute=block"}, {.device = 100}, "train.optimizer.state=8bit"},
           // Pinned memory is what lacks.
           {{"train.optimizer.offload=host"}, {.device = 1000, .host = 50}, "train.optimizer.offload=none"},
           {{"train.optimizer.offload=host"}, {.device = 100, .host = 50}, "train.optimizer.state=8bit"},
       }) {
    const Recipe of = recipe_of(recipe);
    const auto found = find_setting(of, round_numbers, limits, has_begun);
    ASSERT_EQ(found.has_value(), !settings.empty()) << settings << limits.device;
    if (!found) continue;
    EXPECT_EQ(found->settings, settings) << limits.device;
    EXPECT_TRUE(fits(found->memory, limits));
  }
}

TEST(FindSetting, SaysWhetherARunThatHasBegunGoesOn) {
  const Recipe one = recipe_of({"train.global_batch=1"});
  const auto in_mib = [](const Recipe& r) {
    MemoryForecast memory = round_numbers(r);
    for (auto* part : {&memory.weights, &memory.optimizer, &memory.gradients, &memory.activations})
      *part *= kMiB;
    return memory;
  };
  const auto advice = [&](std::int64_t limit, bool has_begun) {
    return advice_text(one, in_mib, {.device = limit * kMiB}, has_begun);
  };
  EXPECT_EQ(advice(130, false), "train.recompute=block would fit (120.0 MiB)");
  EXPECT_EQ(advice(130, true), "train.recompute=block would fit (120.0 MiB), and continue this run");
  EXPECT_EQ(advice(20, true).find("no setting with which this run can be continued would fit"), 0U);
}

TEST(Fits, CountsTheReserveButNotAgainstARun) {
  const MemoryForecast memory{.weights = 10, .reserve = 5, .program = 100, .pinned = 7};
  EXPECT_TRUE(fits(memory, {.device = 15}));
  EXPECT_FALSE(fits(memory, {.device = 14}));
  EXPECT_FALSE(cannot_fit(memory, {.device = 10}));
  EXPECT_TRUE(cannot_fit(memory, {.device = 9}));
  EXPECT_TRUE(cannot_fit(memory, {.device = 10, .host = 6}));
  EXPECT_FALSE(cannot_fit(memory, {}));
}

TEST(FindSetting, IsTrueOfTheForecastsOfARun) {
  const auto spec = model::describe(std::filesystem::path(HONE_TEST_DATA) / "golden" / "llama-default").spec;
  const auto forecast = [&](const Recipe& r) {
    const std::vector<std::int32_t> pack(1000, 1);
    model::TokenBatch batch;
    for (std::int64_t i = 0; i < r.micro_batch; ++i) batch.add(pack, pack);
    return forecast_steps(spec, DType::kBF16, {&batch, 1},
                          {.recompute = r.recompute,
                           .gradient_dtype = r.gradient_dtype(DType::kBF16),
                           .optimizer = r.optimizer,
                           .update_as_ready = r.update_as_ready})
        .memory;
  };
  const Recipe recipe = recipe_of({"train.global_batch=4", "train.micro_batch=4", "model.dtype=bf16"});
  const std::int64_t whole = forecast(recipe).total();
  const std::int64_t again =
      forecast(recipe_of({"train.global_batch=4", "train.micro_batch=4", "train.recompute=block"})).total();
  const std::int64_t half = forecast(recipe_of({"train.global_batch=4", "train.micro_batch=2"})).total();
  ASSERT_LT(half, again);
  ASSERT_LT(again, whole);
  EXPECT_EQ(find_setting(recipe, forecast, {.device = whole - 1}, false)->settings, "train.recompute=block");
  EXPECT_EQ(find_setting(recipe, forecast, {.device = half}, false)->settings, "train.micro_batch=2");
  EXPECT_FALSE(find_setting(recipe, forecast, {.device = kMiB}, false));
}

TEST(Forecast, OfOffloadedStatesCountsBothSides) {
  if (!device::cuda_report().built) GTEST_SKIP() << "a build that knows nothing of a card's kernels";
  const auto spec =
      model::describe(std::filesystem::path(HONE_TEST_DATA) / "golden" / "qwen3_moe-default").spec;
  const auto memory = [&](OptimizerOptions::Offload where, device::Device device) {
    const std::vector<std::int32_t> pack(50, 1);
    model::TokenBatch batch;
    batch.add(pack, pack);
    return forecast_steps(spec, DType::kBF16, {&batch, 1},
                          {.optimizer = {.offload = where, .offload_piece_bytes = 8192}, .device = device})
        .memory;
  };
  using Where = OptimizerOptions::Offload;
  const device::Device card{device::DeviceType::kCuda, 0};
  const auto here = memory(Where::kNone, card), there = memory(Where::kHost, card);
  const auto scalars = static_cast<std::int64_t>(sizeof(kernels::StepScalars));
  EXPECT_EQ(here.pinned, 0);
  EXPECT_EQ(there.pinned, here.optimizer - scalars);
  EXPECT_LE(there.optimizer, 3 * 8192 + scalars);
  EXPECT_GT(there.optimizer, 3 * 6000);
  EXPECT_EQ(there.weights, here.weights);
  const auto on_cpu = memory(Where::kHost, {});
  EXPECT_EQ(on_cpu.pinned, 0);
  EXPECT_EQ(on_cpu.optimizer, here.optimizer);
}

}  // namespace
}  // namespace hone::train
