#include "text/tokenizer_class.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/message.h"

namespace hone::text {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kBackend = "TokenizersBackend";
constexpr std::array<const char*, 7> kNamedTokens{"bos_token", "eos_token", "unk_token", "sep_token",
                                                  "pad_token", "cls_token", "mask_token"};

/// A class that builds its own pipeline around the vocabulary of a tokenizer.json.
struct KnownClass {
  std::string_view name;
  std::vector<std::pair<const char*, const char*>> special_tokens;  // the defaults of its constructor
  void (*build)(Json& tokenizer, const Json& config);
  /// Its constructor ends by adding every special token once more, as one that strips nothing and is not
  /// normalized, whatever the files said.
  bool adds_special_again = false;
};

Json byte_level(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

bool flag(const Json& config, const char* key, bool fallback) {
  const auto found = config.find(key);
  return found != config.end() && found->is_boolean() ? found->get<bool>() : fallback;
}

/// The model with no more of its options than the class sets.
void keep_model(Json& tokenizer, const Json& options) {
  Json& model = tokenizer["model"];
  Json kept = {{"type", "BPE"}};
  for (const auto& [key, value] : options.items()) kept[key] = value;
  kept["vocab"] = std::move(model["vocab"]);
  kept["merges"] = model.contains("merges") ? std::move(model["merges"]) : Json::array();
  model = std::move(kept);
}

Json sentencepiece_decoder(bool strips) {
  Json steps = {{{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}},
                {{"type", "ByteFallback"}},
                {{"type", "Fuse"}}};
  if (strips) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", steps}};
}

void build_llama(Json& tokenizer, const Json& config) {
  const bool prefix = flag(config, "add_prefix_space", true);
  const bool legacy = flag(config, "legacy", false);
  keep_model(tokenizer, {{"fuse_unk", true}, {"byte_fallback", true}});
  tokenizer["normalizer"] = nullptr;
  tokenizer["pre_tokenizer"] = {{"type", "Metaspace"},
                                {"replacement", "▁"},
                                {"prepend_scheme", !prefix  ? "never"
                                                   : legacy ? "always"
                                                            : "first"},
                                {"split", false}};
  tokenizer["decoder"] = sentencepiece_decoder(prefix);
}

void build_qwen2(Json& tokenizer, const Json& config) {
  keep_model(tokenizer, Json::object());
  tokenizer["normalizer"] = {{"type", "NFC"}};
  const Json split = {
      {"type", "Split"},
      {"pattern",
       {{"Regex",
         R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}},
      {"behavior", "Isolated"},
      {"invert", false}};
  const Json bytes = byte_level(flag(config, "add_prefix_space", false), false);
  tokenizer["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", Json::array({split, bytes})}};
  tokenizer["decoder"] = byte_level(true, true);
}

void build_gpt2(Json& tokenizer, const Json& config) {
  keep_model(tokenizer, Json::object());
  tokenizer["normalizer"] = nullptr;
  tokenizer["pre_tokenizer"] = byte_level(flag(config, "add_prefix_space", false), true);
  tokenizer["decoder"] = byte_level(true, true);
}

void build_gpt_neox(Json& tokenizer, const Json& config) {
  build_gpt2(tokenizer, config);
  tokenizer["normalizer"] = {{"type", "NFC"}};
  tokenizer["post_processor"] =
      nullptr;  // made anew from add_bos_token and add_eos_token, which do not reach it
}

const std::vector<KnownClass>& known_classes() {
  static const std::vector<KnownClass> kClasses{
      {"LlamaTokenizer", {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}}, build_llama},
      {"Qwen2Tokenizer",
       {{"eos_token", "<|endoftext|>"}, {"unk_token", "<|endoftext|>"}, {"pad_token", "<|endoftext|>"}},
       build_qwen2,
       true},
      {"GPT2Tokenizer",
       {{"bos_token", "<|endoftext|>"}, {"eos_token", "<|endoftext|>"}, {"unk_token", "<|endoftext|>"}},
       build_gpt2},
      {"GPTNeoXTokenizer",
       {{"bos_token", "<|endoftext|>"},
        {"eos_token", "<|endoftext|>"},
        {"unk_token", "<|endoftext|>"},
        {"pad_token", "<|padding|>"}},
       build_gpt_neox}};
  return kClasses;
}

/// Other classes of Transformers 5.23 that build a pipeline of their own around a BPE vocabulary.
constexpr std::array<std::string_view, 12> kForeignClasses{
    "BartTokenizer",      "BlenderbotTokenizer", "CLIPTokenizer",    "CodeLlamaTokenizer",
    "CohereTokenizer",    "GemmaTokenizer",      "HerbertTokenizer", "LEDTokenizer",
    "OpenAIGPTTokenizer", "RobertaTokenizer",    "SeedOssTokenizer", "WhisperTokenizer"};

std::string without_fast(std::string name) {
  if (name.ends_with("Fast") && name != "PreTrainedTokenizerFast") name.resize(name.size() - 4);
  return name;
}

std::string string_or_empty(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

/// Does the JSON hold the string "ByteLevel" anywhere but in its vocabulary?
bool has_byte_level(const Json& value) {
  if (value.is_string()) return value.get_ref<const std::string&>() == "ByteLevel";
  return value.is_structured() &&
         std::any_of(value.begin(), value.end(), [](const Json& child) { return has_byte_level(child); });
}

/// The class that AutoTokenizer gives each model_type that hone trains; "" where it has none of its own.
std::string_view class_of_model(std::string_view model_type) {
  if (model_type == "mistral" || model_type == "mixtral") return kBackend;
  if (model_type == "olmoe") return "GPTNeoXTokenizer";
  if (model_type == "qwen2" || model_type == "qwen2_moe" || model_type == "qwen3" ||
      model_type == "qwen3_moe")
    return "Qwen2Tokenizer";
  return "";
}

std::string choose_class(const TokenizerFiles& files) {
  const std::string model_type = string_or_empty(files.model, "model_type");
  const std::string_view registered = class_of_model(model_type);
  std::string declared = string_or_empty(files.config, "tokenizer_class");
  if (declared.empty()) declared = string_or_empty(files.model, "tokenizer_class");
  declared = without_fast(declared);
  if (declared.empty()) return std::string(registered.empty() ? kBackend : registered);
  const bool overrules = model_type == "qwen2";  // MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS
  if (registered == kBackend) return std::string(kBackend);
  if (declared == "LlamaTokenizer" && !overrules) {
    for (const char* part : {"pre_tokenizer", "decoder", "post_processor", "normalizer"})
      if (files.tokenizer.contains(part) && has_byte_level(files.tokenizer[part]))
        return std::string(kBackend);
  }
  return overrules ? std::string(registered) : declared;
}

/// An entry of added_tokens as AddedToken's constructor makes it of a string, or of an object with `content`;
/// none where it is neither. `normalized` is null where nothing is said: then it is what `special` ends up
/// not to be.
std::optional<Json> added_token(const Json& token, bool special) {
  Json entry = {{"id", nullptr},   {"content", nullptr},    {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", nullptr}, {"special", special}};
  if (token.is_string()) {
    entry["content"] = token;
    return entry;
  }
  if (!token.is_object() || !token.contains("content") || !token["content"].is_string()) return std::nullopt;
  entry["content"] = token["content"];
  for (const char* key : {"single_word", "lstrip", "rstrip", "normalized", "special"})
    if (const auto said = token.find(key); said != token.end() && said->is_boolean()) entry[key] = *said;
  return entry;
}

/// An object in tokenizer_config.json, which AddedToken's constructor gets as it is, is not special unless it
/// says so; a string, and an object of special_tokens_map.json, is.
std::optional<Json> special_token(const Json& token) {
  return added_token(token, !token.is_object() || !token.contains("__type"));
}

bool is_named(const std::string& key) {
  return std::find(kNamedTokens.begin(), kNamedTokens.end(), key) != kNamedTokens.end();
}

/// Collects what the files say of special and added tokens. The order of precedence, and what counts where,
/// is that of _from_pretrained, whose variable init_kwargs is `arguments_` here.
class TokenFiles {
 public:
  TokenFiles(const TokenizerFiles& files, const KnownClass* known, std::string directory)
      : files_(files), directory_(std::move(directory)), arguments_(files.config) {
    if (!arguments_.is_object()) arguments_ = Json::object();
    rename_additional(!is_filled(kExtra));
    take_own_names();
    if (files.config.contains("added_tokens_decoder")) {
      read_decoder(files.config["added_tokens_decoder"]);
    } else {
      read_special_tokens_map();
      read_added_json();
      if (files.tokenizer.contains("added_tokens") && files.tokenizer["added_tokens"].is_array())
        for (const Json& token : files.tokenizer["added_tokens"]) {
          if (token.is_object() && token.contains("id") && token["id"].is_number_integer())
            if (auto entry = added_token(token, false)) by_id_[token["id"].get<std::int64_t>()] = *entry;
        }
    }
    if (known != nullptr)
      for (const auto& [name, token] : known->special_tokens)
        if (!arguments_.contains(name)) arguments_[name] = token;
    rename_additional(!arguments_.contains(kExtra));
    adds_special_again_ = known != nullptr && known->adds_special_again;
    collect_named();
  }

  std::map<std::string, std::string> special_tokens() const {
    std::map<std::string, std::string> all;
    for (const auto& [name, token] : named_.items()) all[name] = content_of(*special_token(token));
    return all;
  }

  /// Does a file give the token an id?
  bool is_listed(const std::string& content) const {
    const auto has = [&](const Json& token) {
      return token.is_object() && token.contains("content") && token["content"] == content;
    };
    const auto listed = files_.tokenizer.find("added_tokens");
    return std::any_of(by_id_.begin(), by_id_.end(), [&](const auto& entry) { return has(entry.second); }) ||
           (listed != files_.tokenizer.end() && std::any_of(listed->begin(), listed->end(), has));
  }

  /// tokenizer.json's list (empty where the class reads none) and what the files add to it, in order. Of a
  /// content that stands in it more than once the last entry's options count, as in the library.
  Json added_to(Json list) const {
    std::set<std::string> contents;
    std::set<std::int64_t> ids;
    for (const Json& token : list) {
      if (!token.is_object()) continue;
      if (token.contains("content") && token["content"].is_string()) contents.insert(content_of(token));
      if (token.contains("id") && token["id"].is_number_integer())
        ids.insert(token["id"].get<std::int64_t>());
    }
    std::set<std::string> names;
    for (const auto& [name, content] : special_tokens()) names.insert(content);
    const auto finished = [&](Json entry) {
      if (names.contains(content_of(entry))) entry["special"] = true;
      if (entry["normalized"].is_null()) entry["normalized"] = !entry["special"].get<bool>();
      return entry;
    };
    for (const auto& [id, token] : by_id_) {
      Json entry = finished(token);
      if (contents.insert(content_of(entry)).second && ids.insert(id).second) entry["id"] = id;
      list.push_back(std::move(entry));
    }
    // Those that no list has. A string and an object are not the same to Transformers, and two objects only
    // where all options are.
    std::vector<std::pair<bool, Json>> added;
    for (const Json* tokens : {&named_, &extra_})
      for (const Json& token : *tokens) {
        const auto entry = special_token(token);
        if (!entry || contents.contains(content_of(*entry))) continue;
        std::pair<bool, Json> candidate{token.is_string(), finished(*entry)};
        if (std::find(added.begin(), added.end(), candidate) != added.end()) continue;
        list.push_back(candidate.second);
        added.push_back(std::move(candidate));
      }
    if (adds_special_again_)
      for (const Json* tokens : {&named_, &extra_})
        for (const Json& token : *tokens)
          if (const auto entry = special_token(token))
            list.push_back(finished(*added_token((*entry)["content"], true)));
    return list;
  }

 private:
  static constexpr const char* kExtra = "extra_special_tokens";
  static constexpr const char* kAdditional = "additional_special_tokens";
  static constexpr const char* kOwn = "model_specific_special_tokens";

  static std::string content_of(const Json& entry) { return entry["content"].get<std::string>(); }

  bool is_filled(const char* key) const {
    const auto found = arguments_.find(key);
    return found != arguments_.end() && found->is_structured() && !found->empty();
  }

  void rename_additional(bool when) {
    if (!when || !arguments_.contains(kAdditional)) return;
    arguments_[kExtra] = arguments_[kAdditional];
    arguments_.erase(kAdditional);
  }

  /// NAME_token of the configuration, where the name is none of the usual, and an object of further tokens.
  void take_own_names() {
    Json own = Json::object();
    for (const auto& [key, value] : arguments_.items())
      if (key.ends_with("_token") && !is_named(key) && value.is_string()) own[key] = value;
    for (const auto& [key, value] : own.items()) arguments_.erase(key);
    if (arguments_.contains(kExtra) && arguments_[kExtra].is_object()) {
      own.update(arguments_[kExtra]);
      arguments_.erase(kExtra);
    }
    if (!own.empty()) arguments_[kOwn] = own;
  }

  void read_special_tokens_map() {
    for (const auto& [key, value] : files_.special_tokens_map.items()) {
      if (value.is_object() && key != kExtra) {
        arguments_[key] = value;
        arguments_[key]["special"] = true;
        arguments_[key].erase("__type");
      } else if (value.is_array() && key == kExtra && is_filled(kExtra)) {
        for (const Json& token : value)
          if (std::find(arguments_[kExtra].begin(), arguments_[kExtra].end(), token) ==
              arguments_[kExtra].end())
            arguments_[kExtra].push_back(token);
      } else {
        arguments_[key] = value;
      }
    }
    if (!arguments_.contains(kExtra) || !arguments_[kExtra].is_object()) return;
    if (!is_filled(kOwn)) arguments_[kOwn] = Json::object();
    arguments_[kOwn].update(arguments_[kExtra]);
    arguments_.erase(kExtra);
  }

  /// Which of them are special: what the files name so at this point, as strings or in
  /// special_tokens_map.json. Neither the class's own tokens nor that file's additional_special_tokens are
  /// among them.
  void read_added_json() {
    std::set<std::string> special;
    const auto insert = [&](const Json& token) {
      if (const auto entry = special_token(token); entry && !(token.is_object() && token.contains("__type")))
        special.insert(content_of(*entry));
    };
    for (const char* name : kNamedTokens)
      if (const auto token = arguments_.find(name); token != arguments_.end()) insert(*token);
    if (is_filled(kExtra))
      for (const Json& token : arguments_[kExtra]) insert(token);
    for (const auto& [content, id] : files_.added_tokens.items()) {
      if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= (std::uint64_t{1} << 31))
        fail("{}/added_tokens.json: '{}' has no id (it has {})", directory_, shown(content),
             shown(id.dump(), 60));
      Json entry = *added_token(content, special.contains(content));
      entry["normalized"] =
          !special.contains(content);  // said, so that a name that makes it special leaves it
      by_id_[id.get<std::int64_t>()] = std::move(entry);
    }
  }

  void read_decoder(const Json& decoder) {
    const std::string where = directory_ + "/tokenizer_config.json: added_tokens_decoder";
    if (!decoder.is_object()) fail("{} is not an object of ids and tokens", where);
    for (const auto& [key, token] : decoder.items()) {
      std::int64_t id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      auto entry = added_token(token, false);
      if (error != std::errc() || end != key.data() + key.size() || id < 0 || !entry || !token.is_object())
        fail("{}: '{}' is not an id with a token object (content, special, …)", where, shown(key));
      by_id_[id] = *std::move(entry);
    }
  }

  /// The usual names in their order, then the others; of an own name in two places the object's counts.
  void collect_named() {
    const auto take = [&](const std::string& name, const Json& token) {
      if (special_token(token)) named_[name] = token;
    };
    for (const char* name : kNamedTokens)
      if (const auto token = arguments_.find(name); token != arguments_.end()) take(name, *token);
    for (const auto& [key, value] : arguments_.items())
      if (key.ends_with("_token") && !is_named(key)) take(key, value);
    if (is_filled(kOwn) && arguments_[kOwn].is_object())
      for (const auto& [name, token] : arguments_[kOwn].items()) take(name, token);
    if (is_filled(kExtra) && arguments_[kExtra].is_array()) extra_ = arguments_[kExtra];
  }

  const TokenizerFiles& files_;
  std::string directory_;
  Json arguments_;
  Json named_ = Json::object();
  Json extra_ = Json::array();
  bool adds_special_again_ = false;
  std::map<std::int64_t, Json> by_id_;
};

}  // namespace

TokenizerClass apply_tokenizer_class(TokenizerFiles& files, const std::string& directory) {
  TokenizerClass result;
  if (!files.tokenizer.is_object()) return result;  // the reader of tokenizer.json says so
  result.name = choose_class(files);
  const auto& classes = known_classes();
  auto known = std::find_if(classes.begin(), classes.end(),
                            [&](const KnownClass& c) { return c.name == result.name; });
  Json& tokenizer = files.tokenizer;
  const bool is_bpe = tokenizer.contains("model") && tokenizer["model"].is_object() &&
                      tokenizer["model"].contains("vocab") && tokenizer["model"]["vocab"].is_object();
  if (std::find(kForeignClasses.begin(), kForeignClasses.end(), result.name) != kForeignClasses.end())
    result.warnings.push_back(fmt::format(
        "{}: tokenizer_class is {}, which in Transformers builds a pipeline of its own; hone follows "
        "tokenizer.json, and ids may differ",
        directory, result.name));
  if (known == classes.end() || !is_bpe) result.name = kBackend;
  const KnownClass* own = result.name == kBackend ? nullptr : &*known;
  const TokenFiles tokens(files, own, directory);
  result.special_tokens = tokens.special_tokens();
  Json listed =
      own == nullptr && tokenizer.contains("added_tokens") ? tokenizer["added_tokens"] : Json::array();
  if (listed.is_null()) listed = Json::array();
  if (listed.is_array()) {
    for (const auto& [name, content] : result.special_tokens)
      if (is_bpe && !tokens.is_listed(content) && !tokenizer["model"]["vocab"].contains(content))
        result.warnings.push_back(
            fmt::format("{}: the {} '{}' is in no vocabulary of the checkpoint; as in Transformers it "
                        "becomes a new token "
                        "behind all others, for which the model may have no embedding",
                        directory, name, shown(content)));
    tokenizer["added_tokens"] = tokens.added_to(std::move(listed));  // last: is_listed reads what was there
  }
  if (flag(files.config, "split_special_tokens", false))
    result.warnings.push_back(
        fmt::format("{}/tokenizer_config.json: split_special_tokens is true: special tokens that a text or a "
                    "chat template "
                    "writes become ordinary pieces, as in Transformers; set it to false unless that is meant",
                    directory));
  if (own != nullptr) own->build(tokenizer, files.config);
  return result;
}

}  // namespace hone::text
