// hone bench: speed on this machine, beside what it can do at most.
#include <CLI/CLI.hpp>

#include "cli/bench_kernels.h"
#include "cli/bench_step.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "kernels/cards.h"

namespace hone::cli {

void add_bench(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("bench", "measure speed beside the machine's ceiling");
  verb->require_subcommand(1);

  auto step = std::make_shared<BenchStepOptions>();
  CLI::App* step_verb = verb->add_subcommand(
      "step", "full training steps (forward, backward, clipping, AdamW) on random weights and tokens");
  step_verb->add_option("CONFIG_DIR", step->config, "directory with a config.json")->required();
  step_verb->add_option("--batch", step->batch, "rows")->check(at_least(1))->capture_default_str();
  step_verb->add_option("--seq", step->seq, "tokens of a row")
      ->check(CLI::Range(2, 1 << 24))
      ->capture_default_str();
  step_verb->add_option("--steps", step->steps, "measured steps, after two of warm-up")
      ->check(at_least(1))
      ->capture_default_str();
  step_verb->add_flag("--recompute", step->recompute, "keep only every layer's input for the gradient");
  step_verb->add_flag("--fp8", step->fp8, "products of operands in FP8, as train.fp8: block");
  step_verb->add_option("--state", step->state, "AdamW's moments, as train.optimizer.state")
      ->check(CLI::IsMember({"f32", "8bit"}))
      ->capture_default_str();
  step_verb->add_option("--master", step->master, "masters of bf16 weights, as train.optimizer.master")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  step_verb->add_flag("--as-ready", step->update_as_ready, "train.optimizer.update: as_ready");
  step_verb
      ->add_option("--weight-gradients", step->weight_gradients,
                   "of linear layers, on a card, as train.weight_gradients")
      ->check(CLI::IsMember({"in_order", "beside"}))
      ->capture_default_str();
  step_verb->add_flag(
      "--graph,!--no-graph", step->graph,
      "on a card, launch the measured steps as one CUDA graph each (the default), or kernel by kernel");
  step_verb->add_flag(
      "--profile", step->profile,
      "then as many steps again, every kernel timed by itself: what each slot of the kernel table takes");
  step_verb->add_flag(
      "--dry", step->dry,
      "with --device cuda, on any machine: the time of each slot and the memory that a model of "
      "the card says, beside the least; nothing is computed");
  std::string cards;
  for (const auto& card : kernels::known_cards())
    cards += (cards.empty() ? "" : ", ") + std::string(card.name);
  step_verb->add_option("--card", step->card, "of --dry: " + cards)->capture_default_str();
  step_verb->add_flag("--json", step->json, "the last line is one JSON object of medians");
  step->compute.add_to(*step_verb);
  step_verb->callback([step] { bench_step(*step); });

  auto kernels = std::make_shared<BenchKernelsOptions>();
  CLI::App* kernels_verb = verb->add_subcommand(
      "kernels", "each kernel's GFLOP/s or GB/s at the shapes of a small mixture-of-experts model");
  kernels_verb->add_option("--repeat", kernels->repeat, "runs of each, of which the median counts")
      ->check(at_least(1))
      ->capture_default_str();
  kernels_verb->add_flag("--json", kernels->json, "print one JSON object a kernel");
  kernels->compute.add_to(*kernels_verb);
  kernels_verb->callback([kernels] { bench_kernels(*kernels); });
}

}  // namespace hone::cli
