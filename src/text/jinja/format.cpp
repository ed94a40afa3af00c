// `%` over marked text: literal parts keep the format's marks, filled-in parts those of their
// values.
#include "text/jinja/format.h"

#include <algorithm>
#include <cmath>

#include "text/jinja/format_spec.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/unicode.h"

namespace hone::text::jinja {
namespace {

/// Appends `text` cut to `precision` and padded to `width` code points.
void append_padded(TextBuilder& out, const Text& text, std::int64_t width, int precision, char align,
                   char32_t fill) {
  const std::size_t length =
      precision < 0 ? text.length : std::min(text.length, static_cast<std::size_t>(precision));
  const std::size_t missing =
      width > static_cast<std::int64_t>(length) ? static_cast<std::size_t>(width) - length : 0;
  const std::size_t left = align == '>' ? missing : align == '^' ? missing / 2 : 0;
  const std::string unit = to_utf8(fill);
  for (std::size_t i = 0; i < left; ++i) out.append(unit);
  out.append(text, 0, text.offset(length));
  for (std::size_t i = left; i < missing; ++i) out.append(unit);
}

TextRef text_of(std::string_view bytes, const Mark& mark) {
  return Value::string(bytes, mark).text_ref();
}

TextRef repr_text(const Value& value) {
  TextBuilder out;
  print_repr(out, value);
  return out.finish();
}

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
    if (has_key_) return keyed_;
    if (value_.is(Kind::kTuple)) {
      if (next_ >= value_.list().items.size()) raise(kTypeError, "not enough arguments for format string");
      return value_.list().items[next_++];
    }
    if (next_++ > 0) raise(kTypeError, "not enough arguments for format string");
    return value_;
  }

  void read_key() {
    has_key_ = false;
    if (peek() != '(') return;
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
    keyed_ = *found;
    has_key_ = true;
  }

  std::int64_t read_number() {
    if (peek() == '*') {
      ++at_;
      const Value& width = argument();
      if (!width.is_integral()) raise(kTypeError, "* wants int");
      if (std::abs(width.integer()) > kMaxWidth) raise(kValueError, "width too big");
      return width.integer();
    }
    std::int64_t number = 0;
    while (std::isdigit(static_cast<unsigned char>(peek())) != 0) {
      number = number * 10 + (format_.bytes[at_++] - '0');
      if (number > kMaxWidth) raise(kValueError, "width too big");
    }
    return number;
  }

  void directive() {
    const std::size_t begin = at_++;
    read_key();
    spec_ = {};
    spec_.align = '>';
    for (; std::string_view("-+ #0").find(peek()) != std::string_view::npos; ++at_) flag(format_.bytes[at_]);
    spec_.width = read_number();
    if (spec_.width < 0) {
      spec_.width = -spec_.width;
      spec_.align = '<';
    }
    if (peek() == '.') {
      ++at_;
      spec_.precision = static_cast<int>(std::max<std::int64_t>(read_number(), 0));
    }
    if (peek() == 'h' || peek() == 'l' || peek() == 'L') ++at_;
    spec_.type = peek();
    ++at_;
    if (spec_.type == '%') {
      out_.append("%", format_.mark_at(begin));
    } else {
      convert();
    }
  }

  void flag(char c) {
    if (c == '-') spec_.align = '<';
    if (c == '+' || (c == ' ' && spec_.sign != '+')) spec_.sign = c;
    if (c == '#') spec_.alternate = true;
    if (c == '0') spec_.fill = '0';
  }

