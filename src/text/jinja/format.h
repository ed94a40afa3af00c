// Python's two ways to fill in strings.
#pragma once

#include "text/jinja/value.h"

namespace hone::text::jinja {

/// `format % value` with `%s`, `%(name)s` and `%%`, which is all that the templates of the field use; others
/// are refused by name. Throws Raise as Python does (not enough arguments, …).
Value percent_format(const Value& format, const Value& value);
/// str.format with the fields `{}`, `{0}` and `{name}`, each bare or with `:d`; others are refused by name.
Value brace_format(const Text& format, const CallArgs& args);

}  // namespace hone::text::jinja
