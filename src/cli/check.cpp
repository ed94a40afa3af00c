// hone check: what training would see of a dataset: rows, lengths, how much is supervised, and the masks in
// colour.
#include <CLI/CLI.hpp>

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "data/dataset.h"
#include "model/causal_lm.h"
#include "text/pretrained_tokenizer.h"
#include "train/recipe.h"
#include "train/run_data.h"

namespace hone::cli {

namespace {

struct CheckOptions {
  std::string target, split = "train";
  std::vector<std::string> rest;  // DATA, or KEY=VALUE …
  std::int64_t seq_len = 0, show = 3;
  std::optional<std::string> overlong;  // a recipe's, or "error"
  bool unpacked = false, json = false;
};

/// The row as text, learnt tokens marked: green on a terminal, «…» elsewhere.
std::string masked_text(const data::Example& example, const text::Tokenizer& tokenizer, bool colour) {
  std::string text;
  std::size_t at = 0;
  while (at < example.ids.size()) {
    const bool learnt = example.labels[at] != kIgnoredLabel && at > 0;
    std::size_t end = at;
    while (end < example.ids.size() && (example.labels[end] != kIgnoredLabel && end > 0) == learnt) ++end;
    const std::string piece = tokenizer.decode(std::span(example.ids).subspan(at, end - at));
    if (!learnt)
      text += piece;
    else
      text += colour ? "\033[32m" + piece + "\033[0m" : "«" + piece + "»";
    at = end;
  }
  return text;
}

/// Lengths at which 50, 90 and 99 of 100 rows end.
std::vector<std::int64_t> length_percentiles(const data::Dataset& dataset) {
  std::vector<std::int64_t> lengths;
  for (std::int64_t i = 0; i < dataset.num_examples(); ++i)
    lengths.push_back(static_cast<std::int64_t>(dataset.example(i).ids.size()));
  std::sort(lengths.begin(), lengths.end());
  std::vector<std::int64_t> result;
  for (const std::size_t percent : {50U, 90U, 99U})
    result.push_back(lengths[std::min(lengths.size() - 1, lengths.size() * percent / 100)]);
  return result;
}

void print(const data::DatasetStatistics& s, const std::vector<std::int64_t>& percentiles,
           std::int64_t seq_len, bool packing) {
  Card card;
  std::string rows = fmt::format("{} read, {} kept, {} dropped, {} truncated", with_commas(s.rows),
                                 with_commas(s.examples), s.dropped, s.truncated);
  if (s.emptied > 0)
    rows += fmt::format(" ({} of them had nothing left to learn from and were dropped too)", s.emptied);
  if (s.split > 0) rows += fmt::format(", {} split", with_commas(s.split));
  if (s.held_out > 0) rows += fmt::format(", {} on the other side of the holdout", with_commas(s.held_out));
  if (s.without_target > 0) rows += fmt::format(", {} had nothing to learn from", s.without_target);
  if (s.cached_files > 0) rows += fmt::format("; {} of {} files from the cache", s.cached_files, s.files);
  card.row("rows", rows);
  card.row(
      "tokens",
      fmt::format(
          "{}, {} learnt from ({:.1f}%)", with_commas(s.tokens), with_commas(s.supervised),
          s.tokens > 0 ? 100.0 * static_cast<double>(s.supervised) / static_cast<double>(s.tokens) : 0.0));
  card.row("lengths", fmt::format("median {}, 90 % {}, 99 % {}, longest {}", percentiles[0], percentiles[1],
                                  percentiles[2], s.longest));
  for (const auto& line : train::source_lines(s)) card.row("source", line);
  if (packing)
    card.row("packs",
             fmt::format("{} of {} tokens, {:.1f}% full", with_commas(s.packs), seq_len, 100 * s.fill));
  for (const auto& line : data::describe(s.report, data::Severity::kNote)) card.line(line);
  fmt::print("{}", card.str());
}

nlohmann::ordered_json to_json(const data::DatasetStatistics& s,
                               const std::vector<std::int64_t>& percentiles) {
  auto sources = nlohmann::ordered_json::array();
  for (const auto& source : s.sources)
    sources.push_back({{"path", source.path},
                       {"rows", source.rows},
                       {"examples", source.examples},
                       {"tokens", source.tokens},
                       {"examples_per_epoch", source.per_epoch}});
  return {{"rows", s.rows},
          {"examples", s.examples},
          {"held_out", s.held_out},
          {"dropped", s.dropped},
          {"truncated", s.truncated},
          {"split", s.split},
          {"emptied", s.emptied},
          {"without_target", s.without_target},
          {"tokens", s.tokens},
          {"supervised", s.supervised},
          {"longest", s.longest},
          {"packs", s.packs},
          {"fill", s.fill},
          {"length_percentiles", percentiles},
          {"findings", data::to_json(s.report)},
          {"sources", std::move(sources)}};
}

/// From the command line and the recipe to what is read, and how.
struct CheckPlan {
  std::filesystem::path model;
  train::Recipe recipe;
  data::DatasetOptions reading;
};

CheckPlan plan_of(const CheckOptions& options) {
  CheckPlan plan{
      .model = options.target, .recipe = {}, .reading = {.seq_len = options.seq_len, .shuffle = false}};
  if (!std::filesystem::is_directory(options.target)) {  // a recipe says it all
    plan.recipe = train::read_recipe(options.target, options.rest);
    plan.model = plan.recipe.model_path;
    if (options.split != "train") plan.recipe.train_data[0].split = options.split;
    if (options.seq_len == 0) plan.reading.seq_len = plan.recipe.seq_len;
    plan.reading.packing = plan.recipe.packing;
    plan.reading.overlong = plan.recipe.overlong;
    plan.reading.on_dropped = plan.recipe.on_dropped;
  } else if (options.rest.size() == 1) {
    plan.recipe.model_path = options.target;
    plan.recipe.train_data = {{.path = options.rest.front(), .split = options.split}};
  } else {
    fail(
        "hone check: {} is a model directory; give it one file, glob or directory of data, as in "
        "`hone check MODEL train.jsonl`",
        options.target);
  }
  if (options.unpacked) plan.reading.packing = false;
  if (options.overlong) plan.reading.overlong = overlong_of(*options.overlong);
  auto& seq_len = plan.reading.seq_len;
  std::int64_t context = 2048;
  if (std::filesystem::exists(plan.model / "config.json")) {
    const auto spec = model::describe(plan.model).spec;
    if (!spec.layers.empty()) {  // else a family that hone does not know: its data can be looked at
      plan.reading.vocab = spec.vocab;
      context = std::min(context, spec.context_length());
      model::check_context(spec, seq_len, fmt::format("--seq-len {}", seq_len));
    }
  }
  if (seq_len == 0) seq_len = context;
  return plan;
}

/// Shows one dataset; returns it as JSON where that is asked for.
nlohmann::ordered_json show(const data::Dataset& dataset, const std::string& name, const CheckPlan& plan,
                            const CheckOptions& options, const text::Tokenizer& tokenizer) {
  const auto percentiles = length_percentiles(dataset);
  const auto& s = dataset.statistics();
  if (options.json) return to_json(s, percentiles);
  const bool colour = ::isatty(STDOUT_FILENO) == 1;
  for (std::int64_t i = 0; i < std::min(options.show, dataset.num_examples()); ++i)
    fmt::print("{}\n{}\n\n", dataset.source(i).where(), masked_text(dataset.example(i), tokenizer, colour));
  if (!plan.recipe.eval_data.empty()) fmt::print("{}\n", name);
  fmt::print("{} is learnt from\n", colour ? "\033[32mgreen\033[0m" : "«this»");
  print(s, percentiles, plan.reading.seq_len, plan.reading.packing);
  return {};
}

void run(const CheckOptions& options) {
  const CheckPlan plan = plan_of(options);
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(plan.model);
  std::optional<Progress> progress;
  std::string reading;
  const auto data = train::load_data(plan.recipe, &tokenizer, plan.reading,
                                     [&](const std::string& what, std::int64_t rows, double share) {
                                       if (what != reading) progress.emplace("reading " + what);
                                       reading = what;
                                       progress->update(share, with_commas(rows) + " rows");
                                     });
  progress.reset();
  auto result = show(data.train, "train: " + train::describe(plan.recipe.train_data), plan, options,
                     tokenizer.tokenizer());
  for (std::size_t i = 0; i < data.evaluation_sets.size(); ++i) {
    const auto& set = plan.recipe.eval_data[i];
    const std::string name = set.name.empty() ? "eval" : set.name;
    const std::string of =
        set.percent > 0 ? fmt::format("{}% of the training rows", set.percent) : train::describe(set.sources);
    auto json = show(data.evaluation_sets[i].data, name + ": " + of, plan, options, tokenizer.tokenizer());
    if (options.json) result[set.name.empty() ? name : "eval_" + name] = std::move(json);
  }
  if (options.json) print_json(result);
}

}  // namespace

void add_check(CLI::App& app) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App* verb = app.add_subcommand(
      "check", "show what training would see of a dataset: rows, lengths, what is learnt from, what is lost");
  verb->add_option("RECIPE_OR_MODEL", options->target,
                   "a recipe (its data.train and data.eval are read); or a model (a directory, or a hub name "
                   "that is cached), with DATA")
      ->required()
      ->transform(cached_model());
  verb->add_option(
      "DATA", options->rest,
      "of a model: a data file, a glob, or a directory with train.jsonl or the like; of a recipe: KEY=VALUE "
      "to set, as in data.seq_len=512");
  verb->add_option("--split", options->split, "which file of a directory")
      ->check(CLI::IsMember({"train", "valid", "test"}))
      ->capture_default_str();
  verb->add_option("--seq-len", options->seq_len,
                   "tokens of a pack; 0: the recipe's, else 2048, or the model's context if that is less")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--overlong", options->overlong,
                   "what becomes of longer rows (default: the recipe's, else error)")
      ->check(CLI::IsMember({"error", "truncate", "drop", "split"}));
  verb->add_option("--show", options->show, "rows to show")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_flag("--no-packing", options->unpacked, "one row a pack");
  add_json_to(*verb, options->json);
  verb->callback([options] { run(*options); });
}

}  // namespace hone::cli
