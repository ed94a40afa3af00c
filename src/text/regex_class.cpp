// Spelling character classes for PCRE2 at the Unicode version of the `tokenizers` library.
#include "text/regex_class.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "text/unicode_tables.h"

namespace hone::text::tok {

namespace {

using unicode::CodeRange;

constexpr char32_t kMaxCode = 0x10FFFF;

constexpr std::array<CodeRange, 10> kWhiteSpace = {{{0x09, 0x0D},
                                                    {0x20, 0x20},
                                                    {0x85, 0x85},
                                                    {0xA0, 0xA0},
                                                    {0x1680, 0x1680},
                                                    {0x2000, 0x200A},
                                                    {0x2028, 0x2029},
                                                    {0x202F, 0x202F},
                                                    {0x205F, 0x205F},
                                                    {0x3000, 0x3000}}};

struct LongName {
  std::string_view name;  // lower case, without separators
  std::string_view short_name;
};

constexpr std::array<LongName, 37> kLongCategories = {{
    {"letter", "L"},
    {"uppercaseletter", "Lu"},
    {"lowercaseletter", "Ll"},
    {"titlecaseletter", "Lt"},
    {"casedletter", "LC"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"punctuation", "P"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"openpunctuation", "Ps"},
    {"closepunctuation", "Pe"},
    {"initialpunctuation", "Pi"},
    {"finalpunctuation", "Pf"},
    {"otherpunctuation", "Po"},
    {"punct", "P"},
    {"symbol", "S"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"separator", "Z"},
    {"spaceseparator", "Zs"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"other", "C"},
    {"control", "Cc"},
    {"format", "Cf"},
    {"privateuse", "Co"},
}};

constexpr std::array<std::string_view, 36> kCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N", "Nd",
    "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm",
    "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "C", "Cn"};

constexpr std::array<std::string_view, 47> kScripts = {
    "Adlam",     "Ahom",     "Arabic",   "Armenian", "Balinese",   "Bengali",  "Bopomofo", "Braille",
    "Cherokee",  "Common",   "Coptic",   "Cyrillic", "Devanagari", "Ethiopic", "Georgian", "Glagolitic",
    "Gothic",    "Greek",    "Gujarati", "Gurmukhi", "Han",        "Hangul",   "Hebrew",   "Hiragana",
    "Inherited", "Javanese", "Kannada",  "Katakana", "Khmer",      "Lao",      "Latin",    "Malayalam",
    "Mongolian", "Myanmar",  "Nko",      "Oriya",    "Runic",      "Sinhala",  "Syriac",   "Tamil",
    "Telugu",    "Thaana",   "Thai",     "Tibetan",  "Tifinagh",   "Vai",      "Yi"};

/// Oniguruma compares property names without case, spaces, '-' and '_'.
std::string simplified(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c == ' ' || c == '_' || c == '-') continue;
    out += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return out;
}

void append_ranges(std::string& items, std::span<const CodeRange> ranges) {
  for (const auto& [first, last] : ranges) {
    const auto low = static_cast<unsigned>(first);
    items += first == last ? fmt::format("\\x{{{:X}}}", low)
                           : fmt::format("\\x{{{:X}}}-\\x{{{:X}}}", low, static_cast<unsigned>(last));
  }
}

/// Appends a PCRE2 property and the code points that joined it after Unicode 14.
void append_property(std::string& items, std::string_view name, bool script = false) {
  items += fmt::format("\\p{{{}{}}}", script ? "sc:" : "", name);
  for (const auto& newer : unicode::newer_codes()) {
    if (newer.property == name) append_ranges(items, newer.ranges);
  }
}

/// The items of a property as PCRE2 spells it, or "" for an unknown name. For the categories of code points
/// that are not characters it sets `complement` and gives the items of all others.
std::string property_items(std::string_view name, bool& complement) {
  const std::string wanted = simplified(name);
  std::string items;
  const auto append_all = [&](std::initializer_list<std::string_view> names) {
    for (const auto n : names) append_property(items, n);
    return items;
  };
  std::string_view category;
  for (const auto& known : kLongCategories) {
    if (known.name == wanted) category = known.short_name;
  }
  for (const auto known : kCategories) {
    if (simplified(known) == wanted) category = known;
  }
  if (category == "LC" || wanted == "lc") return append_all({"Lu", "Ll", "Lt"});
  if (category == "C" || category == "Cn" || wanted == "unassigned" || wanted == "assigned") {
    complement = wanted != "assigned";
    append_all({"L", "M", "N", "P", "S", "Z"});
    return category == "C" ? items : append_all({"Cc", "Cf", "Co"});
  }
  if (!category.empty()) return append_all({category});
  if (wanted == "any") return fmt::format("\\x{{0}}-\\x{{{:X}}}", static_cast<unsigned>(kMaxCode));
  if (wanted == "ascii") return "\\x{0}-\\x{7F}";
  if (wanted == "alphabetic" || wanted == "alpha") return append_all({"Alphabetic"});
  if (wanted == "alnum") return append_all({"Alphabetic", "Nd"});
  if (wanted == "uppercase" || wanted == "upper") return append_all({"Uppercase"});
  if (wanted == "lowercase" || wanted == "lower") return append_all({"Lowercase"});
  if (wanted == "digit") return append_all({"Nd"});
  if (wanted == "cntrl") return append_all({"Cc"});
  if (wanted == "whitespace" || wanted == "space") {
    append_ranges(items, kWhiteSpace);
    return items;
  }
  for (const auto script : kScripts) {
    if (simplified(script) != wanted) continue;
    append_property(items, script, true);
    return items;
  }
  return items;
}

std::string shorthand_items(char32_t lower_letter, bool bare) {
  std::string items;
  switch (lower_letter) {
    case 's':
      append_ranges(items, kWhiteSpace);
      break;
    case 'd':
      append_property(items, "Nd");
      break;
    case 'h':
      items = "0-9A-Fa-f";
      break;
    default:
      for (const auto name : {"Alphabetic", "M", "Nd", "Pc"}) append_property(items, name);
      // Oniguruma's table for single bytes calls superscripts and fractions word characters; its Unicode
      // table does not, and classes use the latter.
      if (bare) items += "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";
  }
  return items;
}

}  // namespace

