// The lexer. Outside of tags it looks for the next opening; inside it reads names, literals and operators.
#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "text/jinja/print.h"
#include "text/jinja/unicode.h"

namespace hone::text::jinja {
namespace {

constexpr std::size_t kNone = std::string_view::npos;

bool is_digit_char(char c) {
  return c >= '0' && c <= '9';
}

char32_t code_at(std::string_view text, std::size_t at) {
  return decode_utf8(text, at);
}

/// Python's unicode-escape decoding, as Jinja applies it to string literals.
class Unescaper {
 public:
  Unescaper(std::string_view text, std::uint32_t line) : text_(text), line_(line) {}

  std::string run() {
    while (at_ < text_.size()) {
      if (text_[at_] != '\\') {
        out_ += text_[at_++];
        continue;
      }
      if (++at_ >= text_.size()) throw SyntaxError(line_, "\\ at end of string");
      escape();
    }
    return std::move(out_);
  }

 private:
  void escape() {
    if (static_cast<unsigned char>(text_[at_]) >= 0x80) return escape_non_ascii();
    const char c = text_[at_++];
    constexpr std::string_view kFrom = "\\'\"abfnrtv";
    constexpr std::string_view kTo = "\\'\"\a\b\f\n\r\t\v";
    if (const std::size_t known = kFrom.find(c); known != kNone) {
      out_ += kTo[known];
    } else if (c == '\n') {
      return;  // a line continuation
    } else if (c >= '0' && c <= '7') {
      char32_t code = static_cast<char32_t>(c - '0');
      for (int i = 0; i < 2 && at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '7'; ++i) {
        code = code * 8 + static_cast<char32_t>(text_[at_++] - '0');
      }
      append_utf8(out_, code);
    } else if (c == 'x') {
      append_utf8(out_, hex(2, "\\xXX"));
    } else if (c == 'u') {
      append_utf8(out_, hex(4, "\\uXXXX"));
    } else if (c == 'U') {
      append_utf8(out_, hex(8, "\\UXXXXXXXX"));
    } else if (c == 'N') {
      throw SyntaxError(line_, "named characters (\\N{...}) are not supported in a string");
    } else {
      out_ += '\\';
      out_ += c;
    }
  }

  /// Jinja escapes what is not ASCII before it unescapes, so a backslash before it turns into that escape,
  /// spelt out.
  void escape_non_ascii() {
    const auto code = static_cast<std::uint32_t>(decode_utf8(text_, at_));
    out_ += code < 0x100     ? fmt::format("\\x{:02x}", code)
            : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                             : fmt::format("\\U{:08x}", code);
  }

  char32_t hex(std::size_t digits, std::string_view form) {
    std::uint32_t code = 0;
    const std::string_view part = text_.substr(std::min(at_, text_.size()), digits);
    const auto result = std::from_chars(part.data(), part.data() + part.size(), code, 16);
    if (part.size() < digits || result.ptr != part.data() + digits) {
      throw SyntaxError(line_, fmt::format("truncated {} escape", form));
    }
    if (code > 0x10FFFF) throw SyntaxError(line_, "illegal Unicode character");
    if (code >= 0xD800 && code < 0xE000)
      throw SyntaxError(line_, "a surrogate is not a character; write it as \\UXXXXXXXX");
    at_ += digits;
    return code;
  }

  std::string_view text_;
  std::uint32_t line_;
  std::size_t at_ = 0;
  std::string out_;
};

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) { stream_.tags.emplace_back(); }

  TokenStream run() {
    while (at_ < source_.size()) read_data();
    push(TokenType::kEnd, "");
    return std::move(stream_);
  }

 private:
  void push(TokenType type, std::string text) {
    Token token;
    token.type = type;
    token.text = std::move(text);
    token.line = line_;
    token.tag = tag_;
    stream_.tokens.push_back(std::move(token));
  }

  /// Moves behind byte `to`, counting lines.
  void advance(std::size_t to) {
    line_ += static_cast<std::uint32_t>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                                   source_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    if (to > at_) line_starting_ = source_[to - 1] == '\n';
    at_ = to;
  }

  std::size_t skip_space(std::size_t at) const {
    while (at < source_.size()) {
      std::size_t next = at;
      if (!is_space(decode_utf8(source_, next))) break;
      at = next;
    }
    return at;
  }

  bool looking_at(std::size_t at, std::string_view text) const {
    return source_.substr(std::min(at, source_.size())).starts_with(text);
  }

  /// The data before a tag, after what the tag's sign and lstrip_blocks take from its end.
  std::string_view strip_before(std::string_view text, char sign, bool is_variable) const {
    if (sign == '-') {
      while (!text.empty()) {
        const std::size_t previous = previous_utf8(text, text.size());
        if (!is_space(code_at(text, previous))) break;
        text = text.substr(0, previous);
      }
      return text;
    }
    if (sign == '+' || is_variable) return text;
    const std::size_t newline = text.rfind('\n');
    const std::size_t line_begin = newline == kNone ? 0 : newline + 1;
    if (line_begin == 0 && !line_starting_) return text;
    for (std::size_t at = line_begin; at < text.size();) {
      if (!is_space(decode_utf8(text, at))) return text;
    }
    return text.substr(0, line_begin);
  }

