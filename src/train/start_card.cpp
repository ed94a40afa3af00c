#include "train/start_card.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/console.h"

namespace hone::train {

namespace {

std::string list_names(const std::vector<std::string>& names, std::size_t most = 6) {
  std::string text;
  for (std::size_t i = 0; i < std::min(most, names.size()); ++i) text += (i > 0 ? ", " : "") + names[i];
  if (names.size() > most) text += fmt::format(" and {} more", names.size() - most);
  return text;
}

std::string model_text(const StartCardFacts& f) {
  const auto& spec = f.model->spec();
  const auto total = f.model->decoder().parameters().num_elements();
  std::string text = fmt::format("{}  {} layers, hidden {}, vocabulary {}", spec.model_type,
                                 spec.layers.size(), spec.hidden, with_commas(spec.vocab));
  if (const model::MoeSpec* moe = spec.first_moe())
    text += fmt::format(", {} experts top-{} in {} layers", moe->experts, moe->top_k, spec.num_moe_layers());
  return text + fmt::format("  {} parameters, {} active  computed in {}",
                            short_count(static_cast<double>(total)),
                            short_count(static_cast<double>(model::count_parameters(spec).active)),
                            name_of(f.model->decoder().dtype()));
}

std::string counted(std::int64_t n, const std::string& noun, const std::string& several = "") {
  return with_commas(n) + " " + (n == 1 ? noun : several.empty() ? noun + "s" : several);
}

std::string data_text(const data::Dataset& dataset, const std::string& path, bool packing) {
  const auto& s = dataset.statistics();
  std::string text = fmt::format(
      "{}  {}, {}, {:.1f}% supervised", path, counted(s.rows - s.held_out, "row"), counted(s.tokens, "token"),
      s.tokens > 0 ? 100.0 * static_cast<double>(s.supervised) / static_cast<double>(s.tokens) : 0.0);
  if (packing) text += fmt::format(", {} {:.1f}% full", counted(s.packs, "pack"), 100 * s.fill);
  text += fmt::format(", dropped {}, truncated {}, longest {}", with_commas(s.dropped),
                      with_commas(s.truncated), with_commas(s.longest));
  if (s.emptied > 0)
    text += fmt::format("; {} of the truncated had nothing left to learn from and were dropped too",
                        with_commas(s.emptied));
  if (s.split > 0) text += fmt::format(", split {}", with_commas(s.split));
  if (s.held_out > 0)
    text += fmt::format("; {} on the other side of the holdout", counted(s.held_out, "row"));
  if (s.cached_files > 0)
    text += fmt::format("; tokens of {} of {} from the cache", s.cached_files, counted(s.files, "file"));
  if (s.without_target > 0)
    text += fmt::format("; {} had nothing to learn from and were left out", with_commas(s.without_target));
  return text;
}

void add_findings(Card& card, const data::Dataset& dataset) {
  for (const auto& line : data::describe(dataset.statistics().report, data::Severity::kNotice))
    card.line(line);
}

std::string trained_text(const StartCardFacts& f) {
  const auto& parameters = f.model->decoder().parameters();
  const auto trainable = parameters.num_elements(true);
  const auto total = parameters.num_elements();
  std::string text =
      fmt::format("full fine-tuning, {} of {} parameters ({:.1f}%)", with_commas(trainable),
                  with_commas(total), 100.0 * static_cast<double>(trainable) / static_cast<double>(total));
  for (std::size_t i = 0; i < f.recipe->freeze.size(); ++i)
    text += fmt::format(", '{}' freezes {} tensors", f.recipe->freeze[i], f.frozen_by_pattern.at(i));
  const auto groups = assign_groups(parameters, f.recipe->optimizer.groups);
  for (std::size_t g = 0; g < f.recipe->optimizer.groups.size(); ++g) {
    const auto& group = f.recipe->optimizer.groups[g];
    text +=
        fmt::format(", '{}': {} tensors with lr x {}", group.match,
                    std::count(groups.begin(), groups.end(), static_cast<std::int64_t>(g)), group.rate_scale);
    if (group.weight_decay) text += fmt::format(" and weight decay {}", *group.weight_decay);
  }
  return text + (f.aux_coefficient != 0 ? fmt::format(", auxiliary loss x {}", f.aux_coefficient) : "");
}

/// What is multiplied in FP8; "" where nothing is.
std::string fp8_text(const model::ParameterSet& parameters) {
  std::int64_t matrices = 0, elements = 0;
  for (const auto& p : parameters.all()) {
    if (!p.in_fp8) continue;
    ++matrices;
    elements += p.spec.shape.numel();
  }
  if (matrices == 0) return "";
  return fmt::format(
      "products by {} of attention, feed-forwards and experts ({:.1f}% of the parameters) are of operands in "
      "e4m3, blocks of 128 and of 128 x 128 in weights, forward and of the gradient that goes on; gradients "
      "of "
      "weights, and products by the embedding, head, router and norms, are not",
      counted(matrices, "matrix", "matrices"),
      100.0 * static_cast<double>(elements) / static_cast<double>(parameters.num_elements()));
}

/// What the optimizer keeps, and when it updates.
std::string optimizer_text(const StartCardFacts& f) {
  const OptimizerOptions& optimizer = f.recipe->optimizer;
  std::string text = f.model->decoder().dtype() == DType::kF32 ? "weights are their own f32 masters"
                     : optimizer.master == OptimizerOptions::Master::kF32
                         ? "f32 masters kept"
                         : "no masters: weights are rounded to bf16 at random";
  if (optimizer.type == OptimizerOptions::Type::kAdamW && optimizer.state == OptimizerOptions::State::k8Bit)
    text += ", moments in 8 bits";
  if (f.memory.pinned > 0) text += ", in the host's memory";
  if (f.recipe->weight_gradients_beside && f.recipe->device.type == device::DeviceType::kCuda)
    text += ", gradients of linear layers' weights beside backward";
  if (!f.recipe->update_as_ready) return text;
  text += ", updates as gradients are ready";
  return text + (f.recipe->clip
                     ? ", clipped by the norm of the step before (the first by its own, in two passes)"
                     : "");
}

/// An ordinary step as a product; a data set smaller than a batch makes smaller ones.
std::string batch_text(const StartCardFacts& f) {
  const std::int64_t step = std::min(f.recipe->global_batch, f.train->num_packs());
  const std::int64_t micro = std::min(f.recipe->micro_batch, step);
  const double tokens_per_unit =
      static_cast<double>(f.train->statistics().epoch_tokens) / static_cast<double>(f.train->num_packs());
  std::string text = fmt::format(
      "{} x {} accumulated x 1 rank x {:.0f} tokens = {} tokens a step; {} an epoch, {} in all",
      counted(micro, f.recipe->packing ? "pack" : "row"), (step + micro - 1) / micro, tokens_per_unit,
      with_commas(static_cast<std::int64_t>(tokens_per_unit * static_cast<double>(step))),
      counted(f.steps_per_epoch, "step"), with_commas(f.steps));
  if (f.recipe->packing) {
    const double rows_per_pack =
        static_cast<double>(f.train->num_examples()) / static_cast<double>(f.train->num_packs());
    text += fmt::format("; a step is {}, about {:.0f} rows", counted(step, "pack"),
                        rows_per_pack * static_cast<double>(step));
  }
  if (step < f.recipe->global_batch)
    text += fmt::format("; global_batch {} is more than an epoch holds", with_commas(f.recipe->global_batch));
  return text;
}

/// What becomes of quantised weights; "" where there are none.
std::string quantised_text(const model::CausalLM& model) {
  const hub::WeightPlan& plan = model.plan();
  if (!plan.has_quantized()) return "";
  if (!plan.saves_quantized())
    return "the checkpoint's weights are dequantized: model/ is saved in bf16, without quantization_config";
  std::int64_t coded = 0;
  std::string worst;
  double most = 0;
  for (std::size_t i = 0; i < plan.parameters().size(); ++i) {
    const auto& name = plan.parameters()[i].name;
    if (!model.decoder().parameters().find(name)->trainable) continue;
    const double error = plan.expected_coding_error(i).relative();
    if (error == 0) continue;
    ++coded;
    if (error <= most) continue;
    most = error;
    worst = name;
  }
  if (coded == 0) return "kept as they are stored; none of them is trained";
  return fmt::format(
      "kept in their format; {} trained and coded again when saved, which adds up to about {:.1f} % "
      "(root mean square, {})",
      counted(coded, "parameter"), 100 * most, worst);
}

/// When the run ends and what it leaves, where evaluations decide; "" where they do not.
std::string ending_text(const Recipe& recipe) {
  const auto& stopping = recipe.early_stopping;
  std::string text;
  if (stopping.patience > 0) {
    text = fmt::format("after {} in a row ({} steps apart) without a gain",
                       counted(stopping.patience, "evaluation"), with_commas(recipe.eval_every));
    if (stopping.min_delta > 0) text += fmt::format(" of more than {}", stopping.min_delta);
    text += ", or with the last step";
  }
  if (recipe.load_best)
    text += std::string(text.empty() ? "" : "; ") + "model/ will be the step with the least loss";
  return text;
}

/// How a run was extended, and where its schedule goes on.
std::string history_text(const StartCardFacts& f) {
  std::string text;
  for (const auto& extension : f.history)
    text += fmt::format("{}after step {}: {}", text.empty() ? "" : "; ", with_commas(extension.step),
                        fmt::join(extension.changes, ", "));
  if (text.empty()) return text;
  const double rate = f.recipe->learning_rate * schedule_factor(f.recipe->schedule, f.first_step, f.steps);
  return text + fmt::format("; the schedule is read as over {} steps from the start: the next rate is {:.3g}",
                            with_commas(f.steps), rate);
}

}  // namespace

std::string start_card(const StartCardFacts& f) {
  Card card;
  card.row("hone", model_text(f));
  const bool on_cpu = f.recipe->device.type == device::DeviceType::kCpu;
  card.row("device",
           fmt::format("{}, {}, {} kernels, {:.0f} GFLOP/s and {:.0f} GB/s measured peak",
                       device::name_of(f.recipe->device), on_cpu ? counted(f.threads, "thread") : f.processor,
                       f.isa, f.peak_gflops, f.peak_gb_s));
  if (!f.launches.empty()) card.row("launches", f.launches);
  card.row("data", data_text(*f.train, describe(f.recipe->train_data), f.recipe->packing));
  for (const auto& line : source_lines(f.train->statistics())) card.row("source", line);
  add_findings(card, *f.train);
  for (std::size_t i = 0; i < f.evaluation_sets->size(); ++i) {
    const auto& [name, dataset] = (*f.evaluation_sets)[i];
    const EvalData& set = f.recipe->eval_data.at(i);
    const std::string of =
        set.percent > 0 ? fmt::format("{}% of the training rows", set.percent) : describe(set.sources);
    card.row("eval", data_text(dataset, name.empty() ? of : name + ": " + of, false));
    if (set.percent == 0) add_findings(card, dataset);  // else they were said of the training rows
  }
  card.row("train", trained_text(f));
  if (const auto text = fp8_text(f.model->decoder().parameters()); !text.empty()) card.row("fp8", text);
  card.row("batch", batch_text(f));
  if (const auto text = ending_text(*f.recipe); !text.empty()) card.row("ends", text);
  if (const auto text = history_text(f); !text.empty()) card.row("extended", text);
  const auto& m = f.memory;
  const auto text = [](std::int64_t bytes) { return bytes_text(static_cast<double>(bytes)); };
  card.row("memory", fmt::format("weights {} + optimizer {} + gradients {} + activations {} + reserve {} + "
                                 "{} {} = {} ({})",
                                 text(m.weights), text(m.optimizer), text(m.gradients), text(m.activations),
                                 text(m.reserve), on_cpu ? "program and data" : "driver and other programs",
                                 text(m.program), text(m.total()), optimizer_text(f)) +
                         (m.pinned > 0 ? fmt::format("; and {} of the host, pinned", text(m.pinned)) : ""));
  card.row("save",
           fmt::format(
               "rehearsed: {} to {}{}", bytes_text(static_cast<double>(f.save_bytes)), f.recipe->output,
               f.first_step > 0 ? fmt::format("; continues after step {}", with_commas(f.first_step)) : ""));
  if (const auto line = quantised_text(*f.model); !line.empty()) card.row("stored", line);
  std::vector<std::string> passed;
  for (const auto* tensor : f.model->plan().passed_through()) passed.push_back(tensor->name());
  if (!passed.empty())
    card.row("passes",
             fmt::format("{} tensors hone does not compute with: {}", passed.size(), list_names(passed)));
  for (const auto& line : f.model->spec().left_out) card.row("config", line);
  const auto& unknown = f.model->description().unknown_keys;
  if (!unknown.empty()) card.row("config", "keys without effect here: " + list_names(unknown));
  return card.str();
}

}  // namespace hone::train
