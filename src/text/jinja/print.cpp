// Python's str, repr and json.dumps over marked text.
#include "text/jinja/print.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja/operators.h"
#include "text/jinja/unicode.h"

namespace hone::text::jinja {
namespace {

/// Throws NonFinite for a number of a message that JSON does not have. Those of a template's own making are
/// written as in Python.
void check_written(const Value& number) {
  if (!std::isfinite(number.real()) && number.source().message != Source::kNoMessage) throw NonFinite();
}

std::string json_float(const Value& number) {
  check_written(number);
  if (std::isnan(number.real())) return "NaN";
  if (std::isinf(number.real())) return number.real() > 0 ? "Infinity" : "-Infinity";
  return float_repr(number.real());
}

char quote_for(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  return has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
}

/// One code point of a repr.
void append_repr_char(std::string& out, char32_t code, char quote) {
  if (code == static_cast<unsigned char>(quote) || code == '\\') {
    out += '\\';
    out += static_cast<char>(code);
  } else if (code == '\n') {
    out += "\\n";
  } else if (code == '\r') {
    out += "\\r";
  } else if (code == '\t') {
    out += "\\t";
  } else if (code < 0x20 || code == 0x7F || (code >= 0x80 && !is_printable(code))) {
    out += code < 0x100     ? fmt::format("\\x{:02x}", static_cast<std::uint32_t>(code))
           : code < 0x10000 ? fmt::format("\\u{:04x}", static_cast<std::uint32_t>(code))
                            : fmt::format("\\U{:08x}", static_cast<std::uint32_t>(code));
  } else {
    append_utf8(out, code);
  }
}

/// Calls `convert(out, code point)` for each character and appends the result under that character's mark.
template <typename Convert>
void append_converted(TextBuilder& out, const Text& text, Convert convert) {
  std::size_t run = 0;
  std::string piece;
  for (std::size_t at = 0; at < text.bytes.size();) {
    while (run < text.runs.size() && text.runs[run].end <= at) ++run;
    const Mark mark = run < text.runs.size() ? text.runs[run].mark : Mark{};
    const std::size_t end = run < text.runs.size() ? text.runs[run].end : text.bytes.size();
    piece.clear();
    while (at < end) convert(piece, decode_utf8(text.bytes, at));
    out.append(piece, mark);
  }
}

void print_string_repr(TextBuilder& out, const Text& text) {
  const char quote = quote_for(text.bytes);
  const Mark first = text.bytes.empty() ? Mark{} : text.mark_at(0);
  const Mark last = text.bytes.empty() ? Mark{} : text.mark_at(text.bytes.size() - 1);
  if (text.markup) out.append("Markup(", first);
  out.append(std::string_view(&quote, 1), first);
  append_converted(out, text,
                   [quote](std::string& piece, char32_t code) { append_repr_char(piece, code, quote); });
  out.append(std::string_view(&quote, 1), last);
  if (text.markup) out.append(")", last);
}

void print_items(TextBuilder& out, const std::vector<Value>& items, const Mark& mark) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out.append(", ", mark);
    print_repr(out, items[i]);
  }
}

void print_dict_repr(TextBuilder& out, const Dict& dict, const Mark& mark) {
  out.append("{", mark);
  bool first = true;
  for (const auto& [key, value] : dict.entries) {
    if (!first) out.append(", ", mark);
    first = false;
    print_repr(out, key);
    out.append(": ", mark);
    print_repr(out, value);
  }
  out.append("}", mark);
}

void print_range(TextBuilder& out, const Range& range, const Mark& mark) {
  out.append(range.step == 1 ? fmt::format("range({}, {})", range.start, range.stop)
                             : fmt::format("range({}, {}, {})", range.start, range.stop, range.step),
             mark);
}

class JsonPrinter {
 public:
  JsonPrinter(TextBuilder& out, const JsonOptions& options) : out_(out), options_(options) {}

  void print(const Value& value) {
    switch (value.kind()) {
      case Kind::kNone:
        return out_.append("null", value.mark());
      case Kind::kBool:
        return out_.append(value.boolean() ? "true" : "false", value.mark());
      case Kind::kInt:
      case Kind::kBigInt:
        return jinja::print(out_, value);
      case Kind::kFloat:
        return out_.append(json_float(value), value.mark());
      case Kind::kString:
        return print_string(value.text());
      case Kind::kList:
      case Kind::kTuple:
        return print_list(value.list(), value.mark());
      case Kind::kDict:
        return print_dict(value.dict(), value.mark());
      default:
        raise(kTypeError, "Object of type {} is not JSON serializable", type_name(value));
    }
  }

