// What may stand behind `is`.
#include <algorithm>
#include <unordered_map>

#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"

namespace hone::text::jinja {
namespace {

bool remainder_is(const Value& value, const Value& divisor, std::int64_t rest) {
  return equals(binary(Binary::kModulo, value, divisor), Value::integer(rest));
}

template <bool (*kHolds)(const Value&)>
bool simple(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("test", call, {});
  return kHolds(value);
}

template <Compare kOp>
bool comparison(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("comparison", call, {"/other"}, 1);
  return compare(kOp, value, args[0]);
}

bool is_odd(const Value& value) {
  return remainder_is(value, Value::integer(2), 1);
}
bool is_even(const Value& value) {
  return remainder_is(value, Value::integer(2), 0);
}
bool is_defined(const Value& value) {
  return !value.is_undefined();
}
bool is_undefined(const Value& value) {
  return value.is_undefined();
}
bool is_none(const Value& value) {
  return value.is_none();
}
bool is_boolean(const Value& value) {
  return value.is(Kind::kBool);
}
bool is_true(const Value& value) {
  return value.is(Kind::kBool) && value.boolean();
}
bool is_false(const Value& value) {
  return value.is(Kind::kBool) && !value.boolean();
}
bool is_integer(const Value& value) {
  return value.is(Kind::kInt) || value.is(Kind::kBigInt);
}
bool is_float(const Value& value) {
  return value.is(Kind::kFloat);
}
bool is_number(const Value& value) {
  return value.is_number();
}
bool is_string(const Value& value) {
  return value.is_string();
}
bool is_mapping(const Value& value) {
  return value.is(Kind::kDict);
}
bool is_lower(const Value& value) {
  return is_lower_text(*to_text(value));
}
bool is_upper(const Value& value) {
  return is_upper_text(*to_text(value));
}
bool is_sequence(const Value& value) {
  return has_length(value) && !value.is(Kind::kView);
}
bool is_callable(const Value& value) {
  return value.is(Kind::kCallable) || value.is_undefined();
}
bool is_escaped(const Value& value) {
  return value.is_string() && value.text().markup;
}
bool is_filter(const Value& value) {
  return value.is_string() && find_filter(value.text().bytes) != nullptr;
}
bool is_test(const Value& value) {
  return value.is_string() && find_test(value.text().bytes) != nullptr;
}

bool divisible_by(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("divisibleby", call, {"num"}, 1);
  return remainder_is(value, args[0], 0);
}

bool same_as(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("sameas", call, {"other"}, 1);
  if (value.kind() != args[0].kind()) return false;
  if (value.object() != nullptr && value.object() == args[0].object()) return true;
  return (value.is_none() || value.is_integral() || value.is_string()) && equals(value, args[0]);
}

bool is_in(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("in", call, {"seq"}, 1);
  return contains(args[0], value);
}

}  // namespace

namespace {

const std::unordered_map<std::string_view, Test>& test_table() {
  static const std::unordered_map<std::string_view, Test> kTests = {
      {"odd", simple<is_odd>},
      {"even", simple<is_even>},
      {"divisibleby", divisible_by},
      {"defined", simple<is_defined>},
      {"undefined", simple<is_undefined>},
      {"filter", simple<is_filter>},
      {"test", simple<is_test>},
      {"none", simple<is_none>},
      {"boolean", simple<is_boolean>},
      {"true", simple<is_true>},
      {"false", simple<is_false>},
      {"integer", simple<is_integer>},
      {"float", simple<is_float>},
      {"number", simple<is_number>},
      {"string", simple<is_string>},
      {"mapping", simple<is_mapping>},
      {"lower", simple<is_lower>},
      {"upper", simple<is_upper>},
      {"sequence", simple<is_sequence>},
      {"iterable", simple<is_iterable>},
      {"callable", simple<is_callable>},
      {"escaped", simple<is_escaped>},
      {"sameas", same_as},
      {"in", is_in},
      {"==", comparison<Compare::kEqual>},
      {"eq", comparison<Compare::kEqual>},
      {"equalto", comparison<Compare::kEqual>},
      {"!=", comparison<Compare::kNotEqual>},
      {"ne", comparison<Compare::kNotEqual>},
      {">", comparison<Compare::kGreater>},
      {"gt", comparison<Compare::kGreater>},
      {"greaterthan", comparison<Compare::kGreater>},
      {">=", comparison<Compare::kGreaterEqual>},
      {"ge", comparison<Compare::kGreaterEqual>},
      {"<", comparison<Compare::kLess>},
      {"lt", comparison<Compare::kLess>},
      {"lessthan", comparison<Compare::kLess>},
      {"<=", comparison<Compare::kLessEqual>},
      {"le", comparison<Compare::kLessEqual>},
  };
  return kTests;
}

}  // namespace

Test find_test(std::string_view name) {
  const auto it = test_table().find(name);
  return it == test_table().end() ? nullptr : it->second;
}

std::vector<std::string> test_names() {
  std::vector<std::string> names;
  for (const auto& [name, test] : test_table()) names.emplace_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace hone::text::jinja
