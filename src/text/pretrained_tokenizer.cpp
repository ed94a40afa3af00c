#include "text/pretrained_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"

namespace hone::text {

using Json = nlohmann::ordered_json;

struct PretrainedTokenizer::State {
  State(std::filesystem::path where, Tokenizer t) : directory(std::move(where)), tokenizer(std::move(t)) {}
  std::filesystem::path directory;
  Tokenizer tokenizer;
  std::map<std::string, std::string> special_tokens;
  std::vector<std::int32_t> eos_ids;
  std::map<std::string, ChatTemplate> templates;  // by name; "default" is the usual one
};

namespace {

constexpr const char* kFinalTag = "CONTINUE_FINAL_MESSAGE_TAG ";

/// A JSON object in a file of the directory; null where there is no such file.
Json read_object(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return nullptr;
  Json json = parse_chat_json(read_file(path), path.string());
  if (!json.is_object()) fail("{}: expected a JSON object", path.string());
  return json;
}

/// A token as the files write it: a string, or an AddedToken object with its content.
std::optional<std::string> token_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value["content"].is_string())
    return value["content"].get<std::string>();
  return std::nullopt;
}

/// Every NAME_token of a file, the later file winning.
void read_special_tokens(const Json& json, std::map<std::string, std::string>& tokens) {
  if (!json.is_object()) return;
  for (const auto& [key, value] : json.items()) {
    if (!key.ends_with("_token")) continue;
    if (const auto text = token_text(value)) tokens[key] = *text;
  }
  for (const char* extra : {"extra_special_tokens", "model_specific_special_tokens"})
    if (json.contains(extra)) read_special_tokens(json[extra], tokens);
}

void read_eos_ids(const Json& json, std::vector<std::int32_t>& ids) {
  if (!json.is_object() || !json.contains("eos_token_id")) return;
  const Json& value = json["eos_token_id"];
  if (value.is_number_integer()) ids.push_back(value.get<std::int32_t>());
  if (!value.is_array()) return;
  for (const auto& id : value)
    if (id.is_number_integer()) ids.push_back(id.get<std::int32_t>());
}

using Templates = std::map<std::string, ChatTemplate>;

/// tokenizer_config.json's chat_template: a string, a list of {name, template}, or an object of them.
void read_config_templates(const Json& config, const std::string& file, Templates& templates) {
  if (!config.is_object() || !config.contains("chat_template")) return;
  const Json& value = config["chat_template"];
  const auto add = [&](const std::string& name, const Json& source) {
    if (!source.is_string()) fail("{}: chat_template '{}' is not a string", file, name);
    templates.insert_or_assign(
        name, ChatTemplate::compile(source.get<std::string>(),
                                    file + ": chat_template" + (name == "default" ? "" : " " + name)));
  };
  if (value.is_null()) return;
  if (value.is_string()) return add("default", value);
  if (value.is_object()) {
    for (const auto& [name, source] : value.items()) add(name, source);
    return;
  }
  if (!value.is_array()) fail("{}: chat_template is neither a string nor a list of {{name, template}}", file);
  for (const auto& entry : value) {
    if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string() ||
        !entry.contains("template"))
      fail("{}: an entry of chat_template is not {{name, template}}", file);
    add(entry["name"].get<std::string>(), entry["template"]);
  }
}

void read_template_files(const std::filesystem::path& directory, Templates& templates) {
  const auto add = [&](const std::string& name, const std::filesystem::path& path) {
    templates.insert_or_assign(name, ChatTemplate::compile(read_file(path), path.string()));
  };
  if (std::filesystem::exists(directory / "chat_template.jinja"))
    add("default", directory / "chat_template.jinja");
  const auto more = directory / "additional_chat_templates";
  if (!std::filesystem::is_directory(more)) return;
  for (const auto& entry : std::filesystem::directory_iterator(more))
    if (entry.path().extension() == ".jinja") add(entry.path().stem().string(), entry.path());
}

/// Cuts the rendering of a chat at the tag that its last message carries.
void cut_at_final_tag(Rendered& rendered) {
  std::string tag = kFinalTag;
  auto at = rendered.text.rfind(tag);
  if (at == std::string::npos) {  // the template trimmed it
    tag.pop_back();
    at = rendered.text.rfind(tag);
  }
  if (at == std::string::npos)
    fail("continue_final_message: the chat template does not end with the last message's content");
  const bool trimmed = tag.size() + 1 == std::string(kFinalTag).size() &&
                       rendered.text.compare(at, tag.size() + 1, kFinalTag) != 0;
  while (trimmed && at > 0 && std::isspace(static_cast<unsigned char>(rendered.text[at - 1])) != 0) --at;
  rendered.text.resize(at);
  std::erase_if(rendered.sources, [&](MessageSpan& span) {
    span.end = std::min(span.end, at);
    return span.begin >= span.end;
  });
  std::erase_if(rendered.generation, [&](auto& span) {
    span.second = std::min(span.second, at);
    return span.first >= span.second;
  });
}