  void convert() {
    switch (spec_.type) {
      case 's':
      case 'r':
      case 'a':
        return append_text(argument());
      case 'c':
        return append_char(argument());
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return append_integer(argument());
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        const Value& value = argument();
        const double number = to_double(value);
        return append_number(std::signbit(number) && !std::isnan(number), "",
                             float_digits(number, spec_.type, spec_.precision, spec_.alternate),
                             value.source());
      }
      default: {
        std::size_t at = at_ - 1;
        const char32_t code = decode_utf8(format_.bytes, at);
        raise(kValueError, "unsupported format character '{}' (0x{:x}) at index {}", to_utf8(code),
              static_cast<std::uint32_t>(code),
              count_code_points(std::string_view(format_.bytes).substr(0, at_ - 1)));
      }
    }
  }

  void append_text(const Value& value) {
    TextRef text = spec_.type == 's'   ? to_text(value)
                   : spec_.type == 'r' ? repr_text(value)
                                       : text_of(ascii_repr(value), Mark{value.source(), 0});
    if (format_.markup) text = escape_markup(Value::text(text));
    append_padded(out_, *text, spec_.width, spec_.precision, spec_.align, ' ');
  }

  void append_char(const Value& value) {
    TextRef text;
    if (value.is_string() && value.text().length == 1) {
      text = value.text_ref();
    } else if (value.is_integral()) {
      if (value.integer() < 0 || value.integer() > 0x10FFFF)
        raise(kOverflowError, "%c arg not in range(0x110000)");
      text = text_of(to_utf8(static_cast<char32_t>(value.integer())), value.mark());
    } else {
      raise(kTypeError, "%c requires int or char");
    }
    append_padded(out_, *text, spec_.width, -1, spec_.align, ' ');
  }

  void append_integer(const Value& value) {
    std::int64_t number = 0;
    if (value.is_undefined()) raise_undefined(value);
    if (value.is_integral()) {
      number = value.integer();
    } else if (value.is(Kind::kFloat) && (spec_.type == 'd' || spec_.type == 'i' || spec_.type == 'u')) {
      if (!std::isfinite(value.real()) || std::abs(value.real()) > 9e18)
        raise(kOverflowError, "cannot convert float to integer");
      number = static_cast<std::int64_t>(value.real());
    } else if (value.is(Kind::kBigInt) && spec_.type == 'd') {
      const std::string& digits = value.as<BigInteger>().digits;
      const bool negative = digits[0] == '-';
      return append_number(negative, "", digits.substr(negative ? 1 : 0), value.source());
    } else {
      raise(kTypeError, "%{} format: {} is required, not {}", spec_.type,
            spec_.type == 'x' || spec_.type == 'X' || spec_.type == 'o' ? "an integer" : "a real number",
            type_name(value));
    }
    const unsigned base = spec_.type == 'x' || spec_.type == 'X' ? 16 : spec_.type == 'o' ? 8 : 10;
    std::string digits = integer_digits(number, base);
    std::string prefix = !spec_.alternate || base == 10 ? "" : base == 8 ? "0o" : "0x";
    if (spec_.type == 'X') {
      std::transform(digits.begin(), digits.end(), digits.begin(),
                     [](char c) { return static_cast<char>(std::toupper(c)); });
      if (!prefix.empty()) prefix = "0X";
    }
    const std::size_t precision = spec_.precision < 0 ? 0 : static_cast<std::size_t>(spec_.precision);
    if (digits.size() < precision) digits.insert(0, precision - digits.size(), '0');
    append_number(number < 0, prefix, digits, value.source());
  }

  void append_number(bool is_negative, std::string_view prefix, std::string digits, Source source) {
    if (spec_.fill == '0' && spec_.align != '<') spec_.align = '=';
    if (spec_.align == '<') spec_.fill = ' ';
    out_.append(pad_number(spec_, is_negative, prefix, std::move(digits)), Mark{source, 0});
  }

  static constexpr std::int64_t kMaxWidth = 1 << 20;
  const Text& format_;
  const Value& value_;
  bool is_mapping_ = false;
  bool has_key_ = false;
  Value keyed_;
  std::size_t at_ = 0;
  std::size_t next_ = 0;
  FormatSpec spec_;
  TextBuilder out_;
};

}  // namespace

Value percent_format(const Value& format, const Value& value) {
  return PercentFormatter(format.text(), value).run();
}

std::string ascii_repr(const Value& value) {
  const std::string text = repr(value);
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto code = static_cast<std::uint32_t>(decode_utf8(text, at));
    out += code < 0x80      ? std::string(1, static_cast<char>(code))
           : code < 0x100   ? fmt::format("\\x{:02x}", code)
           : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                            : fmt::format("\\U{:08x}", code);
  }
  return out;
}

}  // namespace hone::text::jinja
