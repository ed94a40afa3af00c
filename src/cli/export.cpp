// hone export: a checkpoint of a run as a Hugging Face directory.
#include "train/export.h"

#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include "base/console.h"
#include "base/log.h"
#include "cli/options.h"
#include "cli/verbs.h"

namespace hone::cli {

namespace {

struct ExportVerb {
  train::ExportOptions options;
  std::string dtype = "auto";
  bool json = false;
};

void run(ExportVerb verb) {
  if (verb.dtype != "auto") verb.options.dtype = parse_dtype(verb.dtype);
  train::ExportReport report;
  {
    Progress progress("exporting");
    verb.options.progress = [&](double share) { progress.update(share, ""); };
    report = train::export_checkpoint(verb.options);
  }
  const auto out = verb.options.out.string();
  if (report.base_changed)
    log_warning(
        "{}: is not the model as it was when the run began; its layout and other files are used, none of its "
        "weights",
        report.base.string());
  for (const auto& name : report.saved.overflowed)
    log_warning("{}: beyond the range of the f16 it is stored as; written as infinity", name);
  if (verb.json) {
    nlohmann::ordered_json row{{"out", out},
                               {"checkpoint", report.checkpoint.string()},
                               {"step", report.step},
                               {"base", report.base.string()},
                               {"dtype", verb.dtype},
                               {"parameters", report.parameters},
                               {"bytes", report.bytes},
                               {"tensors_from_base", report.from_base},
                               {"not_copied", report.saved.left_out}};
    if (report.eval_loss) row["best_eval_loss"] = *report.eval_loss;
    print_json(row);
    return;
  }
  fmt::print(
      "{}: step {} of {}, {} parameters, {}{}\n", out, with_commas(report.step),
      report.checkpoint.parent_path().string(), with_commas(report.parameters),
      bytes_text(static_cast<double>(report.bytes)),
      report.eval_loss ? fmt::format(", the best so far: evaluation loss {:.4f}", *report.eval_loss) : "");
  if (report.from_base > 0)
    fmt::print("{} tensors that were not trained are those of {}\n", report.from_base, report.base.string());
  if (report.saved.coding.tensors > 0) fmt::print("{}\n", hub::coding_text(report.saved.coding));
  if (!report.saved.left_out.empty())
    fmt::print("not copied (weights in other formats): {}\n", fmt::join(report.saved.left_out, ", "));
}

}  // namespace

void add_export(CLI::App& app) {
  auto verb_options = std::make_shared<ExportVerb>();
  auto& options = verb_options->options;
  CLI::App* verb = app.add_subcommand(
      "export", "make any checkpoint of a run a Hugging Face directory, in the base model's layout");
  verb->add_option("RUN", options.from,
                   "a run's directory (the recipe's output), or checkpoints/step-N in it")
      ->required();
  verb->add_option("OUT", options.out, "directory to make")->required();
  verb->add_option("--step", options.step,
                   "of a run: last, best (the least evaluation loss so far) or a number")
      ->capture_default_str();
  verb->add_option("--dtype", verb_options->dtype,
                   "what to store the parameters as; auto: what the base model stores each as")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "f16"}))
      ->capture_default_str();
  verb->add_option("--base", options.base,
                   "where the base model lies now, if not where the run's recipe.yaml has it");
  add_json_to(*verb, verb_options->json);
  verb->footer(
      "\nThe checkpoint's f32 masters are written under the keys, layout, dtypes and shards of the base "
      "model, as the "
      "end of a\nrun writes model/; config, tokenizer and tensors that were not trained are the base "
      "model's. A run "
      "that is going on\nis not disturbed.\n");
  verb->callback([verb_options] { run(*verb_options); });
}

}  // namespace hone::cli
