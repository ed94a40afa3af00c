// JSON as text, for readers that make rows of it. Inside this room only.
#pragma once

#include <string>
#include <string_view>

namespace hone::data {

/// A string of JSON. Bytes that are no UTF-8 are passed on, for the parser to find.
void append_json_string(std::string& out, std::string_view text);

}  // namespace hone::data
