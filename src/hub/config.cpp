#include "hub/config.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/message.h"
#include "hub/link.h"

namespace hone::hub {

namespace {

/// Fields of PreTrainedConfig, and generation defaults that old files keep here, that do not act when a
/// decoder is trained.
constexpr std::array<std::string_view, 58> kInertKeys{"_attn_implementation",
                                                      "_attn_implementation_autoset",
                                                      "_name_or_path",
                                                      "add_cross_attention",
                                                      "architectures",
                                                      "attn_implementation",
                                                      "auto_map",
                                                      "bad_words_ids",
                                                      "begin_suppress_tokens",
                                                      "bos_token_id",
                                                      "chunk_size_feed_forward",
                                                      "cross_attention_hidden_size",
                                                      "decoder_start_token_id",
                                                      "diversity_penalty",
                                                      "do_sample",
                                                      "dtype",
                                                      "early_stopping",
                                                      "encoder_no_repeat_ngram_size",
                                                      "eos_token_id",
                                                      "exponential_decay_length_penalty",
                                                      "finetuning_task",
                                                      "forced_bos_token_id",
                                                      "forced_eos_token_id",
                                                      "id2label",
                                                      "is_decoder",
                                                      "is_encoder_decoder",
                                                      "label2id",
                                                      "length_penalty",
                                                      "max_length",
                                                      "min_length",
                                                      "model_type",
                                                      "no_repeat_ngram_size",
                                                      "num_beam_groups",
                                                      "num_beams",
                                                      "num_return_sequences",
                                                      "output_attentions",
                                                      "output_hidden_states",
                                                      "output_scores",
                                                      "prefix",
                                                      "problem_type",
                                                      "pruned_heads",
                                                      "quantization_config",
                                                      "remove_invalid_values",
                                                      "repetition_penalty",
                                                      "return_dict",
                                                      "return_dict_in_generate",
                                                      "sep_token_id",
                                                      "suppress_tokens",
                                                      "task_specific_params",
                                                      "temperature",
                                                      "tf_legacy_loss",
                                                      "tokenizer_class",
                                                      "top_k",
                                                      "top_p",
                                                      "torch_dtype",
                                                      "torchscript",
                                                      "transformers_version",
                                                      "use_cache"};

constexpr std::array<const char*, 6> kNestedModels{"text_config",   "language_config", "llm_config",
                                                   "vision_config", "audio_config",    "thinker_config"};

/// Transformers 5 writes infinities as {"__float__": "Infinity"}.
double number_of(const JsonNode& node) {
  if (node.is_object() && node.size() == 1 && node.has("__float__")) {
    const std::string word = node.at("__float__").as_string();
    if (word == "Infinity") return std::numeric_limits<double>::infinity();
    if (word == "-Infinity") return -std::numeric_limits<double>::infinity();
    if (word == "NaN") return std::numeric_limits<double>::quiet_NaN();
  }
  return node.as_number();
}

}  // namespace

std::optional<JsonNode> ConfigSection::find(const ConfigKey& key) const {
  std::optional<JsonNode> found;
  for (const auto& spelling : key.spellings()) {
    auto node = node_.find(spelling);
    if (!node) continue;
    read_->insert(node->key_path());
    if (!found) {
      found = std::move(node);
    } else if (constexpr std::size_t kWhole = std::size_t{1} << 20;
               found->text(kWhole) != node->text(kWhole)) {
      fail("{}: {} is {} but {} is {}; they are two names of one setting", node_.file(), found->key_path(),
           found->text(), node->key_path(), node->text());
    }
  }
  return found;
}

JsonNode ConfigSection::require(const ConfigKey& key) const {
  if (auto node = find(key)) return *std::move(node);
  return node_.at(key.spellings().front());  // throws, and suggests the nearest key
}

bool ConfigSection::has(const ConfigKey& key) const {
  return std::any_of(key.spellings().begin(), key.spellings().end(),
                     [&](const auto& s) { return node_.has(s); });
}

bool ConfigSection::has_value(const ConfigKey& key) const {
  return std::any_of(key.spellings().begin(), key.spellings().end(), [&](const auto& spelling) {
    const auto node = node_.find(spelling);
    return node && !node->is_null();
  });
}

std::int64_t ConfigSection::integer(const ConfigKey& key) const {
  return require(key).as_integer();
}

std::int64_t ConfigSection::integer(const ConfigKey& key, std::int64_t if_absent) const {
  const auto node = find(key);
  return node ? node->as_integer() : if_absent;
}

std::optional<std::int64_t> ConfigSection::integer_or_null(const ConfigKey& key,
                                                           std::optional<std::int64_t> if_absent) const {
  const auto node = find(key);
  if (!node) return if_absent;
  return node->is_null() ? std::nullopt : std::optional(node->as_integer());
}

double ConfigSection::number(const ConfigKey& key) const {
  return number_of(require(key));
}

double ConfigSection::number(const ConfigKey& key, double if_absent) const {
  const auto node = find(key);
  return node ? number_of(*node) : if_absent;
}

std::optional<double> ConfigSection::number_or_null(const ConfigKey& key,
                                                    std::optional<double> if_absent) const {
  const auto node = find(key);
  if (!node) return if_absent;
  return node->is_null() ? std::nullopt : std::optional(number_of(*node));
}

bool ConfigSection::boolean(const ConfigKey& key, bool if_absent) const {
  const auto node = find(key);
  return node ? node->as_bool() : if_absent;
}

bool ConfigSection::boolean_or_null(const ConfigKey& key, bool if_null_or_absent) const {
  const auto node = find(key);
  return node && !node->is_null() ? node->as_bool() : if_null_or_absent;
}

std::string ConfigSection::string(const ConfigKey& key) const {
  return require(key).as_string();
}

std::string ConfigSection::string(const ConfigKey& key, std::string_view if_absent) const {
  const auto node = find(key);
  return node ? node->as_string() : std::string(if_absent);
}

std::optional<std::string> ConfigSection::string_or_null(const ConfigKey& key,
                                                         std::optional<std::string> if_absent) const {
  const auto node = find(key);
  if (!node) return if_absent;
  return node->is_null() ? std::nullopt : std::optional(node->as_string());
}

std::vector<std::int64_t> ConfigSection::integers(const ConfigKey& key) const {
  std::vector<std::int64_t> values;
  if (const auto node = find(key); node && !node->is_null())
    for (const auto& element : node->elements()) values.push_back(element.as_integer());
  return values;
}

std::vector<double> ConfigSection::numbers(const ConfigKey& key) const {
  std::vector<double> values;
  if (const auto node = find(key); node && !node->is_null())
    for (const auto& element : node->elements()) values.push_back(number_of(element));
  return values;
}

std::vector<std::string> ConfigSection::strings(const ConfigKey& key) const {
  std::vector<std::string> values;
  if (const auto node = find(key); node && !node->is_null())
    for (const auto& element : node->elements()) values.push_back(element.as_string());
  return values;
}

std::vector<std::int64_t> ConfigSection::integer_or_list(const ConfigKey& key) const {
  const auto node = find(key);
  return node && !node->is_null() && !node->is_array() ? std::vector{node->as_integer()} : integers(key);
}

std::optional<ConfigSection> ConfigSection::section(const ConfigKey& key) const {
  const auto node = find(key);
  if (!node || node->is_null()) return std::nullopt;
  if (!node->is_object()) node->fail_expected("an object");
  read_->insert(node->key_path() + "/");  // its keys are asked for one by one
  return ConfigSection(*node, read_);
}

void ConfigSection::ignore(std::initializer_list<std::string_view> keys) const {
  for (const auto key : keys) (void)find(key);
}

void ConfigSection::refuse(const ConfigKey& key, std::string_view what) const {
  for (const auto& spelling : key.spellings())
    if (const auto node = node_.find(spelling))
      fail("{}: {} is {}: {}", node_.file(), node->key_path(), node->text(), what);
  HONE_CHECK(false, "{} has no key {} to refuse", node_.file(), key.spellings().front());
}

std::vector<std::string> ConfigSection::unread_below(const JsonNode& node) const {
  std::vector<std::string> unread;
  for (const auto& key : node.keys()) {
    const JsonNode child = node.at(key);
    if (!read_->contains(child.key_path())) {
      unread.push_back(child.key_path());
    } else if (child.is_object() && read_->contains(child.key_path() + "/")) {
      const auto below = unread_below(child);
      unread.insert(unread.end(), below.begin(), below.end());
    }
  }
  return unread;
}

ModelConfig::ModelConfig(JsonNode node) : ConfigSection(std::move(node), std::make_shared<ReadKeys>()) {
  if (!node_.is_object()) node_.fail_expected("an object");
  model_type_ = string("model_type");
}

std::vector<std::string> ModelConfig::nested_models() const {
  std::vector<std::string> nested;
  for (const char* key : kNestedModels)
    if (const auto node = node_.find(key); node && node->is_object()) nested.emplace_back(key);
  return nested;
}

std::optional<ModelConfig> ModelConfig::text_config() const {
  const auto node = node_.find("text_config");
  if (!node || !node->is_object() || !node->has("model_type")) return std::nullopt;
  return ModelConfig(*node);
}

namespace {

/// FineGrainedFP8Config of Transformers: the weights' part of it.
void read_fp8(const JsonNode& node, ModelConfig::Quantization& found) {
  const auto text = [&](const char* key, std::string_view if_absent) {
    const auto value = node.find(key);
    if (!value || value->is_null()) return std::string(if_absent);
    return value->is_string() ? value->as_string() : value->text();
  };
  if (const auto scheme = text("activation_scheme", "dynamic"); scheme != "dynamic")
    found.unsupported = "fp8 with activation_scheme " + shown(scheme);
  if (const auto format = text("fmt", "e4m3"); format != "e4m3")
    found.unsupported = "fp8 with fmt " + shown(format);
  if (const auto type = text("expert_dtype", "fp8"); type != "fp8")
    found.unsupported = "fp8 with expert_dtype " + shown(type);
  const auto block = node.find("weight_block_size");
  if (!block || block->is_null()) return;
  const auto sizes = block->is_array() ? block->elements() : std::vector<JsonNode>();
  if (sizes.size() != 2) block->fail_expected("two numbers, the rows and columns of a block");
  found.block_rows = sizes[0].as_integer();
  found.block_cols = sizes[1].as_integer();
  if (found.block_rows < 1 || found.block_cols < 1) block->fail_expected("two numbers above 0");
}

}  // namespace

std::optional<ModelConfig::Quantization> ModelConfig::quantization() const {
  for (const char* key : {"quantization_config", "compression_config"}) {
    const auto quantised = node_.find(key);
    if (!quantised || quantised->is_null()) continue;
    const auto method = quantised->is_object() ? quantised->find("quant_method") : std::nullopt;
    Quantization found{.key = key,
                       .method = method ? shown(method->is_string() ? method->as_string() : method->text())
                                        : "unknown method",
                       .unsupported = {}};
    if (found.method == "fp8")
      read_fp8(*quantised, found);
    else if (found.method != "mxfp4")
      found.unsupported = found.method;
    return found;
  }
  return std::nullopt;
}

ModelConfig ModelConfig::read(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    fail(
        "'{}': no such directory; give a checkpoint directory (hone downloads nothing: `hf download NAME "
        "--local-dir DIR` fetches one from the Hugging Face Hub)",
        shown(path.string(), 300));
  if (!std::filesystem::is_directory(path, ignored)) {
    if (path.extension() != ".json")
      fail("{}: is a file; give the checkpoint directory that holds it", path.string());
    return ModelConfig(JsonNode::read(path));
  }
  check_link(path / "config.json");
  if (!std::filesystem::exists(path / "config.json", ignored))
    fail("{}: no config.json; give a checkpoint directory in the Hugging Face layout{}", path.string(),
         std::filesystem::is_directory(path / "snapshots", ignored)
             ? " (of the Hub's cache, one of the directories in snapshots/)"
             : "");
  return ModelConfig(JsonNode::read(path / "config.json"));
}

ModelConfig ModelConfig::parse(std::string_view text, const std::string& name) {
  return ModelConfig(JsonNode::parse(text, name));
}

std::optional<DType> ModelConfig::dtype() const {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto node = find(key);
    if (!node || node->is_null()) continue;
    std::string name = node->as_string();
    if (name == "auto") return std::nullopt;
    if (name.starts_with("torch.")) name.erase(0, 6);
    const auto parsed = parse_dtype(name);
    if (!parsed) node->fail_expected("a dtype (float32, bfloat16, float16 …)");
    return parsed;
  }
  return std::nullopt;
}

