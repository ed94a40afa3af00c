// hone eval: loss and perplexity of a checkpoint on a file, and how many of its answers are right.
#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "train/evaluation.h"

namespace hone::cli {

namespace {

struct EvalOptions {
  std::string model, data, overlong = "error";
  std::int64_t seq_len = 0, samples = 0;
  bool exact_match = false, json = false;
  ComputeOptions compute;
};

/// Shows how far a long evaluation is.
train::EvalProgress show(Progress& progress) {
  return [&progress](std::int64_t done, std::int64_t of) {
    progress.update(static_cast<double>(done) / static_cast<double>(of),
                    fmt::format("{} of {} rows", done, of));
  };
}

void run(const EvalOptions& options) {
  const auto spec = model::describe(options.model).spec;
  model::check_runs(spec);
  const std::int64_t longest = options.seq_len > 0 ? options.seq_len : spec.context_length();
  model::check_context(spec, longest, fmt::format("--seq-len {}", longest));
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(options.model);
  const auto dataset = data::Dataset::load(options.data, "test", tokenizer,
                                           {.seq_len = longest,
                                            .packing = false,
                                            .shuffle = false,
                                            .overlong = overlong_of(options.overlong),
                                            .vocab = spec.vocab,
                                            .for_training = false});
  if (dataset.statistics().supervised == 0)
    fail("{}: no token is supervised (every label is -100 or the first of its row): there is no loss",
         options.data);
  auto context = options.compute.context();
  auto model = options.compute.load(context, options.model);
  train::EvalSummary summary;
  {
    Progress progress("evaluating");
    summary = train::evaluate_dataset(
        context, model.decoder(), dataset,
        std::max<std::int64_t>(std::min(dataset.statistics().longest, longest), 2048), show(progress));
  }
  nlohmann::ordered_json row{{"loss", summary.loss},
                             {"perplexity", summary.perplexity},
                             {"rows", summary.examples},
                             {"tokens", summary.tokens},
                             {"supervised", summary.supervised},
                             {"seconds", summary.seconds},
                             {"dropped", dataset.statistics().dropped},
                             {"truncated", dataset.statistics().truncated}};
  const bool weighted = summary.loss_weight != static_cast<double>(summary.supervised);
  if (weighted) row["loss_weight"] = summary.loss_weight;
  if (options.exact_match) {
    Progress progress("answering");
    const auto match = train::exact_match(context, model.decoder(), dataset, show(progress));
    row["exact_match"] =
        match.asked > 0 ? static_cast<double>(match.matched) / static_cast<double>(match.asked) : 0.0;
    row["asked"] = match.asked;
  }
  const auto samples = train::sample_answers(context, model.decoder(), dataset, tokenizer, options.samples);
  if (options.json) {
    for (const auto& s : samples)
      row["samples"].push_back({{"prompt", s.prompt}, {"answer", s.answer}, {"reference", s.reference}});
    print_json(row);
    return;
  }
  for (const auto& s : samples)
    fmt::print("{}\n  answer    {}\n  reference {}\n\n", s.prompt, s.answer, s.reference);
  fmt::print("loss {:.4f}  perplexity {:.3f}  {} rows, {} tokens, {} supervised{}, in {}\n", summary.loss,
             summary.perplexity, with_commas(summary.examples), with_commas(summary.tokens),
             with_commas(summary.supervised),
             weighted ? fmt::format(" with weights that sum to {:.6g}", summary.loss_weight) : "",
             duration(summary.seconds));
  if (dataset.statistics().dropped + dataset.statistics().truncated > 0)
    fmt::print("{} rows longer than {} tokens were left out, {} cut short\n",
               with_commas(dataset.statistics().dropped), longest,
               with_commas(dataset.statistics().truncated));
  if (options.exact_match)
    fmt::print("exact match {:.1f} % of {} answers\n", 100 * row["exact_match"].get<double>(),
               row["asked"].get<std::int64_t>());
}

}  // namespace

void add_eval(CLI::App& app) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* verb = app.add_subcommand(
      "eval", "loss and perplexity on a file, and greedy answers compared with the data's");
  verb->add_option("MODEL", options->model,
                   "a Hugging Face checkpoint directory, or a hub name that is cached")
      ->required()
      ->transform(cached_model());
  verb->add_option("DATA", options->data, "a JSONL file, a glob, or a directory with test.jsonl")->required();
  verb->add_option("--seq-len", options->seq_len, "the most tokens a row may have; 0: the model's context")
      ->check(at_least(0));
  verb->add_option("--overlong", options->overlong, "what becomes of rows longer than that")
      ->check(CLI::IsMember({"error", "truncate", "drop"}))
      ->capture_default_str();
  verb->add_flag("--exact-match", options->exact_match,
                 "answer every row greedily and count the answers that are the data's, token by token");
  verb->add_option("--samples", options->samples, "answers to show")->check(at_least(0));
  add_json_to(*verb, options->json);
  options->compute.add_to(*verb);
  verb->callback([options] { run(*options); });
}

}  // namespace hone::cli