  /// Reads `text {{`, `text {%`, `text {#` or the rest of the source.
  void read_data() {
    std::size_t open = at_;
    while (true) {
      open = source_.find('{', open);
      if (open == kNone) {
        push(TokenType::kData, std::string(source_.substr(at_)));
        return advance(source_.size());
      }
      if (open + 1 < source_.size() && std::string_view("{%#").find(source_[open + 1]) != kNone) break;
      ++open;
    }
    const char kind = source_[open + 1];
    const char after = open + 2 < source_.size() ? source_[open + 2] : '\0';
    const char sign = after == '-' || after == '+' ? after : '\0';
    const std::string_view data = strip_before(source_.substr(at_, open - at_), sign, kind == '{');
    if (!data.empty()) push(TokenType::kData, std::string(data));
    advance(open);
    const std::size_t inside = open + (sign == '\0' ? 2 : 3);
    if (kind == '#') return read_comment(inside);
    if (kind == '%' && read_raw(inside)) return;
    tag_ = static_cast<std::uint32_t>(stream_.tags.size());
    stream_.tags.push_back({open, source_.size()});
    push(kind == '{' ? TokenType::kVariableBegin : TokenType::kBlockBegin, "");
    advance(inside);
    read_tag(kind == '{');
    stream_.tags.back().end = at_;
    tag_ = 0;
  }

  /// Where a tag that closes with `close` ("%}", "#}") at `at` ends, white-space control and trim_blocks
  /// included, or npos.
  std::size_t end_of_closing(std::size_t at, std::string_view close) const {
    if (looking_at(at, close)) {
      const std::size_t end = at + close.size();
      return close != "}}" && looking_at(end, "\n") ? end + 1 : end;
    }
    if (at >= source_.size() || !looking_at(at + 1, close)) return kNone;
    if (source_[at] == '-') return skip_space(at + 1 + close.size());
    return source_[at] == '+' && close != "}}" ? at + 1 + close.size() : kNone;
  }

  void read_comment(std::size_t inside) {
    for (std::size_t at = inside; at < source_.size(); ++at) {
      if (const std::size_t end = end_of_closing(at, "#}"); end != kNone) return advance(end);
    }
    throw SyntaxError(line_, "Missing end of comment tag");
  }

  /// `{% raw %} … {% endraw %}`, where `inside` is behind the opening and its sign. False where it is another
  /// tag.
  bool read_raw(std::size_t inside) {
    std::size_t at = skip_space(inside);
    if (!looking_at(at, "raw")) return false;
    at = skip_space(at + 3);
    if (looking_at(at, "-%}")) {
      at = skip_space(at + 3);
    } else if (looking_at(at, "%}")) {
      at += 2;
    } else {
      return false;
    }
    advance(at);
    for (std::size_t open = source_.find("{%", at); open != kNone; open = source_.find("{%", open + 1)) {
      std::size_t next = open + 2;
      const char sign =
          next < source_.size() && (source_[next] == '-' || source_[next] == '+') ? source_[next++] : '\0';
      next = skip_space(next);
      if (!looking_at(next, "endraw")) continue;
      const std::size_t end = end_of_closing(skip_space(next + 6), "%}");
      if (end == kNone) continue;
      const std::string_view data = strip_before(source_.substr(at, open - at), sign, false);
      if (!data.empty()) push(TokenType::kData, std::string(data));
      advance(end);
      return true;
    }
    throw SyntaxError(line_, "Missing end of raw directive");
  }

  void read_tag(bool is_variable) {
    std::string open_brackets;
    while (at_ < source_.size()) {
      if (open_brackets.empty()) {
        if (const std::size_t end = end_of_closing(at_, is_variable ? "}}" : "%}"); end != kNone) {
          push(is_variable ? TokenType::kVariableEnd : TokenType::kBlockEnd, "");
          return advance(end);
        }
      }
      const char32_t code = code_at(source_, at_);
      if (is_space(code)) {
        advance(skip_space(at_));
      } else if (code >= '0' && code <= '9') {
        read_number();
      } else if (code == '_' || is_identifier_start(code)) {
        read_name();
      } else if (code == '\'' || code == '"') {
        read_string();
      } else {
        read_operator(open_brackets);
      }
    }
  }

  void read_name() {
    std::size_t end = at_;
    for (std::size_t next = end; next < source_.size(); end = next) {
      if (!is_identifier_part(decode_utf8(source_, next))) break;
    }
    push(TokenType::kName, std::string(source_.substr(at_, end - at_)));
    advance(end);
  }

