// What may stand behind `is`.
#include <algorithm>
#include <unordered_map>

#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/refused.h"

namespace hone::text::jinja {
namespace {

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
bool is_number(const Value& value) {
  return value.is_number();
}
bool is_string(const Value& value) {
  return value.is_string();
}
bool is_mapping(const Value& value) {
  return value.is(Kind::kDict);
}
bool is_sequence(const Value& value) {
  return has_length(value) && !value.is(Kind::kView);
}
const std::unordered_map<std::string_view, Test>& test_table() {
  static const std::unordered_map<std::string_view, Test> kTests = {
      {"defined", simple<is_defined>},
      {"undefined", simple<is_undefined>},
      {"none", simple<is_none>},
      {"boolean", simple<is_boolean>},
      {"true", simple<is_true>},
      {"false", simple<is_false>},
      {"number", simple<is_number>},
      {"string", simple<is_string>},
      {"mapping", simple<is_mapping>},
      {"sequence", simple<is_sequence>},
      {"iterable", simple<is_iterable>},
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

Test require_test(std::string_view name) {
  if (const Test test = find_test(name)) return test;
  if (is_refused_test(name)) raise(kPlain, "{}", refusal("test", name));
  raise(kPlain, "No test named {}.", in_quotes(name));
}

std::vector<std::string> test_names() {
  std::vector<std::string> names;
  for (const auto& [name, test] : test_table()) names.emplace_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace hone::text::jinja
