// "Did you mean": the nearest of a set of known names.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace hone {

/// The known name with the smallest edit distance to `name`, or "" where none is near (distance above half
/// its length, or above 4).
std::string nearest_name(std::string_view name, std::span<const std::string> known);

/// "; did you mean 'x'?" for a near name, else "; known: a, b, c" (cut to a line).
std::string suggestion(std::string_view name, std::span<const std::string> known);

}  // namespace hone
