// The forecast of a step is the program on the meta device: what is not done is not counted, and what is
// forecast is what the allocator then hands out.
#include "train/forecast.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "kernels/peak.h"
#include "model/causal_lm.h"
#include "tests/hub/support.h"
#include "train/step.h"

namespace hone::train {
namespace {

/// A batch of documents of these lengths, of which every second token is learnt from.
model::TokenBatch documents(const std::vector<int>& lengths, std::uint64_t vocab) {
  const CounterRng random(3, RngPurpose::kBench);
  std::uint64_t draw = 0;
  model::TokenBatch batch;
  for (const int length : lengths) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(length)), labels(ids.size(), kIgnoredLabel);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<std::int32_t>(random.below(draw++, vocab));
      if (i % 2 == 0) labels[i] = ids[i];
    }
    batch.add(ids, labels);
  }
  return batch;
}

StepForecast forecast(const ForecastOptions& options, DType dtype = DType::kF32) {
  const auto spec = model::describe(std::filesystem::path(HONE_TEST_DATA) / "golden" / "llama-default").spec;
  const std::vector<model::TokenBatch> batches{documents({100}, 96)};
  return forecast_steps(spec, dtype, batches, options);
}

TEST(Forecast, DoesNotCountTheGradientsOfWhatIsFrozen) {
  const auto all = forecast({});
  const auto some = forecast({.freeze = {"mlp"}});
  const auto none = forecast({.freeze = {"embed_tokens", "layers", "norm"}});  // the head alone is trained
  EXPECT_LT(some.flops, all.flops);
  EXPECT_LT(none.flops, some.flops);
  // Forward, and the head's two gradients: not three times the forward products.
  EXPECT_LT(none.flops, 0.75 * all.flops);
  EXPECT_LT(none.memory.activations, all.memory.activations);
  EXPECT_LT(none.memory.optimizer, some.memory.optimizer);
  EXPECT_LT(none.memory.gradients, some.memory.gradients);
  EXPECT_EQ(none.memory.weights, all.memory.weights);
}

TEST(Forecast, CountsTheAttentionOfEachDocument) {
  const auto spec = model::describe(std::filesystem::path(HONE_TEST_DATA) / "golden" / "llama-default").spec;
  const auto flops = [&](const std::vector<int>& lengths) {
    const std::vector<model::TokenBatch> batches{documents(lengths, 96)};
    return forecast_steps(spec, DType::kF32, batches, {}).flops;
  };
  EXPECT_LT(flops({50, 50}), flops({90, 10})) << "as many tokens and documents, but other pairs of them";
  EXPECT_LT(flops({90, 10}), flops({100}));
}

TEST(Forecast, RecordsEachKernelOfAStepAndOfItsUpdate) {
  const auto said = forecast({});
  const auto count = [](const std::vector<device::KernelCost>& kernels, std::string_view slot) {
    return std::count_if(kernels.begin(), kernels.end(), [&](const auto& k) { return k.slot == slot; });
  };
  EXPECT_EQ(count(said.kernels, "attention"), count(said.kernels, "attention_grad"));
  EXPECT_EQ(count(said.kernels, "linear_cross_entropy"), 1);
  for (const auto slot : {"adamw", "sum_of_squares", "finish_norm"}) {
    EXPECT_EQ(count(said.kernels, slot), 0) << slot;
    EXPECT_GT(count(said.update, slot), 0) << slot;
  }
  EXPECT_EQ(count(said.update, "adamw") + count(said.update, "sum_of_squares") + 1,
            static_cast<std::ptrdiff_t>(said.update.size()));
}

TEST(Forecast, GivesItsProfileTheKernelsOfOneStepByPhase) {
  const auto seconds = [](const ForecastOptions& asked, std::string_view slot, kernels::Phase phase) {
    kernels::Profile profile({.card = kernels::find_card("H200")});
    ForecastOptions options = asked;
    options.device = {device::DeviceType::kCuda, 0};
    options.profile = &profile;
    const auto said = forecast(options);
    std::int64_t calls = 0;
    double found = 0;
    for (const auto& each : profile.slots({})) {
      calls += each.calls;
      if (each.name == slot) found += each.seconds_in[static_cast<std::size_t>(phase)];
    }
    EXPECT_EQ(calls, static_cast<std::int64_t>(said.kernels.size() + said.update.size()));
    return found;
  };
  using kernels::Phase;
  const double forward = seconds({}, "attention", Phase::kForward);
  EXPECT_GT(forward, 0);
  EXPECT_EQ(seconds({}, "attention", Phase::kBackward), 0);
  EXPECT_DOUBLE_EQ(seconds({.recompute = true}, "attention", Phase::kBackward), forward) << "once more";
  EXPECT_GT(seconds({}, "attention_grad", Phase::kBackward), 0);
  const double update = seconds({}, "adamw", Phase::kOptimizer);
  EXPECT_GT(update, 0);
  for (const bool beside : {false, true})
    EXPECT_DOUBLE_EQ(
        seconds({.update_as_ready = true, .weight_gradients_beside = beside}, "adamw", Phase::kOptimizer),
        update);
}

