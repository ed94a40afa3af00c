// The filter `int`, and the table of all filters.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <unordered_map>

#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/refused.h"
#include "text/jinja/unicode.h"

namespace hone::text::jinja {
namespace {

/// The text stripped, with the decimal digits of other scripts made ASCII, as int() and float() read it.
std::string number_text(const Text& text) {
  const Value stripped = strip_text(text, Value::none(), true, true);
  const std::string& bytes = stripped.text().bytes;
  std::string out;
  for (std::size_t at = 0; at < bytes.size();) {
    const char32_t code = decode_utf8(bytes, at);
    const int digit = code < 0x80 ? -1 : decimal_value(code);
    digit >= 0 ? out.push_back(static_cast<char>('0' + digit)) : append_utf8(out, code);
  }
  return out;
}

/// Removes underscores between digits; false where one stands elsewhere.
bool drop_underscores(std::string& text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') continue;
    const bool inside = i > 0 && i + 1 < text.size() &&
                        std::isalnum(static_cast<unsigned char>(text[i - 1])) != 0 &&
                        std::isalnum(static_cast<unsigned char>(text[i + 1])) != 0;
    if (!inside) return false;
  }
  text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
  return true;
}

std::optional<Value> parse_int(const Text& text, std::int64_t base, Source source) {
  std::string digits = number_text(text);
  bool negative = false;
  if (!digits.empty() && (digits[0] == '-' || digits[0] == '+')) {
    negative = digits[0] == '-';
    digits.erase(0, 1);
  }
  if (digits.size() > 2 && digits[0] == '0') {
    const char mark = static_cast<char>(digits[1] | 0x20);
    const std::int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked != 0 && (base == 0 || base == marked)) {
      base = marked;
      digits.erase(0, digits[2] == '_' ? 3 : 2);
    }
  }
  if (base == 0) {
    if (digits.size() > 1 && digits[0] == '0' && digits.find_first_not_of("0_") != std::string::npos)
      return std::nullopt;
    base = 10;
  }
  if (base < 2 || base > 36 || digits.empty() || !drop_underscores(digits)) return std::nullopt;
  std::int64_t value = 0;
  bool overflow = false;
  for (char c : digits) {
    const int lower = c | 0x20;
    const int digit = c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 99;
    if (digit >= base) return std::nullopt;
    overflow = overflow || __builtin_mul_overflow(value, base, &value) ||
               __builtin_add_overflow(value, digit, &value);
  }
  if (!overflow) return Value::integer(negative ? -value : value, source);
  if (base != 10) raise(kOverflowError, "an integer of the template is beyond 64 bits");
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size() - 1));
  return make_big_integer((negative ? "-" : "") + digits, source);
}

std::optional<double> parse_float(const Text& text) {
  std::string number = number_text(text);
  std::string word = number;
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const bool negative = word.starts_with('-');
  if (negative || word.starts_with('+')) word.erase(0, 1);
  if (word == "inf" || word == "infinity") {
    return negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  }
  if (word == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (word.empty() || word.find_first_not_of("0123456789.e+-_") != std::string::npos ||
      !drop_underscores(number))
    return std::nullopt;
  if (word.find("e_") != std::string::npos || word.find("_e") != std::string::npos) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(number.c_str(), &end);
  return *end == '\0' && end != number.c_str() ? std::optional(value) : std::nullopt;
}

Value truncate_float(double value, Source source) {
  if (std::abs(value) < 9.2e18) return Value::integer(static_cast<std::int64_t>(value), source);
  return make_big_integer(fmt::format("{:.0f}", std::trunc(value)), source);
}

Value filter_int(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("int", call, {"default", "base"});
  const Value fallback = args.has(0) ? args[0] : Value::integer(0);
  if (value.is_undefined()) raise_undefined(value);
  if (value.is_string()) {
    if (auto parsed = parse_int(value.text(), args.integer(1, 10), value.source())) return *parsed;
    const auto real = parse_float(value.text());
    return real && std::isfinite(*real) ? truncate_float(*real, value.source()) : fallback;
  }
  if (value.is(Kind::kFloat)) {
    if (std::isinf(value.real())) raise(kOverflowError, "cannot convert float infinity to integer");
    return std::isnan(value.real()) ? fallback : truncate_float(value.real(), value.own_source());
  }
  if (value.is(Kind::kBigInt)) return value;
  return value.is_integral() ? Value::integer(value.integer(), value.own_source()) : fallback;
}

}  // namespace

const std::vector<NamedFilter>& number_filters() {
  static const std::vector<NamedFilter> kFilters = {{"int", filter_int}};
  return kFilters;
}

namespace {

const std::unordered_map<std::string_view, Filter>& filter_table() {
  static const std::unordered_map<std::string_view, Filter> kByName = [] {
    std::unordered_map<std::string_view, Filter> table;
    for (const auto* filters : {&text_filters(), &sequence_filters(), &number_filters()}) {
      for (const NamedFilter& entry : *filters) table.emplace(entry.name, entry.filter);
    }
    return table;
  }();
  return kByName;
}

}  // namespace

Filter find_filter(std::string_view name) {
  const auto it = filter_table().find(name);
  return it == filter_table().end() ? nullptr : it->second;
}

Filter require_filter(std::string_view name) {
  if (const Filter filter = find_filter(name)) return filter;
  if (is_refused_filter(name)) raise(kPlain, "{}", refusal("filter", name));
  raise(kPlain, "No filter named {}.", in_quotes(name));
}

std::vector<std::string> filter_names() {
  std::vector<std::string> names;
  for (const auto& [name, filter] : filter_table()) names.emplace_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace hone::text::jinja
