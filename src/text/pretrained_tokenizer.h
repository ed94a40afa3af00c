// What a checkpoint directory says about text: tokenizer.json, its special tokens and its chat templates,
// together.
#pragma once

#include <ctime>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace hone::text {

/// How a chat is rendered. The JSON is borrowed for the duration of the call.
struct ChatOptions {
  bool add_generation_prompt = false;
  /// The last message is left open, to be continued: the text ends with its content.
  bool continue_final_message = false;
  const nlohmann::ordered_json* documents = nullptr;
  const nlohmann::ordered_json* kwargs = nullptr;  // further template variables (enable_thinking …)
  std::function<std::tm()> clock;                  // what strftime_now reads; empty: the local time
};

/// A tokenizer as Transformers' from_pretrained finds it. Cheap to copy; const methods are safe from many
/// threads.
class PretrainedTokenizer {
 public:
  /// Reads DIR/tokenizer.json, and where they exist tokenizer_config.json, special_tokens_map.json,
  /// chat_template.jinja (which wins over tokenizer_config.json's chat_template),
  /// additional_chat_templates/*.jinja, generation_config.json and config.json (for the tokens that end a
  /// generation). Throws Error(kUser) for a missing tokenizer.json and for files that are not valid.
  static PretrainedTokenizer from_pretrained(const std::filesystem::path& directory);

  const Tokenizer& tokenizer() const;
  /// bos_token, eos_token, pad_token, unk_token … as templates see them.
  const std::map<std::string, std::string>& special_tokens() const;
  /// The id of the special token of that name ("bos_token"); nullopt where there is none.
  std::optional<std::int32_t> special_token_id(std::string_view name) const;
  std::optional<std::int32_t> bos_token_id() const { return special_token_id("bos_token"); }
  std::optional<std::int32_t> eos_token_id() const { return special_token_id("eos_token"); }
  std::optional<std::int32_t> pad_token_id() const { return special_token_id("pad_token"); }
  /// Tokens that end a generation: generation_config.json's eos_token_id, else config.json's, and the
  /// tokenizer's own.
  const std::vector<std::int32_t>& eos_token_ids() const;

  bool has_chat_template() const;
  /// The template for a chat: with tools the one named tool_use where there is one, else the default. Throws
  /// Error(kUser), saying where it looked, where there is none.
  const ChatTemplate& chat_template(bool has_tools = false) const;
  /// Renders messages (an array of objects); tools may be null. As apply_chat_template in Transformers.
  Rendered apply_chat_template(const nlohmann::ordered_json& messages, const nlohmann::ordered_json* tools,
                               const ChatOptions& options = {}) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace hone::text
