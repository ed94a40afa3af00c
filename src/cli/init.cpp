// hone init: a checkpoint with random weights.
#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include "base/console.h"
#include "base/error.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "model/causal_lm.h"

namespace hone::cli {

namespace {

struct InitOptions {
  std::string config, out, dtype = "f32";
  std::uint64_t seed = 0;
  bool json = false;
};

void run(const InitOptions& options) {
  if (std::filesystem::exists(options.out) && !std::filesystem::is_empty(options.out))
    fail("{}: exists and is not empty; choose another directory", options.out);
  ops::Context context;
  const auto model =
      model::CausalLM::from_config(context, options.config, parse_dtype(options.dtype).value(), options.seed);
  const auto report = model.save_pretrained(context, options.out);
  if (options.json)
    return print_json({{"out", options.out},
                       {"parameters", model.decoder().parameters().num_elements()},
                       {"dtype", options.dtype},
                       {"seed", options.seed},
                       {"not_copied", report.left_out}});
  fmt::print("{}: {} parameters, {}, seed {}\n", options.out,
             with_commas(model.decoder().parameters().num_elements()), options.dtype, options.seed);
  if (!report.left_out.empty()) fmt::print("not copied (weights): {}\n", fmt::join(report.left_out, ", "));
  if (const auto& links = model.other_files().not_followed(); !links.empty())
    fmt::print("not copied (no file, or a link that leaves the directory): {}\n", fmt::join(links, ", "));
}

}  // namespace

void add_init(CLI::App& app) {
  auto options = std::make_shared<InitOptions>();
  CLI::App* verb = app.add_subcommand(
      "init", "make a checkpoint with random weights by a config's initializer_range, in the hub's layout");
  verb->add_option("CONFIG_DIR", options->config,
                   "directory with config.json; its other files (tokenizer …) are copied along")
      ->required();
  verb->add_option("OUT", options->out, "directory to make")->required();
  verb->add_option("--seed", options->seed, "of the random numbers; the weights are a function of it alone")
      ->check(at_least(0))
      ->required();
  verb->add_option("--dtype", options->dtype, "stored dtype")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  add_json_to(*verb, options->json);
  verb->callback([options] { run(*options); });
}

}  // namespace hone::cli
