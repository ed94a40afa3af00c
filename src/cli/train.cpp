// hone train: a recipe becomes a run.
#include "train/trainer.h"

#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include <sstream>

#include "base/console.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "train/stop_signal.h"

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
checkpoints/. What happens is shown on stderr, how it ended on stdout. SIGINT (Ctrl-C) or SIGTERM ends a run after its
step with a checkpoint; the same command continues it.
`hone train RECIPE --extend train.steps=2000` goes on with a finished or stopped run under other values. The schedule is
then read as if it had been so from the start: after 1,000 steps of a linear schedule that ended, one over 2,000 goes on
at half of lr. Other data begin at their start; epochs count passes over them.
Exit codes: 0 done or stopped, 2 something to mend, 1 a fault of hone.
)";

/// "train.optimizer" of "train.optimizer.lr"; "" of "output".
std::string section_of(const std::string& key) {
  const auto dot = key.rfind('.');
  return dot == std::string::npos ? "" : key.substr(0, dot);
}

/// `text` in lines of at most `width` characters, all but the first indented.
std::string wrapped(const std::string& text, std::size_t indent, std::size_t width) {
  std::string result;
  std::size_t line = 0;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (line > 0 && line + 1 + word.size() > width) {
      result += "\n" + std::string(indent, ' ');
      line = 0;
    }
    result += (line > 0 ? " " : "") + word;
    line += (line > 0 ? 1 : 0) + word.size();
  }
  return result;
}

/// The keys by section, each with its type and default.
std::string recipe_help() {
  constexpr std::size_t kKey = 16, kLine = 118;
  std::string text = kExample;
  text +=
      "\nRecipe keys (also as KEY=VALUE on the command line, which wins; relative paths are relative to the "
      "current directory):\n";
  std::string section = "none yet";
  for (const auto& o : train::recipe_options()) {
    if (section_of(o.key) != section) {
      section = section_of(o.key);
      text += section.empty() ? "\n" : fmt::format("\n  {}:\n", section);
    }
    const std::string leaf = section.empty() ? o.key : o.key.substr(section.size() + 1);
    const std::size_t indent = section.empty() ? 2 : 4;
    text += fmt::format("{}{:<{}} {}\n", std::string(indent, ' '), leaf, kKey,
                        wrapped(fmt::format("{}  [{}{}]", o.help, o.type,
                                            o.default_text.empty() ? "" : "; default " + o.default_text),
                                indent + kKey + 1, kLine - indent - kKey - 1));
  }
  return text;
}

}  // namespace

void add_train(CLI::App& app) {
  struct Options {
    std::string recipe;
    std::vector<std::string> overrides;
    train::TrainOptions train;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "train", "fine-tune a checkpoint by a recipe; the same command continues an unfinished run");
  verb->add_option("RECIPE", options->recipe, "the recipe, a YAML file")->required();
  verb->add_option("KEY=VALUE", options->overrides, "recipe keys to set, as in train.steps=100");
  verb->add_flag("--resume", options->train.require_checkpoint,
                 "continue only: an error where the output holds no checkpoint");
  verb->add_flag(
      "--extend", options->train.extend,
      "go on with the output's run under the values that this recipe has now: steps, epochs, rate, schedule, "
      "batches, data");
  add_json_to(*verb, options->json);
  verb->footer(recipe_help);
  verb->callback([options] {
    // From before anything is read until the result is printed, also into a pipe that nobody reads any more.
    const train::StopSignal signal;
    auto how = options->train;
    how.stop = [&] { return signal.requested(); };
    const auto outcome = train::train(train::read_recipe(options->recipe, options->overrides), how);
    if (!options->json) return say_text(outcome.summary);
    nlohmann::ordered_json row{{"finished", !outcome.interrupted},
                               {"already_finished", outcome.already_finished},
                               {"steps", outcome.steps},
                               {"stopped_early", outcome.stopped_early},
                               {"report", outcome.report.string()}};
    if (!outcome.model.empty()) {
      row["model"] = outcome.model.string();
      row["model_step"] = outcome.model_step;
    }
    if (outcome.memory_forecast_mib > 0) row["memory_forecast_mib"] = outcome.memory_forecast_mib;
    if (outcome.best_eval_loss) {
      row["best_step"] = outcome.best_step;
      row["best_eval_loss"] = *outcome.best_eval_loss;
    }
    print_json(row);
  });
}

}  // namespace hone::cli
