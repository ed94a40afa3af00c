#include "data/rows.h"

#include <span>
#include <utility>

#include "base/content_hash.h"
#include "base/error.h"
#include "data/chat_form.h"
#include "data/columns.h"
#include "data/conversation.h"
#include "data/weights.h"
#include "text/chat_template.h"

namespace hone::data {

namespace {

constexpr std::string_view kKinds =
    "messages | conversations | prompt + completion | instruction + output | text | input_ids (+ labels); "
    "other "
    "names are given by data.columns, as in {prompt: question, completion: answer}";

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

bool is_assistant(const Json& message) {
  const auto& role = message["role"].get_ref<const std::string&>();
  return role == "assistant" || role_meant_by(role) == "assistant";
}

/// What an assistant message counts: its "weight" or "loss_weight"; 0 by "train": false, or "loss": false
/// (ms-swift).
double weight_of_message(const Json& message, const std::string& path, const std::string& where) {
  bool excluded = has(message, "loss") && message["loss"] == false;
  if (has(message, "train")) {
    if (!message["train"].is_boolean())
      fail("{}: {}.train is a {}, not true or false", where, path, type_name(message["train"]));
    excluded = excluded || !message["train"].get<bool>();
  }
  double weight = 1;
  if (has(message, "weight") && has(message, "loss_weight"))
    fail("{}: {} has both a weight and a loss_weight; keep one", where, path);
  for (const char* key : {"weight", "loss_weight"})
    if (has(message, key)) weight = weight_of(message[key], fmt::format("{}: {}.{}", where, path, key));
  return excluded ? 0 : weight;
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

/// Moves messages into the chat; `exclude`: none is learnt from, whatever they say.
void append_messages(Row& row, Json messages, const std::string& name, bool exclude,
                     const std::string& where) {
  check_messages(messages, name, where);
  ChatRow& chat = row.chat;
  Finding weights{FindingKind::kWeights, "weight of messages", name};
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string place = fmt::format("{}[{}]", name, i);
    const bool learnt = is_assistant(messages[i]);
    double weight = learnt ? weight_of_message(messages[i], place, where) : 1;
    if (exclude && learnt && weight != 0 && weight != 1)
      row.findings.push_back({FindingKind::kIgnoredMark, "a weight on a turn of the prompt", place});
    if (exclude) weight = 0;
    if (learnt) weights.weights.add(weight);
    chat.weights.push_back(weight);
    chat.places.push_back(place);
    chat.messages.push_back(std::move(messages[i]));
  }
  if (!weights.weights.is_plain()) row.findings.push_back(std::move(weights));
}

/// A system prompt in a column of its own comes first, unless the messages begin with one.
void prepend_system(const Json& json, Row& row, const std::string& where) {
  if (!has(json, "system")) return;
  const std::string& system = string_at(json, "system", where);
  if (system.empty()) return;
  const Json& first = row.chat.messages.front()["role"];
  if (first == "system" || first == "developer") {
    row.findings.push_back({FindingKind::kIgnoredColumn, "system"});
    return;
  }
  const Json message{{"role", "system"}, {"content", system}};
  row.chat.messages.insert(row.chat.messages.begin(), message);
  row.chat.weights.insert(row.chat.weights.begin(), 1);
  row.chat.places.insert(row.chat.places.begin(), "system");
}

void parse_completion(Json& json, Row& row, const std::string& where) {
  const bool prompt_is_list = json["prompt"].is_array();
  if (prompt_is_list != json["completion"].is_array())
    fail("{}: prompt is a {} and completion a {}; both are strings, or both lists of messages", where,
         type_name(json["prompt"]), type_name(json["completion"]));
  if (prompt_is_list) {
    row.conversational = true;
    append_messages(row, std::move(json["prompt"]), "prompt", true, where);
    append_messages(row, std::move(json["completion"]), "completion", false, where);
    return;
  }
  row.prompt = string_at(json, "prompt", where);
  row.text = string_at(json, "completion", where);
}

}  // namespace

std::uint64_t content_of(const Row& row) {
  std::uint64_t hash = static_cast<std::uint64_t>(row.kind);
  const auto add = [&](const auto& values) { hash = content_hash(std::as_bytes(std::span(values)), hash); };
  if (row.conversational) {
    for (const Json* json :
         {&row.chat.messages, &row.chat.tools, &row.chat.documents, &row.chat.template_kwargs})
      add(json->dump(-1, ' ', false, Json::error_handler_t::replace));
    return hash;
  }
  add(row.prompt);
  add(row.text);
  add(row.ids);
  if (row.labels) add(*row.labels);
  return hash;
}

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
  std::vector<std::string_view> read;
  if (kinds[0] == "messages" || kinds[0] == "conversations") {
    row.kind = RowKind::kChat;
    row.conversational = true;
    const bool converted = kinds[0] == "conversations";
    append_messages(row, converted ? messages_of_conversation(json, where) : std::move(json["messages"]),
                    kinds[0], false, where);
    read = {"messages", "conversations"};
  } else if (kinds[0] == "prompt + completion") {
    row.kind = RowKind::kCompletion;
    parse_completion(json, row, where);
    read = {"prompt", "completion"};
  } else if (kinds[0] == "text") {
    row.kind = RowKind::kText;
    row.text = string_at(json, "text", where);
    read = {"text"};
  } else {
    row.kind = RowKind::kTokens;
    read_token_columns(json, row, vocab, where);
    return row;
  }
  if (row.conversational) {
    prepend_system(json, row, where);
    take_template_inputs(json, row.chat, where);
    normalise_chat(row.chat, row.findings, where);
    read.insert(read.end(), {"system", "tools", "documents", "chat_template_kwargs"});
  }
  read_weights(json, row, read, where);
  find_unread_columns(json, read, row);
  return row;
}

}  // namespace hone::data
