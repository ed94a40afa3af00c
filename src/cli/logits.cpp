// hone logits: what a checkpoint computes for given token ids, for comparison with other programs.
#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include "base/console.h"
#include "base/error.h"
#include "cli/options.h"
#include "cli/token_rows.h"
#include "cli/verbs.h"
#include "hub/safetensors.h"
#include "model/causal_lm.h"
#include "tensor/transfer.h"

namespace hone::cli {

namespace {

struct LogitsOptions {
  std::string model, ids, out;
  bool json = false;
  ComputeOptions compute;
};

/// The training loss of all rows as one batch, auxiliary loss included where the config asks for it.
float training_loss(ops::Context& context, model::CausalLM& model, const std::vector<TokenRow>& rows,
                    const std::string& path) {
  model::TokenBatch batch;
  for (const auto& row : rows) batch.add(row.ids, row.labels, row.weights);
  if (batch.supervised() == 0)
    fail("{}: no label is supervised (every one is -100, the first of its row or of weight 0): no loss",
         path);
  const auto& spec = model.spec();
  const auto loss =
      model.decoder().loss(context, batch,
                           {.lm_scale = 1.0 / batch.loss_weight(),
                            .aux_scale = spec.output_router_logits ? spec.aux_coefficient : 0.0});
  return HostCopy(context.stream(), loss.total).values<float>().front();
}

void run(const LogitsOptions& options) {
  auto context = options.compute.context();
  // The rows are checked against config.json before the weights are read.
  const auto spec = model::describe(options.model).spec;
  model::check_runs(spec);
  const auto rows = read_token_rows(options.ids, spec);
  auto model = options.compute.load(context, options.model);

  std::vector<hub::TensorSpec> tensors;
  const auto* f32 = &hub::stored_type(DType::kF32);
  for (std::size_t i = 0; i < rows.size(); ++i)
    tensors.push_back(
        {fmt::format("logits.{}", i), f32, Shape{static_cast<std::int64_t>(rows[i].ids.size()), spec.vocab}});
  const bool has_labels = !rows.front().labels.empty();
  if (has_labels) tensors.push_back({"loss", f32, Shape{1}});
  hub::SafetensorsWriter writer(options.out, tensors, std::nullopt);

  Progress progress("logits");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    model::TokenBatch batch;
    batch.add(rows[i].ids);
    const Tensor logits = model.decoder().logits(context, model.decoder().forward(context, batch).residual);
    writer.write(tensors[i].name, HostView(context.stream(), logits).bytes());
    progress.update(static_cast<double>(i + 1) / static_cast<double>(rows.size()),
                    fmt::format("{} of {} rows", i + 1, rows.size()));
  }
  nlohmann::ordered_json row{{"out", options.out}, {"rows", rows.size()}, {"vocab", spec.vocab}};
  if (has_labels) {
    const float loss = training_loss(context, model, rows, options.ids);
    writer.write("loss", std::as_bytes(std::span(&loss, 1)));
    row["loss"] = loss;
  }
  writer.finish();
  if (options.json) print_json(row);
}

}  // namespace

void add_logits(CLI::App& app) {
  auto options = std::make_shared<LogitsOptions>();
  CLI::App* verb = app.add_subcommand(
      "logits", "compute the logits, and with labels the training loss, of rows of token ids");
  verb->add_option("MODEL", options->model,
                   "a Hugging Face checkpoint directory, or a hub name that is cached")
      ->required()
      ->transform(cached_model());
  verb->add_option("--ids", options->ids,
                   "JSONL rows {\"input_ids\": [...], \"labels\": [...]?, \"loss_weights\": [...]?}; "
                   "aligned, a label of -100 unsupervised")
      ->required();
  verb->add_option("--out", options->out,
                   "safetensors file to write: logits.0, logits.1, … (length, vocab) f32, and loss (1)")
      ->required();
  add_json_to(*verb, options->json);
  options->compute.add_to(*verb);
  verb->callback([options] { run(*options); });
}

}  // namespace hone::cli
