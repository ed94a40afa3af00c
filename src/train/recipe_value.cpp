#include "train/recipe_value.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "base/suggest.h"

namespace hone::train {

namespace {

/// A plain scalar; "8" in quotes is a string, not a number.
bool is_plain(const YAML::Node& node) {
  return node.IsScalar() && node.Tag() != "!";
}

/// Both limits, but for one above that no sensible value is near: that is only told to who exceeded it.
template <typename Number>
std::string range_text(const char* kind, Number least, Number most, bool tells_most) {
  if (!tells_most) return fmt::format("{} of {} or more", kind, least);
  return fmt::format("{} from {} to {}", kind, least, most);
}

/// The whole of the text as a decimal number: no octal, no hexadecimal, no words. Underscores between digits
/// go, as in YAML 1.1.
template <typename Number>
bool parse_decimal(const YAML::Node& node, Number& value) {
  if (!is_plain(node)) return false;
  const std::string& given = node.Scalar();
  std::string text;
  const auto is_digit = [&](std::size_t i) { return i < given.size() && given[i] >= '0' && given[i] <= '9'; };
  for (std::size_t i = 0; i < given.size(); ++i)
    if (given[i] != '_' || i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) text += given[i];
  const std::size_t begin = text.starts_with('+') && !text.starts_with("+-") ? 1 : 0;
  const auto [end, error] = std::from_chars(text.data() + begin, text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

/// 1e3 and 1000.0, which are integers for everyone but a parser.
bool parse_integral(const YAML::Node& node, std::int64_t& value) {
  constexpr double kExact = 9007199254740992;  // 2^53
  double number = 0;
  if (!parse_decimal(node, number) || std::abs(number) > kExact || number != std::floor(number)) return false;
  value = static_cast<std::int64_t>(number);
  return true;
}

/// What people write for null in other languages; in YAML they are words.
bool means_null(const YAML::Node& node) {
  static constexpr std::array<std::string_view, 10> kWords{"none", "None", "NONE", "nil",   "off",
                                                           "Off",  "OFF",  "no",   "false", "False"};
  return node.IsScalar() && std::find(kWords.begin(), kWords.end(), node.Scalar()) != kWords.end();
}

/// A number that only failed to be read for its size.
bool is_large(const YAML::Node& node) {
  const std::string text = node.IsScalar() ? node.Scalar() : "";
  return text.size() > 18 && text.find_first_not_of("0123456789") == std::string::npos;
}

}  // namespace

std::string quoted(const std::string& text) {
  YAML::Emitter out;
  out << YAML::DoubleQuoted << text;
  return out.c_str();
}

std::optional<double> decimal_number(const YAML::Node& node) {
  double value = 0;
  if (!parse_decimal(node, value) || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::string RecipeValue::text() const {
  YAML::Emitter out;
  if (node_.IsScalar() && !is_plain(node_))
    out << YAML::DoubleQuoted;  // "8" is not 8
  else
    out << YAML::Flow;
  out << node_;
  std::string result = out.c_str();
  if (result.size() > 60) {
    result.resize(57);
    result += "...";
  }
  return result;
}

void RecipeValue::expected(const std::string& what) const {
  double number = 0;
  const bool quoted_number =
      node_.IsScalar() && !is_plain(node_) && parse_decimal(YAML::Node(node_.Scalar()), number);
  fail("{}: {} is {}, expected {}{}", where_, key_, text(), what,
       quoted_number ? "; in quotes it is text, write it without" : "");
}

std::int64_t RecipeValue::integer(std::int64_t least, std::int64_t most) const {
  std::int64_t value = 0;
  if ((!parse_decimal(node_, value) && !parse_integral(node_, value)) || value < least || value > most)
    expected(range_text("an integer", least, most, most < kMany || value > most || is_large(node_)));
  return value;
}

double RecipeValue::number(double least, double most) const {
  double value = 0;
  if (!parse_decimal(node_, value) || !std::isfinite(value) || value < least || value > most)
    expected(range_text("a number", least, most, most < kHuge || value > most || is_large(node_)));
  return value;
}

std::optional<double> RecipeValue::number_or_null(double least, double most) const {
  if (is_null()) return std::nullopt;
  if (means_null(node_))
    expected(fmt::format("a number or null: YAML reads {} as a word; write {}: null", node_.Scalar(),
                         key_.substr(key_.rfind('.') + 1)));
  return number(least, most);
}

bool RecipeValue::boolean() const {
  bool value = false;
  if (!is_plain(node_) || !YAML::convert<bool>::decode(node_, value)) expected("true or false");
  return value;
}

std::string RecipeValue::string() const {
  if (!node_.IsScalar() || node_.Scalar().empty()) expected("a string");
  if (node_.Scalar().find_first_of(std::string_view("\0\n\r", 3)) != std::string::npos)
    expected("a string of one line");
  return node_.Scalar();
}

std::string RecipeValue::path() const {
  const std::string path = string();
  const char* home = std::getenv("HOME");
  if (path.starts_with("~/") && home != nullptr) return home + path.substr(1);
  return path;
}

RecipeValue RecipeValue::child(const YAML::Node& node, const std::string& key) const {
  // The place is FILE:LINE, of which the line is the child's; "command line" has none.
  std::string where = where_;
  const auto colon = where.rfind(':');
  if (colon != std::string::npos && !node.Mark().is_null())
    where = where.substr(0, colon + 1) + std::to_string(node.Mark().line + 1);
  return {node, key.empty() ? key_ : key_ + "." + key, where};
}

std::vector<std::string> RecipeValue::strings() const {
  if (node_.IsScalar()) return {string()};
  if (!node_.IsSequence()) expected("a list of strings");
  std::vector<std::string> result;
  for (const auto& item : node_) result.push_back(RecipeValue(item, key_, where_).string());
  return result;
}

std::vector<RecipeValue> RecipeValue::items() const {
  if (!node_.IsSequence()) expected("a list");
  std::vector<RecipeValue> result;
  for (const auto& item : node_)
    result.emplace_back(item, fmt::format("{}[{}]", key_, result.size()), child(item, "").where_);
  return result;
}

std::map<std::string, RecipeValue> RecipeValue::fields(const std::vector<std::string>& names) const {
  if (!node_.IsMap()) expected(fmt::format("a mapping of {}", fmt::join(names, ", ")));
  std::map<std::string, RecipeValue> result;
  for (const auto& entry : node_) {
    const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "";
    if (std::find(names.begin(), names.end(), name) == names.end())
      fail("{}: {} has an unknown key '{}'{}; it takes {}", where_, key_, name, suggestion(name, names),
           fmt::join(names, ", "));
    if (!result.emplace(name, RecipeValue(entry.second, key_ + "." + name, where_)).second)
      fail("{}: duplicate key {}.{}", where_, key_, name);
  }
  return result;
}

std::vector<double> RecipeValue::numbers(std::size_t count, double least, double most) const {
  if (!node_.IsSequence() || node_.size() != count) expected(fmt::format("a list of {} numbers", count));
  std::vector<double> result;
  for (const auto& item : node_) result.push_back(RecipeValue(item, key_, where_).number(least, most));
  return result;
}

std::size_t RecipeValue::word(const std::vector<std::string>& words) const {
  const std::string value = node_.IsScalar() ? node_.Scalar() : "";
  std::string list;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (value == words[i]) return i;
    list += (i > 0 ? ", " : "") + words[i];
  }
  const std::string near = nearest_name(value, words);
  expected("one of " + list + (near.empty() ? "" : "; did you mean '" + near + "'?"));
}

}  // namespace hone::train