namespace {

/// What the parameters say themselves, over what stands at the top level.
void read_parameters(RopeConfig& rope) {
  if (!rope.parameters) return;
  const ConfigSection& found = *rope.parameters;
  const auto old_type = found.string_or_null("type", std::nullopt);
  rope.type = found.string_or_null("rope_type", old_type).value_or(old_type.value_or("default"));
  if (const auto theta = found.number_or_null("rope_theta", std::nullopt)) rope.theta = theta;
  if (const auto partial = found.number_or_null("partial_rotary_factor", std::nullopt))
    rope.partial_rotary_factor = partial;
}

}  // namespace

RopeConfig ModelConfig::rope() const {
  RopeConfig rope;
  rope.theta = number_or_null("rope_theta", std::nullopt);
  rope.partial_rotary_factor = number_or_null("partial_rotary_factor", std::nullopt);
  const auto scaling = section("rope_scaling");
  const auto parameters = section("rope_parameters");
  rope.parameters = scaling && scaling->node().size() > 0 ? scaling : parameters;
  if (rope.parameters)
    for (const auto& key : rope.parameters->node().keys())
      if (rope.parameters->node().at(key).is_object())
        fail(
            "{}: {} differs by layer type ({}); only one set of rotary parameters for all layers is "
            "supported",
            file(), rope.parameters->node().key_path(), shown(key));
  read_parameters(rope);
  return rope;
}

RopeConfig ModelConfig::rope_of(std::string_view layer_type) const {
  RopeConfig rope;
  const auto all = section("rope_parameters");
  if (!all) return rope;
  for (const auto& key : all->node().keys())
    if (const auto child = all->node().at(key); !child.is_object() && !child.is_null())
      fail("{}: {} is for all layers ({}); this model has one set for each layer type", file(),
           all->node().key_path(), shown(key));
  rope.parameters = all->section(layer_type);
  read_parameters(rope);
  return rope;
}

std::vector<std::string> ModelConfig::unread_keys() const {
  std::set<std::string> inert;  // as paths: this may be the text_config of another
  for (const auto& key : node_.keys())
    if (std::find(kInertKeys.begin(), kInertKeys.end(), key) != kInertKeys.end())
      inert.insert(node_.at(key).key_path());
  auto unread = unread_below(node_);
  std::erase_if(unread, [&](const std::string& path) { return inert.contains(path); });
  return unread;
}

}  // namespace hone::hub
