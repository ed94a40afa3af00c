// Character classes and case mappings from utf8proc, completed by the generated tables where Python knows
// more.
#include "text/jinja/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "text/jinja/unicode_tables.h"

namespace hone::text::jinja {
namespace {

constexpr char32_t kCapitalSigma = 0x3A3;
constexpr char32_t kCapitalDottedI = 0x130;

utf8proc_category_t category(char32_t code) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

template <std::size_t N>
bool in_ranges(const std::array<CodeRange, N>& ranges, char32_t code) {
  const auto it = std::upper_bound(ranges.begin(), ranges.end(), code,
                                   [](char32_t c, const CodeRange& range) { return c < range.first; });
  return it != ranges.begin() && code <= std::prev(it)->last;
}

template <std::size_t N>
bool append_long(std::string& out, const std::array<LongMapping, N>& mappings, char32_t code) {
  const auto it = std::lower_bound(mappings.begin(), mappings.end(), code,
                                   [](const LongMapping& mapping, char32_t c) { return mapping.from < c; });
  if (it == mappings.end() || it->from != code) return false;
  for (char32_t to : it->to) {
    if (to != 0) append_utf8(out, to);
  }
  return true;
}

/// Letters' companions that a word boundary looks through (Unicode's Case_Ignorable).
bool is_case_ignorable(char32_t code) {
  switch (category(code)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      break;
  }
  constexpr std::array<char32_t, 16> kMidLetters = {0x27,   0x2E,   0x3A,   0xB7,   0x387,  0x55F,
                                                    0x5F4,  0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                                                    0xFE52, 0xFE55, 0xFF07, 0xFF0E};
  return code == 0xFF1A || std::find(kMidLetters.begin(), kMidLetters.end(), code) != kMidLetters.end();
}

}  // namespace

std::size_t previous_utf8(std::string_view text, std::size_t at) {
  --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U) --at;
  return at;
}

std::string to_utf8(char32_t code) {
  std::string out;
  append_utf8(out, code);
  return out;
}

std::size_t count_code_points(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

bool is_space(char32_t code) {
  return (code >= 9 && code <= 13) || (code >= 28 && code <= 32) || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
         code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_line_break(char32_t code) {
  return (code >= 10 && code <= 13) || (code >= 28 && code <= 30) || code == 0x85 || code == 0x2028 ||
         code == 0x2029;
}

bool is_alpha(char32_t code) {
  const auto c = category(code);
  return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t code) {
  return category(code) == UTF8PROC_CATEGORY_ND;
}
bool is_lower(char32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LL || in_ranges(kOtherLower, code);
}
bool is_upper(char32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LU || in_ranges(kOtherUpper, code);
}
bool is_title(char32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LT;
}
bool is_cased(char32_t code) {
  return is_lower(code) || is_upper(code) || is_title(code);
}

bool is_printable(char32_t code) {
  switch (category(code)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return code == ' ';
    default:
      return true;
  }
}

bool is_identifier_start(char32_t code) {
  return code == '_' || is_alpha(code) || category(code) == UTF8PROC_CATEGORY_NL;
}

bool is_identifier_part(char32_t code) {
  const auto c = category(code);
  return is_identifier_start(code) || c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_MN ||
         c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_PC;
}

int decimal_value(char32_t code) {
  if (code >= '0' && code <= '9') return static_cast<int>(code - '0');
  if (code < 0x80 || !is_decimal(code)) return -1;
  // The ten digits of a script are consecutive, and begin where the run of decimals does, modulo ten for runs
  // of several sets.
  char32_t first = code;
  while (is_decimal(first - 1)) --first;
  return static_cast<int>((code - first) % 10);
}

void append_mapped(std::string& out, char32_t code, Case mapping) {
  const auto simple = static_cast<utf8proc_int32_t>(code);
  switch (mapping) {
    case Case::kUpper:
      if (!append_long(out, kLongUpper, code))
        append_utf8(out, static_cast<char32_t>(utf8proc_toupper(simple)));
      return;
    case Case::kTitle:
      if (!append_long(out, kLongTitle, code))
        append_utf8(out, static_cast<char32_t>(utf8proc_totitle(simple)));
      return;
    case Case::kLower:
      append_utf8(out, code == kCapitalDottedI ? U'i' : static_cast<char32_t>(utf8proc_tolower(simple)));
      if (code == kCapitalDottedI) append_utf8(out, 0x307);
      return;
  }
}

bool is_final_sigma(std::string_view text, std::size_t at) {
  std::size_t after = at;
  if (decode_utf8(text, after) != kCapitalSigma) return false;
  const auto cased_before = [&] {
    for (std::size_t i = at; i > 0;) {
      i = previous_utf8(text, i);
      std::size_t end = i;
      const char32_t code = decode_utf8(text, end);
      if (!is_case_ignorable(code)) return is_cased(code);
    }
    return false;
  };
  const auto cased_after = [&] {
    for (std::size_t i = after; i < text.size();) {
      const char32_t code = decode_utf8(text, i);
      if (!is_case_ignorable(code)) return is_cased(code);
    }
    return false;
  };
  return cased_before() && !cased_after();
}

}  // namespace hone::text::jinja
