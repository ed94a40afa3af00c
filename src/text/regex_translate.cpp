// Oniguruma (Ruby syntax) patterns rewritten for PCRE2: a recursive descent that emits each construct with
// the meaning it has for the `tokenizers` library, and refuses those that PCRE2 cannot express exactly.
#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/message.h"
#include "text/regex.h"
#include "text/regex_class.h"
#include "text/unicode.h"

namespace hone::text::tok {

namespace {

constexpr int kMaxNesting = 100;
constexpr unsigned kMaxRepeat = 65535;  // PCRE2's limit

struct Options {
  bool ignore_case = false;
  bool dot_matches_newline = false;
  bool extended = false;
};

/// Letters of two that also match one ligature when case is ignored: "ss" matches "ß" in Oniguruma, not in
/// PCRE2.
bool folds_together(char32_t a, char32_t b) {
  static constexpr std::array<std::pair<char32_t, char32_t>, 13> kPairs = {{{'s', 's'},
                                                                            {'f', 'f'},
                                                                            {'f', 'i'},
                                                                            {'f', 'l'},
                                                                            {'s', 't'},
                                                                            {'i', 0x307},
                                                                            {'j', 0x30C},
                                                                            {'h', 0x331},
                                                                            {'t', 0x308},
                                                                            {'w', 0x30A},
                                                                            {'y', 0x30A},
                                                                            {'a', 0x2BE},
                                                                            {0x2BC, 'n'}}};
  const auto lower = [](char32_t c) -> char32_t {
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c == 0x17F ? U's' : c;
  };
  return std::find(kPairs.begin(), kPairs.end(), std::pair<char32_t, char32_t>(lower(a), lower(b))) !=
         kPairs.end();
}

/// Does the code point match several characters when case is ignored ("ß" matches "ss")?
bool folds_to_several(char32_t code) {
  if (code < 0x80) return false;
  std::array<utf8proc_int32_t, 8> folded{};
  const auto length = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code), folded.data(), 8,
                                              UTF8PROC_CASEFOLD, nullptr);
  return length > 1;
}

class Translator {
 public:
  Translator(std::string_view pattern, std::string_view where) : pattern_(pattern), where_(where) {}

  std::string run() {
    std::string out = alternatives(Options{});
    if (at_ < pattern_.size()) refuse("an unmatched ')'", at_);
    return out;
  }

 private:
  [[noreturn]] void refuse(std::string_view what, std::size_t at) const {
    fail("{}: the regex '{}' has {} at byte {}, which is not supported", where_, shown(pattern_), what, at);
  }

  bool done() const { return at_ >= pattern_.size(); }
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }
  bool take(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }
  char32_t next_code() {
    if (done()) refuse("an unfinished construct", at_);
    return unicode::decode(pattern_, at_);
  }

  std::string alternatives(Options options);
  std::string branch(Options options, bool& ended_by_option);
  std::string atom(Options options);
  std::string group(Options options, bool& ended_by_option);
  std::string group_body(std::string_view opening, Options options);
  bool take_options(Options& options);
  std::string escape(Options options);
  std::string literal(char32_t code, Options options);
  std::string quantified(std::string atom_text);
  std::optional<std::string> interval();
  std::string property(Options options, bool negated_letter, CodeSet* in_class);
  CodeSet char_class(Options options);
  void class_item(CodeSet& set, Options options);
  std::optional<char32_t> class_escape(CodeSet& set, Options options);
  char32_t hex_escape(std::size_t start);
  std::optional<char32_t> control_escape(char32_t letter);
  void check_class_range(char32_t first, char32_t last, Options options, std::size_t at) const;
  void skip_extended_space();

  std::string_view pattern_;
  std::string_view where_;
  std::size_t at_ = 0;
  int nesting_ = 0;
  char32_t previous_literal_ = 0;  // just before, not repeated; for folds_together
};

