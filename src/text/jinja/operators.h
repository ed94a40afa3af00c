// Python's operators on values: truth, arithmetic, comparison, membership, iteration, attributes, items and
// slices.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace hone::text::jinja {

bool truth(const Value& value);
/// len(value); throws Raise (TypeError) where Python does.
std::int64_t length(const Value& value);
bool has_length(const Value& value);

enum class Binary { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
Value binary(Binary op, const Value& a, const Value& b);
Value negate(const Value& value);
Value positive(const Value& value);

enum class Compare { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };
bool compare(Compare op, const Value& a, const Value& b);
bool less_than(const Value& a, const Value& b);
/// `item in container`.
bool contains(const Value& container, const Value& item);

/// iter(value); throws Raise (TypeError: 'int' object is not iterable).
std::shared_ptr<Iterator> iterate(const Value& value);
bool is_iterable(const Value& value);
std::vector<Value> to_vector(const Value& value);
std::vector<Value> view_items(const View& view);

/// Python's getattr(object, name) as the sandbox allows it: nullopt where there is no such attribute. Throws
/// Raise for undefined objects.
std::optional<Value> get_python_attribute(const Value& object, std::string_view name);
/// `object.name`: attributes and methods first, then items; else an undefined value, never an exception (but
/// for undefined objects).
Value get_attribute(const Value& object, std::string_view name);
/// `object[key]`: items first, then attributes.
Value get_item(const Value& object, const Value& key);
/// `object[start:stop:step]`; bounds may be none.
Value get_slice(const Value& object, const Value& start, const Value& stop, const Value& step);
/// Bytes [begin, end) of a text, marks kept.
Value sub_text(const Text& text, std::size_t begin, std::size_t end);

/// The value as a C integer where Python wants an index ('str' object cannot be interpreted as an integer).
std::int64_t to_index(const Value& value);
/// int, bool, float or big integer as a double.
double to_double(const Value& value);
/// Throws the error that using an undefined value is.
[[noreturn]] void raise_undefined(const Value& value);
/// HTML-escapes a text unless it is Markup; the result is Markup.
TextRef escape_markup(const Value& value);
/// The concatenation a + b of two strings, Markup rules included.
Value concatenate(const Value& a, const Value& b);

}  // namespace hone::text::jinja
