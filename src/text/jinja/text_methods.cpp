// The methods of str; marks follow the characters.
#include <algorithm>
#include <array>

#include "text/jinja/arguments.h"
#include "text/jinja/format.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/unicode.h"

namespace hone::text::jinja {
namespace {

bool in_set(std::string_view set, std::string_view character) {
  for (std::size_t at = 0; at < set.size();) {
    const std::size_t begin = at;
    decode_utf8(set, at);
    if (set.substr(begin, at - begin) == character) return true;
  }
  return false;
}

/// The words of a text as byte ranges.
std::vector<std::pair<std::size_t, std::size_t>> words_of(std::string_view bytes) {
  std::vector<std::pair<std::size_t, std::size_t>> words;
  bool in_word = false;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t begin = at;
    if (is_space(decode_utf8(bytes, at))) {
      in_word = false;
    } else if (in_word) {
      words.back().second = at;
    } else {
      words.emplace_back(begin, at);
      in_word = true;
    }
  }
  return words;
}

/// The part that is not split keeps the white space at its outer end, as in Python.
std::vector<Value> split_at_space(const Text& text, std::int64_t max_splits) {
  auto words = words_of(text.bytes);
  const auto limit = static_cast<std::size_t>(max_splits);
  if (max_splits >= 0 && words.size() > limit) {
    words.resize(limit + 1);
    words.back().second = text.bytes.size();
  }
  std::vector<Value> parts;
  for (const auto& [begin, end] : words) parts.push_back(sub_text(text, begin, end));
  return parts;
}

/// Maps code point by code point: map(out, code point, its offset).
template <typename Map>
Value map_text(const Text& text, Map map) {
  TextBuilder out;
  std::string piece;
  for (std::size_t at = 0; at < text.bytes.size();) {
    const std::size_t begin = at;
    const char32_t code = decode_utf8(text.bytes, at);
    piece.clear();
    map(piece, code, begin);
    out.append(piece, text.mark_at(begin));
  }
  return Value::text(out.finish(text.markup));
}

void append_lower(std::string& piece, const Text& text, char32_t code, std::size_t at) {
  if (code == 0x3A3) {
    append_utf8(piece, is_final_sigma(text.bytes, at) ? 0x3C2 : 0x3C3);
  } else {
    append_mapped(piece, code, Case::kLower);
  }
}

/// start and end of startswith and endswith: byte offsets, or nullopt where start lies behind the text.
struct Window {
  std::size_t begin;
  std::size_t end;
  bool valid;
};
Window window_of(const Text& text, const Arguments& args, std::size_t first) {
  const auto length = static_cast<std::int64_t>(text.length);
  const auto bound = [&](std::size_t index, std::int64_t fallback) {
    if (!args.is_set(index)) return fallback;
    const std::int64_t value = to_index(args[index]);
    return value < 0 ? std::max<std::int64_t>(value + length, 0) : value;
  };
  const std::int64_t begin = bound(first, 0);
  const std::int64_t end = std::min(bound(first + 1, length), length);
  if (begin > length || begin > end) return {0, 0, false};
  return {text.offset(static_cast<std::size_t>(begin)), text.offset(static_cast<std::size_t>(end)), true};
}

Value has_affix(std::string_view method, const Value& self, const CallArgs& call, bool at_start) {
  const Arguments args(method, call, {"/prefix", "/start", "/end"}, 1);
  const Text& text = self.text();
  const Window window = window_of(text, args, 1);
  const auto matches = [&](const Value& affix) {
    if (!affix.is_string()) {
      raise(kTypeError, "{} first arg must be str or a tuple of str, not {}", method, type_name(affix));
    }
    if (!window.valid) return false;
    const auto view = std::string_view(text.bytes).substr(window.begin, window.end - window.begin);
    return at_start ? view.starts_with(affix.text().bytes) : view.ends_with(affix.text().bytes);
  };
  const Source source = text.mark_of_all().source;
  if (!args[0].is(Kind::kTuple)) return Value::boolean(matches(args[0]), source);
  const auto& affixes = args[0].list().items;
  return Value::boolean(std::any_of(affixes.begin(), affixes.end(), matches), source);
}

Value title(const Value& self, const CallArgs& call) {
  const Arguments args("title", call, {});
  bool in_word = false;
  return map_text(self.text(), [&](std::string& piece, char32_t code, std::size_t at) {
    if (in_word) {
      append_lower(piece, self.text(), code, at);
    } else {
      append_mapped(piece, code, Case::kTitle);
    }
    in_word = is_cased(code);
  });
}

template <bool kLeft, bool kRight>
Value strip_method(const Value& self, const CallArgs& call) {
  const Arguments args("strip", call, {"/chars"});
  if (args.is_set(0) && !args[0].is_string()) raise(kTypeError, "strip arg must be None or str");
  return strip_text(self.text(), args.has(0) ? args[0] : Value::none(), kLeft, kRight);
}

Value split_method(const Value& self, const CallArgs& call) {
  const Arguments args("split", call, {"sep", "maxsplit"});
  return make_list(split_text(self.text(), args.has(0) ? args[0] : Value::none(), args.integer(1, -1)),
                   self.source());
}

Value replace_method(const Value& self, const CallArgs& call) {
  const Arguments args("replace", call, {"/old", "/new", "/count"}, 2);
  const Text& inserted = args.text(1);
  const TextRef escaped = self.text().markup ? escape_markup(args[1]) : nullptr;
  return replace_text(self.text(), args.text(0), escaped ? *escaped : inserted, args.integer(2, -1));
}

Value upper_method(const Value& self, const CallArgs& call) {
  const Arguments args("upper", call, {});
  return upper_text(self.text());
}
Value lower_method(const Value& self, const CallArgs& call) {
  const Arguments args("lower", call, {});
  return lower_text(self.text());
}
Value capitalize_method(const Value& self, const CallArgs& call) {
  const Arguments args("capitalize", call, {});
  return capitalize_text(self.text());
}

Value format_method(const Value& self, const CallArgs& call) {
  return brace_format(self.text(), call);
}

constexpr std::array kMethods = {
    NamedMethod{"strip", strip_method<true, true>},
    NamedMethod{"lstrip", strip_method<true, false>},
    NamedMethod{"rstrip", strip_method<false, true>},
    NamedMethod{"split", split_method},
    NamedMethod{"replace", replace_method},
    NamedMethod{"upper", upper_method},
    NamedMethod{"lower", lower_method},
    NamedMethod{"capitalize", capitalize_method},
    NamedMethod{"title", title},
    NamedMethod{"format", format_method},
    NamedMethod{"startswith",
                [](const Value& s, const CallArgs& a) { return has_affix("startswith", s, a, true); }},
    NamedMethod{"endswith",
                [](const Value& s, const CallArgs& a) { return has_affix("endswith", s, a, false); }},
};

}  // namespace

