// The methods and attributes of Python's built-in types that templates may reach.
#pragma once

#include <optional>
#include <string_view>

#include "text/jinja/value.h"

namespace hone::text::jinja {

/// getattr(object, name) for str, list, tuple, dict, range, views and numbers; nullopt where Python raises
/// AttributeError. Throws Raise for what Python has and hone has not (refused.h).
std::optional<Value> builtin_attribute(const Value& object, std::string_view name);

using Method = Value (*)(const Value& self, const CallArgs& args);
struct NamedMethod {
  std::string_view name;
  Method method;
};
/// The function behind a str method, or null.
Method find_text_method(std::string_view name);

/// str.strip and its halves; `chars` may be none.
Value strip_text(const Text& text, const Value& chars, bool left, bool right);
/// str.split(sep, maxsplit); a none `separator` splits at white space.
std::vector<Value> split_text(const Text& text, const Value& separator, std::int64_t max_splits);
std::vector<Value> split_lines(const Text& text, bool keep_ends);
/// str.replace: the inserted text is marked as its own and as the replaced part's; `limit` < 0 is no limit.
Value replace_text(const Text& text, const Text& old_part, const Text& new_part, std::int64_t limit);
Value upper_text(const Text& text);
Value lower_text(const Text& text);
Value capitalize_text(const Text& text);

}  // namespace hone::text::jinja
