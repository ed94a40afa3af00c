// The filters, tests and global functions of chat templates.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace hone::text::jinja {

/// A filter gets the value on its left and the arguments in its parentheses.
using Filter = Value (*)(Interpreter& interpreter, const Value& value, const CallArgs& args);
using Test = bool (*)(Interpreter& interpreter, const Value& value, const CallArgs& args);

struct NamedFilter {
  std::string_view name;
  Filter filter;
};

/// Null for names that Jinja does not know, and for those that are refused (refused.h).
Filter find_filter(std::string_view name);
Test find_test(std::string_view name);
/// The same for a name that is met only when the template runs; throws Raise for what there is none of.
Filter require_filter(std::string_view name);
Test require_test(std::string_view name);
/// All names, for suggestions.
std::vector<std::string> filter_names();
std::vector<std::string> test_names();

/// The parts of the filter table, by what they work on.
const std::vector<NamedFilter>& text_filters();
const std::vector<NamedFilter>& sequence_filters();
const std::vector<NamedFilter>& number_filters();

/// Jinja's attribute paths ("function.name", "0.id", 3) as filters take them.
class AttributePath {
 public:
  /// none: the item itself.
  explicit AttributePath(const Value& attribute);
  /// `fallback` (may be null) replaces an undefined step.
  Value get(const Value& item, const Value* fallback = nullptr) const;

 private:
  std::vector<Value> parts_;
};

/// The global functions, in the order in which they are looked up: range, dict, namespace, raise_exception,
/// strftime_now, …
std::vector<std::pair<std::string_view, Value>> global_functions();

}  // namespace hone::text::jinja
