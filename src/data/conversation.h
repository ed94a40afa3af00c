// Chats as data sets write them: messages checked, ShareGPT turned into OpenAI's format. Inside this room
// only.
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "data/rows.h"

namespace hone::data {

/// What Python calls the type, for messages: "list", "object", "string", …
std::string type_name(const Json& value);

/// Whether an object has the key, with a value that is not null. False for what is no object.
bool has(const Json& object, std::string_view key);

/// Whether a list of strings or views holds the key.
template <typename List>
bool among(const List& list, std::string_view key) {
  return std::find(list.begin(), list.end(), key) != list.end();
}

/// Whether a key of a message says how it is learnt, not what is said: train, weight, loss_weight, loss.
bool is_learning_key(std::string_view key);

/// The messages of a ShareGPT row: {"conversations": [{"from", "value"}, …]}. An entry that
/// already has role and content is taken as it is. Throws Error(kUser) "WHERE: …".
Json messages_of_conversation(const Json& row, const std::string& where);

/// "assistant" or "user" for a role that other systems call so (model, gpt, bot, …; human); "" for any other.
std::string role_meant_by(const std::string& role);

/// Throws Error(kUser) unless `messages` is a list that a template can be given: objects with a role, and
/// with content or something else to say (tool_calls, …). `name` is the row's key that holds it.
void check_messages(const Json& messages, const std::string& name, const std::string& where);

}  // namespace hone::data
