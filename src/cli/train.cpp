// hone train: a recipe becomes a run.
#include "train/trainer.h"

#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include "cli/verbs.h"

namespace hone::cli {

namespace {

constexpr const char* kExample = R"(
A recipe that has all it needs:
  model:  {path: Qwen3-30B-A3B}                  # a downloaded Hugging Face directory
  data:   {train: chats.jsonl, eval: valid.jsonl}
  train:  {epochs: 2, global_batch: 16, optimizer: {lr: 1.0e-5}, schedule: {type: cosine, warmup: 20}}
  output: runs/first

Rows of data are JSON, one a line: {"messages": [{"role": …, "content": …}, …]} (with "tools"), {"conversations": …},
{"prompt": …, "completion": …}, {"text": …} or {"input_ids": …, "labels": …}. `hone check RECIPE` shows what would be
learnt from them. The output gets the trained model/ (a Hugging Face directory), metrics.jsonl, report.html and
checkpoints/. SIGINT (Ctrl-C) or SIGTERM ends a run after its step with a checkpoint; the same command continues it.
Exit codes: 0 done or stopped, 2 something to mend, 1 a fault of hone.
)";

std::string recipe_help() {
  std::string text = kExample;
  text +=
      "\nRecipe keys (also as KEY=VALUE on the command line, which wins; relative paths are relative to the "
      "current directory):\n";
  for (const auto& o : train::recipe_options()) {
    text += fmt::format("  {:<30} {}", o.key, o.help);
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
