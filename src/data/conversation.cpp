#include "data/conversation.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/suggest.h"
#include "text/chat_template.h"

namespace hone::data {

namespace {

/// Who speaks in ShareGPT's "from", and the role that is.
struct Speaker {
  std::string_view from, role;
};
constexpr std::string_view kCall = "function_call";
constexpr std::array<Speaker, 20> kSpeakers{
    {{"human", "user"},          {"user", "user"},           {"gpt", "assistant"},
     {"assistant", "assistant"}, {"chatgpt", "assistant"},   {"bing", "assistant"},
     {"bard", "assistant"},      {"claude", "assistant"},    {"model", "assistant"},
     {"bot", "assistant"},       {"chatbot", "assistant"},   {"ai", "assistant"},
     {"system", "system"},       {"developer", "developer"}, {"tool", "tool"},
     {"observation", "tool"},    {"tool_response", "tool"},  {"function_response", "tool"},
     {kCall, "assistant"},       {"tool_call", "assistant"}}};

[[noreturn]] void fail_speaker(const std::string& from, const std::string& path, const std::string& where) {
  std::vector<std::string> known;
  std::string list;
  for (const auto& speaker : kSpeakers) {
    known.emplace_back(speaker.from);
    list += (list.empty() ? "" : ", ") + std::string(speaker.from);
  }
  const std::string near = nearest_name(from, known);
  fail("{}: {}.from is '{}'; known: {}{}", where, path, one_line(from, 60), list,
       near.empty() ? "" : "; did you mean '" + near + "'?");
}

/// A call of a tool that a ShareGPT data set writes as a string of JSON: {"name", "arguments"}, or a list.
Json tool_calls_of(const std::string& value, const std::string& path, const std::string& where) {
  Json calls = text::parse_chat_json(value, fmt::format("{}: {}, a function call", where, path));
  if (calls.is_object()) calls = Json::array({std::move(calls)});
  if (!calls.is_array() || calls.empty())
    fail("{}: {} is a {}; a function call is JSON with name and arguments", where, path, type_name(calls));
  Json result = Json::array();
  for (Json& call : calls) {
    if (!call.is_object() || !call.contains("name") || !call["name"].is_string())
      fail("{}: {} has no name; a function call is JSON with name and arguments", where, path);
    result.push_back({{"type", "function"}, {"function", std::move(call)}});
  }
  return result;
}

/// The role that a speaker of ShareGPT is; nullptr for one that is not known.
const Speaker* find_speaker(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto* const speaker = std::find_if(kSpeakers.begin(), kSpeakers.end(),
                                           [&](const Speaker& known) { return known.from == name; });
  return speaker == kSpeakers.end() ? nullptr : speaker;
}

/// One turn, {"from", "value"} or {"role", "content"} or a mixture of the two, with the speakers of either.
Json message_of(const Json& entry, const std::string& path, const std::string& where) {
  if (!entry.is_object()) fail("{}: {} is a {}, not an object", where, path, type_name(entry));
  const bool openai = !entry.contains("from") && entry.contains("role");
  const std::string from = openai ? "role" : "from";
  const std::string other_value = openai ? "value" : "content";
  std::string value = openai ? "content" : "value";
  if (!entry.contains(value) && entry.contains(other_value)) value = other_value;
  const auto require_string = [&](const std::string& key) {
    if (!entry.contains(key)) fail("{}: {} has no '{}' (keys: {})", where, path, key, key_list(entry));
    if (!entry[key].is_string())
      fail("{}: {}.{} is a {}, not a string", where, path, key, type_name(entry[key]));
  };
  require_string(from);
  if (!openai) require_string(value);  // OpenAI's content may be parts, or missing beside tool calls
  const auto& name = entry[from].get_ref<const std::string&>();
  const Speaker* const speaker = find_speaker(name);
  if (speaker == nullptr && !openai) fail_speaker(name, path, where);
  Json message = Json::object();
  message["role"] = speaker != nullptr ? Json(speaker->role) : entry[from];
  const bool calls = speaker != nullptr && (speaker->from == kCall || speaker->from == "tool_call");
  if (calls && entry.contains(value) && entry[value].is_string()) {
    message["content"] = "";
    message["tool_calls"] =
        tool_calls_of(entry[value].get_ref<const std::string&>(), fmt::format("{}.{}", path, value), where);
  } else if (entry.contains(value)) {
    message["content"] = entry[value];
  }
  for (const auto& [key, other] : entry.items())
    if (key != from && key != value && key != "role" && key != "content") message[key] = other;
  return message;
}

/// Keys that say nothing by themselves.
bool says_something(std::string_view key) {
  constexpr std::array<std::string_view, 5> kSilent{"role", "name", "id", "type", "tool_call_id"};
  return !among(kSilent, key) && !is_learning_key(key);
}

void check_content(const Json& message, const std::string& path, const std::string& where) {
  const auto content = message.find("content");
  if (content == message.end() || content->is_null()) {
    for (const auto& [key, value] : message.items())
      if (says_something(key) && !value.is_null()) return;
    fail("{}: {} ({}) has no content (keys: {})", where, path,
         one_line(message["role"].get_ref<const std::string&>(), 60), key_list(message));
  }
  if (!content->is_string() && !content->is_array() && !content->is_object())
    fail("{}: {}.content is a {}, not a string or a list of parts", where, path, type_name(*content));
}

}  // namespace

bool has(const Json& object, std::string_view key) {
  const auto it = object.find(key);
  return it != object.end() && !it->is_null();
}

std::string type_name(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "JSON object";
    case Json::value_t::array:
      return "list";
    case Json::value_t::string:
      return "string";
    case Json::value_t::boolean:
      return "boolean";
    default:
      if (value.is_number_float() && !std::isfinite(value.get<double>()))
        return fmt::format(
            "number that JSON does not have ({}; Python's json and pandas write it; write null)",
            value.get<double>());
      return "number";
  }
}