std::string Translator::alternatives(Options options) {
  if (++nesting_ > kMaxNesting) refuse("groups nested deeper than 100", at_);
  std::string out;
  bool ended_by_option = false;
  out += branch(options, ended_by_option);
  while (!ended_by_option && peek() == '|') {
    ++at_;
    out += '|';
    out += branch(options, ended_by_option);
  }
  --nesting_;
  return out;
}

void Translator::skip_extended_space() {
  while (!done()) {
    const char c = peek();
    if (c == ' ' || (c >= '\t' && c <= '\r')) {
      ++at_;
    } else if (c == '#') {
      while (!done() && peek() != '\n') ++at_;
    } else {
      return;
    }
  }
}

/// One alternative. An option for the rest of the group, "(?i)", takes the alternatives behind it along.
std::string Translator::branch(Options options, bool& ended_by_option) {
  std::string out;
  previous_literal_ = 0;
  while (true) {
    if (options.extended) skip_extended_space();
    if (done() || peek() == '|' || peek() == ')') return out;
    if (take("(?#")) {
      while (!done() && peek() != ')') ++at_;
      if (!take(")")) refuse("an unfinished comment", at_);
      continue;
    }
    if (peek() == '(') {
      std::string text = group(options, ended_by_option);
      if (ended_by_option) return out + text;
      out += quantified(std::move(text));
    } else {
      out += quantified(atom(options));
    }
  }
}

std::string Translator::atom(Options options) {
  const std::size_t start = at_;
  const char32_t code = next_code();
  switch (code) {
    case '\\':
      return escape(options);
    case '[': {
      previous_literal_ = 0;
      return char_class(options).spell();
    }
    case '.':
      previous_literal_ = 0;
      return options.dot_matches_newline ? any_code_expression() : "[^\\x{A}]";
    case '^':
    case '$':
      previous_literal_ = 0;
      return code == '^' ? "^" : "$";
    case '*':
    case '+':
    case '?':
      refuse("a repetition of nothing", start);
    default:
      return literal(code, options);
  }
}

std::string Translator::literal(char32_t code, Options options) {
  if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) refuse("a code point that is no character", at_);
  if (options.ignore_case) {
    if (folds_to_several(code) || folds_together(previous_literal_, code)) {
      refuse("case-insensitive letters that also match a ligature", at_);
    }
  }
  previous_literal_ = code;
  const bool plain =
      (code >= '0' && code <= '9') || (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z');
  if (plain) return std::string(1, static_cast<char>(code));
  return fmt::format("\\x{{{:X}}}", static_cast<unsigned>(code));
}

/// Reads "imx-imx" of a group; returns false where something else stands there.
bool Translator::take_options(Options& options) {
  bool value = true;
  for (std::size_t i = at_;; ++i) {
    const char c = i < pattern_.size() ? pattern_[i] : '\0';
    if (c == 'i') {
      options.ignore_case = value;
    } else if (c == 'm') {
      options.dot_matches_newline = value;
    } else if (c == 'x') {
      options.extended = value;
    } else if (c == '-' && value) {
      value = false;
    } else if ((c == ':' || c == ')') && i > at_) {
      at_ = i;
      return true;
    } else {
      return false;
    }
  }
}

std::string Translator::group_body(std::string_view opening, Options options) {
  const std::size_t start = at_;
  std::string out(opening);
  out += alternatives(options);
  if (!take(")")) refuse("an unfinished group", start);
  return out + ")";
}

