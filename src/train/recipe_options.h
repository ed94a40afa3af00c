// The table of recipe options: parser, validator, help text and resolved recipe all come from it.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "train/recipe.h"
#include "train/recipe_value.h"

namespace hone::train {

/// What another value of an option does to a run that has begun.
enum class Bearing {
  kNone,  // the same bits come out (threads), or what lies at the path is hashed instead: may change freely
  kNumbers,  // other numbers from there on: the run is refused, unless it is extended on purpose
  kState     // other weights are trained or other moments kept: another run
};

/// One option: how it is read, how it is printed, what it means and what it bears on.
struct Option {
  std::string key;
  std::string type;
  std::string help;
  std::function<void(Recipe&, const RecipeValue&)> set;
  /// As a YAML value; "" leaves the option out of the resolved recipe. A recipe that does not give the option
  /// does what it did before the option existed: runs that began then are continued with the default.
  std::function<std::string(const Recipe&)> get;
  Bearing bearing = Bearing::kNumbers;
  /// Why the option changes nothing in this recipe; "" where it does. Null: it always does.
  std::function<std::string(const Recipe&)> idle = nullptr;

  Option bears(Bearing on) &&;
  Option idle_where(std::function<std::string(const Recipe&)> why) &&;
};

/// In the order of the help text and of the resolved recipe: options of a section lie side by side.
const std::vector<Option>& all_options();
/// Null where there is no such option.
const Option* find_option(std::string_view key);

}  // namespace hone::train