TEST(Forecast, OfWeightGradientsBesideCountsWhatTheyReadAndTheirScratch) {
  const device::Device card{device::DeviceType::kCuda, 0};
  for (const bool as_ready : {false, true}) {
    const auto in_order = forecast({.update_as_ready = as_ready, .device = card});
    const auto beside =
        forecast({.update_as_ready = as_ready, .weight_gradients_beside = true, .device = card});
    EXPECT_EQ(beside.flops, in_order.flops);
    EXPECT_EQ(beside.kernels.size(), in_order.kernels.size());
    EXPECT_EQ(beside.update.size(), in_order.update.size());
    EXPECT_EQ(beside.memory.gradients, in_order.memory.gradients);
    if (as_ready) continue;  // updates share the bound: what is held at once is theirs or the operands
    EXPECT_GT(beside.memory.activations, in_order.memory.activations);
  }
  EXPECT_EQ(forecast({.weight_gradients_beside = true}).memory.activations, forecast({}).memory.activations)
      << "the CPU's are made in their turn";
}

TEST(Forecast, CountsOfExpertsOnlyWhatIsTrained) {
  const auto spec =
      model::describe(std::filesystem::path(HONE_TEST_DATA) / "golden" / "mixtral-default").spec;
  const std::vector<model::TokenBatch> batches{documents({100}, 96)};
  const auto of_experts = [&](const std::vector<std::string>& freeze, std::string_view slot) {
    double flops = 0;
    for (const auto& kernel : forecast_steps(spec, DType::kF32, batches, {.freeze = freeze}).kernels)
      if (kernel.slot == slot) flops += kernel.cost.flops;
    return flops;
  };
  const double forward = of_experts({}, "experts");
  EXPECT_DOUBLE_EQ(of_experts({}, "experts_grad"), 2 * forward);
  // The activation's gradient and the input's are left: three products of six.
  EXPECT_DOUBLE_EQ(of_experts({"experts"}, "experts_grad"), forward);
}

TEST(Forecast, CountsTheScratchMemoryOfEveryThread) {
  EXPECT_GT(forecast({.threads = 8}).memory.activations, forecast({.threads = 1}).memory.activations);
}

TEST(Forecast, OfRecomputeHasMoreWorkAndLessMemory) {
  const auto kept = forecast({}), again = forecast({.recompute = true});
  EXPECT_GT(again.flops, kept.flops);
  EXPECT_LT(again.memory.activations, kept.memory.activations);
}

TEST(Forecast, CountsWhatAnEvaluationComputesAtOnce) {
  const std::vector<model::TokenBatch> small{documents({10}, 96)}, large{documents({4000}, 96)};
  EXPECT_EQ(forecast({.evaluation_batches = small}).memory.activations, forecast({}).memory.activations);
  EXPECT_GT(forecast({.evaluation_batches = large}).memory.activations, forecast({}).memory.activations);
}

struct Shape {
  const char* name;
  const char* golden;  // whose config.json is enlarged
  DType dtype = DType::kF32;
  std::size_t micro_batches = 1;
  bool recompute = false;
  std::vector<std::string> freeze = {};
  std::int64_t vocab = 2000;
  OptimizerOptions optimizer = {};
};

class ForecastOf : public testing::TestWithParam<Shape> {};

