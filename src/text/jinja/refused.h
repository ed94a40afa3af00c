// What Jinja and Python have and no chat template of the field uses (docs/architecture.md, "Chat templates",
// counts them). Each is refused by its name: an unknown attribute would be undefined, and print nothing.
#pragma once

#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace hone::text::jinja {

/// "the filter 'batch' is not supported in chat templates"; `owner` (may be empty): "the attribute 'cycle' of
/// loops …".
std::string refusal(std::string_view what, std::string_view name, std::string_view owner = {});
bool is_refused_filter(std::string_view name);
bool is_refused_test(std::string_view name);
/// Tags of Jinja: `with`, `block`, `include`, …
bool is_refused_tag(std::string_view name);
/// Attributes of the loop variable.
bool is_refused_of_loop(std::string_view name);
/// Throws Raise for an attribute that Python's type of `object` has and hone has not.
void refuse_attribute(const Value& object, std::string_view name);

}  // namespace hone::text::jinja
