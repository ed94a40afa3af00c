// How values become text: Python's str() and repr(), and json.dumps.
#pragma once

#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace hone::text::jinja {

/// Python's repr of a string, quotes included.
std::string in_quotes(std::string_view text);
/// repr(float): the shortest digits that read back, in Python's layout (1.0, 1e+16, inf).
std::string float_repr(double value);
std::string repr(const Value& value);

/// Appends str(value); characters keep the marks of what they print.
void print(TextBuilder& out, const Value& value);
/// Appends repr(value).
void print_repr(TextBuilder& out, const Value& value);
/// str(value) as a text; a string is returned as it is (Markup included).
TextRef to_text(const Value& value);
/// str(value) in the sense that drops Markup.
TextRef to_plain_text(const Value& value);

/// The options of Python's json.dumps that Transformers' `tojson` filter passes on.
struct JsonOptions {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool has_indent = false;
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
/// Appends json.dumps(value). Throws Raise (TypeError) for what JSON cannot hold.
void print_json(TextBuilder& out, const Value& value, const JsonOptions& options);

}  // namespace hone::text::jinja
