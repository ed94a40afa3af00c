// Filters that make text.
#include <algorithm>

#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/unicode.h"

namespace hone::text::jinja {
namespace {

Value filter_upper(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("upper", call, {});
  return upper_text(*to_text(value));
}

Value filter_lower(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("lower", call, {});
  return lower_text(*to_text(value));
}

Value filter_capitalize(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("capitalize", call, {});
  return capitalize_text(*to_text(value));
}

/// Words begin behind white space and behind - ( { [ <.
Value filter_title(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("title", call, {});
  const TextRef text = to_text(value);
  const std::string& bytes = text->bytes;
  const auto separates = [](char32_t code) {
    return is_space(code) || code == '-' || code == '(' || code == '{' || code == '[' || code == '<';
  };
  TextBuilder out;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t begin = at;
    const bool is_separator = separates(decode_utf8(bytes, at));
    const std::size_t first_end = at;
    for (std::size_t next = at; next < bytes.size(); at = next) {
      if (separates(decode_utf8(bytes, next)) != is_separator) break;
    }
    out.append(upper_text(sub_text(*text, begin, first_end).text()).text());
    out.append(lower_text(sub_text(*text, first_end, at).text()).text());
  }
  return Value::text(out.finish());
}

Value filter_trim(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("trim", call, {"chars"});
  if (args.is_set(0) && !args[0].is_string()) raise(kTypeError, "strip arg must be None or str");
  return strip_text(*to_text(value), args.has(0) ? args[0] : Value::none(), true, true);
}

Value filter_replace(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("replace", call, {"old", "new", "count"}, 2);
  const std::int64_t limit = args.is_set(2) ? to_index(args[2]) : -1;
  return replace_text(*to_plain_text(value), *to_plain_text(args[0]), *to_plain_text(args[1]), limit);
}

Value filter_join(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("join", call, {"d", "attribute"});
  const TextRef separator = args.has(0) ? to_plain_text(args[0]) : Value::string("").text_ref();
  const AttributePath path(args.has(1) ? args[1] : Value::none());
  if (!is_iterable(value)) raise(kTypeError, "can only join an iterable");
  TextBuilder out;
  const auto items = iterate(value);
  bool first = true;
  for (Value item; items->next(item); first = false) {
    if (!first) out.append(*separator);
    print(out, path.get(item));
  }
  return Value::text(out.finish());
}

Value filter_string(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("string", call, {});
  return Value::text(to_text(value));
}

Value filter_safe(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("safe", call, {});
  TextBuilder out;
  print(out, value);
  return Value::text(out.finish(true));
}

Value filter_format(Interpreter&, const Value& value, const CallArgs& call) {
  if (!call.positional.empty() && !call.keyword.empty()) {
    raise(kPlain, "can't handle positional and keyword arguments at the same time");
  }
  const Value format = Value::text(to_text(value));
  if (call.keyword.empty()) return percent_format(format, make_tuple(call.positional));
  auto fields = std::make_shared<Dict>();
  for (const auto& [name, field] : call.keyword) fields->insert(Value::string(name), field);
  return percent_format(format, make_dict(std::move(fields)));
}

Value filter_indent(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("indent", call, {"width", "first", "blank"});
  if (!value.is_string()) {
    if (value.is_undefined()) raise_undefined(value);
    raise(kTypeError, "unsupported operand type(s) for +=: '{}' and 'str'", type_name(value));
  }
  const bool is_text = args.has(0) && args[0].is_string();
  const std::int64_t width = is_text ? 0 : args.integer(0, 4);
  if (width > 65536) raise(kOverflowError, "the indentation is too wide");
  const std::string indent =
      is_text ? args[0].text().bytes
              : std::string(static_cast<std::size_t>(std::max<std::int64_t>(width, 0)), ' ');
  const bool blank = args.flag(2, false);
  TextBuilder with_end;
  with_end.append(value.text());
  with_end.append("\n");
  const std::vector<Value> lines = split_lines(*with_end.finish(), true);
  TextBuilder out;
  if (args.flag(1, false)) out.append(indent, value.text().bytes.empty() ? Mark{} : value.text().mark_at(0));
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const Text& line = lines[i].text();
    const auto content = split_lines(line, false);
    const Text& body = content[0].text();
    const Mark end_mark = line.mark_at(line.bytes.size() - 1);
    if (i > 0 && (blank || !body.bytes.empty())) {
      out.append(indent, body.bytes.empty() ? end_mark : body.mark_at(0));
    }
    out.append(body);
    if (i + 1 < lines.size()) out.append("\n", end_mark);
  }
  return Value::text(out.finish(value.text().markup));
}

Value filter_tojson(Interpreter&, const Value& value, const CallArgs& call) {
  const Arguments args("tojson", call, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonOptions options;
  options.ensure_ascii = args.flag(0, false);
  options.sort_keys = args.flag(3, false);
  if (args.is_set(1)) {
    options.has_indent = true;
    const bool is_text = args[1].is_string();
    const std::int64_t width = is_text ? 0 : to_index(args[1]);
    if (width > 4096) raise(kOverflowError, "the indentation is too wide");
    options.indent = is_text ? args[1].text().bytes
                             : std::string(static_cast<std::size_t>(std::max<std::int64_t>(width, 0)), ' ');
    options.item_separator = std::string(",");
  }
  if (args.is_set(2)) {
    const std::vector<Value> separators = to_vector(args[2]);
    if (separators.size() != 2 || !separators[0].is_string() || !separators[1].is_string()) {
      raise(kValueError, "separators wants a pair of strings");
    }
    options.item_separator = separators[0].text().bytes;
    options.key_separator = separators[1].text().bytes;
  }
  TextBuilder out;
  print_json(out, value, options);
  return Value::text(out.finish());
}

}  // namespace

const std::vector<NamedFilter>& text_filters() {
  static const std::vector<NamedFilter> kFilters = {
      {"capitalize", filter_capitalize},
      {"format", filter_format},
      {"indent", filter_indent},
      {"join", filter_join},
      {"lower", filter_lower},
      {"replace", filter_replace},
      {"safe", filter_safe},
      {"string", filter_string},
      {"title", filter_title},
      {"tojson", filter_tojson},
      {"trim", filter_trim},
      {"upper", filter_upper},
  };
  return kFilters;
}

}  // namespace hone::text::jinja
