// The forms that experts come in, for the tests of their kernels: what is computed, and how weights lie.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <string>

#include "tests/kernels/arena.h"

namespace hone::test {

using kernels::Activation;
using kernels::ExpertWeight;
using kernels::WeightKind;

struct ExpertForm {
  Activation activation = Activation::kSilu;
  bool gated = true, biases = false;
  WeightKind gate_up = WeightKind::kDense, down = WeightKind::kDense;
  DType y = DType::kF32;
  bool lost = false;  // a third of the slots goes nowhere

  std::string name() const {
    return fmt::format("{}activation {}{}, weights {} {}, y {}{}", gated ? "gated " : "",
                       static_cast<int>(activation), biases ? " with biases" : "", static_cast<int>(gate_up),
                       static_cast<int>(down), name_of(y), lost ? ", some lost" : "");
  }
  bool dense() const { return gate_up == WeightKind::kDense && down == WeightKind::kDense; }
};

/// n random bytes of which `keep` gives what is stored.
template <typename Keep>
std::uint8_t* random_bytes(Arena& arena, std::int64_t n, const Keep& keep) {
  std::vector<std::int32_t> words(static_cast<std::size_t>((n + 3) / 4));
  for (auto& word : words) {
    std::uint32_t bits = 0;
    for (int i = 0; i < 4; ++i)
      bits = bits << 8 | static_cast<std::uint8_t>(keep(static_cast<std::uint32_t>(arena.random()())));
    word = static_cast<std::int32_t>(bits);
  }
  return reinterpret_cast<std::uint8_t*>(arena.integers(words));
}

/// A weight of (experts, parts * rows, k), of about 1 / sqrt(k).
inline ExpertWeight expert_weight(Arena& arena, WeightKind kind, DType t, std::int64_t experts,
                                  std::int64_t parts, std::int64_t rows, std::int64_t k) {
  const std::int64_t n = experts * parts * rows * k;
  const double scale = 1 / std::sqrt(static_cast<double>(k));
  switch (kind) {
    case WeightKind::kDense:
      return {arena.input(experts * parts * rows, k, t, 0, scale).data};
    case WeightKind::kMxfp4: {
      const auto* data = random_bytes(arena, n / 2, [](std::uint32_t r) { return r; });
      const double exponent = 125 + std::log2(scale);  // the numbers themselves are about 2.7
      return {data,
              random_bytes(arena, n / 32,
                           [&](std::uint32_t r) { return static_cast<std::uint32_t>(exponent) + r % 3; }),
              kind};
    }
    case WeightKind::kFp8Block: {
      // up to 1.9, subnormal ones among them
      const auto* data = random_bytes(arena, n, [](std::uint32_t r) { return r & 0xbf; });
      std::vector<double> scales;
      std::uniform_real_distribution<double> uniform(scale, 4 * scale);
      for (std::int64_t i = 0; i < experts * parts * ((rows + 127) / 128) * ((k + 127) / 128); ++i)
        scales.push_back(uniform(arena.random()));
      return {data, arena.floats(scales), kind};
    }
  }
  return {};
}

/// What of the arguments does not depend on the routing.
inline void set_form(kernels::ExpertsArgs& a, Arena& arena, const ExpertForm& form, DType t,
                     std::int64_t experts, std::int64_t hidden, std::int64_t ffn) {
  a.experts = experts;
  a.ffn = ffn;
  a.activation = form.activation;
  a.gated = form.gated;
  if (form.activation == Activation::kClampedSilu) {
    a.alpha = 1.702F;
    a.limit = 1.5F;  // so low that many are clamped
  }
  a.gate_up = expert_weight(arena, form.gate_up, t, experts, a.parts(), ffn, hidden);
  a.down = expert_weight(arena, form.down, t, experts, 1, hidden, ffn);
  a.has_gate_up_bias = a.has_down_bias = form.biases;
  if (!form.biases) return;
  a.gate_up_bias = arena.input(experts, a.inner(), t).data;
  a.down_bias = arena.input(experts, hidden, t).data;
}

}  // namespace hone::test
