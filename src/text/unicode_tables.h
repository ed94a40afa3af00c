// The generated character classes that unicode.cpp and the regex translation look up (unicode_tables.cpp).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace hone::text::unicode {

/// Code points first to last, both included. Tables are sorted and their ranges disjoint.
struct CodeRange {
  char32_t first;
  char32_t last;
};

/// Code points first, first + stride, …, last whose lower case is the code point + delta.
struct LowerRange {
  char32_t first;
  char32_t last;
  std::uint32_t stride;
  std::int32_t delta;
};

/// Code points of a property (general category, derived property or script) that Unicode 14 does not have in
/// it.
struct NewerCodes {
  std::string_view property;
  std::span<const CodeRange> ranges;
};

std::span<const CodeRange> word_ranges();
std::span<const CodeRange> numeric_ranges();
std::span<const CodeRange> punctuation_ranges();
std::span<const CodeRange> combining_mark_ranges();
std::span<const CodeRange> normalizable_ranges();
std::span<const LowerRange> lower_ranges();
std::span<const NewerCodes> newer_codes();

}  // namespace hone::text::unicode
