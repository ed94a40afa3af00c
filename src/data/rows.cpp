#include "data/rows.h"

#include <limits>
#include <utility>

#include "base/error.h"
#include "data/conversation.h"
#include "text/chat_template.h"

namespace hone::data {

namespace {

constexpr std::string_view kKinds =
    "messages | conversations | prompt + completion | instruction + output | text | input_ids (+ labels); "
    "other "
    "names are given by data.columns, as in {prompt: question, completion: answer}";

bool has(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && !it->is_null();
}

/// The keys that make a row of some kind, as far as the row has them.
std::vector<std::string> kinds_of(const Json& row) {
  std::vector<std::string> kinds;
  if (has(row, "messages")) kinds.emplace_back("messages");
  if (has(row, "conversations")) kinds.emplace_back("conversations");
  if (has(row, "prompt") && has(row, "completion")) kinds.emplace_back("prompt + completion");
  if (has(row, "input_ids"))
    kinds.emplace_back("input_ids");
  else if (has(row, "text"))
    kinds.emplace_back("text");
  return kinds;
}

[[noreturn]] void fail_kind(const Json& row, const std::vector<std::string>& kinds,
                            const std::string& where) {
  if (kinds.empty() && has(row, "prompt"))
    fail("{}: the row has a prompt but no completion (keys: {}); rows are {}", where, key_list(row), kKinds);
  if (kinds.empty() && has(row, "completion"))
    fail("{}: the row has a completion but no prompt (keys: {}); rows are {}", where, key_list(row), kKinds);
  if (kinds.empty())
    fail("{}: the row has none of the known keys (keys: {}); rows are {}", where, key_list(row), kKinds);
  fail("{}: the row is of several kinds, {} and {} (keys: {}); keep one of {}", where, kinds[0], kinds[1],
       key_list(row), kKinds);
}

const std::string& string_at(const Json& row, const char* key, const std::string& where) {
  const Json& value = row[key];
  if (!value.is_string()) fail("{}: {} is a {}, not a string", where, key, type_name(value));
  return value.get_ref<const std::string&>();
}

/// An assistant message may say that it is not to be learnt from: "train": false, or "weight": 0.
bool is_excluded(const Json& message, const std::string& path, const std::string& where) {
  if (message["role"] != "assistant") return false;
  bool excluded = false;
  if (has(message, "train")) {
    if (!message["train"].is_boolean())
      fail("{}: {}.train is a {}, not true or false", where, path, type_name(message["train"]));
    excluded = !message["train"].get<bool>();
  }
  if (has(message, "weight")) {
    const Json& weight = message["weight"];
    if (!weight.is_number() || (weight != 0 && weight != 1))
      fail("{}: {}.weight is neither 0 nor 1", where, path);
    excluded = excluded || weight == 0;
  }
  return excluded;
}

/// Tools may be a list, or (data sets that fix a column's type have it so) a list as a string of JSON.
Json take_tools(Json& row, const std::string& where) {
  if (!has(row, "tools")) return nullptr;
  Json tools = std::move(row["tools"]);
  if (tools.is_string()) {
    const auto& text = tools.get_ref<const std::string&>();
    if (text.find_first_not_of(" \t\r\n") == std::string::npos) return nullptr;
    tools = text::parse_chat_json(text, where + ": tools, a string of JSON");
    if (tools.is_null()) return tools;
  }
  if (!tools.is_array()) fail("{}: tools is a {}, not a list", where, type_name(tools));
  return tools;
}

void take_template_inputs(Json& row, ChatRow& chat, const std::string& where) {
  chat.tools = take_tools(row, where);
  if (has(row, "documents")) {
    if (!row["documents"].is_array())
      fail("{}: documents is a {}, not a list", where, type_name(row["documents"]));
    chat.documents = std::move(row["documents"]);
  }
  if (has(row, "chat_template_kwargs")) {
    if (!row["chat_template_kwargs"].is_object())
      fail("{}: chat_template_kwargs is a {}, not an object", where, type_name(row["chat_template_kwargs"]));
    chat.template_kwargs = std::move(row["chat_template_kwargs"]);
  }
}

/// Moves checked messages into the chat; `exclude`: all of them, whatever they say.
void append_messages(ChatRow& chat, Json messages, const std::string& name, bool exclude,
                     const std::string& where) {
  check_messages(messages, name, where);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const bool excluded = is_excluded(messages[i], fmt::format("{}[{}]", name, i), where);
    chat.excluded.push_back(exclude || excluded);
    chat.messages.push_back(std::move(messages[i]));
  }
}

void parse_completion(Json& json, Row& row, const std::string& where) {
  const bool prompt_is_list = json["prompt"].is_array();
  if (prompt_is_list != json["completion"].is_array())
    fail("{}: prompt is a {} and completion a {}; both are strings, or both lists of messages", where,
         type_name(json["prompt"]), type_name(json["completion"]));
  if (prompt_is_list) {
    row.conversational = true;
    append_messages(row.chat, std::move(json["prompt"]), "prompt", true, where);
    append_messages(row.chat, std::move(json["completion"]), "completion", false, where);
    take_template_inputs(json, row.chat, where);
    return;
  }
  row.prompt = string_at(json, "prompt", where);
  row.text = string_at(json, "completion", where);
}

std::vector<std::int32_t> ids_at(const Json& json, const char* key, bool ignored_allowed, std::int64_t vocab,
                                 const std::string& where) {
  const Json& list = json[key];
  if (!list.is_array()) fail("{}: {} is a {}, not a list of integers", where, key, type_name(list));
  const std::int64_t limit = vocab > 0 ? vocab : std::int64_t{std::numeric_limits<std::int32_t>::max()};
  std::vector<std::int32_t> ids;
  ids.reserve(list.size());
  for (const Json& item : list) {
    if (!item.is_number_integer())
      fail("{}: {}[{}] is a {}, not an integer", where, key, ids.size(), type_name(item));
    constexpr auto kLargest = std::numeric_limits<std::int64_t>::max();
    const bool huge =
        item.is_number_unsigned() && item.get<std::uint64_t>() > static_cast<std::uint64_t>(kLargest);
    const std::int64_t id = huge ? kLargest : item.get<std::int64_t>();
    const bool ignored = ignored_allowed && id == kIgnoredLabel;
    if (!ignored && (id < 0 || id >= limit))
      fail("{}: {}[{}] is {}, outside the vocabulary of {} ids (0 to {}){}", where, key, ids.size(),
           item.dump(), limit, limit - 1, ignored_allowed ? "; -100 is a label that is not learnt from" : "");
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

void parse_tokens(const Json& json, Row& row, std::int64_t vocab, const std::string& where) {
  row.ids = ids_at(json, "input_ids", false, vocab, where);
  if (row.ids.empty()) fail("{}: input_ids is empty; remove the row", where);
  if (has(json, "labels")) {
    row.labels = ids_at(json, "labels", true, vocab, where);
    if (row.labels->size() != row.ids.size())
      fail("{}: {} labels for {} input_ids; labels are aligned with the ids, -100 where not learnt from",
           where, row.labels->size(), row.ids.size());
  }
  if (has(json, "attention_mask"))
    for (const Json& item : json["attention_mask"])
      if (item != 1)
        fail("{}: attention_mask has values other than 1; leave padding out of input_ids", where);
}

}  // namespace

std::string key_list(const Json& object) {
  std::string list;
  for (const auto& [key, value] : object.items()) {
    if (list.size() > 160) return list + ", …";
    list += (list.empty() ? "" : ", ") + one_line(key, 60);
  }
  return list.empty() ? "none" : list;
}

std::string one_line(std::string_view text, std::size_t longest) {
  std::string line;
  for (const char c : text) {
    const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
    if (control && (line.empty() || line.back() == ' ')) continue;
    line += control ? ' ' : c;
  }
  if (line.size() > longest) {
    std::size_t cut = longest;
    while (cut > 0 && (static_cast<unsigned char>(line[cut]) & 0xC0U) == 0x80U) --cut;
    line = line.substr(0, cut) + "…";
  }
  while (line.ends_with(' ')) line.pop_back();
  return line;
}

Row parse_row(std::string_view text, const std::string& where, std::int64_t vocab,
              const ColumnNames& columns) {
  Json json = text::parse_chat_json(text, where);
  if (!json.is_object())
    fail("{}: the row is a {}, not an object; rows are {}", where, type_name(json), kKinds);
  apply_columns(json, columns, where);
  const auto kinds = kinds_of(json);
  if (kinds.size() != 1) fail_kind(json, kinds, where);
  Row row;
  if (kinds[0] == "messages" || kinds[0] == "conversations") {
    row.kind = RowKind::kChat;
    row.conversational = true;
    const bool converted = kinds[0] == "conversations";
    append_messages(row.chat, converted ? messages_of_conversation(json, where) : std::move(json["messages"]),
                    converted ? "conversations" : "messages", false, where);
    take_template_inputs(json, row.chat, where);
  } else if (kinds[0] == "prompt + completion") {
    row.kind = RowKind::kCompletion;
    parse_completion(json, row, where);
  } else if (kinds[0] == "text") {
    row.kind = RowKind::kText;
    row.text = string_at(json, "text", where);
  } else {
    row.kind = RowKind::kTokens;
    parse_tokens(json, row, vocab, where);
  }
  return row;
}

}  // namespace hone::data
