// hone inspect: what a checkpoint is, without computing anything.
#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/console.h"
#include "base/cores.h"
#include "base/error.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "model/causal_lm.h"
#include "train/forecast.h"

namespace hone::cli {

namespace {

using nlohmann::ordered_json;

struct InspectOptions {
  std::string model;
  bool tensors = false, json = false;
};

ordered_json describe_spec(const model::DecoderSpec& spec) {
  ordered_json result{{"model_type", spec.model_type}};
  if (spec.layers.empty()) return result;  // an unknown family
  result["layers"] = spec.layers.size();
  result["hidden"] = spec.hidden;
  result["vocab"] = spec.vocab;
  result["max_position_embeddings"] = spec.max_positions;
  result["rope"] = spec.ropes.front().type;
  result["rope_theta"] = spec.ropes.front().theta;
  result["tied"] = spec.tied;
  for (const auto& layer : spec.layers) {
    for (const auto& branch : layer.branches) {
      if (const auto* a = std::get_if<model::AttentionSpec>(&branch.mixer)) {
        result["heads"] = a->heads;
        result["kv_heads"] = a->kv_heads;
        result["head_dim"] = a->head_dim;
        if (a->window > 0) result["sliding_window"] = a->window;
      } else if (const auto* latent = std::get_if<model::MlaSpec>(&branch.mixer)) {
        result["heads"] = latent->heads;
        result["head_dim"] = latent->nope_dim + latent->rope_dim;
        result["kv_lora_rank"] = latent->kv_lora_rank;
      } else if (const auto* m = std::get_if<model::MoeSpec>(&branch.mixer)) {
        result["experts"] = m->experts;
        result["experts_per_token"] = m->top_k;
        result["expert_ffn"] = m->ffn;
        result["moe_layers"] = spec.num_moe_layers();
      } else if (const auto* dense = std::get_if<model::DenseSpec>(&branch.mixer)) {
        result["ffn"] = dense->ffn;
      }
    }
  }
  return result;
}

/// What a full fine-tune with AdamW holds: one document a step, in the dtype of config.json (f32 where it
/// names none that hone computes in).
ordered_json describe_memory(const model::ModelDescription& description, bool untied_head) {
  const auto& spec = description.spec;
  const std::int64_t tokens = std::min<std::int64_t>(2048, spec.context_length());
  const bool quantised = description.config.quantization().has_value();
  const DType named = description.config.dtype().value_or(quantised ? DType::kBF16 : DType::kF32);
  const DType dtype = named == DType::kBF16 ? DType::kBF16 : DType::kF32;
  const std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens), 0);
  std::vector<model::TokenBatch> batches(1);
  batches[0].add(ids, ids);
  const auto memory =
      train::forecast_steps(spec, dtype, batches,
                            {.aux_coefficient = spec.output_router_logits ? spec.aux_coefficient : 0.0,
                             .untied_head = untied_head,
                             .gradient_dtype = dtype,
                             .threads = available_cores()})
          .memory;
  return {{"tokens", tokens},
          {"dtype", name_of(dtype)},
          {"weights", memory.weights},
          {"optimizer", memory.optimizer},
          {"gradients", memory.gradients},
          {"activations", memory.activations},
          {"reserve", memory.reserve},
          {"total", memory.total()}};
}

ordered_json describe_weights(const hub::Checkpoint& checkpoint, bool tensors) {
  ordered_json result;
  result["bytes"] = checkpoint.total_bytes();
  for (const auto& shard : checkpoint.shards()) result["shards"].push_back(shard->path().filename().string());
  std::map<std::string, std::int64_t> dtypes;
  for (const auto& t : checkpoint.tensors()) {
    dtypes[std::string(t.type().name)] += t.shape().numel();
    if (tensors)
      result["tensors"].push_back({{"name", t.name()},
                                   {"dtype", t.type().name},
                                   {"shape", t.shape().dims()},
                                   {"shard", checkpoint.file_of(t).filename().string()}});
  }
  for (const auto& [name, n] : dtypes) result["elements_by_dtype"][name] = n;
  return result;
}

std::string bytes_of(const ordered_json& row, const char* key) {
  return bytes_text(row[key].get<double>());
}

