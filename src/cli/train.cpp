// hone train: a recipe becomes a run.
#include "train/trainer.h"

#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include "cli/verbs.h"

namespace hone::cli {

namespace {

std::string recipe_help() {
  std::string text =
      "\nRecipe keys (YAML; also as KEY=VALUE on the command line, which wins). Relative paths are relative "
      "to "
      "the current directory.\n";
  for (const auto& o : train::recipe_options()) {
    text += fmt::format("  {:<32} {}", o.key, o.help);
    text += fmt::format("  [{}{}]\n", o.type, o.default_text.empty() ? "" : "; default " + o.default_text);
  }
  return text;
}

}  // namespace

void add_train(CLI::App& app) {
  struct Options {
    std::string recipe;
    std::vector<std::string> overrides;
    bool resume = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "train", "fine-tune a checkpoint by a recipe; the same command continues an unfinished run");
  verb->add_option("RECIPE", options->recipe, "the recipe, a YAML file")->required();
  verb->add_option("KEY=VALUE", options->overrides, "recipe keys to set, as in train.steps=100");
  verb->add_flag("--resume", options->resume, "continue only: an error where the output holds no checkpoint");
  verb->footer(recipe_help);
  verb->callback([options] {
    train::train(train::read_recipe(options->recipe, options->overrides),
                 {.require_checkpoint = options->resume});
  });
}

}  // namespace hone::cli
