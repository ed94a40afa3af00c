// The forecast of a micro-batch is the program on the meta device: what is not done is not counted.
#include "train/forecast.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "model/causal_lm.h"

namespace hone::train {
namespace {

MicroBatchForecast forecast(const ForecastOptions& options, DType dtype = DType::kF32) {
  const auto spec = model::describe(std::filesystem::path(HONE_TEST_DATA) / "golden" / "llama-default").spec;
  std::vector<std::int32_t> ids(100);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i);
  model::TokenBatch batch;
  batch.add(ids, ids);
  return forecast_micro_batch(spec, dtype, batch, options);
}

TEST(Forecast, DoesNotCountTheGradientsOfWhatIsFrozen) {
  const auto all = forecast({});
  const auto some = forecast({.freeze = {"mlp"}});
  const auto none = forecast({.freeze = {"embed_tokens", "layers", "norm"}});  // the head alone is trained
  EXPECT_LT(some.flops, all.flops);
  EXPECT_LT(none.flops, some.flops);
  // Forward, and the head's two gradients: not three times the forward products.
  EXPECT_LT(none.flops, 0.75 * all.flops);
  EXPECT_LT(none.activation_bytes, all.activation_bytes);
}

TEST(Forecast, CountsTheScratchMemoryOfEveryThread) {
  EXPECT_GT(forecast({.threads = 8}).activation_bytes, forecast({.threads = 1}).activation_bytes);
}

TEST(Forecast, OfRecomputeHasMoreWorkAndLessMemory) {
  const auto kept = forecast({}), again = forecast({.recompute = true});
  EXPECT_GT(again.flops, kept.flops);
  EXPECT_LT(again.activation_bytes, kept.activation_bytes);
}

}  // namespace
}  // namespace hone::train