void print(const ordered_json& row, const model::ModelDescription& description) {
  const auto& spec = description.spec;
  Card card;
  if (spec.layers.empty()) {
    card.row("model", spec.model_type);
  } else {
    card.row("model", fmt::format("{}  {} parameters, {} active", spec.model_type,
                                  short_count(row["parameters"].get<double>()),
                                  short_count(row["active_parameters"].get<double>())));
    std::string config;
    for (const auto& [key, value] : row["config"].items())
      if (key != "model_type") config += (config.empty() ? "" : ", ") + key + " " + value.dump();
    card.row("config", config);
    std::string parts;
    for (const auto& [key, value] : row["groups"].items())
      parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", key, short_count(value.get<double>()));
    card.row("groups", parts);
    const auto& m = row["memory"];
    card.row(
        "memory",
        fmt::format("{} to train it whole with AdamW, {} tokens a step in {}: weights {} + optimizer {} + "
                    "gradients {} + activations {} + reserve {}",
                    bytes_of(m, "total"), with_commas(m["tokens"].get<std::int64_t>()),
                    m["dtype"].get<std::string>(), bytes_of(m, "weights"), bytes_of(m, "optimizer"),
                    bytes_of(m, "gradients"), bytes_of(m, "activations"), bytes_of(m, "reserve")));
  }
  if (row.contains("weights")) {
    const auto& w = row["weights"];
    std::string dtypes;
    for (const auto& [key, value] : w["elements_by_dtype"].items())
      dtypes += " " + key + " " + short_count(value.get<double>());
    const auto quantised = description.config.quantization();
    card.row("weights", fmt::format("{} in {} files{}, elements by dtype:{}",
                                    bytes_text(w["bytes"].get<double>()), w["shards"].size(),
                                    quantised ? ", quantised (" + quantised->method + ")" : "", dtypes));
  } else {
    card.row("weights", "none (a configuration only)");
  }
  if (!description.unknown_keys.empty())
    card.row("unknown",
             fmt::format("config keys without effect: {}", fmt::join(description.unknown_keys, ", ")));
  for (const auto& line : spec.left_out) card.row("left out", line);
  for (const auto& line : spec.refusals) card.row("not run", line);
  fmt::print("{}", card.str());
  if (row.contains("weights") && row["weights"].contains("tensors"))
    for (const auto& t : row["weights"]["tensors"])
      fmt::print("  {:<70} {:<5} {:<20} {}\n", t["name"].get<std::string>(), t["dtype"].get<std::string>(),
                 t["shape"].dump(), t["shard"].get<std::string>());
}

void run(const InspectOptions& options) {
  const auto description = model::describe(options.model);
  const std::filesystem::path directory = options.model;
  std::optional<hub::Checkpoint> checkpoint;
  if (std::filesystem::exists(directory / "model.safetensors") ||
      std::filesystem::exists(directory / "model.safetensors.index.json"))
    checkpoint = hub::Checkpoint::open(directory);
  model::DecoderSpec spec = description.spec;
  const bool untied_head = checkpoint && model::has_untied_head(spec, *checkpoint);
  if (untied_head) spec.tied = false;

  ordered_json row{{"config", describe_spec(spec)}};
  if (!spec.layers.empty()) {
    const auto counts = model::count_parameters(spec);
    for (const auto& [role, n] : counts.by_role) row["groups"][std::string(name_of(role))] = n;
    row["parameters"] = counts.total;
    row["active_parameters"] = counts.active;
    row["memory"] = describe_memory(description, untied_head);
  }
  if (checkpoint) row["weights"] = describe_weights(*checkpoint, options.tensors);
  if (const auto quantised = description.config.quantization()) row["quantization"] = quantised->method;
  row["unknown_config_keys"] = description.unknown_keys;
  row["left_out"] = spec.left_out;
  row["refusals"] = spec.refusals;
  if (options.json)
    print_json(row);
  else
    print(row, description);
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* verb = app.add_subcommand(
      "inspect",
      "show a checkpoint's configuration, parameters by group, the memory to train it, dtypes and shards");
  verb->add_option(
          "MODEL", options->model,
          "a Hugging Face checkpoint directory, or one with only a config.json, or a hub name that is cached")
      ->required()
      ->transform(cached_model());
  verb->add_flag("--tensors", options->tensors, "list every tensor");
  add_json_to(*verb, options->json);
  verb->callback([options] { run(*options); });
}

}  // namespace hone::cli
