// config.json read as a bag of typed values, in the spellings of Transformers 4 and 5. It knows no family:
// the model room asks for what a family needs, and afterwards for the keys that nobody asked for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "json/node.h"

namespace hone::hub {

/// A key and its other spellings, the preferred one first: {"num_experts", "num_local_experts"}. Two that are
/// both present and disagree are an error.
class ConfigKey {
 public:
  ConfigKey(const char* key) : spellings_{key} {}                    // NOLINT: implicit on purpose
  ConfigKey(std::string_view key) : spellings_{std::string(key)} {}  // NOLINT
  ConfigKey(const std::string& key) : spellings_{key} {}             // NOLINT
  ConfigKey(std::initializer_list<const char*> spellings) : spellings_(spellings.begin(), spellings.end()) {}
  const std::vector<std::string>& spellings() const { return spellings_; }

 private:
  std::vector<std::string> spellings_;
};

/// An object of the configuration. Getters without a default throw Error(kUser) for an absent key (with the
/// nearest key there is); all throw for a value of the wrong type and for null, except the `_or_null` ones.
/// Asking for a key marks it as read.
///
/// Absent and null differ in Transformers: an absent key takes the class default, null means None.
class ConfigSection {
 public:
  std::int64_t integer(const ConfigKey& key) const;
  std::int64_t integer(const ConfigKey& key, std::int64_t if_absent) const;
  std::optional<std::int64_t> integer_or_null(const ConfigKey& key,
                                              std::optional<std::int64_t> if_absent) const;
  double number(const ConfigKey& key) const;
  double number(const ConfigKey& key, double if_absent) const;
  std::optional<double> number_or_null(const ConfigKey& key, std::optional<double> if_absent) const;
  bool boolean(const ConfigKey& key, bool if_absent) const;
  /// null reads as `if_null_or_absent`.
  bool boolean_or_null(const ConfigKey& key, bool if_null_or_absent) const;
  std::string string(const ConfigKey& key) const;
  std::string string(const ConfigKey& key, std::string_view if_absent) const;
  std::optional<std::string> string_or_null(const ConfigKey& key, std::optional<std::string> if_absent) const;
  /// A list, empty where the key is absent or null.
  std::vector<std::int64_t> integers(const ConfigKey& key) const;
  std::vector<double> numbers(const ConfigKey& key) const;
  std::vector<std::string> strings(const ConfigKey& key) const;
  /// One integer or a list of them (eos_token_id); empty where absent or null.
  std::vector<std::int64_t> integer_or_list(const ConfigKey& key) const;
  /// An object; nullopt where absent or null.
  std::optional<ConfigSection> section(const ConfigKey& key) const;

  /// Present, be it null.
  bool has(const ConfigKey& key) const;
  /// Present and not null. Neither marks the key as read.
  bool has_value(const ConfigKey& key) const;
  /// Marks keys as understood although nobody needs their value.
  void ignore(std::initializer_list<std::string_view> keys) const;
  /// Throws Error(kUser) "FILE: KEY PATH is VALUE: WHAT", where the key is present; marks nothing.
  [[noreturn]] void refuse(const ConfigKey& key, std::string_view what) const;

  /// The raw value, for what the getters do not cover; marks it as read. nullopt where absent.
  std::optional<JsonNode> find(const ConfigKey& key) const;
  const JsonNode& node() const { return node_; }

 protected:
  using ReadKeys = std::set<std::string, std::less<>>;
  ConfigSection(JsonNode node, std::shared_ptr<ReadKeys> read)
      : node_(std::move(node)), read_(std::move(read)) {}
  std::vector<std::string> unread_below(const JsonNode& node) const;
  JsonNode require(const ConfigKey& key) const;

  JsonNode node_;
  std::shared_ptr<ReadKeys> read_;  // key paths, shared by all sections and copies of one config
};

/// Rotary parameters with both generations of spellings folded into one, as PreTrainedConfig does: a
/// non-empty `rope_scaling` (v4) wins over `rope_parameters` (v5); inside it `rope_type` wins over `type`,
/// and `rope_theta` over the top-level one.
struct RopeConfig {
  std::string type =
      "default";  ///< "default", "linear", "dynamic", "yarn", "longrope", "llama3" or what the file says
  std::optional<double> theta;  ///< nullopt where the file has none: the family's default
  std::optional<double> partial_rotary_factor;
  /// The factors (factor, low_freq_factor, original_max_position_embeddings, …); nullopt where there is no
  /// such object.
  std::optional<ConfigSection> parameters;
};

/// A config.json.
class ModelConfig : public ConfigSection {
 public:
  /// Reads `path`, a config.json or the directory that holds one. Throws Error(kUser) for a file that is
  /// missing or not JSON, or has no model_type. What a model nests or how it is quantised is no matter here.
  static ModelConfig read(const std::filesystem::path& path);
  /// The same from text; `name` stands for the file.
  static ModelConfig parse(std::string_view text, const std::string& name);

  const std::string& model_type() const { return model_type_; }
  /// The keys of models within this one ("text_config", "vision_config" …: a multimodal model); empty for a
  /// plain text model.
  std::vector<std::string> nested_models() const;
  /// What `text_config` holds, as a configuration of its own; nullopt where there is none, or it names no
  /// model_type.
  std::optional<ModelConfig> text_config() const;
  /// What config.json says of quantised weights.
  struct Quantization {
    std::string key, method;      ///< "quantization_config"; quant_method: "mxfp4", or as it stands there
    std::int64_t block_rows = 0;  ///< of "fp8": weight_block_size; 0: it has none
    std::int64_t block_cols = 0;
    std::string unsupported;  ///< what of it hone does not read; empty where it reads the weights
  };
  /// nullopt where they are not quantised.
  std::optional<Quantization> quantization() const;
  /// `dtype` (v5) or `torch_dtype` (v4), "auto" and null as nullopt. Throws for a name that is not a dtype.
  std::optional<DType> dtype() const;
  /// Throws Error(kUser) for rotary parameters that differ by layer type.
  RopeConfig rope() const;
  /// Those of one layer type, rope_parameters.TYPE; default ones where they are absent or null. Throws
  /// Error(kUser) for a rope_parameters that does not differ by layer type.
  RopeConfig rope_of(std::string_view layer_type) const;

  /// Key paths that no getter asked for and that are not known to be inert (fields of Transformers'
  /// PreTrainedConfig that do not act when a decoder is trained: architectures, transformers_version,
  /// use_cache, token ids, generation defaults …).
  std::vector<std::string> unread_keys() const;
  const std::string& file() const { return node_.file(); }

 private:
  ModelConfig(JsonNode node);
  std::string model_type_;
};

}  // namespace hone::hub
