// Reads the files beside tokenizer.json and prepares chats for their template.
#include "text/pretrained_tokenizer.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "json/parse.h"
#include "text/jinja/unicode.h"
#include "text/tokenizer_class.h"

namespace hone::text {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr std::array<std::string_view, 3> kReasoningKeys = {"reasoning_content", "thinking", "reasoning"};
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";
constexpr std::string_view kConfigFile = "tokenizer_config.json";

/// The JSON object in a file; an empty one where there is no such file.
Json read_object(const fs::path& path) {
  if (!fs::exists(path)) return Json::object();
  Json json = parse_json(read_regular_file(path), path.string(), {.repeated_keys = RepeatedKeys::kLastWins});
  if (!json.is_object()) fail("{}: expected a JSON object", path.string());
  return json;
}

void add_eos_ids(const Json& config, const fs::path& path, std::vector<std::int32_t>& ids) {
  const auto found = config.find("eos_token_id");
  if (found == config.end() || found->is_null()) return;
  const Json listed = found->is_array() ? *found : Json::array({*found});
  for (const Json& id : listed) {
    if (!id.is_number_integer())
      fail("{}: eos_token_id must be an integer or a list of integers", path.string());
    ids.push_back(id.get<std::int32_t>());
  }
}

/// generation_config.json's, else config.json's, else those of its text_config.
std::vector<std::int32_t> read_eos_ids(const fs::path& directory) {
  std::vector<std::int32_t> ids;
  const fs::path generation = directory / "generation_config.json";
  add_eos_ids(read_object(generation), generation, ids);
  if (!ids.empty()) return ids;
  const fs::path model = directory / "config.json";
  const Json config = read_object(model);
  add_eos_ids(config, model, ids);
  const auto text = config.find("text_config");
  if (ids.empty() && text != config.end() && text->is_object()) add_eos_ids(*text, model, ids);
  return ids;
}

/// A template, or what is wrong with it: the error waits until the template is wanted.
struct LoadedTemplate {
  std::optional<ChatTemplate> compiled;
  std::string error;
};
using Templates = std::map<std::string, LoadedTemplate>;

LoadedTemplate load_template(std::string source, std::string name) {
  try {
    return {ChatTemplate::compile(std::move(source), std::move(name)), ""};
  } catch (const Error& error) {
    return {std::nullopt, error.what()};
  }
}

Templates read_template_files(const fs::path& directory) {
  Templates templates;
  const fs::path file = directory / "chat_template.jinja";
  if (fs::exists(file)) templates["default"] = load_template(read_file(file), file.string());
  const fs::path folder = directory / "additional_chat_templates";
  if (!fs::is_directory(folder)) return templates;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".jinja") continue;
    templates[entry.path().stem().string()] = load_template(read_file(entry.path()), entry.path().string());
  }
  return templates;
}

/// tokenizer_config.json's chat_template: a string, a list of {name, template}, or an object of them.
Templates read_config_templates(const fs::path& file, const Json& config) {
  Templates templates;
  const auto value = config.find("chat_template");
  if (value == config.end() || value->is_null()) return templates;
  const std::string where = file.string() + ": chat_template";
  const auto add = [&](const std::string& name, const Json& source) {
    if (!source.is_string()) fail("{}: the template '{}' is not a string", where, name);
    templates[name] = load_template(source.get<std::string>(),
                                    name == "default" ? where : fmt::format("{} {}", where, name));
  };
  if (value->is_string()) {
    add("default", *value);
  } else if (value->is_object()) {
    for (const auto& [name, source] : value->items()) add(name, source);
  } else if (value->is_array()) {
    for (const Json& entry : *value) {
      const bool is_pair = entry.is_object() && entry.contains("template") && entry.contains("name") &&
                           entry["name"].is_string();
      if (!is_pair) fail("{}: an entry is not {{\"name\", \"template\"}}", where);
      add(entry["name"].get<std::string>(), entry["template"]);
    }
  } else {
    fail("{}: expected a string or a list of {{\"name\", \"template\"}}", where);
  }
  return templates;
}

/// A message without null keys, and with its reasoning as `thinking` (first, unless it is there) and as
/// `reasoning_content`.
Json normalize_message(const Json& message, std::size_t index) {
  if (!message.is_object()) fail("message {} of the chat is not an object", index);
  const Json* reasoning = nullptr;
  for (std::string_view key : kReasoningKeys) {
    const auto found = message.find(std::string(key));
    if (reasoning == nullptr && found != message.end() && !found->is_null()) reasoning = &*found;
  }
  Json out = Json::object();
  if (reasoning != nullptr) out["thinking"] = *reasoning;
  for (const auto& [key, value] : message.items()) {
    if (!value.is_null()) out[key] = value;
  }
  if (reasoning != nullptr) out["reasoning_content"] = *reasoning;
  return out;
}

