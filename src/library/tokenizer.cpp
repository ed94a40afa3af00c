// hone::AutoTokenizer over the rooms text and data.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/tokenize.h"
#include "hub/hub_cache.h"
#include "library/impl.h"

namespace hone {

namespace {

nlohmann::ordered_json to_json(const std::vector<Message>& messages) {
  auto json = nlohmann::ordered_json::array();
  for (const auto& m : messages) json.push_back({{"role", m.role}, {"content", m.content}});
  return json;
}

}  // namespace

AutoTokenizer AutoTokenizer::from_pretrained(const std::string& directory) {
  AutoTokenizer tokenizer;
  tokenizer.impl_ =
      std::make_shared<Impl>(Impl{text::PretrainedTokenizer::from_pretrained(hub::resolve_model(directory))});
  return tokenizer;
}

std::vector<std::int32_t> AutoTokenizer::encode(std::string_view text, bool add_special_tokens) const {
  return impl_->tokenizer.tokenizer().encode(text, add_special_tokens).ids;
}

std::string AutoTokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  return impl_->tokenizer.tokenizer().decode(ids, skip_special_tokens);
}

std::string AutoTokenizer::apply_chat_template(const std::vector<Message>& messages,
                                               const ChatTemplateOptions& options) const {
  return apply_chat_template(to_json(messages).dump(), options);
}

std::string AutoTokenizer::apply_chat_template(const std::string& messages_json,
                                               const ChatTemplateOptions& options) const {
  const auto messages = text::parse_chat_json(messages_json, "messages");
  const auto optional_json = [](const std::string& json, const char* what) {
    return json.empty() ? nlohmann::ordered_json() : text::parse_chat_json(json, what);
  };
  const auto tools = optional_json(options.tools_json, "tools");
  text::ChatOptions chat;
  chat.add_generation_prompt = options.add_generation_prompt;
  const auto kwargs = optional_json(options.kwargs_json, "kwargs");
  if (!kwargs.is_null()) chat.kwargs = &kwargs;
  return impl_->tokenizer.apply_chat_template(messages, tools.is_null() ? nullptr : &tools, chat).text;
}

Example AutoTokenizer::encode_chat(const std::vector<Message>& messages) const {
  return encode_row(nlohmann::ordered_json{{"messages", to_json(messages)}}.dump());
}

Example AutoTokenizer::encode_row(const std::string& row_json) const {
  auto row = data::RowTokenizer(&impl_->tokenizer, {}).tokenize(row_json, "row");
  return {std::move(row.ids), std::move(row.labels), std::move(row.weights)};
}

std::int64_t AutoTokenizer::vocab_size() const {
  return impl_->tokenizer.tokenizer().vocab_size();
}

std::vector<std::int32_t> AutoTokenizer::eos_token_ids() const {
  return impl_->tokenizer.eos_token_ids();
}

}  // namespace hone
