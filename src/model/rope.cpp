#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "tensor/transfer.h"

namespace hone::model {

namespace {

// Everything here is computed in float and in Transformers' order, exponents included: a far position
// multiplies whatever the frequencies were rounded to.

/// The frequency index at which a wave makes `rotations` turns over the original context (yarn).
double correction_dim(const RopeSpec& s, double rotations) {
  const auto dim = static_cast<double>(s.rotary_dim);
  return dim * std::log(static_cast<double>(s.original_max_positions) / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(s.theta));
}

/// `power`: the base to the index's exponent, of which a frequency is the reciprocal.
float yarn_frequency(const RopeSpec& s, float power, std::int64_t index) {
  double low = correction_dim(s, s.beta_fast);
  double high = correction_dim(s, s.beta_slow);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(s.rotary_dim) - 1);
  if (low == high) high += 0.001;
  const float ramp = std::clamp(
      (static_cast<float>(index) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0F, 1.0F);
  const float extrapolated = 1 - ramp;
  return 1 / (static_cast<float>(s.factor) * power) * (1 - extrapolated) + 1 / power * extrapolated;
}

float llama3_frequency(const RopeSpec& s, float power) {
  const float frequency = 1 / power;
  const float wavelength = 1 / frequency * static_cast<float>(2 * std::numbers::pi);
  const auto original = static_cast<double>(s.original_max_positions);
  const auto factor = static_cast<float>(s.factor);
  if (wavelength > static_cast<float>(original / s.low_freq_factor)) return frequency / factor;
  if (wavelength < static_cast<float>(original / s.high_freq_factor)) return frequency;
  const float smooth =
      (1 / wavelength * static_cast<float>(original) - static_cast<float>(s.low_freq_factor)) /
      static_cast<float>(s.high_freq_factor - s.low_freq_factor);
  return (1 - smooth) * frequency / factor + smooth * frequency;
}

/// NTK: the base grows with the document.
float dynamic_base(const RopeSpec& s, std::int64_t length) {
  const auto dim = static_cast<double>(s.rotary_dim);
  const auto max_positions = static_cast<double>(s.max_positions);
  const double exponent = dim / (dim - 2);
  if (length <= s.max_positions)
    return static_cast<float>(s.theta *
                              std::pow(s.factor * max_positions / max_positions - (s.factor - 1), exponent));
  const float growth =
      static_cast<float>(s.factor) * static_cast<float>(length) / static_cast<float>(max_positions) -
      static_cast<float>(s.factor - 1);
  return static_cast<float>(s.theta) * std::pow(growth, static_cast<float>(exponent));
}

}  // namespace

std::vector<float> inverse_frequencies(const RopeSpec& spec, std::int64_t length) {
  const float base = spec.type == "dynamic" ? dynamic_base(spec, length) : static_cast<float>(spec.theta);
  const auto& divisors = length > spec.original_max_positions ? spec.long_factor : spec.short_factor;
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < spec.rotary_dim / 2; ++i) {
    const float power = std::pow(base, static_cast<float>(2 * i) / static_cast<float>(spec.rotary_dim));
    if (spec.type == "linear")
      frequencies.push_back(1 / power / static_cast<float>(spec.factor));
    else if (spec.type == "llama3")
      frequencies.push_back(llama3_frequency(spec, power));
    else if (spec.type == "yarn")
      frequencies.push_back(yarn_frequency(spec, power, i));
    else if (spec.type == "longrope")
      frequencies.push_back(1 / (static_cast<float>(divisors.at(static_cast<std::size_t>(i))) * power));
    else
      frequencies.push_back(1 / power);
  }
  return frequencies;
}

std::int64_t RotaryTables::variant_of(std::int64_t length) const {
  if (spec_.type == "dynamic" && length > spec_.max_positions) return length;
  if (spec_.type == "longrope" && length > spec_.original_max_positions) return 1;
  return 0;
}

RotaryTables::Prepared RotaryTables::prepare(ops::Context& context, std::span<const std::int32_t> lengths,
                                             std::span<const std::int32_t> first) {
  const auto place = [&](std::size_t i) -> std::int64_t { return first.empty() ? 0 : first[i]; };
  const auto variant = [&](std::size_t i) { return variant_of(place(i) + lengths[i]); };
  bool grown = !table_.cos.defined();
  if (spec_.type == "dynamic")  // every length beyond the trained one is a region, of use to this batch alone
    grown |= std::erase_if(regions_, [](const Region& r) { return r.variant != 0; }) > 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
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
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const auto region = std::find_if(regions_.begin(), regions_.end(),
                                     [&](const Region& r) { return r.variant == variant(i); });
    for (std::int32_t j = 0; j < lengths[i]; ++j)
      positions.push_back(static_cast<std::int32_t>(region->begin + place(i)) + j);
  }
  return {table_, context.upload(positions)};
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
  if (context.stream().is_meta()) return;
  Staging cos(context.stream(), table_.cos), sin(context.stream(), table_.sin);
  auto* const cosines = reinterpret_cast<float*>(cos.data());
  auto* const sines = reinterpret_cast<float*>(sin.data());
  for (const auto& region : regions_) {
    const auto frequencies = inverse_frequencies(
        spec_,
        std::max(region.variant == 1 ? spec_.original_max_positions + 1 : region.variant, std::int64_t{0}));
    for (std::int64_t row = 0; row < region.rows; ++row) {
      for (std::int64_t i = 0; i < half; ++i) {
        // Transformers multiplies position and frequency in float; the angle of a far position depends on
        // that rounding.
        const float angle = static_cast<float>(row) * frequencies[static_cast<std::size_t>(i)];
        const auto at = static_cast<std::size_t>((region.begin + row) * half + i);
        cosines[at] = static_cast<float>(std::cos(static_cast<double>(angle)) * spec_.attention_factor);
        sines[at] = static_cast<float>(std::sin(static_cast<double>(angle)) * spec_.attention_factor);
      }
    }
  }
  cos.send();
  sin.send();
}

}  // namespace hone::model
