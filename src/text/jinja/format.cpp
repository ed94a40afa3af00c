// Literal parts keep the format's marks, filled-in parts those of their values.
#include "text/jinja/format.h"

#include <algorithm>

#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/refused.h"

namespace hone::text::jinja {
namespace {

/// One `%…` directive after another.
class PercentFormatter {
 public:
  PercentFormatter(const Text& format, const Value& value) : format_(format), value_(value) {
    is_mapping_ = value.is(Kind::kDict) || value.is(Kind::kList) || value.is_undefined();
  }

  Value run() {
    const std::string& bytes = format_.bytes;
    for (at_ = 0; at_ < bytes.size();) {
      const std::size_t percent = std::min(bytes.find('%', at_), bytes.size());
      out_.append(format_, at_, percent);
      at_ = percent;
      if (at_ < bytes.size()) directive();
    }
    const std::size_t given = value_.is(Kind::kTuple) ? value_.list().items.size() : 1;
    if (!is_mapping_ && next_ < given)
      raise(kTypeError, "not all arguments converted during string formatting");
    return Value::text(out_.finish(format_.markup));
  }

 private:
  char peek() const {
    if (at_ >= format_.bytes.size()) raise(kValueError, "incomplete format");
    return format_.bytes[at_];
  }

  const Value& argument() {
    if (value_.is(Kind::kTuple)) {
      if (next_ >= value_.list().items.size()) raise(kTypeError, "not enough arguments for format string");
      return value_.list().items[next_++];
    }
    if (next_++ > 0) raise(kTypeError, "not enough arguments for format string");
    return value_;
  }

  /// The value of "(name)".
  Value keyed() {
    if (!is_mapping_) raise(kTypeError, "format requires a mapping");
    const std::size_t begin = ++at_;
    for (int depth = 1; depth > 0; ++at_) {
      if (at_ >= format_.bytes.size()) raise(kValueError, "incomplete format key");
      if (format_.bytes[at_] == '(') ++depth;
      if (format_.bytes[at_] == ')') --depth;
    }
    const Value key = sub_text(format_, begin, at_ - 1);
    if (value_.is_undefined()) raise_undefined(value_);
    const Value* found = value_.is(Kind::kDict) ? value_.dict().find(key) : nullptr;
    if (found == nullptr) raise("KeyError", "{}", repr(key));
    return *found;
  }

  void directive() {
    const std::size_t begin = at_++;
    std::optional<Value> value;
    if (peek() == '(') value = keyed();
    const char type = peek();
    if (type == '%') {
      out_.append("%", format_.mark_at(begin));
    } else if (type == 's') {
      if (!value) value = argument();
      out_.append(format_.markup ? *escape_markup(*value) : *to_text(*value));
    } else {
      const std::size_t end =
          std::min(format_.bytes.find_first_of("diouxXeEfFgGcrsa%", at_), format_.bytes.size() - 1);
      raise(kPlain, "{}",
            refusal("directive", std::string_view(format_.bytes).substr(begin, end + 1 - begin)));
    }
    ++at_;
  }

  const Text& format_;
  const Value& value_;
  bool is_mapping_ = false;
  std::size_t at_ = 0;
  std::size_t next_ = 0;
  TextBuilder out_;
};

/// format(value, "d").
Value as_integer(const Value& value) {
  if (value.is_integral()) return Value::integer(value.integer(), value.own_source());
  if (value.is(Kind::kBigInt)) return value;
  if (value.is_string() || value.is(Kind::kFloat))
    raise(kValueError, "Unknown format code 'd' for object of type '{}'", type_name(value));
  raise(kTypeError, "unsupported format string passed to {}.__format__", type_name(value));
}

/// The fields of str.format.
class BraceFormatter {
 public:
  BraceFormatter(const Text& format, const CallArgs& args) : format_(format), args_(args) {}

  Value run() {
    const std::string& bytes = format_.bytes;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t brace = std::min(bytes.find_first_of("{}", at), bytes.size());
      out_.append(format_, at, brace);
      if (brace == bytes.size()) break;
      if (brace + 1 < bytes.size() && bytes[brace + 1] == bytes[brace]) {
        out_.append(format_, brace, brace + 1);
        at = brace + 2;
        continue;
      }
      if (bytes[brace] == '}') raise(kValueError, "Single '}}' encountered in format string");
      if (brace + 1 == bytes.size()) raise(kValueError, "Single '{{' encountered in format string");
      const std::size_t end = bytes.find('}', brace);
      if (end == std::string::npos) raise(kValueError, "expected '}}' before end of string");
      field(std::string_view(bytes).substr(brace + 1, end - brace - 1));
      at = end + 1;
    }
    return Value::text(out_.finish(format_.markup));
  }

 private:
  void field(std::string_view inside) {
    const std::size_t colon = std::min(inside.find(':'), inside.size());
    const std::string_view name = inside.substr(0, colon);
    const std::string_view spec = inside.substr(std::min(colon + 1, inside.size()));
    if (name.find_first_of(".[!{") != std::string_view::npos || (!spec.empty() && spec != "d"))
      raise(kPlain, "{}", refusal("format field", fmt::format("{{{}}}", inside)));
    Value value = lookup(name);
    if (!spec.empty()) value = as_integer(value);
    out_.append(format_.markup ? *escape_markup(value) : *to_plain_text(value));
  }

  Value lookup(std::string_view name) {
    const bool is_automatic = name.empty();
    if (is_automatic || name.find_first_not_of("0123456789") == std::string_view::npos) {
      if ((is_automatic ? has_manual_ : automatic_ > 0))
        raise(kValueError, "cannot switch between manual field specification and automatic field numbering");
      has_manual_ = !is_automatic;
      const std::size_t index = is_automatic      ? automatic_++
                                : name.size() > 6 ? args_.positional.size()
                                                  : std::stoul(std::string(name));
      if (index >= args_.positional.size())
        raise(kIndexError, "Replacement index {} out of range for positional args tuple", index);
      return args_.positional[index];
    }
    for (const auto& [key, value] : args_.keyword)
      if (key == name) return value;
    raise("KeyError", "{}", in_quotes(name));
  }

  const Text& format_;
  const CallArgs& args_;
  bool has_manual_ = false;
  std::size_t automatic_ = 0;
  TextBuilder out_;
};

}  // namespace

Value percent_format(const Value& format, const Value& value) {
  return PercentFormatter(format.text(), value).run();
}

Value brace_format(const Text& format, const CallArgs& args) {
  return BraceFormatter(format, args).run();
}

}  // namespace hone::text::jinja
