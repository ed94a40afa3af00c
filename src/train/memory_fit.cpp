#include "train/memory_fit.h"

#include <algorithm>
#include <vector>

#include "base/console.h"
#include "base/error.h"

namespace hone::train {

namespace {

struct Setting {
  std::string key, value;
  std::string text() const { return key + "=" + value; }
};

/// In order of what they cost the user. First what changes no bit: states that need not be in pinned memory
/// where that is what lacks; gradients of weights in their turn; recompute, a third more computing. Then a
/// smaller micro_batch: the gradient is the same sum, rounded elsewhere, and products of fewer rows take
/// longer. as_ready costs no time, but clips by the norm of the step before; 8-bit moments cost none either,
/// and train as well (Dettmers et al., arXiv:2110.02861). Offloading changes no bit, yet each step brings all
/// states over the bus and back, 24 bytes a parameter: on a step of a small batch that is most of it. Last
/// what touches the weights themselves: bf16 masters, whose small updates are added up by chance.
std::vector<Setting> settings_for(const Recipe& recipe) {
  std::vector<Setting> settings{{"train.optimizer.offload", "none"},
                                {"train.weight_gradients", "in_order"},
                                {"train.recompute", "block"}};
  for (std::int64_t micro = recipe.micro_batch - 1; micro > 0; --micro)
    if (recipe.global_batch % micro == 0) settings.push_back({"train.micro_batch", std::to_string(micro)});
  for (const char* setting : {"train.optimizer.update=as_ready", "train.optimizer.state=8bit",
                              "train.optimizer.offload=host", "train.optimizer.master=bf16"}) {
    const std::string text = setting;
    settings.push_back({text.substr(0, text.find('=')), text.substr(text.find('=') + 1)});
  }
  return settings;
}

/// The recipe with a setting; nullopt where that is no recipe, or changes nothing.
std::optional<Recipe> with(const Recipe& recipe, const Setting& setting) {
  const Option* option = find_option(setting.key);
  HONE_CHECK(option != nullptr, "no option {}", setting.key);
  Recipe changed = recipe;
  option->set(changed, RecipeValue(YAML::Node(setting.value), setting.key, "memory"));
  if (option->get(changed) == option->get(recipe)) return std::nullopt;
  if (option->idle && !option->idle(changed).empty()) return std::nullopt;
  if (changed.update_as_ready && changed.global_batch != changed.micro_batch) return std::nullopt;
  return changed;
}

Bearing bearing_of(const std::vector<Setting>& settings) {
  Bearing most = Bearing::kNone;
  for (const auto& setting : settings) most = std::max(most, find_option(setting.key)->bearing);
  return most;
}

FittingSetting found(const std::vector<Setting>& settings, const MemoryForecast& memory) {
  FittingSetting result{.settings = {}, .memory = memory, .bearing = bearing_of(settings)};
  for (const auto& setting : settings)
    result.settings += (result.settings.empty() ? "" : " ") + setting.text();
  return result;
}

/// All settings; nullopt where one of them cannot be with those before it.
std::optional<Recipe> with_all(const Recipe& recipe, const std::vector<Setting>& settings) {
  std::optional<Recipe> changed = recipe;
  for (const auto& setting : settings)
    if (changed) changed = with(*changed, setting);
  return changed;
}

}  // namespace

bool fits(const MemoryForecast& memory, const MemoryLimits& limits) {
  return (limits.device == 0 || memory.total() - memory.program <= limits.device) &&
         (limits.host == 0 || memory.pinned <= limits.host);
}

bool cannot_fit(const MemoryForecast& memory, const MemoryLimits& limits) {
  MemoryForecast least = memory;
  least.reserve = 0;
  return !fits(least, limits);
}

std::optional<FittingSetting> find_setting(const Recipe& recipe, const ForecastRecipe& forecast,
                                           const MemoryLimits& limits, bool has_begun) {
  std::vector<Setting> settings = settings_for(recipe);
  if (has_begun)
    std::erase_if(settings, [](const Setting& s) { return find_option(s.key)->bearing == Bearing::kState; });
  for (const auto& setting : settings)
    if (const auto changed = with(recipe, setting))
      if (const MemoryForecast memory = forecast(*changed); fits(memory, limits))
        return found({setting}, memory);
  // Together: one after another until it fits, then without those of them that it fits without, the dearest
  // first.
  std::vector<Setting> taken;
  std::optional<MemoryForecast> memory;
  for (const auto& setting : settings) {
    auto more = taken;
    std::erase_if(more, [&](const Setting& s) { return s.key == setting.key; });  // a smaller micro_batch yet
    more.push_back(setting);
    const auto changed = with_all(recipe, more);
    if (!changed) continue;
    taken = std::move(more);
    if (const MemoryForecast now = forecast(*changed); fits(now, limits)) {
      memory = now;
      break;
    }
  }
  if (!memory) return std::nullopt;
  for (std::size_t i = taken.size(); i-- > 0;) {
    auto fewer = taken;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    const auto changed = with_all(recipe, fewer);
    if (!changed) continue;
    if (const MemoryForecast now = forecast(*changed); fits(now, limits)) {
      taken = std::move(fewer);
      memory = now;
    }
  }
  return found(taken, *memory);
}

std::string advice_text(const Recipe& recipe, const ForecastRecipe& forecast, const MemoryLimits& limits,
                        bool has_begun) {
  const auto setting = find_setting(recipe, forecast, limits, has_begun);
  if (!setting)
    return fmt::format("no setting {}would fit: a shorter data.seq_len, a smaller model or more memory",
                       has_begun ? "with which this run can be continued " : "");
  std::string text = fmt::format("{} would fit ({}", setting->settings,
                                 bytes_text(static_cast<double>(setting->memory.total())));
  if (setting->memory.pinned > 0)
    text += fmt::format(", and {} of the host", bytes_text(static_cast<double>(setting->memory.pinned)));
  text += ")";
  if (has_begun && setting->bearing == Bearing::kNumbers) text += ", and with --extend continue this run";
  if (has_begun && setting->bearing == Bearing::kNone) text += ", and continue this run";
  return text;
}

std::string needs_text(const MemoryForecast& memory) {
  std::string parts;
  const auto add = [&](const char* name, std::int64_t bytes) {
    if (bytes == 0) return;
    parts += fmt::format("{}{} {}", parts.empty() ? "" : " + ", name, bytes_text(static_cast<double>(bytes)));
  };
  add("weights", memory.weights);
  add("optimizer", memory.optimizer);
  add("gradients", memory.gradients);
  add("activations", memory.activations);
  add("reserve", memory.reserve);
  return fmt::format("{} ({})", bytes_text(static_cast<double>(memory.total() - memory.program)), parts);
}

}  // namespace hone::train