std::string any_code_expression() {
  return "[\\x{0}-\\x{10FFFF}]";
}

void CodeSet::add_range(char32_t first, char32_t last) {
  const CodeRange range{first, last};
  append_ranges(items_, {&range, 1});
}

bool CodeSet::add_property(std::string_view name, bool negated) {
  bool complement = false;
  const std::string items = property_items(name, complement);
  if (items.empty()) return false;
  if (complement != negated) {
    others_.push_back("[^" + items + "]");
  } else {
    items_ += items;
  }
  return true;
}

void CodeSet::add_shorthand(char32_t letter, bool bare) {
  const bool negated = letter < 'a';
  const std::string items = shorthand_items(negated ? letter - 'A' + 'a' : letter, bare);
  if (negated) {
    others_.push_back("[^" + items + "]");
  } else {
    items_ += items;
  }
}

bool CodeSet::add_posix(std::string_view name, bool negated) {
  static constexpr std::array<std::string_view, 7> kLikeProperties = {"alpha", "alnum", "upper", "lower",
                                                                      "digit", "space", "cntrl"};
  if (std::find(kLikeProperties.begin(), kLikeProperties.end(), name) != kLikeProperties.end()) {
    return add_property(name, negated);
  }
  std::string items;
  if (name == "word") items = shorthand_items('w', false);
  if (name == "xdigit") items = shorthand_items('h', false);
  if (name == "ascii") items = "\\x{0}-\\x{7F}";
  if (name == "blank") {
    append_property(items, "Zs");
    items += "\\x{9}";
  }
  if (name == "punct") {
    append_property(items, "P");
    append_property(items, "S");
  }
  if (items.empty()) return false;
  if (negated) {
    others_.push_back("[^" + items + "]");
  } else {
    items_ += items;
  }
  return true;
}

void CodeSet::add_set(const CodeSet& other) {
  if (!other.negated_ && !other.intersected_) {
    items_ += other.items_;
    others_.insert(others_.end(), other.others_.begin(), other.others_.end());
  } else {
    CodeSet copy = other;
    others_.push_back(copy.spell());
  }
}

void CodeSet::intersect_with_next() {
  conjuncts_.push_back(spell_union());
  intersected_ = true;
  items_.clear();
  others_.clear();
}

void CodeSet::negate() {
  negated_ = true;
}

std::string CodeSet::spell_union() const {
  if (others_.empty()) return items_.empty() ? "(?!)" : "[" + items_ + "]";
  if (others_.size() == 1 && items_.empty()) return others_[0];
  std::string out = "(?:";
  if (!items_.empty()) out += "[" + items_ + "]|";
  for (std::size_t i = 0; i < others_.size(); ++i) out += (i == 0 ? "" : "|") + others_[i];
  return out + ")";
}

std::string CodeSet::spell() {
  if (!intersected_) {
    if (!negated_) return spell_union();
    if (others_.empty()) return items_.empty() ? any_code_expression() : "[^" + items_ + "]";
    return "(?:(?!" + spell_union() + ")" + any_code_expression() + ")";
  }
  conjuncts_.push_back(spell_union());
  std::string all;
  for (const auto& conjunct : conjuncts_) all += "(?=" + conjunct + ")";
  conjuncts_.pop_back();
  return negated_ ? "(?:(?!" + all + ")" + any_code_expression() + ")"
                  : "(?:" + all + any_code_expression() + ")";
}

}  // namespace hone::text::tok
