// Python's older way to fill in strings: `'%s' % value`.
#pragma once

#include <string_view>

#include "text/jinja/value.h"

namespace hone::text::jinja {

/// `format % value`. Throws Raise as Python does (not enough arguments, unsupported character, …).
Value percent_format(const Value& format, const Value& value);
/// ascii(value): repr with escapes for all but ASCII.
std::string ascii_repr(const Value& value);

}  // namespace hone::text::jinja
