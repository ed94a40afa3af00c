#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace hone::train {

std::int64_t warmup_steps(const ScheduleOptions& options, std::int64_t steps) {
  return static_cast<std::int64_t>(options.warmup < 1 ? std::ceil(options.warmup * static_cast<double>(steps))
                                                      : options.warmup);
}

double schedule_factor(const ScheduleOptions& options, std::int64_t step, std::int64_t steps) {
  using Type = ScheduleOptions::Type;
  const std::int64_t warmup = warmup_steps(options, steps);
  const auto floor = [&](double factor) {
    return factor * (1 - options.min_lr_ratio) + options.min_lr_ratio;
  };
  const auto ratio = [](std::int64_t a, std::int64_t b) {
    return static_cast<double>(a) / static_cast<double>(std::max<std::int64_t>(1, b));
  };
  const auto half_cosine = [](double progress) { return 0.5 * (1 + std::cos(std::numbers::pi * progress)); };
  if (step < warmup) {
    const double rising = ratio(step, warmup);
    return options.type == Type::kWsd ? floor(rising) : rising;  // only WSD warms up from min_lr_ratio
  }
  const double progress = std::min(1.0, ratio(step - warmup, steps - warmup));
  switch (options.type) {
    case Type::kConstant:
      return 1;
    case Type::kLinear:
      return floor(1 - progress);
    case Type::kCosine:
      return floor(half_cosine(progress));
    case Type::kWsd:
      break;
  }
  const auto decay_steps =
      static_cast<std::int64_t>(std::llround(options.decay_fraction * static_cast<double>(steps)));
  const std::int64_t decay_begin = steps - decay_steps;  // in the middle of a warm-up that is longer
  if (step < decay_begin) return 1;
  if (step >= decay_begin + decay_steps) return options.min_lr_ratio;
  return floor(half_cosine(ratio(step - decay_begin, decay_steps)));
}

}  // namespace hone::train