Method find_text_method(std::string_view name) {
  const auto it =
      std::find_if(kMethods.begin(), kMethods.end(), [name](const NamedMethod& m) { return m.name == name; });
  return it == kMethods.end() ? nullptr : it->method;
}

Value strip_text(const Text& text, const Value& chars, bool left, bool right) {
  const std::string_view bytes = text.bytes;
  const auto strippable = [&](std::size_t begin, std::size_t end) {
    std::size_t at = begin;
    return chars.is_none() ? is_space(decode_utf8(bytes, at))
                           : in_set(chars.text().bytes, bytes.substr(begin, end - begin));
  };
  std::size_t begin = 0;
  std::size_t end = bytes.size();
  while (left && begin < end) {
    std::size_t next = begin;
    decode_utf8(bytes, next);
    if (!strippable(begin, next)) break;
    begin = next;
  }
  while (right && end > begin) {
    const std::size_t previous = previous_utf8(bytes, end);
    if (!strippable(previous, end)) break;
    end = previous;
  }
  return sub_text(text, begin, end);
}

std::vector<Value> split_text(const Text& text, const Value& separator, std::int64_t max_splits) {
  if (max_splits < 0) max_splits = -1;
  if (separator.is_none()) return split_at_space(text, max_splits);
  if (!separator.is_string()) raise(kTypeError, "must be str or None, not {}", type_name(separator));
  const std::string_view cut = separator.text().bytes;
  if (cut.empty()) raise(kValueError, "empty separator");
  std::vector<Value> parts;
  const std::string_view bytes = text.bytes;
  std::size_t begin = 0;
  while (max_splits-- != 0) {
    const std::size_t found = bytes.find(cut, begin);
    if (found == std::string_view::npos) break;
    parts.push_back(sub_text(text, begin, found));
    begin = found + cut.size();
  }
  parts.push_back(sub_text(text, begin, bytes.size()));
  return parts;
}

std::vector<Value> split_lines(const Text& text, bool keep_ends) {
  const std::string_view bytes = text.bytes;
  std::vector<Value> lines;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t end = at;
    const char32_t code = decode_utf8(bytes, at);
    if (!is_line_break(code)) continue;
    if (code == '\r' && at < bytes.size() && bytes[at] == '\n') ++at;
    lines.push_back(sub_text(text, begin, keep_ends ? at : end));
    begin = at;
  }
  if (begin < bytes.size()) lines.push_back(sub_text(text, begin, bytes.size()));
  return lines;
}

Value replace_text(const Text& text, const Text& old_part, const Text& new_part, std::int64_t limit) {
  const std::string_view bytes = text.bytes;
  const std::string_view cut = old_part.bytes;
  TextBuilder out;
  const auto insert = [&](std::size_t begin, std::size_t end) {
    const Mark touched = text.mark_of(begin, std::max(end, std::min(begin + 1, bytes.size())));
    Mark mark = new_part.mark_of_all();
    mark.source = merge(mark.source, touched.source);
    mark.generation = touched.generation;
    out.append(new_part.bytes, mark);
  };
  std::size_t at = 0;
  if (cut.empty()) {
    for (; limit != 0; --limit) {
      insert(at, at);
      if (at >= bytes.size()) return Value::text(out.finish(text.markup));
      const std::size_t begin = at;
      decode_utf8(bytes, at);
      out.append(text, begin, at);
    }
  }
  for (; limit != 0 && !cut.empty(); --limit) {
    const std::size_t found = bytes.find(cut, at);
    if (found == std::string_view::npos) break;
    out.append(text, at, found);
    at = found + cut.size();
    insert(found, at);
  }
  out.append(text, at, bytes.size());
  return Value::text(out.finish(text.markup));
}

Value upper_text(const Text& text) {
  return map_text(
      text, [](std::string& piece, char32_t code, std::size_t) { append_mapped(piece, code, Case::kUpper); });
}

Value lower_text(const Text& text) {
  return map_text(text, [&text](std::string& piece, char32_t code, std::size_t at) {
    append_lower(piece, text, code, at);
  });
}

Value capitalize_text(const Text& text) {
  return map_text(text, [&text](std::string& piece, char32_t code, std::size_t at) {
    if (at == 0) {
      append_mapped(piece, code, Case::kTitle);
    } else {
      append_lower(piece, text, code, at);
    }
  });
}

}  // namespace hone::text::jinja
