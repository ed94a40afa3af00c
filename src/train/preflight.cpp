#include "train/preflight.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "base/log.h"
#include "device/memory_of.h"
#include "hub/hub_cache.h"
#include "model/decoder.h"
#include "train/forecast.h"

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

void check_shapes(const Recipe& recipe, const model::ModelDescription& description) {
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
  const auto needed =
      static_cast<double>(held_memory(context, shapes.parameters(), !recipe.update_as_ready).total());
  const auto available = static_cast<double>(device::memory_of(recipe.device).available);
  if (available > 0 && needed > available)
    log_warning("weights, optimizer and gradients take {}, and {} of memory are available{}: {}",
                bytes_text(needed), bytes_text(available),
                recipe.device == device::Device{} ? "" : " on " + device::name_of(recipe.device),
                recipe.device == device::Device{} ? "the system may end this run"
                                                  : "this run will end out of memory");
}

}  // namespace hone::train
