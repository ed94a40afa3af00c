// Learning-rate schedules, zero-based as Transformers' Trainer has them: the first warm-up step has rate 0.
#pragma once

#include <cstdint>

namespace hone::train {

struct ScheduleOptions {
  enum class Type { kConstant, kLinear, kCosine, kWsd };
  Type type = Type::kLinear;
  double warmup = 0;  // steps; below 1: a share of all steps, rounded up (Transformers 5's warmup_steps)
  double min_lr_ratio = 0;      // what the rate falls to, as a share of the full one
  double decay_fraction = 0.1;  // WSD: the last share of the steps, in which the rate falls
};

/// The warm-up's steps of `steps`.
std::int64_t warmup_steps(const ScheduleOptions& options, std::int64_t steps);

/// The share of the full learning rate at step `step` (0-based) of `steps`. Transformers'
/// get_constant_schedule_with_warmup, get_linear_schedule_with_warmup, get_cosine_schedule_with_warmup and
/// get_wsd_schedule (linear warm-up, cosine decay).
double schedule_factor(const ScheduleOptions& options, std::int64_t step, std::int64_t steps);

}  // namespace hone::train