/// The start of the last character of a text that is white space, or npos where the text does not end in
/// white space.
std::size_t last_space(std::string_view text) {
  if (text.empty()) return std::string_view::npos;
  const std::size_t last = jinja::previous_utf8(text, text.size());
  std::size_t at = last;
  return jinja::is_space(jinja::decode_utf8(text, at)) ? last : std::string_view::npos;
}

std::string_view strip(std::string_view text) {
  for (std::size_t last = last_space(text); last != std::string_view::npos; last = last_space(text))
    text = text.substr(0, last);
  while (!text.empty()) {
    std::size_t at = 0;
    if (!jinja::is_space(jinja::decode_utf8(text, at))) break;
    text.remove_prefix(at);
  }
  return text;
}

/// All keys that hold the text to be continued: reasoning has several names.
std::vector<std::string> continued_keys(const Json& message, const std::string& key) {
  if (std::find(kReasoningKeys.begin(), kReasoningKeys.end(), key) == kReasoningKeys.end()) return {key};
  std::vector<std::string> keys;
  for (std::string_view name : kReasoningKeys) {
    const auto other = message.find(std::string(name));
    if (other != message.end() && *other == message[key]) keys.emplace_back(name);
  }
  return keys;
}

/// Appends the tag to the text that is to be continued; returns that text as it was.
std::string append_tag(Json& message, const std::string& key, const std::string& template_source) {
  if (!message.contains(key)) fail("continue_final_message: the last message has no \"{}\" to continue", key);
  const std::vector<std::string> keys = continued_keys(message, key);
  const auto is_read = [&](const std::string& k) { return template_source.find(k) != std::string::npos; };
  if (std::none_of(keys.begin(), keys.end(), is_read)) {
    fail("continue_final_message: the chat template does not read \"{}\"", key);
  }
  Json& value = message[key];
  if (value.is_string()) {
    const std::string text = value.get<std::string>();
    for (const std::string& name : keys) message[name] = text + std::string(kContinueTag);
    return text;
  }
  for (auto part = value.rbegin(); value.is_array() && part != value.rend(); ++part) {
    if (!part->is_object() || !part->contains("text") || !(*part)["text"].is_string()) continue;
    const std::string text = (*part)["text"].get<std::string>();
    (*part)["text"] = text + std::string(kContinueTag);
    return text;
  }
  fail("continue_final_message: the last message has no text to continue");
}

/// Cuts the rendered chat behind the text that is to be continued.
void cut_at_tag(Rendered& rendered, const std::string& final_text) {
  std::string_view kept = rendered.text;
  const std::size_t at = kept.rfind(strip(kContinueTag));
  if (at == std::string_view::npos || kept.find(strip(final_text)) == std::string_view::npos) {
    fail(
        "continue_final_message: the last message does not appear in the rendered chat; the template drops "
        "or changes it");
  }
  const bool keeps_space = kept.substr(at).starts_with(kContinueTag);
  kept = kept.substr(0, at);
  // A template that trimmed the tag's own space would have trimmed the text's as well.
  for (std::size_t last = last_space(kept); !keeps_space && last != std::string_view::npos;
       last = last_space(kept)) {
    kept = kept.substr(0, last);
  }
  const std::size_t size = kept.size();
  rendered.text.resize(size);
  std::erase_if(rendered.sources, [size](MessageSpan& span) {
    span.end = std::min(span.end, size);
    return span.begin >= span.end;
  });
  std::erase_if(rendered.generation, [size](auto& span) {
    span.second = std::min(span.second, size);
    return span.first >= span.second;
  });
}

}  // namespace

struct PretrainedTokenizer::State {
  State(fs::path where, Tokenizer loaded) : directory(std::move(where)), tokenizer(std::move(loaded)) {}
  fs::path directory;
  Tokenizer tokenizer;
  std::map<std::string, std::string> special_tokens;
  std::vector<std::int32_t> eos_ids;
  Templates templates;  ///< by name; "default" is the usual one
};