std::string Translator::group(Options options, bool& ended_by_option) {
  const std::size_t start = at_;
  ++at_;  // (
  for (const std::string_view opening : {"?:", "?=", "?!", "?>", "?<=", "?<!"}) {
    if (take(opening)) {
      std::string out = group_body(fmt::format("({}", opening), options);
      if (opening != "?:") previous_literal_ = 0;
      return out;
    }
  }
  if (peek() != '?') return group_body("(?:", options);  // nothing refers to captures
  ++at_;
  if (peek() == '<' || peek() == '\'') {
    const char closing = peek() == '<' ? '>' : '\'';
    const std::size_t end = pattern_.find(closing, at_ + 1);
    if (end == std::string_view::npos || end == at_ + 1) refuse("an unfinished group name", start);
    at_ = end + 1;
    return group_body("(?:", options);
  }
  Options inner = options;
  if (!take_options(inner)) refuse("the group '" + shown(pattern_.substr(start, 4)) + "'", start);
  const std::string opening = inner.ignore_case == options.ignore_case ? "(?:"
                              : inner.ignore_case                      ? "(?i:"
                                                                       : "(?-i:";
  if (take(":")) return group_body(opening, inner);
  ++at_;  // ) of (?i)
  ended_by_option = true;
  return fmt::format("{}{})", opening, alternatives(inner));
}

