// Arithmetic, comparison and membership.
#include "text/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "text/jinja/format.h"
#include "text/jinja/print.h"

namespace hone::text::jinja {
namespace {

constexpr std::string_view kOperatorNames[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};
constexpr std::string_view kCompareNames[] = {"==", "!=", "<", "<=", ">", ">="};

[[noreturn]] void raise_operands(Binary op, const Value& a, const Value& b) {
  raise(kTypeError, "unsupported operand type(s) for {}: '{}' and '{}'", kOperatorNames[static_cast<int>(op)],
        type_name(a), type_name(b));
}

[[noreturn]] void raise_too_big() {
  raise(kOverflowError, "an integer of the template grew beyond 64 bits, which is not supported");
}

[[noreturn]] void raise_zero_division(std::string_view what) {
  throw Raise("ZeroDivisionError", std::string(what));
}

std::int64_t power(std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) raise_too_big();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) raise_too_big();
  }
  return result;
}

double float_modulo(double a, double b) {
  double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  if ((rest < 0) != (b < 0)) rest += b;
  return rest;
}

double float_floor_divide(double a, double b) {
  const double quotient = (a - float_modulo(a, b)) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floored = std::floor(quotient);
  return quotient - floored > 0.5 ? floored + 1 : floored;
}

double float_power(double a, double b) {
  if (a == 0 && b < 0) raise_zero_division("0.0 cannot be raised to a negative power");
  if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b)) {
    raise(kTypeError, "a negative number cannot be raised to the fractional power {}", float_repr(b));
  }
  const double result = std::pow(a, b);
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) {
    raise(kOverflowError, "(34, 'Numerical result out of range')");
  }
  return result;
}

Value float_binary(Binary op, double a, double b, Source source) {
  if (b == 0) {
    if (op == Binary::kDivide) raise_zero_division("float division by zero");
    if (op == Binary::kFloorDivide) raise_zero_division("float floor division by zero");
    if (op == Binary::kModulo) raise_zero_division("float modulo");
  }
  switch (op) {
    case Binary::kAdd:
      return Value::real(a + b, source);
    case Binary::kSubtract:
      return Value::real(a - b, source);
    case Binary::kMultiply:
      return Value::real(a * b, source);
    case Binary::kDivide:
      return Value::real(a / b, source);
    case Binary::kFloorDivide:
      return Value::real(float_floor_divide(a, b), source);
    case Binary::kModulo:
      return Value::real(float_modulo(a, b), source);
    case Binary::kPower:
      return Value::real(float_power(a, b), source);
  }
  return Value::none();
}

Value int_divide(Binary op, std::int64_t a, std::int64_t b, Source source) {
  if (b == 0) {
    raise_zero_division(op == Binary::kDivide ? "division by zero" : "integer division or modulo by zero");
  }
  if (op == Binary::kDivide) {
    // Both converted, then divided: exact operands up to 2^53, and through long double beyond.
    return Value::real(static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b)),
                       source);
  }
  if (b == -1) {
    if (op == Binary::kModulo) return Value::integer(0, source);
    if (a == std::numeric_limits<std::int64_t>::min()) raise_too_big();
  }
  std::int64_t quotient = a / b;
  std::int64_t rest = a % b;
  if (rest != 0 && (rest < 0) != (b < 0)) {
    --quotient;
    rest += b;
  }
  return Value::integer(op == Binary::kModulo ? rest : quotient, source);
}

Value int_binary(Binary op, std::int64_t a, std::int64_t b, Source source) {
  std::int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case Binary::kAdd:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case Binary::kSubtract:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case Binary::kMultiply:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case Binary::kPower:
      if (b < 0) {
        if (a == 0) raise_zero_division("0.0 cannot be raised to a negative power");
        return float_binary(op, static_cast<double>(a), static_cast<double>(b), source);
      }
      result = power(a, b);
      break;
    default:
      return int_divide(op, a, b, source);
  }
  if (overflow) raise_too_big();
  return Value::integer(result, source);
}

Value repeat(const Value& sequence, std::int64_t count) {
  const auto times = static_cast<std::size_t>(std::max<std::int64_t>(count, 0));
  if (sequence.is_string()) {
    const Text& text = sequence.text();
    if (text.bytes.empty()) return sequence;
    if (times > kMaxTextBytes / text.bytes.size()) raise("MemoryError", "the repeated text is too long");
    TextBuilder out;
    if (text.runs.size() <= 1) {  // in one piece
      std::string bytes;
      bytes.reserve(times * text.bytes.size());
      for (std::size_t i = 0; i < times; ++i) bytes += text.bytes;
      out.append(bytes, text.runs.empty() ? Mark{} : text.runs[0].mark);
    } else {
      for (std::size_t i = 0; i < times; ++i) out.append(text);
    }
    return Value::text(out.finish(text.markup));
  }
  const std::vector<Value>& items = sequence.list().items;
  if (!items.empty() && times > kMaxItems / items.size())
    raise("MemoryError", "the repeated list is too long");
  std::vector<Value> repeated;
  for (std::size_t i = 0; i < times && !items.empty(); ++i)
    repeated.insert(repeated.end(), items.begin(), items.end());
  return sequence.is(Kind::kList) ? make_list(std::move(repeated), sequence.own_source())
                                  : make_tuple(std::move(repeated), sequence.own_source());
}

