// One value of a recipe while it is being read: typed access whose errors name the place and the key.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace hone::train {

/// Limits that stand for none.
inline constexpr std::int64_t kMany = 1'000'000'000'000;
inline constexpr double kHuge = 1e30;

/// A plain (unquoted) scalar as a decimal number, as a recipe may write it: 1e-5, 1.e-5, 1_000, +3. nullopt
/// for all else: hexadecimal and octal numbers, NaN, infinities and text in quotes.
std::optional<double> decimal_number(const YAML::Node& node);

/// The text as a scalar of YAML, in double quotes.
std::string quoted(const std::string& text);

class RecipeValue {
 public:
  /// `where` is "recipe.yaml:3" or "command line".
  RecipeValue(YAML::Node node, std::string key, std::string where)
      : node_(std::move(node)), key_(std::move(key)), where_(std::move(where)) {}

  const std::string& where() const { return where_; }
  const std::string& key() const { return key_; }
  const YAML::Node& node() const { return node_; }
  /// A value inside this one, in a line of its own; `key`: under which, "" for an item of a list.
  RecipeValue child(const YAML::Node& node, const std::string& key) const;
  bool is_null() const { return node_.IsNull(); }
  bool is_list() const { return node_.IsSequence(); }
  bool is_map() const { return node_.IsMap(); }
  std::int64_t integer(std::int64_t least, std::int64_t most) const;
  double number(double least, double most) const;
  /// nullopt for null; words that are meant so (none, off) are refused with it.
  std::optional<double> number_or_null(double least, double most) const;
  bool boolean() const;
  std::string string() const;
  /// A string; a leading ~/ is the home directory, as in a shell.
  std::string path() const;
  /// A string, or one of a list of strings.
  std::vector<std::string> strings() const;
  std::vector<double> numbers(std::size_t count, double least, double most) const;
  /// The elements of a list, which errors call KEY[0], KEY[1] …
  std::vector<RecipeValue> items() const;
  /// The entries of a mapping, which errors call KEY.NAME. Throws for a name that is not among `names`.
  std::map<std::string, RecipeValue> fields(const std::vector<std::string>& names) const;
  /// One of `words`. Returns its index.
  std::size_t word(const std::vector<std::string>& words) const;
  /// Throws Error(kUser) "WHERE: KEY is VALUE, expected WHAT".
  [[noreturn]] void expected(const std::string& what) const;
  /// The value as YAML, on one line, cut to 60 characters.
  std::string text() const;

 private:
  YAML::Node node_;
  std::string key_;
  std::string where_;
};

}  // namespace hone::train
