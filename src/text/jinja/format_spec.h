// Numbers in the notations of Python's `%`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hone::text::jinja {

struct FormatSpec {
  char32_t fill = ' ';
  char align = 0;  ///< one of < > = ^, or 0 where none was given
  char sign = '-';
  bool alternate = false;
  std::int64_t width = 0;
  int precision = -1;
  char type = 0;
};
/// The digits of |value| in base 2, 8, 10 or 16, lower case.
std::string integer_digits(std::int64_t value, unsigned base);
/// |value| as type e, f or g (either case) prints it.
std::string float_digits(double value, char type, int precision, bool alternate);
/// Sign, prefix, grouping and padding around the digits of a number.
std::string pad_number(const FormatSpec& spec, bool is_negative, std::string_view prefix, std::string digits);

}  // namespace hone::text::jinja
