#include "train/preflight.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "base/error.h"
#include "device/memory_of.h"
#include "hub/hub_cache.h"
#include "model/decoder.h"
#include "train/forecast.h"
#include "train/run_forecast.h"

namespace hone::train {

void check_paths(const Recipe& recipe) {
  const auto relative_to = [](const std::filesystem::path& path) {
    return path.is_absolute() ? "" : fmt::format(" in {}", std::filesystem::current_path().string());
  };
  std::error_code ignored;
  if (!std::filesystem::is_directory(recipe.model_path, ignored))
    fail("{}: {}", recipe.place("model.path"), hub::why_not_found(recipe.model_path));
  const auto model = std::filesystem::weakly_canonical(recipe.model_path, ignored);
  const auto output = std::filesystem::weakly_canonical(recipe.output, ignored);
  if (std::mismatch(model.begin(), model.end(), output.begin(), output.end()).first == model.end() &&
      model != output)
    fail("{}: {} lies inside the model's directory {}; choose another", recipe.place("output"), recipe.output,
         recipe.model_path);
  const auto check_sources = [&](const char* key, const std::vector<data::DataSource>& sources) {
    for (const auto& source : sources) {
      const std::string& path = source.path;
      const bool pattern = path.find_first_of("*?[") != std::string::npos;
      if (!pattern && !std::filesystem::exists(path, ignored))
        fail("{}: there is no file or directory {}{}", recipe.place(key), path, relative_to(path));
    }
  };
  check_sources("data.train", recipe.train_data);
  for (const auto& set : recipe.eval_data) check_sources("data.eval", set.sources);
}

void check_device(const Recipe& recipe) {
  try {
    (void)device::memory_of(recipe.device);
  } catch (const Error& e) {
    fail("{}: {}", recipe.place("device"), e.what());
  }
}

void check_shapes(const Recipe& recipe, const model::ModelDescription& description, std::int64_t seq_len) {
  ops::Context context(device::meta_of(recipe.device), 1);
  const DType dtype =
      (recipe.dtype ? recipe.dtype : description.config.dtype()) == DType::kBF16 ? DType::kBF16 : DType::kF32;
  model::Decoder shapes(description.spec, context, dtype);
  try {
    shapes.parameters().set_trainable(recipe.freeze, recipe.gradient_dtype(dtype));
  } catch (const Error& e) {
    fail("{}: {}", recipe.place("method.freeze"), e.what());
  }
  if (shapes.parameters().num_elements(true) == 0)
    fail("{} leaves nothing to train", recipe.place("method.freeze"));
  std::optional<Optimizer> optimizer;
  try {
    optimizer.emplace(context, shapes.parameters(), recipe.optimizer);
  } catch (const Error& e) {
    fail("{}: {}", recipe.place("train.optimizer.groups"), e.what());
  }
  if (recipe.device.type == device::DeviceType::kCpu) return;  // whose system decides
  const std::vector<std::int32_t> pack(static_cast<std::size_t>(seq_len));
  const auto forecast = [&](const Recipe& changed) {
    model::TokenBatch batch;
    for (std::int64_t i = 0; i < changed.micro_batch; ++i) batch.add(pack, pack);
    return forecast_steps(description.spec, dtype, {&batch, 1},
                          {.recompute = changed.recompute,
                           .fp8 = changed.fp8,
                           .aux_coefficient = aux_coefficient_of(changed, description.spec),
                           .freeze = changed.freeze,
                           .gradient_dtype = changed.gradient_dtype(dtype),
                           .optimizer = changed.optimizer,
                           .update_as_ready = changed.update_as_ready,
                           .weight_gradients_beside = changed.weight_gradients_beside,
                           .device = changed.device})
        .memory;
  };
  std::error_code ignored;
  check_fits(recipe, held_memory(context, shapes.parameters(), !recipe.update_as_ready), forecast,
             std::filesystem::exists(std::filesystem::path(recipe.output) / "checkpoints", ignored));
}

}  // namespace hone::train