Value add(const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) return concatenate(a, b);
  if (a.is_string()) raise(kTypeError, "can only concatenate str (not \"{}\") to str", type_name(b));
  if (a.is_sequence() && a.kind() == b.kind()) {
    std::vector<Value> items = a.list().items;
    items.insert(items.end(), b.list().items.begin(), b.list().items.end());
    const Source source = merge(a.own_source(), b.own_source());
    return a.is(Kind::kList) ? make_list(std::move(items), source) : make_tuple(std::move(items), source);
  }
  if (a.is_sequence()) {
    raise(kTypeError, "can only concatenate {} (not \"{}\") to {}", type_name(a), type_name(b), type_name(a));
  }
  raise_operands(Binary::kAdd, a, b);
}

int compare_numbers(const Value& a, const Value& b, bool& unordered) {
  if (a.is(Kind::kBigInt) && b.is(Kind::kBigInt)) {
    const std::string& x = a.as<BigInteger>().digits;
    const std::string& y = b.as<BigInteger>().digits;
    const bool x_negative = x[0] == '-';
    if (x_negative != (y[0] == '-')) return x_negative ? -1 : 1;
    const int magnitude = x.size() != y.size() ? (x.size() < y.size() ? -1 : 1) : x.compare(y);
    return x_negative ? -magnitude : magnitude;
  }
  if (a.is_integral() && b.is_integral())
    return a.integer() < b.integer() ? -1 : a.integer() > b.integer() ? 1 : 0;
  const auto wide = [](const Value& v) {
    return v.is_integral() ? static_cast<long double>(v.integer()) : static_cast<long double>(to_double(v));
  };
  unordered = std::isnan(wide(a)) || std::isnan(wide(b));
  return wide(a) < wide(b) ? -1 : wide(a) > wide(b) ? 1 : 0;
}

bool holds(Compare op, int order) {
  switch (op) {
    case Compare::kLess:
      return order < 0;
    case Compare::kLessEqual:
      return order <= 0;
    case Compare::kGreater:
      return order > 0;
    default:
      return order >= 0;
  }
}

bool ordered(Compare op, const Value& a, const Value& b) {
  Budget::spend(1);
  if (a.is_undefined()) raise_undefined(a);
  if (b.is_undefined()) raise_undefined(b);
  if (a.is_number() && b.is_number()) {
    bool unordered = false;
    const int order = compare_numbers(a, b, unordered);
    return !unordered && holds(op, order);
  }
  if (a.is_string() && b.is_string()) {
    Budget::spend_on_text(std::min(a.text().bytes.size(), b.text().bytes.size()));
    return holds(op, a.text().bytes.compare(b.text().bytes));
  }
  if (a.is_sequence() && a.kind() == b.kind()) {
    const auto& x = a.list().items;
    const auto& y = b.list().items;
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equals(x[i], y[i])) return ordered(op, x[i], y[i]);
    }
    return holds(op, x.size() < y.size() ? -1 : x.size() > y.size() ? 1 : 0);
  }
  raise(kTypeError, "'{}' not supported between instances of '{}' and '{}'",
        kCompareNames[static_cast<int>(op)], type_name(a), type_name(b));
}

bool range_contains(const Range& range, const Value& item) {
  if (!item.is_number() || range.length == 0) return false;
  const double real = to_double(item);
  if (real != std::floor(real) || std::abs(real) > 9e18) return false;
  const auto value = item.is_integral() ? item.integer() : static_cast<std::int64_t>(real);
  const std::int64_t last = range.at(range.length - 1);
  return value >= std::min(range.start, last) && value <= std::max(range.start, last) &&
         (value - range.start) % range.step == 0;
}

}  // namespace

bool truth(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.integer() != 0;
    case Kind::kFloat:
      return value.real() != 0;
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kRange:
    case Kind::kView:
      return length(value) != 0;
    default:
      return true;
  }
}

bool has_length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kRange:
    case Kind::kView:
      return true;
    default:
      return false;
  }
}

std::int64_t length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return static_cast<std::int64_t>(value.text().length);
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<std::int64_t>(value.list().items.size());
    case Kind::kDict:
      return static_cast<std::int64_t>(value.dict().entries.size());
    case Kind::kRange:
      return value.as<Range>().length;
    case Kind::kView:
      return length(value.as<View>().dict);
    default:
      raise(kTypeError, "object of type '{}' has no len()", type_name(value));
  }
}

