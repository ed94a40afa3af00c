#include "data/column_names.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/suggest.h"
#include "data/conversation.h"
#include "data/rows.h"
#include "text/chat_template.h"

namespace hone::data {

namespace {

/// Keys of which each makes a row of a kind, alone or with another.
constexpr std::array<std::string_view, 12> kKindKeys{"messages", "conversations", "prompt", "completion",
                                                     "text",     "input_ids",     "user",   "assistant",
                                                     "system",   "instruction",   "input",  "output"};
/// Keys that a row may lack although data.columns names a column for them.
constexpr std::array<std::string_view, 7> kOptional{
    "system", "input", "tools", "documents", "labels", "chat_template_kwargs", "weight"};
/// Keys whose value is a list or an object: as a string it is JSON.
constexpr std::array<std::string_view, 14> kStructured{
    "messages",      "conversations", "tools",          "documents",    "chat_template_kwargs",
    "input_ids",     "labels",        "attention_mask", "weight",       "loss_weight",
    "sample_weight", "weights",       "loss_weights",   "token_weights"};

/// The string of a key; "" where the row has none.
std::string text_of(const Json& row, const std::string& key, const std::string& where) {
  if (!has(row, key)) return "";
  if (!row[key].is_string()) fail("{}: {} is a {}, not a string", where, key, type_name(row[key]));
  return row[key].get<std::string>();
}

[[noreturn]] void fail_column(const Json& row, const std::string& key, const std::string& column,
                              const std::string& where) {
  std::vector<std::string> columns;
  for (const auto& [name, value] : row.items()) columns.push_back(name);
  const std::string near = nearest_name(column, columns);
  fail("{}: the row has no column '{}', which data.columns names for {}{} (keys: {})", where, column, key,
       near.empty() ? "" : "; did you mean '" + near + "'?", key_list(row));
}

void rename(Json& row, const ColumnNames& names, const std::string& where) {
  Json named = Json::object();
  for (const auto& [key, column] : names) {
    if (has(row, column))
      named[key] = row[column];
    else if (!among(kOptional, key))
      fail_column(row, key, column, where);
  }
  // What is called by its own name stays, where it makes the row: {weight: score} says nothing of its kind.
  const bool names_kind = std::any_of(names.begin(), names.end(), [](const auto& n) {
    return among(kKindKeys, n.first) && !among(kOptional, n.first);
  });
  for (const auto& [key, value] : row.items()) {
    const bool is_named = std::any_of(names.begin(), names.end(), [&, &name = key](const auto& n) {
      return n.second == name || n.first == name;
    });
    if (!is_named && !(names_kind && among(kKindKeys, key))) named[key] = std::move(value);
  }
  row = std::move(named);
}

void take_pair(Json& row, const std::string& where) {
  Json messages = Json::array();
  for (const char* role : {"system", "user", "assistant"}) {
    if (std::string content = text_of(row, role, where);
        std::string_view(role) != "system" || !content.empty())
      messages.push_back({{"role", role}, {"content", std::move(content)}});
    row.erase(role);
  }
  row["messages"] = std::move(messages);
}

void take_alpaca(Json& row, const std::string& where) {
  for (const char* key : {"system", "history"})
    if (has(row, key) && !row[key].empty() && row[key] != "")
      fail("{}: an instruction with a '{}' has no place in alpaca's prompt; write the row as messages", where,
           key);
  row["prompt"] = alpaca_prompt(text_of(row, "instruction", where), text_of(row, "input", where));
  row["completion"] = text_of(row, "output", where);
  for (const char* key : {"instruction", "input", "output", "text"}) row.erase(key);
}

void parse_structured(Json& row, const std::string& where) {
  for (const auto key : kStructured) {
    const auto value = row.find(key);
    if (value == row.end() || !value->is_string()) continue;
    const auto& text = value->get_ref<const std::string&>();
    const auto first = text.find_first_not_of(" \t\r\n");
    if (first == std::string::npos) {
      *value = nullptr;
    } else if (text[first] == '[' || text[first] == '{') {
      if (text.compare(first, 2, "['") == 0 || text.compare(first, 2, "{'") == 0 ||
          text.compare(first, 3, "[{'") == 0)
        fail("{}: {} is a list as Python prints it ('…'); write it as JSON (json.dumps)", where, key);
      *value = text::parse_chat_json(text, fmt::format("{}: {}, a string of JSON", where, key));
    }
  }
}

}  // namespace

const std::vector<std::string>& column_keys() {
  static const std::vector<std::string> keys{
      "messages",  "conversations", "prompt", "completion", "text",        "input_ids", "labels", "user",
      "assistant", "system",        "tools",  "documents",  "instruction", "input",     "output", "weight"};
  return keys;
}

std::string alpaca_prompt(const std::string& instruction, const std::string& input) {
  if (input.empty())
    return "Below is an instruction that describes a task. Write a response that appropriately completes the "
           "request.\n\n### Instruction:\n" +
           instruction + "\n\n### Response:";
  return "Below is an instruction that describes a task, paired with an input that provides further context. "
         "Write a response that appropriately completes the request.\n\n### Instruction:\n" +
         instruction + "\n\n### Input:\n" + input + "\n\n### Response:";
}

void apply_columns(Json& row, const ColumnNames& names, const std::string& where) {
  if (!names.empty()) rename(row, names, where);
  if (names.contains("user") || names.contains("assistant")) take_pair(row, where);
  const bool other_kind = std::any_of(kKindKeys.begin(), kKindKeys.begin() + 4,
                                      [&](std::string_view key) { return has(row, key); });
  if (has(row, "instruction") && has(row, "output") && !other_kind && !has(row, "input_ids"))
    take_alpaca(row, where);
  parse_structured(row, where);
}

}  // namespace hone::data
