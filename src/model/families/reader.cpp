#include "model/families/reader.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/message.h"

namespace hone::model {

SpecReader::SpecReader(const hub::ModelConfig& config, const ConfigDefaults& defaults)
    : config_(config), defaults_(defaults) {
  leave_out_noise("attention_dropout", base_);
  if (!defaults.reads_activation && activation("hidden_act", "silu", base_) != kernels::Activation::kSilu)
    base_.refusals.push_back(fmt::format("{}: hidden_act is '{}': in {} hone computes silu only",
                                         config.file(), shown(config.string("hidden_act")),
                                         config.model_type()));
  base_.model_type = config.model_type();
  base_.vocab = count("vocab_size", defaults.vocab_size, kMostLong);
  base_.hidden = count("hidden_size", defaults.hidden_size);
  base_.max_positions = count("max_position_embeddings", defaults.max_position_embeddings, kMostLong);
  base_.norm_eps = non_negative("rms_norm_eps", defaults.rms_norm_eps);
  base_.tied = flag("tie_word_embeddings", defaults.tie_word_embeddings);
  base_.initializer_range = non_negative("initializer_range", 0.02);
  // torch.nn.Embedding counts a negative padding_idx from the end.
  const auto padding = config.integer_or_null(
      "pad_token_id", defaults.pad_token_id < 0 ? std::nullopt : std::optional(defaults.pad_token_id));
  if (padding) base_.padding_id = *padding < 0 ? *padding + base_.vocab : *padding;
  if (base_.padding_id >= base_.vocab) base_.padding_id = -1;
  num_layers_ = count("num_hidden_layers", defaults.num_hidden_layers, kMostMany);
  intermediate_size_ = count("intermediate_size", defaults.intermediate_size);

  attention_.heads = count("num_attention_heads", defaults.num_attention_heads, kMostMany);
  const std::int64_t kv_default =
      defaults.num_key_value_heads > 0 ? defaults.num_key_value_heads : attention_.heads;
  attention_.kv_heads = config.has_value("num_key_value_heads") ? count("num_key_value_heads", 0, kMostMany)
                        : config.has("num_key_value_heads")     ? attention_.heads
                                                                : kv_default;
  if (attention_.heads % attention_.kv_heads != 0)
    fail("{}: num_attention_heads is {}, which num_key_value_heads {} does not divide", config.file(),
         attention_.heads, attention_.kv_heads);
  const char* head_dim = defaults.head_dim_key;
  if (config.has_value(head_dim)) {
    attention_.head_dim = count(head_dim, 0, kMostMany);
  } else if (defaults.head_dim > 0 && !config.has(head_dim)) {
    attention_.head_dim = defaults.head_dim;
  } else {
    if (base_.hidden % attention_.heads != 0)
      fail("{}: hidden_size {} is not a multiple of num_attention_heads {} and there is no {}", config.file(),
           base_.hidden, attention_.heads, head_dim);
    attention_.head_dim = base_.hidden / attention_.heads;
  }
  if (attention_.head_dim % 2 != 0)
    fail("{}: {} is {}; rotary position embedding needs an even one", config.file(), head_dim,
         attention_.head_dim);
  if (!defaults.ropes_by_layer) base_.ropes = {rope(config.rope())};
}

void SpecReader::leave_out_noise(const hub::ConfigKey& key, DecoderSpec& spec) const {
  const double share = config_.number_or_null(key, 0.0).value_or(0.0);
  if (share != 0.0)
    spec.left_out.push_back(
        fmt::format("{} {}: not applied, hone trains without noise", key.spellings().front(), share));
}

std::int64_t SpecReader::count(const hub::ConfigKey& key, std::int64_t if_absent, std::int64_t most) const {
  const std::int64_t value = if_absent > 0 ? config_.integer(key, if_absent) : config_.integer(key);
  if (value < 1 || value > most) config_.refuse(key, fmt::format("expected 1 to {}", most));
  return value;
}

bool SpecReader::flag(const hub::ConfigKey& key, bool if_absent) const {
  return config_.has(key) ? config_.boolean_or_null(key, false) : if_absent;
}

double SpecReader::non_negative(const hub::ConfigKey& key, double if_absent) const {
  const double value = config_.number(key, if_absent);
  if (!(value >= 0) || !std::isfinite(static_cast<float>(value)))
    config_.refuse(key, "expected a finite number from 0 on");
  return value;
}

std::int64_t SpecReader::window(std::optional<std::int64_t> if_absent) const {
  const auto value = config_.integer_or_null("sliding_window", if_absent);
  if (value && *value < 1) config_.refuse("sliding_window", "expected 1 or more, or null for no window");
  return value.value_or(0);
}

double SpecReader::positive(const hub::ConfigKey& key, double if_absent) const {
  const double value = non_negative(key, if_absent);
  if (!(static_cast<float>(value) > 0)) config_.refuse(key, "expected a number above 0");
  return value;
}

double SpecReader::positive_or_null(const hub::ConfigKey& key, std::optional<double> if_absent) const {
  const auto value = config_.number_or_null(key, if_absent);
  return value ? positive(key, *value) : 0;
}

kernels::Activation SpecReader::activation(const hub::ConfigKey& key, std::string_view if_absent,
                                           DecoderSpec& spec) const {
  using kernels::Activation;
  static const std::map<std::string, Activation, std::less<>> kActivations{
      // Transformers' ACT2FN
      {"silu", Activation::kSilu},
      {"swish", Activation::kSilu},
      {"gelu", Activation::kGelu},
      {"gelu_python", Activation::kGelu},
      {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"gelu_new", Activation::kGeluTanh},
      {"gelu_python_tanh", Activation::kGeluTanh},
      {"relu2", Activation::kRelu2},
      {"sigmoid", Activation::kSigmoid}};
  const std::string name = config_.string(key, if_absent);
  if (const auto found = kActivations.find(name); found != kActivations.end()) return found->second;
  spec.refusals.push_back(
      fmt::format("{}: {} is '{}': hone computes silu, gelu, gelu_pytorch_tanh, relu2 "
                  "and sigmoid",
                  config_.file(), key.spellings().front(), shown(name)));
  return Activation::kSilu;
}

RopeSpec SpecReader::rope(const hub::RopeConfig& rope) const {
  RopeSpec spec;
  spec.type = rope.type;
  spec.theta = rope.theta.value_or(defaults_.rope_theta);
  spec.rotary_dim = attention_.head_dim;
  spec.max_positions = base_.max_positions;
  const auto refuse = [&](const std::string& what) { fail("{}: rope_parameters: {}", config_.file(), what); };
  if (!(spec.theta > 1.0) || !std::isfinite(spec.theta))
    refuse(fmt::format("rope_theta is {}, expected more than 1", spec.theta));
  const double partial = rope.partial_rotary_factor.value_or(defaults_.partial_rotary_factor.value_or(1.0));
  if (defaults_.partial_rotary_factor) {
    if (!(partial > 0 && partial <= 1)) refuse(fmt::format("partial_rotary_factor is {}", partial));
    spec.rotary_dim = static_cast<std::int64_t>(static_cast<double>(attention_.head_dim) * partial);
    if (spec.rotary_dim < 2 || spec.rotary_dim % 2 != 0)
      refuse(
          fmt::format("partial_rotary_factor {} turns {} of {} elements of a head; expected an even number",
                      partial, spec.rotary_dim, attention_.head_dim));
  }
  if (spec.type == "default") return spec;  // which has no use for a partial_rotary_factor in other families
  if (spec.type != "linear" && spec.type != "dynamic" && spec.type != "llama3" && spec.type != "yarn" &&
      spec.type != "longrope")
    refuse(
        fmt::format("rope_type is '{}', which hone does not know; known: default, linear, dynamic, llama3, "
                    "yarn, longrope",
                    spec.type));
  if (partial != 1.0 && !defaults_.partial_rotary_factor)
    refuse(fmt::format("partial_rotary_factor is {}; {} rotates whole heads", partial, base_.model_type));
  if (spec.type == "dynamic" && spec.rotary_dim <= 2)
    refuse(fmt::format("rope_type 'dynamic' needs a head_dim above 2, it is {}", spec.rotary_dim));
  if (!rope.parameters) refuse(fmt::format("rope_type '{}' needs its parameters", spec.type));
  const hub::ConfigSection& p = *rope.parameters;

  const auto max_positions = static_cast<double>(base_.max_positions);
  const hub::ConfigKey kOriginal = "original_max_position_embeddings";
  if (spec.type == "llama3" || spec.type == "yarn" || spec.type == "longrope") {
    // As standardize_rope_params: an attribute of the whole configuration comes first (Phi3Config always has
    // it).
    if (config_.has_value(kOriginal))
      spec.original_max_positions = config_.integer(kOriginal);
    else if (defaults_.original_max_position_embeddings > 0)
      spec.original_max_positions = defaults_.original_max_position_embeddings;
    else
      spec.original_max_positions = p.integer(kOriginal, base_.max_positions);
    if (spec.original_max_positions < 1) refuse("original_max_position_embeddings is not positive");
  }
  const auto original = static_cast<double>(spec.original_max_positions);
  const std::optional<double> factor = p.number_or_null("factor", std::nullopt);
  if (factor)
    spec.factor = *factor;
  else if (spec.type == "yarn" || spec.type == "longrope")
    spec.factor = max_positions / original;
  else
    refuse(fmt::format("rope_type '{}' needs a factor", spec.type));
  if (!(spec.factor > 0) || !std::isfinite(spec.factor)) refuse(fmt::format("factor is {}", spec.factor));

  const std::optional<double> attention_factor = p.number_or_null("attention_factor", std::nullopt);
  if (spec.type == "llama3") {
    spec.low_freq_factor = p.number("low_freq_factor");
    spec.high_freq_factor = p.number("high_freq_factor");
    if (!(spec.low_freq_factor > 0) || spec.high_freq_factor <= spec.low_freq_factor)
      refuse(fmt::format("high_freq_factor {} is not above low_freq_factor {}", spec.high_freq_factor,
                         spec.low_freq_factor));
  } else if (spec.type == "yarn") {
    const auto nonzero = [&](const char* key, double otherwise) {
      const double value = p.number_or_null(key, std::nullopt).value_or(0.0);
      return value != 0.0 ? value : otherwise;
    };
    spec.beta_fast = nonzero("beta_fast", 32.0);
    spec.beta_slow = nonzero("beta_slow", 1.0);
    spec.truncate = p.boolean("truncate", true);
    const double mscale = nonzero("mscale", 0.0);
    const double mscale_all_dim = nonzero("mscale_all_dim", 0.0);
    const auto scale = [&](double m) {
      return spec.factor <= 1 ? 1.0 : 0.1 * m * std::log(spec.factor) + 1.0;
    };
    if (attention_factor)
      spec.attention_factor = *attention_factor;
    else
      spec.attention_factor =
          mscale != 0 && mscale_all_dim != 0 ? scale(mscale) / scale(mscale_all_dim) : scale(1.0);
  } else if (spec.type == "longrope") {
    spec.short_factor = p.numbers("short_factor");
    spec.long_factor = p.numbers("long_factor");
    const auto half = static_cast<std::size_t>(spec.rotary_dim / 2);
    if (spec.short_factor.size() != half || spec.long_factor.size() != half)
      refuse(fmt::format("short_factor and long_factor have {} and {} numbers, expected {} each",
                         spec.short_factor.size(), spec.long_factor.size(), half));
    spec.attention_factor = attention_factor.value_or(
        spec.factor <= 1 ? 1.0 : std::sqrt(1 + std::log(spec.factor) / std::log(original)));
  }
  return spec;
}

RopeSpec SpecReader::rope_of_layer_type(const hub::RopeConfig& config) const {
  RopeSpec spec = rope(config);
  spec.truncate = true;
  return spec;
}

std::vector<std::int64_t> SpecReader::windows(std::int64_t window,
                                              const std::function<bool(std::int64_t)>& is_sliding) const {
  std::vector<std::int64_t> result;
  const auto types = config_.strings("layer_types");
  if (!types.empty() && static_cast<std::int64_t>(types.size()) != num_layers_)
    fail("{}: layer_types has {} entries for num_hidden_layers {}", config_.file(), types.size(),
         num_layers_);
  for (std::int64_t i = 0; i < num_layers_; ++i) {
    bool sliding = false;
    if (types.empty()) {
      sliding = window > 0 && is_sliding(i);
    } else {
      const std::string& type = types[static_cast<std::size_t>(i)];
      if (type != "full_attention" && type != "sliding_attention")
        fail(
            "{}: layer_types[{}] is '{}', which hone does not know; known: full_attention, sliding_attention",
            config_.file(), i, type);
      sliding = type == "sliding_attention";
      if (sliding && window <= 0)
        fail("{}: layer_types[{}] is 'sliding_attention', but no sliding_window is in force", config_.file(),
             i);
    }
    result.push_back(sliding ? window : 0);
  }
  return result;
}

std::vector<std::int64_t> SpecReader::late_windows() const {
  config_.ignore({"sliding_window"});  // unless it is used
  const bool use_window = config_.boolean("use_sliding_window", false);
  const std::int64_t max_window_layers = config_.integer("max_window_layers", 28);
  return windows(use_window ? window(4096) : 0, [&](std::int64_t i) { return i >= max_window_layers; });
}

MoeSpec SpecReader::experts(const hub::ConfigKey& experts_key, std::int64_t experts,
                            std::int64_t top_k) const {
  MoeSpec moe;
  moe.experts = count(experts_key, experts, kMostMany);
  moe.top_k = count("num_experts_per_tok", top_k, kMostMany);
  if (moe.experts * num_layers_ > kMostExperts)
    config_.refuse(experts_key, fmt::format("with {} layers these are more experts than hone can count ({})",
                                            num_layers_, kMostExperts));
  if (moe.top_k > moe.experts)
    fail("{}: num_experts_per_tok is {}, but there are only {} experts", config_.file(), moe.top_k,
         moe.experts);
  return moe;
}

MoeSpec SpecReader::moe(DecoderSpec& spec, const hub::ConfigKey& experts_key, std::int64_t num_experts,
                        std::int64_t top_k, double aux_coefficient) const {
  MoeSpec moe = experts(experts_key, num_experts, top_k);
  spec.output_router_logits = config_.boolean_or_null("output_router_logits", false);
  spec.aux_coefficient = config_.number("router_aux_loss_coef", aux_coefficient);
  if (!std::isfinite(static_cast<float>(spec.aux_coefficient)))
    config_.refuse("router_aux_loss_coef", "expected a finite number");
  return moe;
}

std::vector<bool> SpecReader::dense_layers() const {
  const auto mlp_only = config_.integers("mlp_only_layers");
  const std::int64_t step = count("decoder_sparse_step", 1);
  std::vector<bool> dense;
  for (std::int64_t i = 0; i < num_layers_; ++i)
    dense.push_back(std::find(mlp_only.begin(), mlp_only.end(), i) != mlp_only.end() || (i + 1) % step != 0);
  return dense;
}

LayerSpec make_layer(const AttentionSpec& attention, const MixerSpec& mlp, const std::string& mlp_prefix) {
  return {{{.norm = "input_layernorm", .prefix = "self_attn", .mixer = attention},
           {.norm = "post_attention_layernorm", .prefix = mlp_prefix, .mixer = mlp}}};
}

LayerSpec make_post_norm_layer(const AttentionSpec& attention, const MixerSpec& mlp) {
  return {{{.norm = "", .prefix = "self_attn", .mixer = attention, .post_norm = "post_attention_layernorm"},
           {.norm = "", .prefix = "mlp", .mixer = mlp, .post_norm = "post_feedforward_layernorm"}}};
}

LayerSpec make_sandwich_norm_layer(const AttentionSpec& attention, const MixerSpec& mlp) {
  return {{{.norm = "input_layernorm",
            .prefix = "self_attn",
            .mixer = attention,
            .post_norm = "post_attention_layernorm"},
           {.norm = "pre_feedforward_layernorm",
            .prefix = "mlp",
            .mixer = mlp,
            .post_norm = "post_feedforward_layernorm"}}};
}

void read_gemma(const SpecReader& reader, std::optional<double> logits_softcap, DecoderSpec& spec,
                AttentionSpec& attention) {
  const hub::ModelConfig& config = reader.config();
  config.ignore({"hidden_act", "cache_implementation"});  // of older files; hidden_activation acts
  if (config.boolean_or_null("use_bidirectional_attention", false))
    spec.refusals.push_back(fmt::format(
        "{}: use_bidirectional_attention is true: hone computes causal attention", config.file()));
  spec.norm_unit_offset = attention.norm_unit_offset = true;
  spec.embedding_multiplier = std::sqrt(static_cast<double>(spec.hidden));
  spec.rounds_embedding_multiplier = true;
  spec.logits_softcap = reader.positive_or_null("final_logit_softcapping", logits_softcap);
  attention.scale = 1 / std::sqrt(reader.positive("query_pre_attn_scalar", 256));
  attention.qkv_bias = attention.output_bias = config.boolean("attention_bias", false);
}

void read_granite_multipliers(const SpecReader& reader, DecoderSpec& spec, AttentionSpec& attention) {
  spec.embedding_multiplier = reader.positive("embedding_multiplier", 1.0);
  spec.residual_multiplier = reader.positive("residual_multiplier", 1.0);
  spec.logits_multiplier = 1 / reader.positive("logits_scaling", 1.0);
  attention.scale = reader.positive("attention_multiplier", 1.0);
}

hub::WeightRules qwen_moe_rules() {
  const std::string at = "model.layers.{l}.mlp.experts.";
  hub::WeightRules rules;
  rules.expert_stack(at + "gate_up_proj", {at + "{e}.gate_proj.weight", at + "{e}.up_proj.weight"},
                     at + "gate_up_proj");
  rules.expert_stack(at + "down_proj", {at + "{e}.down_proj.weight"}, at + "down_proj");
  return rules;
}

}  // namespace hone::model