TEST_P(ForecastOf, IsWhatTheAllocatorHandsOut) {
  const Shape& shape = GetParam();
  const hub::test::TemporaryDirectory directory;
  std::ifstream in(std::string(HONE_TEST_DATA) + "/golden/" + shape.golden + "/config.json");
  auto config = nlohmann::json::parse(in);
  config["hidden_size"] = 128;
  config["head_dim"] = 32;
  config["vocab_size"] = shape.vocab;
  config["intermediate_size"] = 384;
  config["num_hidden_layers"] = 4;
  config["max_position_embeddings"] = 2048;
  config.erase("layer_types");
  std::ofstream(directory.path() / "config.json") << config;

  constexpr int kThreads = 2;
  constexpr double kAux = 0.01;
  ops::Context context({}, kThreads);
  auto model = model::CausalLM::from_config(context, directory.path(), shape.dtype, 1);
  const DType gradients = shape.micro_batches > 1 ? DType::kF32 : shape.dtype;
  model.decoder().parameters().set_trainable(shape.freeze, gradients);
  Optimizer optimizer(context, model, shape.optimizer);

  // Ragged steps: one has most tokens, another the longest document.
  std::vector<model::TokenBatch> steps;
  for (const auto& lengths :
       std::vector<std::vector<int>>{{300, 9, 411}, {1000}, {700, 20, 500, 3}, {60, 60}, {900, 31}})
    steps.push_back(documents(lengths, static_cast<std::uint64_t>(shape.vocab)));
  const std::vector<model::TokenBatch> demanding{steps[1], steps[2]};
  const auto forecast_of = [&](const std::vector<model::TokenBatch>& batches) {
    return forecast_steps(model.spec(), shape.dtype, batches,
                          {.recompute = shape.recompute,
                           .aux_coefficient = kAux,
                           .freeze = shape.freeze,
                           .gradient_dtype = gradients,
                           .optimizer = shape.optimizer,
                           .threads = kThreads})
        .memory;
  };
  const auto said = forecast_of(demanding), of_all = forecast_of(steps);
  const auto held = held_memory(context, model.decoder().parameters(), true);
  EXPECT_EQ(said.weights, held.weights);
  EXPECT_EQ(said.optimizer, held.optimizer);
  EXPECT_EQ(said.gradients, held.gradients);

  for (int turn = 0; turn < 2; ++turn) {
    for (const auto& batch : steps) {
      const std::vector<model::TokenBatch> micro_batches(shape.micro_batches, batch);
      train_step(context, model.decoder(), optimizer, micro_batches,
                 {.learning_rate = 0, .recompute = shape.recompute, .aux_coefficient = kAux});
    }
  }
  // Scratch also goes by the lengths that other steps than the most demanding have, half a MiB in these; that
  // of experts by the load of the busiest one, where the forecast takes all to be used evenly.
  const auto& ledger = context.ledger();
  const auto asked = static_cast<double>(said.total() - said.reserve);
  const auto most = static_cast<double>(of_all.total() - of_all.reserve);
  const double uneven =
      model.spec().num_moe_layers() > 0 ? static_cast<double>(ledger.peak(device::Purpose::kWorkspace)) : 0.0;
  EXPECT_NEAR(static_cast<double>(ledger.peak_total()), most, 0.02 * most + uneven);
  EXPECT_NEAR(static_cast<double>(ledger.peak_total()), asked, 0.02 * asked + 0x1p19 + uneven);
  EXPECT_EQ(ledger.current(device::Purpose::kGradients), said.gradients);
  // Blocks are rounded up, at these sizes by up to 2 %.
  EXPECT_LE(static_cast<double>(context.allocator().held_bytes()),
            1.02 * static_cast<double>(said.total()) + uneven);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, ForecastOf,
    testing::Values(
        Shape{.name = "dense", .golden = "qwen3-default"},
        Shape{.name = "bf16", .golden = "llama-default", .dtype = DType::kBF16},
        Shape{.name = "accumulation", .golden = "llama-tied", .micro_batches = 3},
        Shape{.name = "accumulation_bf16", .golden = "llama-tied", .dtype = DType::kBF16, .micro_batches = 3},
        Shape{.name = "vocabulary", .golden = "qwen2-tied", .vocab = 60'000},
        Shape{.name = "recompute", .golden = "mistral-default", .recompute = true},
        Shape{.name = "experts", .golden = "qwen3_moe-default"},
        Shape{.name = "experts_bf16", .golden = "olmoe-default", .dtype = DType::kBF16},
        Shape{.name = "shared_experts", .golden = "qwen2_moe-default"},
        Shape{.name = "frozen_layers",
              .golden = "qwen3-default",
              .freeze = {"embed_tokens", R"(layers\.[0-2]\.)"}},
        Shape{.name = "frozen_experts", .golden = "mixtral-default", .freeze = {"experts"}},
        Shape{.name = "head_alone",
              .golden = "qwen3-default",
              .dtype = DType::kBF16,
              .freeze = {"embed_tokens", "layers", R"(model\.norm)"}},
        Shape{.name = "sgd", .golden = "llama-default", .optimizer = {.type = OptimizerOptions::Type::kSgd}},
        Shape{.name = "sgd_momentum_bf16",
              .golden = "llama-default",
              .dtype = DType::kBF16,
              .optimizer = {.type = OptimizerOptions::Type::kSgd, .momentum = 0.9}}),
    [](const auto& shape) { return std::string(shape.param.name); });

}  // namespace
}  // namespace hone::train
