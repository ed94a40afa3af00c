#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace hone::model {

namespace {

/// The frequency index at which a wave makes `rotations` turns over the original context (yarn).
double correction_dim(const RopeSpec& s, double rotations) {
  const auto dim = static_cast<double>(s.rotary_dim);
  return dim * std::log(static_cast<double>(s.original_max_positions) / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(s.theta));
}

double yarn_frequency(const RopeSpec& s, double frequency, std::int64_t index) {
  double low = correction_dim(s, s.beta_fast);
  double high = correction_dim(s, s.beta_slow);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(s.rotary_dim) - 1);
  if (low == high) high += 0.001;
  const double ramp = std::clamp((static_cast<double>(index) - low) / (high - low), 0.0, 1.0);
  return frequency / s.factor * ramp + frequency * (1 - ramp);
}

double llama3_frequency(const RopeSpec& s, double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  const auto original = static_cast<double>(s.original_max_positions);
  if (wavelength > original / s.low_freq_factor) return frequency / s.factor;
  if (wavelength < original / s.high_freq_factor) return frequency;
  const double smooth =
      (original / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return (1 - smooth) * frequency / s.factor + smooth * frequency;
}

}  // namespace

std::vector<double> inverse_frequencies(const RopeSpec& spec, std::int64_t length) {
  const auto dim = static_cast<double>(spec.rotary_dim);
  double theta = spec.theta;
  if (spec.type == "dynamic") {  // NTK: the base grows with the document
    const auto max_positions = static_cast<double>(spec.max_positions);
    const double n = std::max(static_cast<double>(length), max_positions);
    theta *= std::pow(spec.factor * n / max_positions - (spec.factor - 1), dim / (dim - 2));
  }
  std::vector<double> frequencies;
  for (std::int64_t i = 0; i < spec.rotary_dim / 2; ++i) {
    double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / dim);
    if (spec.type == "linear") frequency /= spec.factor;
    if (spec.type == "llama3") frequency = llama3_frequency(spec, frequency);
    if (spec.type == "yarn") frequency = yarn_frequency(spec, frequency, i);
    if (spec.type == "longrope")
      frequency /= (length > spec.original_max_positions ? spec.long_factor : spec.short_factor)
                       .at(static_cast<std::size_t>(i));
    frequencies.push_back(frequency);
  }
  return frequencies;
}

std::int64_t RotaryTables::variant_of(std::int64_t length) const {
  if (spec_.type == "dynamic" && length > spec_.max_positions) return length;
  if (spec_.type == "longrope" && length > spec_.original_max_positions) return 1;
  return 0;
}

RotaryTables::Prepared RotaryTables::prepare(ops::Context& context, std::span<const std::int32_t> lengths,
                                             std::span<const std::int32_t> first,
                                             std::span<const std::int32_t> full_lengths) {
  const auto place = [&](std::size_t i) -> std::int64_t { return first.empty() ? 0 : first[i]; };
  const auto variant = [&](std::size_t i) {
    return variant_of(full_lengths.empty() ? place(i) + lengths[i] : full_lengths[i]);
  };
  if (spec_.type == "dynamic")
    regions_.resize(std::min<std::size_t>(regions_.size(), 1));  // every length is its own region
  bool grown = !table_.cos.defined() || spec_.type == "dynamic";
  std::int64_t tokens = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    tokens += lengths[i];
    const std::int64_t wanted = place(i) + lengths[i];
    auto region = std::find_if(regions_.begin(), regions_.end(),
                               [&](const Region& r) { return r.variant == variant(i); });
    if (region == regions_.end()) region = regions_.insert(regions_.end(), Region{variant(i), 0, 0});
    if (region->rows >= wanted) continue;
    region->rows =
        std::max(wanted, std::min<std::int64_t>(region->rows * 2, 1 << 16));  // generation grows one by one
    grown = true;
  }
  if (grown) rebuild(context);

  std::vector<std::int32_t> positions;
  positions.reserve(static_cast<std::size_t>(tokens));
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const auto region = std::find_if(regions_.begin(), regions_.end(),
                                     [&](const Region& r) { return r.variant == variant(i); });
    for (std::int32_t j = 0; j < lengths[i]; ++j)
      positions.push_back(static_cast<std::int32_t>(region->begin + place(i)) + j);
  }
  return {table_,
          Tensor::from<std::int32_t>(context.allocator(), positions, Shape{tokens}, device::Purpose::kData)};
}

void RotaryTables::rebuild(ops::Context& context) {
  const std::int64_t half = spec_.rotary_dim / 2;
  std::int64_t rows = 0;
  for (auto& region : regions_) {
    region.begin = rows;
    rows += region.rows;
  }
  table_.cos = context.empty(Shape{rows, half}, DType::kF32, device::Purpose::kData);
  table_.sin = context.empty(Shape{rows, half}, DType::kF32, device::Purpose::kData);
  if (table_.cos.data() == nullptr) return;  // meta
  for (const auto& region : regions_) {
    const auto frequencies = inverse_frequencies(
        spec_,
        std::max(region.variant == 1 ? spec_.original_max_positions + 1 : region.variant, std::int64_t{0}));
    for (std::int64_t row = 0; row < region.rows; ++row) {
      for (std::int64_t i = 0; i < half; ++i) {
        // Transformers multiplies position and frequency in float; the angle of a far position depends on
        // that rounding.
        const float angle =
            static_cast<float>(row) * static_cast<float>(frequencies[static_cast<std::size_t>(i)]);
        const auto at = static_cast<std::size_t>((region.begin + row) * half + i);
        table_.cos.span<float>()[at] =
            static_cast<float>(std::cos(static_cast<double>(angle)) * spec_.attention_factor);
        table_.sin.span<float>()[at] =
            static_cast<float>(std::sin(static_cast<double>(angle)) * spec_.attention_factor);
      }
    }
  }
}

}  // namespace hone::model
