// The table of recipe options: parser, validator, help text and resolved recipe all come from it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "train/recipe.h"
#include "train/recipe_value.h"

namespace hone::train {

/// One option: how it is read, how it is printed, what it means.
struct Option {
  std::string key;
  std::string type;
  std::string help;
  std::function<void(Recipe&, const RecipeValue&)> set;
  std::function<std::string(const Recipe&)>
      get;  // as a YAML value; "" leaves the option out of the resolved recipe
};

/// In the order of the help text and of the resolved recipe: options of a section lie side by side.
const std::vector<Option>& all_options();

}  // namespace hone::train
