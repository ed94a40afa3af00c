// Code points as Python's str sees them: UTF-8 in and out, character classes, case mappings.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "text/unicode.h"

namespace hone::text::jinja {

/// The code point at byte `at` of valid UTF-8; moves `at` behind it.
inline char32_t decode_utf8(std::string_view text, std::size_t& at) {
  return unicode::decode(text, at);
}
/// The start of the code point that ends before byte `at` (> 0).
std::size_t previous_utf8(std::string_view text, std::size_t at);
inline void append_utf8(std::string& out, char32_t code) {
  unicode::append(out, code);
}
std::string to_utf8(char32_t code);
std::size_t count_code_points(std::string_view text);

bool is_space(char32_t code);       ///< str.isspace, `\s`
bool is_line_break(char32_t code);  ///< where str.splitlines cuts
bool is_alpha(char32_t code);
bool is_decimal(char32_t code);
bool is_lower(char32_t code);
bool is_upper(char32_t code);
bool is_title(char32_t code);
bool is_cased(char32_t code);
bool is_printable(char32_t code);
bool is_identifier_start(char32_t code);
bool is_identifier_part(char32_t code);
/// The value of a decimal digit of any script, or -1.
int decimal_value(char32_t code);

enum class Case { kUpper, kLower, kTitle };
/// Appends the full mapping of one code point. Lower case of a capital sigma depends on its neighbours: see
/// is_final_sigma.
void append_mapped(std::string& out, char32_t code, Case mapping);
/// Is the sigma whose first byte is `at` in `text` the last letter of a word (so that its lower case is
/// U+03C2)?
bool is_final_sigma(std::string_view text, std::size_t at);

}  // namespace hone::text::jinja
