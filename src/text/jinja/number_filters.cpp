// Filters that make numbers, and the table of all filters.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <unordered_map>

#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/format_spec.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
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

Value filter_float(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("float", call, {"default"});
  const Value fallback = args.has(0) ? args[0] : Value::real(0);
  if (value.is_undefined()) raise_undefined(value);
  if (value.is_string()) {
    const auto parsed = parse_float(value.text());
    return parsed ? Value::real(*parsed, value.source()) : fallback;
  }
  return value.is_number() ? Value::real(to_double(value), value.own_source()) : fallback;
}

Value filter_abs(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("abs", call, {});
  if (!value.is_number()) raise(kTypeError, "bad operand type for abs(): '{}'", type_name(value));
  if (value.is(Kind::kFloat)) return Value::real(std::abs(value.real()), value.own_source());
  if (value.is_integral() && value.integer() >= 0) return Value::integer(value.integer(), value.own_source());
  return value.is(Kind::kBigInt) && value.as<BigInteger>().digits[0] != '-' ? value : negate(value);
}

/// round(value, precision): half to even in the decimal notation of the exact value.
Value round_half_even(const Value& value, std::int64_t precision) {
  if (value.is(Kind::kFloat)) {
    const double real = value.real();
    if (!std::isfinite(real) || precision > 300) return value;
    if (precision < -308) return Value::real(std::copysign(0.0, real), value.own_source());
    if (precision >= 0)
      return Value::real(std::strtod(fmt::format("{:.{}f}", real, precision).c_str(), nullptr),
                         value.own_source());
    const double unit = std::pow(10.0, static_cast<double>(-precision));
    return Value::real(std::nearbyint(real / unit) * unit, value.own_source());
  }
  if (value.is(Kind::kBigInt) && precision >= 0) return value;
  if (!value.is_integral()) raise(kTypeError, "type {} doesn't define __round__ method", type_name(value));
  if (precision >= 0) return Value::integer(value.integer(), value.own_source());
  if (precision < -18) return Value::integer(0, value.own_source());
  std::int64_t unit = 1;
  for (std::int64_t i = precision; i < 0; ++i) unit *= 10;
  const Value quotient = binary(Binary::kFloorDivide, value, Value::integer(unit));
  const std::int64_t rest = binary(Binary::kModulo, value, Value::integer(unit)).integer();
  const bool up = rest > unit / 2 || (rest == unit / 2 && (quotient.integer() & 1) != 0);
  return binary(Binary::kMultiply, Value::integer(quotient.integer() + (up ? 1 : 0), value.own_source()),
                Value::integer(unit));
}

Value filter_round(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("round", call, {"precision", "method"});
  const std::string method = args.has(1) ? to_text(args[1])->bytes : "common";
  if (method != "common" && method != "ceil" && method != "floor")
    raise(kPlain, "method must be common, ceil or floor");
  if (value.is_undefined()) {
    if (method == "common") raise(kTypeError, "type Undefined doesn't define __round__ method");
    raise_undefined(value);
  }
  const std::int64_t precision = args.integer(0, 0);
  if (method == "common") return round_half_even(value, precision);
  const Value unit = binary(Binary::kPower, Value::integer(10), Value::integer(precision));
  const double scaled = to_double(binary(Binary::kMultiply, value, unit));
  const Value whole =
      truncate_float(method == "ceil" ? std::ceil(scaled) : std::floor(scaled), value.own_source());
  return binary(Binary::kDivide, whole, unit);
}

Value filter_sum(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("sum", call, {"attribute", "start"});
  const AttributePath path(args.has(0) ? args[0] : Value::none());
  Value total = args.has(1) ? args[1] : Value::integer(0);
  if (total.is_string()) raise(kTypeError, "sum() can't sum strings [use ''.join(seq) instead]");
  const auto items = iterate(value);
  for (Value item; items->next(item);) total = binary(Binary::kAdd, total, path.get(item));
  return total;
}

}  // namespace

const std::vector<NamedFilter>& number_filters() {
  static const std::vector<NamedFilter> kFilters = {
      {"abs", filter_abs},     {"float", filter_float}, {"int", filter_int},
      {"round", filter_round}, {"sum", filter_sum},
  };
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

bool is_refused_filter(std::string_view name) {
  static constexpr std::array<std::string_view, 14> kRefused = {
      "batch",     "filesizeformat", "forceescape", "groupby", "pprint",    "random",   "slice",
      "striptags", "truncate",       "urlencode",   "urlize",  "wordcount", "wordwrap", "xmlattr"};
  return std::find(kRefused.begin(), kRefused.end(), name) != kRefused.end();
}

Filter find_filter(std::string_view name) {
  const auto it = filter_table().find(name);
  return it == filter_table().end() ? nullptr : it->second;
}

std::vector<std::string> filter_names() {
  std::vector<std::string> names;
  for (const auto& [name, filter] : filter_table()) names.emplace_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace hone::text::jinja