PretrainedTokenizer PretrainedTokenizer::from_pretrained(const fs::path& directory) {
  if (!fs::is_directory(directory)) fail("{}: no such directory", directory.string());
  const fs::path file = directory / "tokenizer.json";
  if (!fs::exists(file)) {
    fail(
        "{}: has no tokenizer.json; hone reads no other tokenizer format (save the tokenizer once with "
        "Transformers to make one)",
        directory.string());
  }
  TokenizerFiles files;
  files.tokenizer =
      parse_json(read_regular_file(file), file.string(), {.repeated_keys = RepeatedKeys::kLastWins});
  files.config = read_object(directory / kConfigFile);
  files.special_tokens_map = read_object(directory / "special_tokens_map.json");
  files.added_tokens = read_object(directory / "added_tokens.json");
  files.model = read_object(directory / "config.json");
  TokenizerClass applied = apply_tokenizer_class(files, directory.string());
  for (const std::string& warning : applied.warnings) log_warning("{}", warning);
  const auto splits = files.config.find("split_special_tokens");
  auto state = std::make_shared<State>(
      directory, Tokenizer::from_document(std::move(files.tokenizer), file.string(),
                                          splits != files.config.end() && *splits == true));
  state->special_tokens = std::move(applied.special_tokens);
  state->templates = read_template_files(directory);
  if (state->templates.empty())
    state->templates = read_config_templates(directory / kConfigFile, files.config);

  PretrainedTokenizer tokenizer;
  tokenizer.state_ = state;
  std::vector<std::int32_t> ids = read_eos_ids(directory);
  if (const auto eos = tokenizer.eos_token_id()) ids.push_back(*eos);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  state->eos_ids = std::move(ids);
  return tokenizer;
}

const Tokenizer& PretrainedTokenizer::tokenizer() const {
  return state_->tokenizer;
}
const std::map<std::string, std::string>& PretrainedTokenizer::special_tokens() const {
  return state_->special_tokens;
}
const std::vector<std::int32_t>& PretrainedTokenizer::eos_token_ids() const {
  return state_->eos_ids;
}
bool PretrainedTokenizer::has_chat_template() const {
  return override_.has_value() || !state_->templates.empty();
}
void PretrainedTokenizer::set_chat_template(ChatTemplate chat_template) {
  override_ = std::move(chat_template);
}

std::optional<std::int32_t> PretrainedTokenizer::special_token_id(std::string_view name) const {
  const auto token = state_->special_tokens.find(std::string(name));
  return token == state_->special_tokens.end() ? std::nullopt : state_->tokenizer.token_to_id(token->second);
}

const ChatTemplate& PretrainedTokenizer::chat_template(bool has_tools) const {
  if (override_) return *override_;
  const Templates& templates = state_->templates;
  if (templates.empty()) {
    fail(
        "{}: has no chat template (looked for chat_template.jinja, additional_chat_templates/*.jinja, and "
        "chat_template in "
        "tokenizer_config.json); use text or prompt/completion rows, or add one",
        state_->directory.string());
  }
  auto found = has_tools ? templates.find("tool_use") : templates.end();
  if (found == templates.end()) found = templates.find("default");
  if (found == templates.end()) {
    std::string names;
    for (const auto& [name, unused] : templates) names.append(names.empty() ? "" : ", ").append(name);
    fail("{}: has no chat template named default; there are: {}", state_->directory.string(), names);
  }
  if (!found->second.compiled) fail("{}", found->second.error);
  return *found->second.compiled;
}

Rendered PretrainedTokenizer::apply_chat_template(const Json& messages, const Json* tools,
                                                  const ChatOptions& options) const {
  if (!messages.is_array()) fail("the messages of a chat must be a list");
  if (messages.empty()) fail("a chat needs at least one message");
  if (options.continue_final_message && options.add_generation_prompt) {
    fail(
        "continue_final_message and add_generation_prompt exclude each other: one continues the last "
        "message, the other begins a "
        "new one");
  }
  if (tools != nullptr && tools->is_null()) tools = nullptr;
  const ChatTemplate& chosen = chat_template(tools != nullptr);
  Json normalized = Json::array();
  for (std::size_t i = 0; i < messages.size(); ++i) normalized.push_back(normalize_message(messages[i], i));
  std::string final_text;
  if (options.continue_final_message)
    final_text = append_tag(normalized.back(), options.continue_key, chosen.source());
  ChatInput input;
  input.messages = &normalized;
  input.tools = tools;
  input.documents = options.documents;
  input.kwargs = options.kwargs;
  input.add_generation_prompt = options.add_generation_prompt;
  input.trace = options.trace;
  input.special_tokens = state_->special_tokens;
  input.clock = options.clock;
  Rendered rendered = chosen.render(input);
  if (options.continue_final_message) cut_at_tag(rendered, final_text);
  return rendered;
}

}  // namespace hone::text
