// The printing of numbers.
#include "text/jinja/format_spec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <vector>

#include "text/jinja/print.h"
#include "text/jinja/unicode.h"
#include "text/jinja/value.h"

namespace hone::text::jinja {
namespace {

std::string print_double(const char* format, int precision, double value) {
  const int size = std::snprintf(nullptr, 0, format, precision, value);
  std::string out(static_cast<std::size_t>(size) + 1, '\0');
  std::snprintf(out.data(), out.size(), format, precision, value);
  out.pop_back();
  return out;
}

}  // namespace

std::string integer_digits(std::int64_t value, unsigned base) {
  auto magnitude = static_cast<std::uint64_t>(value);
  if (value < 0) magnitude = 0 - magnitude;
  std::string out;
  do {
    out += "0123456789abcdef"[magnitude % base];
    magnitude /= base;
  } while (magnitude > 0);
  std::reverse(out.begin(), out.end());
  return out;
}

std::string float_digits(double value, char type, int precision, bool alternate) {
  value = std::abs(value);
  const bool upper = type == 'E' || type == 'F' || type == 'G';
  if (std::isnan(value)) return upper ? "NAN" : "nan";
  if (std::isinf(value)) return upper ? "INF" : "inf";
  const int digits = precision < 0 ? 6 : precision;
  switch (type) {
    case 'e':
      return print_double(alternate ? "%#.*e" : "%.*e", digits, value);
    case 'E':
      return print_double(alternate ? "%#.*E" : "%.*E", digits, value);
    case 'g':
      return print_double(alternate ? "%#.*g" : "%.*g", digits, value);
    case 'G':
      return print_double(alternate ? "%#.*G" : "%.*G", digits, value);
    default:
      return print_double(alternate ? "%#.*f" : "%.*f", digits, value);
  }
}

std::string pad_number(const FormatSpec& spec, bool is_negative, std::string_view prefix,
                       std::string digits) {
  std::string head = is_negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
  head += prefix;
  const bool fill_inside = spec.align == '=';
  const auto width = static_cast<std::size_t>(spec.width);
  const std::size_t size = head.size() + digits.size();
  if (size >= width) return head + digits;
  const std::size_t missing = width - size;
  const std::size_t left = spec.align == '<' || fill_inside ? 0 : spec.align == '^' ? missing / 2 : missing;
  const std::string fill = to_utf8(spec.fill);
  std::string out;
  for (std::size_t i = 0; i < left; ++i) out += fill;
  out += head;
  if (fill_inside) {
    for (std::size_t i = 0; i < missing; ++i) out += fill;
  }
  out += digits;
  for (std::size_t i = left; i < missing && !fill_inside; ++i) out += fill;
  return out;
}

}  // namespace hone::text::jinja
