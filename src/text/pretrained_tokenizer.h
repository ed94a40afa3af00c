// What a checkpoint directory says about text: tokenizer.json, its special tokens, its chat templates and the
// tokens that end a generation, together. Transformers' AutoTokenizer, with tokenizer.json as the one truth
// about text and ids.
#pragma once

#include <cstdint>
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
  /// Fill Rendered::unwritten and written_containers; pointers to reasoning are to both names it is seen
  /// under.
  bool trace = false;
  /// The last message is left open, to be continued: the text ends where that message's `continue_key` does.
  bool continue_final_message = false;
  std::string continue_key = "content";
  const nlohmann::ordered_json* documents = nullptr;  ///< null: none
  const nlohmann::ordered_json* kwargs = nullptr;  ///< further variables of the template (enable_thinking, …)
  std::function<std::tm()> clock;                  ///< what strftime_now reads; empty: the local time
};

/// A tokenizer as Transformers' from_pretrained finds it. Cheap to copy; const methods are safe from many
/// threads.
class PretrainedTokenizer {
 public:
  /// Reads DIR/tokenizer.json, and where they exist tokenizer_config.json, special_tokens_map.json,
  /// added_tokens.json, chat_template.jinja, additional_chat_templates/*.jinja, generation_config.json and
  /// config.json.
  ///
  /// As in Transformers 5.23: the tokenizer class decides what of tokenizer.json counts (tokenizer_class.h);
  /// template files take the place of all templates in tokenizer_config.json; special_tokens_map.json and
  /// added_tokens.json count, and win, only where tokenizer_config.json has no added_tokens_decoder;
  /// add_bos_token and add_eos_token do not count beside a tokenizer.json, whose post-processor alone says
  /// what encode() adds. Throws Error(kUser) for a missing tokenizer.json and for malformed JSON (path:line);
  /// for a broken template only when it is used.
  static PretrainedTokenizer from_pretrained(const std::filesystem::path& directory);

  const Tokenizer& tokenizer() const;
  /// bos_token, eos_token, pad_token, unk_token … and the model's own *_token, as templates see them.
  const std::map<std::string, std::string>& special_tokens() const;
  /// The id of the special token of that name ("bos_token"); nullopt where there is none, or none that
  /// tokenizer.json knows.
  std::optional<std::int32_t> special_token_id(std::string_view name) const;
  std::optional<std::int32_t> bos_token_id() const { return special_token_id("bos_token"); }
  std::optional<std::int32_t> eos_token_id() const { return special_token_id("eos_token"); }
  std::optional<std::int32_t> pad_token_id() const { return special_token_id("pad_token"); }
  /// Tokens that end a generation: generation_config.json's eos_token_id, else config.json's, and the
  /// tokenizer's own. Ascending.
  const std::vector<std::int32_t>& eos_token_ids() const;

  bool has_chat_template() const;
  /// The template for a chat: with tools the one named tool_use where there is one, else the default.
  /// Throws Error(kUser) where there is none (saying where it looked) and for a malformed one.
  const ChatTemplate& chat_template(bool has_tools = false) const;
  /// Replaces whatever the checkpoint brought.
  void set_chat_template(ChatTemplate chat_template);

  /// Renders messages (an array of objects) as Transformers' apply_chat_template(tokenize=False): keys that
  /// are null are dropped from messages, reasoning is seen under `thinking` and `reasoning_content` whatever
  /// its name, and tools (null or JSON null: none) choose the template. Throws Error(kUser): no messages,
  /// what the template refuses, a last message that cannot be continued.
  Rendered apply_chat_template(const nlohmann::ordered_json& messages,
                               const nlohmann::ordered_json* tools = nullptr,
                               const ChatOptions& options = {}) const;
  /// The ids of a rendered chat: no special tokens are added to those that the template wrote.
  Encoding encode(const Rendered& chat) const { return tokenizer().encode(chat.text, false); }

 private:
  struct State;
  std::shared_ptr<const State> state_;
  std::optional<ChatTemplate> override_;
};

}  // namespace hone::text
