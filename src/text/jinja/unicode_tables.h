// What utf8proc's tables lack for Python's str methods: long case mappings and the derived properties. Data:
// jinja_unicode_tables.cpp.
#pragma once

#include <array>
#include <cstdint>

namespace hone::text::jinja {

struct CodeRange {
  char32_t first;
  char32_t last;
};

/// A case mapping to two or three code points; unused places are 0.
struct LongMapping {
  char32_t from;
  std::array<char32_t, 3> to;
};

extern const std::array<LongMapping, 102> kLongUpper;
extern const std::array<LongMapping, 48> kLongTitle;
extern const std::array<CodeRange, 24> kOtherLower;
extern const std::array<CodeRange, 5> kOtherUpper;

}  // namespace hone::text::jinja