Value binary(Binary op, const Value& a, const Value& b) {
  if (a.is_string() && op == Binary::kModulo) return percent_format(a, b);
  if (a.is_undefined()) raise_undefined(a);
  if (b.is_undefined() && !(op == Binary::kAdd && a.is_string())) raise_undefined(b);
  if (b.is_undefined()) raise_undefined(b);
  if (a.is_number() && b.is_number()) {
    if (a.is(Kind::kBigInt) || b.is(Kind::kBigInt)) raise_too_big();
    const Source source = merge(a.own_source(), b.own_source());
    if (a.is_integral() && b.is_integral()) return int_binary(op, a.integer(), b.integer(), source);
    return float_binary(op, to_double(a), to_double(b), source);
  }
  if (op == Binary::kAdd) return add(a, b);
  if (op == Binary::kMultiply) {
    const bool a_repeats = a.is_string() || a.is_sequence();
    if (a_repeats && b.is_integral()) return repeat(a, b.integer());
    if ((b.is_string() || b.is_sequence()) && a.is_integral()) return repeat(b, a.integer());
    if (a_repeats) raise(kTypeError, "can't multiply sequence by non-int of type '{}'", type_name(b));
    if (b.is_string() || b.is_sequence())
      raise(kTypeError, "can't multiply sequence by non-int of type '{}'", type_name(a));
  }
  raise_operands(op, a, b);
}

Value negate(const Value& value) {
  if (value.is_undefined()) raise_undefined(value);
  if (value.is(Kind::kFloat)) return Value::real(-value.real(), value.own_source());
  if (value.is(Kind::kBigInt)) {
    const std::string& digits = value.as<BigInteger>().digits;
    if (digits == "9223372036854775808") {
      return Value::integer(std::numeric_limits<std::int64_t>::min(), value.own_source());
    }
    return make_big_integer(digits[0] == '-' ? digits.substr(1) : "-" + digits, value.own_source());
  }
  if (!value.is_integral()) raise(kTypeError, "bad operand type for unary -: '{}'", type_name(value));
  if (value.integer() == std::numeric_limits<std::int64_t>::min()) raise_too_big();
  return Value::integer(-value.integer(), value.own_source());
}

Value positive(const Value& value) {
  if (value.is_undefined()) raise_undefined(value);
  if (value.is(Kind::kFloat) || value.is(Kind::kBigInt)) return value;
  if (!value.is_integral()) raise(kTypeError, "bad operand type for unary +: '{}'", type_name(value));
  return Value::integer(value.integer(), value.own_source());
}

bool less_than(const Value& a, const Value& b) {
  return ordered(Compare::kLess, a, b);
}

bool compare(Compare op, const Value& a, const Value& b) {
  switch (op) {
    case Compare::kEqual:
      return equals(a, b);
    case Compare::kNotEqual:
      return !equals(a, b);
    case Compare::kIn:
      return contains(b, a);
    case Compare::kNotIn:
      return !contains(b, a);
    default:
      return ordered(op, a, b);
  }
}

bool contains(const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kString:
      if (!item.is_string()) {
        raise(kTypeError, "'in <string>' requires string as left operand, not {}", type_name(item));
      }
      return container.text().bytes.find(item.text().bytes) != std::string::npos;
    case Kind::kDict:
      return container.dict().find(item) != nullptr;
    case Kind::kRange:
      return range_contains(container.as<Range>(), item);
    default:
      break;
  }
  if (!is_iterable(container))
    raise(kTypeError, "argument of type '{}' is not iterable", type_name(container));
  const auto iterator = iterate(container);
  for (Value value; iterator->next(value);) {
    if (equals(value, item)) return true;
  }
  return false;
}

std::int64_t to_index(const Value& value) {
  if (value.is_undefined()) raise_undefined(value);
  if (value.is(Kind::kBigInt)) raise_too_big();
  if (!value.is_integral()) {
    raise(kTypeError, "'{}' object cannot be interpreted as an integer", type_name(value));
  }
  return value.integer();
}

double to_double(const Value& value) {
  if (value.is_undefined()) raise_undefined(value);
  if (value.is(Kind::kFloat)) return value.real();
  if (value.is_integral()) return static_cast<double>(value.integer());
  if (value.is(Kind::kBigInt)) return std::strtod(value.as<BigInteger>().digits.c_str(), nullptr);
  raise(kTypeError, "must be real number, not {}", type_name(value));
}

void raise_undefined(const Value& value) {
  throw Raise(kPlain, value.as<UndefinedReason>().message());
}

TextRef escape_markup(const Value& value) {
  const TextRef text = to_text(value);
  if (text->markup) return text;
  TextBuilder out;
  std::size_t from = 0;
  for (std::size_t at = 0; at < text->bytes.size(); ++at) {
    std::string_view entity;
    switch (text->bytes[at]) {
      case '&':
        entity = "&amp;";
        break;
      case '<':
        entity = "&lt;";
        break;
      case '>':
        entity = "&gt;";
        break;
      case '\'':
        entity = "&#39;";
        break;
      case '"':
        entity = "&#34;";
        break;
      default:
        continue;
    }
    out.append(*text, from, at);
    out.append(entity, text->mark_at(at));
    from = at + 1;
  }
  out.append(*text, from, text->bytes.size());
  return out.finish(true);
}

Value concatenate(const Value& a, const Value& b) {
  TextBuilder out;
  const bool markup = a.text().markup || b.text().markup;
  out.append(markup ? *escape_markup(a) : a.text());
  out.append(markup ? *escape_markup(b) : b.text());
  return Value::text(out.finish(markup));
}

}  // namespace hone::text::jinja