char32_t Translator::hex_escape(std::size_t start) {
  const auto digit = [&](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  const bool braced = pattern_[at_ - 1] == 'x' && take("{");
  const std::size_t limit = braced ? 8 : pattern_[at_ - 1] == 'u' ? 4 : 2;
  const bool is_byte = !braced && limit == 2;
  char32_t code = 0;
  std::size_t digits = 0;
  for (; digits < limit && digit(peek()) >= 0 && code <= 0x10FFFF; ++digits, ++at_) {
    code = code * 16 + static_cast<char32_t>(digit(peek()));
  }
  if (digits == 0 || (limit == 4 && digits != 4) || (braced && !take("}"))) {
    refuse("an unfinished hexadecimal escape", start);
  }
  if (is_byte && code >= 0x80) refuse("an escape for a single byte of UTF-8", start);
  if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
    refuse("a code point that is no character", start);
  return code;
}

/// Escapes for one control character or code point, the same inside and outside classes.
std::optional<char32_t> Translator::control_escape(char32_t letter) {
  const std::size_t start = at_ - 2;
  switch (letter) {
    case 't':
      return U'\t';
    case 'n':
      return U'\n';
    case 'r':
      return U'\r';
    case 'f':
      return U'\f';
    case 'v':
      return U'\v';
    case 'a':
      return U'\a';
    case 'e':
      return U'\x1B';
    case 'x':
    case 'u':
      return hex_escape(start);
    case 'c':
    case 'C':
    case 'M':
      refuse("a control escape", start);
    case '0': {
      char32_t code = 0;
      for (int i = 0; i < 2 && peek() >= '0' && peek() <= '7'; ++i, ++at_) {
        code = code * 8 + static_cast<char32_t>(peek() - '0');
      }
      return code;
    }
    default:
      return std::nullopt;
  }
}

std::string Translator::escape(Options options) {
  const std::size_t start = at_ - 1;
  const char32_t letter = next_code();
  if (const auto code = control_escape(letter)) return literal(*code, options);
  constexpr std::u32string_view kSets = U"sSdDwWhH";
  if (kSets.find(letter) != std::u32string_view::npos) {
    previous_literal_ = 0;
    CodeSet set;
    set.add_shorthand(letter, true);
    return options.ignore_case ? "(?-i:" + set.spell() + ")" : set.spell();
  }
  const std::u32string_view refused = U"123456789XKGkgyY";
  if (refused.find(letter) != std::u32string_view::npos) {
    refuse(fmt::format("'\\{}'", static_cast<char>(letter)), start);
  }
  std::string special;
  switch (letter) {
    case 'p':
    case 'P':
      if (peek() == '{') {
        previous_literal_ = 0;
        return property(options, letter == 'P', nullptr);
      }
      break;
    case 'R':
      special = "(?>\\x{D}\\x{A}|[\\x{A}-\\x{D}\\x{85}\\x{2028}\\x{2029}])";
      break;
    case 'N':
      special = "[^\\x{A}]";
      break;
    case 'O':
      special = any_code_expression();
      break;
    case 'A':
      special = "\\A";
      break;
    case 'z':
      special = "\\z";
      break;
    case 'Z':
      special = "\\Z";
      break;
    case 'b':
    case 'B': {
      CodeSet word;
      word.add_shorthand('w', true);
      const std::string w = word.spell();
      special = letter == 'b' ? fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", w)
                              : fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", w);
      break;
    }
    default:
      break;
  }
  if (special.empty()) return literal(letter, options);
  previous_literal_ = 0;
  return special;
}

/// `\p{...}`, from the brace on; into a class, or as an atom.
std::string Translator::property(Options options, bool negated_letter, CodeSet* in_class) {
  const std::size_t start = at_ - 2;
  const std::size_t end = pattern_.find('}', at_);
  if (end == std::string_view::npos) refuse("an unfinished property", start);
  std::string_view name = pattern_.substr(at_ + 1, end - at_ - 1);
  at_ = end + 1;
  const bool caret = name.starts_with('^');
  if (caret) name.remove_prefix(1);
  CodeSet own;
  CodeSet& set = in_class != nullptr ? *in_class : own;
  if (!set.add_property(name, negated_letter != caret)) {
    refuse("the property '" + shown(name) + "' (general categories and scripts are known)", start);
  }
  if (in_class != nullptr) {
    // Oniguruma closes a whole class under case folding, PCRE2 leaves properties alone.
    static constexpr std::array<std::string_view, 11> kUncased = {
        "N", "Nd", "P", "S", "Z", "Zs", "C", "Cc", "Han", "Hiragana", "Katakana"};
    if (options.ignore_case && name == "L" && negated_letter == caret) {
      set.add_range(0x345, 0x345);  // a mark whose folding is the letter iota
    } else if (options.ignore_case && std::find(kUncased.begin(), kUncased.end(), name) == kUncased.end()) {
      refuse("the property '" + shown(name) + "' in a case-insensitive class", start);
    }
    return "";
  }
  return options.ignore_case ? "(?-i:" + set.spell() + ")" : set.spell();
}

void Translator::check_class_range(char32_t first, char32_t last, Options options, std::size_t at) const {
  if (first > last) refuse("an empty range", at);
  if (!options.ignore_case) return;
  for (char32_t code = std::max<char32_t>(first, 0x80); code <= std::min<char32_t>(last, 0xFFFF); ++code) {
    if (folds_to_several(code)) refuse("case-insensitive letters that also match several letters", at);
  }
}

/// An escape inside a class: a code point, or a set that it adds itself.
std::optional<char32_t> Translator::class_escape(CodeSet& set, Options options) {
  const std::size_t start = at_ - 1;
  const char32_t letter = next_code();
  if (letter == 'b') return U'\b';
  if (const auto code = control_escape(letter)) return code;
  constexpr std::u32string_view kSets = U"sSdDwWhH";
  if (kSets.find(letter) != std::u32string_view::npos) {
    if (options.ignore_case && (letter == 'w' || letter == 'W'))
      refuse("'\\w' in a case-insensitive class", start);
    set.add_shorthand(letter, false);
    return std::nullopt;
  }
  if ((letter == 'p' || letter == 'P') && peek() == '{') {
    property(options, letter == 'P', &set);
    return std::nullopt;
  }
  if (letter >= '1' && letter <= '9') refuse("an octal escape", start);
  return letter;
}

void Translator::class_item(CodeSet& set, Options options) {
  const std::size_t start = at_;
  if (take("[:")) {
    const bool negated = take("^");
    const std::size_t end = pattern_.find(":]", at_);
    if (end == std::string_view::npos || options.ignore_case) refuse("this POSIX bracket", start);
    const std::string_view name = pattern_.substr(at_, end - at_);
    if (!set.add_posix(name, negated)) refuse("the POSIX bracket '" + shown(name) + "'", start);
    at_ = end + 2;
    return;
  }
  const char32_t code = next_code();
  if (code == '[') {
    set.add_set(char_class(options));
    return;
  }
  const auto first = code == '\\' ? class_escape(set, options) : std::optional(code);
  const bool dash_follows = peek() == '-' && peek(1) != ']' && peek(1) != '\0';
  if (!first) {
    if (dash_follows) refuse("a range that begins with a set", start);
    return;
  }
  if (!dash_follows) {
    check_class_range(*first, *first, options, start);
    set.add_range(*first, *first);
    return;
  }
  ++at_;  // -
  if (peek() == '[') refuse("a range that ends with a set", start);
  const char32_t end_code = next_code();
  CodeSet unused;
  const auto last = end_code == '\\' ? class_escape(unused, options) : std::optional(end_code);
  if (!last) refuse("a range that ends with a set", start);
  check_class_range(*first, *last, options, start);
  set.add_range(*first, *last);
  if (peek() == '-' && peek(1) != ']') {  // "a-z-9": the second dash is a character
    ++at_;
    set.add_range('-', '-');
  }
}

/// A class, from behind its '['.
CodeSet Translator::char_class(Options options) {
  const std::size_t start = at_ - 1;
  if (++nesting_ > kMaxNesting) refuse("classes nested deeper than 100", start);
  CodeSet set;
  if (take("^")) set.negate();
  bool first = true;
  while (true) {
    if (done()) refuse("an unfinished class", start);
    if (peek() == ']' && !(first && pattern_.find(']', at_ + 1) != std::string_view::npos)) break;
    if (take("&&")) {
      set.intersect_with_next();
      first = false;
      continue;
    }
    class_item(set, options);
    first = false;
  }
  if (first) refuse("an empty class", start);
  ++at_;  // ]
  --nesting_;
  return set;
}

/// "{n}", "{n,}", "{,m}" or "{n,m}" as PCRE2 writes it; nothing (and nothing read) for any other brace.
std::optional<std::string> Translator::interval() {
  const std::size_t start = at_;
  const auto number = [&]() -> std::optional<unsigned> {
    if (peek() < '0' || peek() > '9') return std::nullopt;
    unsigned value = 0;
    while (peek() >= '0' && peek() <= '9') {
      value = std::min(value * 10 + static_cast<unsigned>(peek() - '0'), 10 * kMaxRepeat);
      ++at_;
    }
    if (value > kMaxRepeat) refuse("a repetition above 65535", start);
    return value;
  };
  ++at_;  // {
  const auto low = number();
  const bool comma = take(",");
  const auto high = comma ? number() : low;
  if (!take("}") || (!low && !high)) {
    at_ = start;
    return std::nullopt;
  }
  if (low && high && *low > *high) refuse("a repetition that ends below its start", start);
  if (!comma) return fmt::format("{{{}}}", *low);
  return high ? fmt::format("{{{},{}}}", low.value_or(0), *high) : fmt::format("{{{},}}", *low);
}

std::string Translator::quantified(std::string atom_text) {
  bool repeated = false;
  while (!done()) {
    const char c = peek();
    std::string quantifier;
    if (c == '*' || c == '+' || c == '?') {
      quantifier = std::string(1, c);
      ++at_;
      if (peek() == '?' || peek() == '+') quantifier += pattern_[at_++];
    } else if (c == '{') {
      const auto range = interval();
      if (!range) break;
      quantifier = *range;
      // "{n}?" is an optional "{n}", and "{n,m}+" a repeated one: only "{n,m}?" is lazy.
      if (range->find(',') != std::string::npos && peek() == '?') quantifier += pattern_[at_++];
    } else {
      break;
    }
    if (repeated) atom_text = fmt::format("(?:{})", atom_text);
    atom_text += quantifier;
    repeated = true;
  }
  if (repeated) previous_literal_ = 0;
  return atom_text;
}

}  // namespace

std::string translate_regex(std::string_view pattern, std::string_view where) {
  return Translator(pattern, where).run();
}

}  // namespace hone::text::tok
