// The format mini-language and the printing of numbers.
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

constexpr std::int64_t kMaxWidth = 1 << 20;

std::string print_double(const char* format, int precision, double value) {
  const int size = std::snprintf(nullptr, 0, format, precision, value);
  std::string out(static_cast<std::size_t>(size) + 1, '\0');
  std::snprintf(out.data(), out.size(), format, precision, value);
  out.pop_back();
  return out;
}

/// format(value, '.Np'): like %g, but with at least one digit behind the point, and sooner in scientific
/// notation.
std::string general_digits(double value, int precision) {
  precision = std::max(precision, 1);
  std::string scientific = print_double("%.*e", precision - 1, value);
  const std::size_t e = scientific.find('e');
  const int exponent = std::stoi(scientific.substr(e + 1));
  if (exponent < -4 || exponent + 1 > precision - 1) {
    std::string digits = scientific.substr(0, e);
    if (digits.find('.') != std::string::npos) {
      digits.erase(digits.find_last_not_of('0') + 1);
      if (digits.back() == '.') digits.pop_back();
    }
    return digits + scientific.substr(e);
  }
  std::string fixed = print_double("%.*g", precision, value);
  return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

/// Groups the leading digits by `size`; `min_width` makes room for zero padding that is grouped as well.
std::string group_digits(const std::string& digits, char separator, std::size_t size, std::size_t min_width) {
  std::size_t whole = 0;
  while (whole < digits.size() && std::isxdigit(static_cast<unsigned char>(digits[whole])) != 0) ++whole;
  if (digits.find_first_of(".e") != std::string::npos) whole = std::min(whole, digits.find_first_of(".e"));
  std::string integer = digits.substr(0, whole);
  const std::string rest = digits.substr(whole);
  const auto grouped_size = [&](std::size_t count) { return count + (count - 1) / size + rest.size(); };
  while (!integer.empty() && grouped_size(integer.size()) < min_width) integer.insert(integer.begin(), '0');
  std::string out;
  for (std::size_t i = 0; i < integer.size(); ++i) {
    if (i > 0 && (integer.size() - i) % size == 0) out += separator;
    out += integer[i];
  }
  return out + rest;
}

}  // namespace

FormatSpec parse_format_spec(std::string_view text) {
  FormatSpec spec;
  std::size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '=' || c == '^'; };
  const auto number = [&](std::int64_t limit) {
    std::int64_t value = 0;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
      value = value * 10 + (text[at++] - '0');
      if (value > limit)
        raise(kValueError, "the width or precision of the format specifier '{}' is too large", text);
    }
    return value;
  };
  std::size_t after_fill = 0;
  if (!text.empty()) decode_utf8(text, after_fill);
  if (after_fill > 0 && after_fill < text.size() && is_align(text[after_fill])) {
    std::size_t begin = 0;
    spec.fill = decode_utf8(text, begin);
    spec.align = text[after_fill];
    at = after_fill + 1;
  } else if (!text.empty() && is_align(text[0])) {
    spec.align = text[at++];
  }
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) spec.sign = text[at++];
  if (at < text.size() && text[at] == '#') {
    spec.alternate = true;
    ++at;
  }
  if (at < text.size() && text[at] == '0') {
    if (spec.align == 0) {
      spec.fill = '0';
      spec.align = '=';
    }
    ++at;
  }
  spec.width = number(kMaxWidth);
  if (at < text.size() && (text[at] == ',' || text[at] == '_')) spec.grouping = text[at++];
  if (at < text.size() && text[at] == '.') {
    const std::size_t digits = ++at;
    spec.precision = static_cast<int>(number(kMaxWidth));
    if (at == digits) raise(kValueError, "Format specifier missing precision");
  }
  if (at < text.size()) spec.type = text[at++];
  if (at < text.size()) raise(kValueError, "Invalid format specifier '{}'", text);
  return spec;
}

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
  if (std::isnan(value)) return upper ? "NAN" : type == '%' ? "nan%" : "nan";
  if (std::isinf(value)) return upper ? "INF" : type == '%' ? "inf%" : "inf";
  if (type == 0) return precision < 0 ? float_repr(value) : general_digits(value, precision);
  const int digits = precision < 0 ? 6 : precision;
  switch (type) {
    case 'e':
      return print_double(alternate ? "%#.*e" : "%.*e", digits, value);
    case 'E':
      return print_double(alternate ? "%#.*E" : "%.*E", digits, value);
    case 'g':
    case 'n':
      return print_double(alternate ? "%#.*g" : "%.*g", digits, value);
    case 'G':
      return print_double(alternate ? "%#.*G" : "%.*G", digits, value);
    case '%':
      return print_double(alternate ? "%#.*f" : "%.*f", digits, value * 100) + "%";
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
  if (spec.grouping != 0) {
    const bool by_four = spec.type == 'b' || spec.type == 'o' || spec.type == 'x' || spec.type == 'X';
    const std::size_t room = fill_inside && spec.fill == '0' && width > head.size() ? width - head.size() : 0;
    digits = group_digits(digits, spec.grouping, by_four ? 4 : 3, room);
  }
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
