// Times of a slot's work on a card, from the shares of its peaks that the paths reach.
#include <algorithm>
#include <map>

#include "kernels/card_work.h"

namespace hone::kernels {

namespace {

/// Of a launch's bytes and so many operations, by its path.
double path_seconds(const Launch& launch, double flops, const Card& card) {
  const double peak = 1e12 * (launch.dtype == DType::kBF16     ? card.bf16_tflops
                              : launch.dtype == DType::kF8E4M3 ? card.e4m3_tflops
                                                               : card.f32_tflops);
  return std::max(flops / (peak * launch.path->of_peak(card, launch.dtype)),
                  launch.bytes / (card.gb_s * 1e9 * launch.path->of_memory));
}
double launch_seconds(const Launch& launch) {
  return launch.kernels * launch.path->launch_us * 1e-6;
}

}  // namespace

double seconds_of(const Launch& launch, const Card& card) {
  return path_seconds(launch, launch.done, card) + launch_seconds(launch);
}

WorkTime& WorkTime::operator+=(const WorkTime& other) {
  least += other.least;
  more_work += other.more_work;
  rounding += other.rounding;
  rate += other.rate;
  launches += other.launches;
  kernels += other.kernels;
  return *this;
}

WorkTime work_time(const Work& work, const Cost& cost, const Card& card) {
  const Ceilings ceilings = ceilings_of(card);
  WorkTime time;
  double at_peak = 0;  // launch by launch
  for (const Launch& launch : work) {
    const double least =
        least_seconds({.flops = launch.flops, .bytes = launch.bytes, .dtype = launch.dtype}, ceilings);
    const double full = path_seconds(launch, launch.flops, card);
    at_peak += least;
    time.rate += full - least;
    time.rounding += path_seconds(launch, launch.done, card) - full;
    time.launches += launch_seconds(launch);
    time.kernels += launch.kernels;
  }
  // A call that does nothing of what its Cost has (no row, say) takes no time.
  time.least = std::min(at_peak, least_seconds(cost, ceilings));
  time.more_work = at_peak - time.least;
  return time;
}

std::string_view main_path(const Work& work, const Card& card) {
  std::map<std::string_view, double> seconds;
  for (const Launch& launch : work) seconds[launch.path->name] += seconds_of(launch, card);
  std::string_view best;
  for (const auto& [name, taken] : seconds)
    if (best.empty() || taken > seconds[best]) best = name;
  return best;
}

}  // namespace hone::kernels
