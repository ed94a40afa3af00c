// Block formats: every value by its formula, and coding back: unchanged blocks keep their bits, changed ones
// get the nearest codes under the scale that loses least.
#include "hub/block_format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "tests/hub/support.h"

namespace hone::hub {
namespace {

using Element = BlockFormat::Element;

struct Coded {
  BlockFormat format;
  std::int64_t matrices = 1;
  std::vector<std::byte> elements, scales;
  std::int64_t size() const { return matrices * format.rows * format.cols; }
};

float element_value(Element element, unsigned bits) {
  if (element == Element::kE2M1) {
    Float4E2M1 e;
    e.bits = static_cast<std::uint8_t>(bits);
    return static_cast<float>(e);
  }
  Float8E4M3 e;
  e.bits = static_cast<std::uint8_t>(bits);
  return static_cast<float>(e);
}

unsigned element_at(const Coded& coded, std::int64_t i) {
  if (coded.format.element == Element::kE4M3)
    return static_cast<unsigned>(coded.elements[static_cast<std::size_t>(i)]);
  return static_cast<unsigned>(coded.elements[static_cast<std::size_t>(i / 2)]) >> (i % 2 * 4) & 0xfU;
}

std::int64_t scale_index(const Coded& coded, std::int64_t i) {
  const auto& f = coded.format;
  const std::int64_t matrix = i / (f.rows * f.cols);
  const std::int64_t row = i / f.cols % f.rows;
  return (matrix * f.scale_rows() + row / f.block_rows) * f.scale_cols() + i % f.cols / f.block_cols;
}

float scale_value(const Coded& coded, std::int64_t index) {
  const std::byte* at = coded.scales.data() + index * coded.format.scale_bytes();
  if (coded.format.scale->name == "F32") {
    float value = 0;
    std::memcpy(&value, at, 4);
    return value;
  }
  if (coded.format.scale->name == "BF16") {
    BFloat16 value;
    std::memcpy(&value, at, 2);
    return static_cast<float>(value);
  }
  return static_cast<float>(std::ldexp(1.0, static_cast<int>(*at) - 127));
}

/// Random codes, no NaN among them, and scales around 1/64.
Coded random_coded(Element element, const char* scale, std::int64_t matrices, std::int64_t rows,
                   std::int64_t cols, std::int64_t block_rows, std::int64_t block_cols, std::uint64_t seed) {
  Coded coded{.format = {element, find_stored_type(scale), rows, cols, block_rows, block_cols},
              .matrices = matrices,
              .elements = {},
              .scales = {}};
  const CounterRng rng(seed, RngPurpose::kInit, 1);
  std::uint64_t counter = 0;
  const auto below = [&](unsigned n) { return static_cast<unsigned>(rng.bits(counter++) % n); };
  for (std::int64_t i = 0; i < coded.format.bytes_of(coded.size()); ++i) {
    unsigned bits = below(256);
    if (element == Element::kE4M3 && (bits & 0x7fU) == 0x7fU) bits ^= 1U;
    coded.elements.push_back(static_cast<std::byte>(bits));
  }
  const std::int64_t scales = matrices * coded.format.scale_rows() * coded.format.scale_cols();
  coded.scales.resize(static_cast<std::size_t>(scales * coded.format.scale_bytes()));
  for (std::int64_t i = 0; i < scales; ++i) {
    std::byte* at = coded.scales.data() + i * coded.format.scale_bytes();
    const float value = (1.0F + static_cast<float>(below(1000)) / 1000) / 64;
    if (coded.format.scale->name == "F32") {
      std::memcpy(at, &value, 4);
    } else if (coded.format.scale->name == "BF16") {
      const BFloat16 half(value);
      std::memcpy(at, &half, 2);
    } else {
      *at = static_cast<std::byte>(118 + below(6));
    }
  }
  return coded;
}

std::vector<float> decoded(const Coded& coded) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < coded.size(); ++i)
    values.push_back(element_value(coded.format.element, element_at(coded, i)) *
                     scale_value(coded, scale_index(coded, i)));
  return values;
}

std::vector<Coded> every() {
  return {random_coded(Element::kE2M1, "U8", 3, 5, 96, 1, 32, 1),
          random_coded(Element::kE2M1, "F8_E8M0", 1, 1, 40, 1, 32, 2),  // the last block cut short
          random_coded(Element::kE4M3, "F32", 1, 300, 131, 128, 128, 3),
          random_coded(Element::kE4M3, "F32", 2, 5, 7, 5, 7, 4),  // one scale a matrix
          random_coded(Element::kE4M3, "BF16", 2, 130, 3, 128, 128, 5),
          random_coded(Element::kE4M3, "U8", 2, 3, 70, 1, 32, 6),
          random_coded(Element::kE4M3, "F32", 1, 4, 6, 2, 3, 7)};
}

TEST(BlockFormat, DecodesEveryValueByItsFormulaFromAnyPlaceOn) {
  for (const auto& coded : every()) {
    const auto expected = decoded(coded);
    for (const std::int64_t step : {coded.size(), std::int64_t{2}, std::int64_t{26}, std::int64_t{1022}}) {
      std::vector<float> values(expected.size(), -1.0F);
      for (std::int64_t first = 0; first < coded.size(); first += step) {
        const std::int64_t n = std::min(step, coded.size() - first);
        const ScaleRange range = scales_of(coded.format, first, n);
        decode(coded.format, coded.elements.data() + coded.format.bytes_of(first),
               coded.scales.data() + range.first * coded.format.scale_bytes(), range.first, first, n,
               values.data() + first);
        const auto [low, high] = std::pair(scale_index(coded, first), scale_index(coded, first + n - 1));
        EXPECT_TRUE(range.first <= low && high < range.first + range.count);
      }
      EXPECT_EQ(values, expected);
    }
  }
}

