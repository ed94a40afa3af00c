#include "train/recipe_value.h"

#include <cmath>

#include "base/error.h"
#include "base/suggest.h"

namespace hone::train {

namespace {

/// A plain scalar; "8" in quotes is a string, not a number.
bool is_plain(const YAML::Node& node) {
  return node.IsScalar() && node.Tag() != "!";
}

std::string range_text(const char* kind, double least, double most) {
  if (most >= 9e18) return fmt::format("{} of {} or more", kind, least);
  return fmt::format("{} from {} to {}", kind, least, most);
}

}  // namespace

std::string RecipeValue::text() const {
  YAML::Emitter out;
  out << YAML::Flow << node_;
  std::string result = out.c_str();
  if (result.size() > 60) {
    result.resize(57);
    result += "...";
  }
  return result;
}

void RecipeValue::expected(const std::string& what) const {
  fail("{}: {} is {}, expected {}", where_, key_, text(), what);
}

std::int64_t RecipeValue::integer(std::int64_t least, std::int64_t most) const {
  std::int64_t value = 0;
  if (!is_plain(node_) || !YAML::convert<std::int64_t>::decode(node_, value) || value < least || value > most)
    expected(range_text("an integer", static_cast<double>(least), static_cast<double>(most)));
  return value;
}

double RecipeValue::number(double least, double most) const {
  double value = 0;
  if (!is_plain(node_) || !YAML::convert<double>::decode(node_, value) || std::isnan(value) ||
      value < least || value > most)
    expected(range_text("a number", least, most));
  return value;
}

bool RecipeValue::boolean() const {
  bool value = false;
  if (!is_plain(node_) || !YAML::convert<bool>::decode(node_, value)) expected("true or false");
  return value;
}

std::string RecipeValue::string() const {
  if (!node_.IsScalar() || node_.Scalar().empty()) expected("a string");
  return node_.Scalar();
}

std::vector<std::string> RecipeValue::strings() const {
  if (node_.IsScalar()) return {string()};
  if (!node_.IsSequence()) expected("a list of strings");
  std::vector<std::string> result;
  for (const auto& item : node_) result.push_back(RecipeValue(item, key_, where_).string());
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
