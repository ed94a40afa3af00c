// smollm3: SmolLM3. Some layers are told no positions; where there is a window, those slide. Transformers:
// models/smollm3.
#include "base/error.h"
#include "model/families/family.h"
#include "model/families/reader.h"

namespace hone::model {

namespace {

/// Which layers turn their queries and keys: no_rope_layers (1: does), or all but every
/// no_rope_layer_interval-th.
std::vector<bool> roped_layers(const hub::ModelConfig& config, const SpecReader& reader) {
  const auto listed = config.integers("no_rope_layers");
  const std::int64_t interval = reader.count("no_rope_layer_interval", 4);
  if (config.has_value("no_rope_layers") && static_cast<std::int64_t>(listed.size()) < reader.num_layers())
    fail("{}: no_rope_layers has {} entries for num_hidden_layers {}", config.file(), listed.size(),
         reader.num_layers());
  std::vector<bool> roped;
  for (std::int64_t i = 0; i < reader.num_layers(); ++i)
    roped.push_back(listed.empty() ? (i + 1) % interval != 0 : listed[static_cast<std::size_t>(i)] != 0);
  return roped;
}

DecoderSpec smollm3_spec(const hub::ModelConfig& config) {
  const SpecReader reader(config, {.vocab_size = 128256,
                                   .hidden_size = 2048,
                                   .intermediate_size = 11008,
                                   .num_hidden_layers = 36,
                                   .num_attention_heads = 16,
                                   .num_key_value_heads = 4,
                                   .max_position_embeddings = 32768,
                                   .rope_theta = 2e6,
                                   .tie_word_embeddings = true,
                                   .pad_token_id = 128004});
  config.ignore({"max_window_layers", "pretraining_tp"});  // written by SmolLM3, read by nobody
  DecoderSpec spec = reader.base();
  AttentionSpec attention = reader.attention();
  attention.qkv_bias = attention.output_bias = config.boolean("attention_bias", false);
  const DenseSpec mlp{.ffn = reader.intermediate_size(), .bias = config.boolean("mlp_bias", false)};
  const auto roped = roped_layers(config, reader);
  const bool use_window = config.boolean("use_sliding_window", false);
  const auto windows = reader.windows(reader.window(std::nullopt), [&](std::int64_t i) {
    return use_window && !roped[static_cast<std::size_t>(i)];
  });
  for (std::size_t i = 0; i < windows.size(); ++i) {
    attention.window = windows[i];
    attention.rope = roped[i] ? 0 : AttentionSpec::kNoRope;
    spec.layers.push_back(make_layer(attention, mlp));
  }
  return spec;
}

}  // namespace

const Family& smollm3_family() {
  static const Family kFamily{"smollm3", smollm3_spec, [](const DecoderSpec&) { return hub::WeightRules{}; }};
  return kFamily;
}

}  // namespace hone::model
