// hone inspect: what a checkpoint is, without computing anything.
#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "model/causal_lm.h"
#include "train/start_card.h"

namespace hone::cli {

namespace {

using nlohmann::ordered_json;

struct InspectOptions {
  std::string model;
  bool tensors = false, json = false;
};

ordered_json describe_spec(const model::DecoderSpec& spec) {
  ordered_json result{{"model_type", spec.model_type},
                      {"layers", spec.layers.size()},
                      {"hidden", spec.hidden},
                      {"vocab", spec.vocab},
                      {"max_position_embeddings", spec.max_positions},
                      {"rope", spec.ropes.front().type},
                      {"rope_theta", spec.ropes.front().theta},
                      {"tied", spec.tied}};
  for (const auto& layer : spec.layers) {
    for (const auto& branch : layer.branches) {
      if (const auto* a = std::get_if<model::AttentionSpec>(&branch.mixer)) {
        result["heads"] = a->heads;
        result["kv_heads"] = a->kv_heads;
        result["head_dim"] = a->head_dim;
        if (a->window > 0) result["sliding_window"] = a->window;
      } else if (const auto* m = std::get_if<model::MoeSpec>(&branch.mixer)) {
        result["experts"] = m->experts;
        result["experts_per_token"] = m->top_k;
        result["expert_ffn"] = m->ffn;
        result["moe_layers"] = spec.num_moe_layers();
      } else {
        result["ffn"] = std::get<model::DenseSpec>(branch.mixer).ffn;
      }
    }
  }
  return result;
}

/// Parameters by group.
std::map<std::string, std::int64_t> groups(const model::DecoderSpec& spec) {
  std::map<std::string, std::int64_t> result;
  for (const auto& p : model::list_parameters(spec)) result[std::string(name_of(p.role))] += p.shape.numel();
  return result;
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

void print(const ordered_json& row, const model::ModelDescription& description) {
  Card card;
  card.row("model", fmt::format("{}  {} parameters, {} active", description.spec.model_type,
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
  if (row.contains("weights")) {
    const auto& w = row["weights"];
    std::string dtypes;
    for (const auto& [key, value] : w["elements_by_dtype"].items())
      dtypes += " " + key + " " + short_count(value.get<double>());
    card.row("weights", fmt::format("{} in {} files, elements by dtype:{}",
                                    bytes_text(w["bytes"].get<double>()), w["shards"].size(), dtypes));
  } else {
    card.row("weights", "none (a configuration only)");
  }
  if (!description.unknown_keys.empty())
    card.row("unknown",
             fmt::format("config keys without effect: {}", fmt::join(description.unknown_keys, ", ")));
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
  if (checkpoint && model::has_untied_head(spec, *checkpoint)) spec.tied = false;

  ordered_json row{{"config", describe_spec(spec)}};
  std::int64_t total = 0;
  for (const auto& [group, n] : groups(spec)) {
    row["groups"][group] = n;
    total += n;
  }
  row["parameters"] = total;
  row["active_parameters"] = train::active_parameters(spec);
  if (checkpoint) row["weights"] = describe_weights(*checkpoint, options.tensors);
  row["unknown_config_keys"] = description.unknown_keys;
  if (options.json)
    print_json(row);
  else
    print(row, description);
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* verb = app.add_subcommand(
      "inspect", "show a checkpoint's configuration, parameters by group, dtypes and shards");
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