std::string role_meant_by(const std::string& role) {
  const auto* const speaker = std::find_if(kSpeakers.begin(), kSpeakers.end(),
                                           [&](const Speaker& known) { return known.from == role; });
  const bool person = speaker != kSpeakers.end() && speaker->from != speaker->role &&
                      (speaker->role == "user" || speaker->role == "assistant") && speaker->from != kCall &&
                      speaker->from != "tool_call";
  return person ? std::string(speaker->role) : "";
}

bool is_learning_key(std::string_view key) {
  constexpr std::array<std::string_view, 4> kKeys{"train", "weight", "loss_weight", "loss"};
  return among(kKeys, key);
}

Json messages_of_conversation(const Json& row, const std::string& where) {
  const Json& entries = row["conversations"];
  if (!entries.is_array()) fail("{}: conversations is a {}, not a list", where, type_name(entries));
  Json messages = Json::array();
  for (std::size_t i = 0; i < entries.size(); ++i)
    messages.push_back(message_of(entries[i], fmt::format("conversations[{}]", i), where));
  return messages;
}

void check_messages(const Json& messages, const std::string& name, const std::string& where) {
  if (!messages.is_array()) fail("{}: {} is a {}, not a list of messages", where, name, type_name(messages));
  if (messages.empty()) fail("{}: {} is empty", where, name);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Json& message = messages[i];
    const std::string path = fmt::format("{}[{}]", name, i);
    if (!message.is_object()) fail("{}: {} is a {}, not an object", where, path, type_name(message));
    if (!message.contains("role"))
      fail("{}: {} has no role (keys: {}){}", where, path, key_list(message),
           message.contains("from") ? "; lists of from and value belong under 'conversations' (data.columns: "
                                      "{conversations: messages})"
                                    : "");
    if (!message["role"].is_string())
      fail("{}: {}.role is a {}, not a string", where, path, type_name(message["role"]));
    check_content(message, path, where);
  }
}

}  // namespace hone::data
