// What Transformers' tokenizer classes make of a tokenizer.json. Several of them read only its vocabulary,
// merges and post-processor and bring a normalizer, a pre-tokenizer and a decoder of their own; all of them
// add the tokens that the files beside it name.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace hone::text {

/// The JSON files that AutoTokenizer reads; an empty object where there is no such file.
struct TokenizerFiles {
  nlohmann::ordered_json tokenizer;  ///< tokenizer.json
  nlohmann::ordered_json config;     ///< tokenizer_config.json
  nlohmann::ordered_json
      special_tokens_map;  ///< special_tokens_map.json; counts where `config` has no added_tokens_decoder
  nlohmann::ordered_json added_tokens;  ///< added_tokens.json, {token: id}; counts where the former does
  nlohmann::ordered_json model;         ///< the model's config.json
};

struct TokenizerClass {
  /// The class that Transformers 5.23 runs: "LlamaTokenizer"; "TokenizersBackend" is the one that runs
  /// tokenizer.json as it is.
  std::string name;
  /// bos_token, eos_token … with the class's defaults, as templates see them.
  std::map<std::string, std::string> special_tokens;
  /// What a user should know, one line each.
  std::vector<std::string> warnings;
};

/// Chooses the class as AutoTokenizer does, and turns `files.tokenizer` into a tokenizer.json that says what
/// this class does. Source: transformers 5.23, models/auto/tokenization_auto.py, tokenization_utils_base.py
/// (_from_pretrained), tokenization_utils_tokenizers.py (TokenizersBackend) and models/*/tokenization_*.py.
/// Throws Error(kUser), beginning with `directory`, for values of a wrong type.
TokenizerClass apply_tokenizer_class(TokenizerFiles& files, const std::string& directory);

}  // namespace hone::text