  void read_string() {
    const char quote = source_[at_];
    std::size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size())
      throw SyntaxError(line_, fmt::format("unexpected char {}", in_quotes(std::string(1, quote))));
    push(TokenType::kString, Unescaper(source_.substr(at_ + 1, end - at_ - 1), line_).run());
    advance(end + 1);
  }

  /// Digits with single underscores between them; returns the offset behind them, or `at` where there are
  /// none.
  template <typename IsDigit>
  std::size_t digits_end(std::size_t at, IsDigit is_one) const {
    std::size_t end = at;
    while (end < source_.size()) {
      if (is_one(source_[end])) {
        ++end;
      } else if (end > at && source_[end] == '_' && end + 1 < source_.size() && is_one(source_[end + 1])) {
        end += 2;
      } else {
        break;
      }
    }
    return end;
  }

  std::size_t float_end() const {
    if (at_ > 0 && source_[at_ - 1] == '.') return at_;
    std::size_t end = digits_end(at_, is_digit_char);
    bool is_float = false;
    if (end < source_.size() && source_[end] == '.') {
      if (const std::size_t fraction = digits_end(end + 1, is_digit_char); fraction > end + 1) {
        end = fraction;
        is_float = true;
      }
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      std::size_t power = end + 1;
      if (power < source_.size() && (source_[power] == '+' || source_[power] == '-')) ++power;
      if (const std::size_t power_end = digits_end(power, is_digit_char); power_end > power) {
        end = power_end;
        is_float = true;
      }
    }
    return is_float ? end : at_;
  }

  static std::string without_underscores(std::string_view text) {
    std::string out(text);
    out.erase(std::remove(out.begin(), out.end(), '_'), out.end());
    return out;
  }

  void read_number() {
    if (const std::size_t end = float_end(); end > at_) {
      const std::string text = without_underscores(source_.substr(at_, end - at_));
      push(TokenType::kFloat, text);
      stream_.tokens.back().number = Value::real(std::strtod(text.c_str(), nullptr));
      return advance(end);
    }
    int base = 10;
    std::size_t digits = at_;
    std::size_t end = at_;
    if (source_[at_] == '0' && at_ + 1 < source_.size()) {
      const char mark = static_cast<char>(source_[at_ + 1] | 0x20);
      base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
      if (base != 10) {
        digits = at_ + 2 + (at_ + 2 < source_.size() && source_[at_ + 2] == '_' ? 1U : 0U);
        end = digits_end(digits, [base](char c) {
          const int value = is_digit_char(c)                         ? c - '0'
                            : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                                     : 99;
          return value < base;
        });
        if (end == digits) base = 10;
      }
    }
    if (base == 10) {
      digits = at_;
      const bool zero = source_[at_] == '0';
      end = digits_end(at_, [zero](char c) { return zero ? c == '0' : is_digit_char(c); });
    }
    push_integer(without_underscores(source_.substr(digits, end - digits)), base);
    advance(end);
  }

  void push_integer(const std::string& digits, int base) {
    std::int64_t value = 0;
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (result.ec != std::errc() && base != 10)
      throw SyntaxError(line_, "an integer literal is beyond 64 bits");
    push(TokenType::kInteger, digits);
    stream_.tokens.back().number =
        result.ec == std::errc() ? Value::integer(value) : make_big_integer(digits);
  }

  void read_operator(std::string& open_brackets) {
    constexpr std::array<std::string_view, 6> kLong = {"//", "**", "==", "!=", ">=", "<="};
    constexpr std::string_view kShort = "+-/*%~[](){}><=.:|,;";
    std::string_view found;
    for (std::string_view candidate : kLong) {
      if (looking_at(at_, candidate)) found = candidate;
    }
    if (found.empty() && kShort.find(source_[at_]) != kNone) found = source_.substr(at_, 1);
    if (found.empty()) {
      throw SyntaxError(line_, fmt::format("unexpected char {}", in_quotes(to_utf8(code_at(source_, at_)))));
    }
    const char c = found[0];
    if (c == '(' || c == '[' || c == '{') open_brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open_brackets.empty()) throw SyntaxError(line_, fmt::format("unexpected '{}'", c));
      if (open_brackets.back() != c) {
        throw SyntaxError(line_, fmt::format("unexpected '{}', expected '{}'", c, open_brackets.back()));
      }
      open_brackets.pop_back();
    }
    push(TokenType::kOperator, std::string(found));
    advance(at_ + found.size());
  }

  std::string_view source_;
  TokenStream stream_;
  std::size_t at_ = 0;
  std::uint32_t line_ = 1;
  std::uint32_t tag_ = 0;
  bool line_starting_ = true;
};

}  // namespace

std::string normalize_source(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

TokenStream tokenize(std::string_view source) {
  return Lexer(source).run();
}

}  // namespace hone::text::jinja