 private:
  void append_escaped(std::string& piece, char32_t code) const {
    constexpr std::string_view kNamed = "\b\f\n\r\t";
    if (code == '"' || code == '\\') {
      piece += '\\';
      piece += static_cast<char>(code);
    } else if (code < 0x20 && code != 0 && kNamed.find(static_cast<char>(code)) != std::string_view::npos) {
      piece += '\\';
      piece += "bfnrt"[kNamed.find(static_cast<char>(code))];
    } else if (code < 0x20 || (options_.ensure_ascii && code >= 0x7F && code < 0x10000)) {
      piece += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(code));
    } else if (options_.ensure_ascii && code >= 0x10000) {
      const auto rest = static_cast<std::uint32_t>(code) - 0x10000;
      piece += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
    } else {
      append_utf8(piece, code);
    }
  }

  void print_string(const Text& text) {
    const std::size_t size = text.bytes.size();
    out_.append("\"", size == 0 ? Mark{} : text.mark_at(0));
    append_converted(out_, text, [this](std::string& piece, char32_t code) { append_escaped(piece, code); });
    out_.append("\"", size == 0 ? Mark{} : text.mark_at(size - 1));
  }

  void new_line(const Mark& mark) {
    if (!options_.has_indent) return;
    out_.append("\n", mark);
    for (std::size_t i = 0; i < level_; ++i) out_.append(options_.indent, mark);
  }

  void print_list(const List& list, const Mark& mark) {
    if (list.items.empty()) return out_.append("[]", mark);
    out_.append("[", mark);
    ++level_;
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) out_.append(options_.item_separator, mark);
      new_line(mark);
      print(list.items[i]);
    }
    --level_;
    new_line(mark);
    out_.append("]", mark);
  }

  void print_key(const Value& key) {
    switch (key.kind()) {
      case Kind::kString:
        return print_string(key.text());
      case Kind::kFloat:
        return out_.append(fmt::format("\"{}\"", json_float(key)), key.mark());
      case Kind::kBool:
        return out_.append(key.boolean() ? "\"true\"" : "\"false\"", key.mark());
      case Kind::kNone:
        return out_.append("\"null\"", key.mark());
      case Kind::kInt:
      case Kind::kBigInt:
        return out_.append(fmt::format("\"{}\"", repr(key)), key.mark());
      default:
        raise(kTypeError, "keys must be str, int, float, bool or None, not {}", type_name(key));
    }
  }

  void print_dict(const Dict& dict, const Mark& mark) {
    if (dict.entries.empty()) return out_.append("{}", mark);
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (options_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto* a, const auto* b) { return less_than(a->first, b->first); });
    }
    out_.append("{", mark);
    ++level_;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_.append(options_.item_separator, mark);
      new_line(mark);
      print_key(entries[i]->first);
      out_.append(options_.key_separator, mark);
      print(entries[i]->second);
    }
    --level_;
    new_line(mark);
    out_.append("}", mark);
  }

  TextBuilder& out_;
  const JsonOptions& options_;
  std::size_t level_ = 0;
};

}  // namespace

std::string in_quotes(std::string_view text) {
  const char quote = quote_for(text);
  std::string out(1, quote);
  for (std::size_t at = 0; at < text.size();) append_repr_char(out, decode_utf8(text, at), quote);
  return out + quote;
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  std::string out;
  if (text.front() == '-') {
    out = "-";
    text.remove_prefix(1);
  }
  const std::size_t e = text.find('e');
  int exponent = 0;
  const std::string_view power = text.substr(text[e + 1] == '+' ? e + 2 : e + 1);
  std::from_chars(power.data(), power.data() + power.size(), exponent);
  std::string digits(1, text[0]);
  if (e > 2) digits += text.substr(2, e - 2);
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits.substr(0, 1);
    if (count > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02d}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return out + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  if (count <= exponent + 1)
    return out + digits + std::string(static_cast<std::size_t>(exponent + 1 - count), '0') + ".0";
  const auto point = static_cast<std::size_t>(exponent + 1);
  return out + digits.substr(0, point) + "." + digits.substr(point);
}

void print_repr(TextBuilder& out, const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
      return out.append("Undefined");
    case Kind::kNone:
      return out.append("None", value.mark());
    case Kind::kBool:
      return out.append(value.boolean() ? "True" : "False", value.mark());
    case Kind::kInt:
      return out.append(std::to_string(value.integer()), value.mark());
    case Kind::kBigInt:
      return out.append(value.as<BigInteger>().digits, value.mark());
    case Kind::kFloat:
      check_written(value);
      return out.append(float_repr(value.real()), value.mark());
    case Kind::kString:
      return print_string_repr(out, value.text());
    case Kind::kList:
      out.append("[", value.mark());
      print_items(out, value.list().items, value.mark());
      return out.append("]", value.mark());
    case Kind::kTuple:
      out.append("(", value.mark());
      print_items(out, value.list().items, value.mark());
      return out.append(value.list().items.size() == 1 ? ",)" : ")", value.mark());
    case Kind::kDict:
      return print_dict_repr(out, value.dict(), value.mark());
    case Kind::kRange:
      return print_range(out, value.as<Range>(), value.mark());
    case Kind::kView:
      out.append(value.object()->type_name() + "(", value.mark());
      print_repr(out, make_list(view_items(value.as<View>()), value.own_source()));
      return out.append(")", value.mark());
    case Kind::kNamespace:
      return out.append("<Namespace {...}>");
    default:
      return out.append(value.object()->repr());
  }
}

void print(TextBuilder& out, const Value& value) {
  if (value.is_string()) return out.append(value.text());
  if (value.is_undefined()) return;
  if (value.is(Kind::kNamespace)) return out.append(value.object()->repr());
  print_repr(out, value);
}

std::string repr(const Value& value) {
  TextBuilder out;
  print_repr(out, value);
  return out.finish()->bytes;
}

TextRef to_text(const Value& value) {
  if (value.is_string()) return value.text_ref();
  TextBuilder out;
  print(out, value);
  return out.finish();
}

TextRef to_plain_text(const Value& value) {
  if (value.is_string() && !value.text().markup) return value.text_ref();
  TextBuilder out;
  print(out, value);
  return out.finish();
}

void print_json(TextBuilder& out, const Value& value, const JsonOptions& options) {
  JsonPrinter(out, options).print(value);
}

}  // namespace hone::text::jinja