/// The messages with the tag behind the last one's content (or behind its last text part).
Json with_final_tag(const Json& messages) {
  Json marked = messages;
  if (!marked.is_array() || marked.empty() || !marked.back().is_object() ||
      !marked.back().contains("content"))
    fail("continue_final_message: the last message has no content");
  Json& content = marked.back()["content"];
  if (content.is_string()) {
    content = content.get<std::string>() + kFinalTag;
    return marked;
  }
  for (auto part = content.rbegin(); content.is_array() && part != content.rend(); ++part) {
    if (!part->is_object() || !part->contains("text") || !(*part)["text"].is_string()) continue;
    (*part)["text"] = (*part)["text"].get<std::string>() + kFinalTag;
    return marked;
  }
  fail("continue_final_message: the last message has no text to continue");
}

}  // namespace

PretrainedTokenizer PretrainedTokenizer::from_pretrained(const std::filesystem::path& directory) {
  if (!std::filesystem::is_directory(directory)) fail("{}: no such directory", directory.string());
  if (!std::filesystem::exists(directory / "tokenizer.json"))
    fail(
        "{}: has no tokenizer.json; hone reads no other tokenizer format (save the tokenizer once with "
        "Transformers to make one)",
        directory.string());
  auto state = std::make_shared<State>(directory, Tokenizer::from_file(directory / "tokenizer.json"));
  const auto config = read_object(directory / "tokenizer_config.json");
  read_special_tokens(read_object(directory / "special_tokens_map.json"), state->special_tokens);
  read_special_tokens(config, state->special_tokens);
  read_config_templates(config, (directory / "tokenizer_config.json").string(), state->templates);
  read_template_files(directory, state->templates);

  read_eos_ids(read_object(directory / "generation_config.json"), state->eos_ids);
  if (state->eos_ids.empty()) read_eos_ids(read_object(directory / "config.json"), state->eos_ids);
  if (const auto eos = state->special_tokens.find("eos_token"); eos != state->special_tokens.end())
    if (const auto id = state->tokenizer.token_to_id(eos->second)) state->eos_ids.push_back(*id);
  std::sort(state->eos_ids.begin(), state->eos_ids.end());
  state->eos_ids.erase(std::unique(state->eos_ids.begin(), state->eos_ids.end()), state->eos_ids.end());

  PretrainedTokenizer tokenizer;
  tokenizer.state_ = std::move(state);
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
  return !state_->templates.empty();
}

std::optional<std::int32_t> PretrainedTokenizer::special_token_id(std::string_view name) const {
  const auto token = state_->special_tokens.find(std::string(name));
  return token == state_->special_tokens.end() ? std::nullopt : state_->tokenizer.token_to_id(token->second);
}

const ChatTemplate& PretrainedTokenizer::chat_template(bool has_tools) const {
  const auto& templates = state_->templates;
  if (has_tools)
    if (const auto found = templates.find("tool_use"); found != templates.end()) return found->second;
  if (const auto found = templates.find("default"); found != templates.end()) return found->second;
  if (templates.empty())
    fail(
        "{}: has no chat template (looked for chat_template.jinja, and chat_template in "
        "tokenizer_config.json); use text or prompt/completion rows, or add one",
        state_->directory.string());
  std::string names;
  for (const auto& [name, unused] : templates) names.append(names.empty() ? "" : ", ").append(name);
  fail("{}: has no chat template named default; there are: {}", state_->directory.string(), names);
}

Rendered PretrainedTokenizer::apply_chat_template(const Json& messages, const Json* tools,
                                                  const ChatOptions& options) const {
  if (options.continue_final_message && options.add_generation_prompt)
    fail("continue_final_message and add_generation_prompt exclude each other");
  const bool has_tools = tools != nullptr && !tools->empty();
  const Json marked = options.continue_final_message ? with_final_tag(messages) : Json();
  Rendered rendered =
      chat_template(has_tools).render({.messages = options.continue_final_message ? &marked : &messages,
                                       .tools = tools,
                                       .documents = options.documents,
                                       .kwargs = options.kwargs,
                                       .add_generation_prompt = options.add_generation_prompt,
                                       .special_tokens = state_->special_tokens,
                                       .clock = options.clock});
  if (options.continue_final_message) cut_at_final_tag(rendered);
  return rendered;
}

}  // namespace hone::text