TEST(BlockFormat, KeepsTheBitsOfBlocksThatDidNotChange) {
  for (const auto& coded : every())
    for (const DType held : {DType::kF32, DType::kBF16}) {
      auto values = decoded(coded);
      if (held == DType::kBF16)
        for (auto& v : values) v = static_cast<float>(BFloat16(v));
      Coded again = coded;
      const auto error = encode(team(), coded.format, values.data(), held, 0, coded.size(),
                                again.elements.data(), again.scales.data(), 0);
      EXPECT_EQ(again.elements, coded.elements);
      EXPECT_EQ(again.scales, coded.scales);
      EXPECT_EQ(error.relative(), 0);
    }
}

TEST(BlockFormat, CodesOneChangedValueInItsOwnBlockAlone) {
  for (const auto& coded : every()) {
    const std::int64_t changed = coded.size() / 2;
    auto values = decoded(coded);
    values[static_cast<std::size_t>(changed)] += 0.01F;
    Coded again = coded;
    encode(team(), coded.format, values.data(), DType::kF32, 0, coded.size(), again.elements.data(),
           again.scales.data(), 0);
    for (std::int64_t i = 0; i < coded.size(); ++i)
      if (scale_index(coded, i) != scale_index(coded, changed)) {
        ASSERT_EQ(element_at(again, i), element_at(coded, i)) << i;
      }
    const std::int64_t scales = static_cast<std::int64_t>(coded.scales.size()) / coded.format.scale_bytes();
    for (std::int64_t s = 0; s < scales; ++s)
      if (s != scale_index(coded, changed)) {
        ASSERT_EQ(scale_value(again, s), scale_value(coded, s)) << s;
      }
  }
}

TEST(BlockFormat, RoundsToTheNearestUnderAScaleThatLosesNoMoreThanTheOldOne) {
  for (const auto& coded : every())
    for (const float grown : {0.001F, 1.0F, 40.0F}) {  // small moves, and blocks that leave their range
      const CounterRng rng(9, RngPurpose::kInit, 2);
      auto values = decoded(coded);
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = values[i] * std::max(1.0F, grown) + static_cast<float>(rng.normal(i)) * 0.003F * grown;
      Coded again = coded;
      const auto error = encode(team(), coded.format, values.data(), DType::kF32, 0, coded.size(),
                                again.elements.data(), again.scales.data(), 0);
      const auto got = decoded(again);
      double sum = 0, under_old = 0, squares = 0;
      const unsigned codes = coded.format.element == Element::kE2M1 ? 16 : 256;
      for (std::int64_t i = 0; i < coded.size(); ++i) {
        const auto at = static_cast<std::size_t>(i);
        const auto distance = [&](float value) {
          return std::abs(static_cast<double>(value) - static_cast<double>(values[at]));
        };
        const float scale = scale_value(again, scale_index(again, i));
        const float old_scale = scale_value(coded, scale_index(coded, i));
        double nearest = HUGE_VAL, nearest_old = HUGE_VAL;
        for (unsigned bits = 0; bits < codes; ++bits) {
          const float e = element_value(coded.format.element, bits);
          if (std::isnan(e)) continue;
          nearest = std::min(nearest, distance(e * scale));
          nearest_old = std::min(nearest_old, distance(e * old_scale));
        }
        ASSERT_LE(distance(got[at]), nearest * (1 + 1e-6)) << i;
        sum += distance(got[at]) * distance(got[at]);
        under_old += nearest_old * nearest_old;
        squares += static_cast<double>(values[at]) * static_cast<double>(values[at]);
      }
      EXPECT_LE(sum, under_old * (1 + 1e-6));
      EXPECT_NEAR(error.squared_error / sum, 1, 1e-6);
      EXPECT_NEAR(error.squared_values / squares, 1, 1e-6);
      EXPECT_LT(error.relative(), coded.format.element == Element::kE2M1 ? 0.25 : 0.05);
    }
}

TEST(BlockFormat, ExpectsTheErrorThatCodingAdds) {
  for (const auto& coded : {random_coded(Element::kE2M1, "U8", 2, 64, 256, 1, 32, 11),
                            random_coded(Element::kE4M3, "F32", 1, 256, 256, 128, 128, 12)}) {
    const auto expected =
        expected_error(coded.format, coded.elements.data(), coded.scales.data(), 0, 0, coded.size());
    auto values = decoded(coded);
    const CounterRng rng(13, RngPurpose::kInit, 3);
    for (std::size_t i = 0; i < values.size(); ++i)  // by more than a step: anywhere between two codes
      values[i] += static_cast<float>(rng.normal(i)) * 0.25F * std::abs(values[i]);
    Coded again = coded;
    const auto error = encode(team(), coded.format, values.data(), DType::kF32, 0, coded.size(),
                              again.elements.data(), again.scales.data(), 0);
    EXPECT_NEAR(error.relative() / expected.relative(), 1, 0.2);
  }
}

TEST(BlockFormat, RefusesRowsThatCutBlocks) {
  auto coded = random_coded(Element::kE4M3, "F32", 1, 4, 6, 2, 3, 7);
  const auto values = decoded(coded);
  EXPECT_THROW(encode(team(), coded.format, values.data(), DType::kF32, 0, 6, coded.elements.data(),
                      coded.scales.data(), 0),
               Error);
  EXPECT_THROW(encode(team(), coded.format, values.data(), DType::kF32, 3, 12, coded.elements.data(),
                      coded.scales.data(), 0),
               Error);
}

}  // namespace
}  // namespace hone::hub
