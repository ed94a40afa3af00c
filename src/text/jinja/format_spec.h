// Numbers in the notations that both of Python's formatting languages share.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hone::text::jinja {

/// [[fill]align][sign][#][0][width][grouping][.precision][type]
struct FormatSpec {
  char32_t fill = ' ';
  char align = 0;  ///< one of < > = ^, or 0 where none was given
  char sign = '-';
  bool alternate = false;
  std::int64_t width = 0;
  char grouping = 0;
  int precision = -1;
  char type = 0;
};
/// Throws Raise (ValueError: Invalid format specifier).
FormatSpec parse_format_spec(std::string_view text);

/// The digits of |value| in base 2, 8, 10 or 16, lower case.
std::string integer_digits(std::int64_t value, unsigned base);
/// |value| as type e, f, g (either case) or '%' prints it; '\0' is format()'s own general notation.
std::string float_digits(double value, char type, int precision, bool alternate);
/// Sign, prefix, grouping and padding around the digits of a number.
std::string pad_number(const FormatSpec& spec, bool is_negative, std::string_view prefix, std::string digits);

}  // namespace hone::text::jinja
