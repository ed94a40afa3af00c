// Python's two ways to fill in strings: `'%s' % value` and `'{}'.format(value)`.
#pragma once

#include <string_view>

#include "text/jinja/value.h"

namespace hone::text::jinja {

/// `format % value`. Throws Raise as Python does (not enough arguments, unsupported character, …).
Value percent_format(const Value& format, const Value& value);
/// str.format: positional and keyword fields, attributes and items, conversions, the format mini-language,
/// nested specs.
Value brace_format(const Text& format, const CallArgs& args);
/// format(value, spec).
TextRef format_value(const Value& value, std::string_view spec);
/// ascii(value): repr with escapes for all but ASCII.
std::string ascii_repr(const Value& value);

}  // namespace hone::text::jinja
