// The boundary between chats as JSON and the interpreter's values, and between marked text and Rendered.
#include "text/chat_template.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/error.h"
#include "json/parse.h"
#include "text/jinja/ast.h"
#include "text/jinja/interpreter.h"
#include "text/unicode.h"

namespace hone::text {

using jinja::Source;
using jinja::Value;
using Json = nlohmann::ordered_json;

struct ChatTemplate::Program {
  std::string name;
  std::string source;
  jinja::Template parsed;
};

namespace {

constexpr std::size_t kMaxConstruct = 120;
constexpr std::size_t kMaxMessage = 360;

/// Turns the inputs into values that know their message and key.
class InputConverter {
 public:
  /// `numbers_values`: sources say which value of a key they are.
  explicit InputConverter(bool numbers_values) : numbers_values_(numbers_values) {}

  Value messages(const Json& messages) {
    if (!messages.is_array()) return convert(messages, {}, 0);
    std::vector<Value> items;
    std::int32_t index = 0;
    for (const Json& message : messages) items.push_back(this->message(message, index++));
    return jinja::make_list(std::move(items));
  }

  Value convert(const Json& json, Source source, std::uint32_t depth) {
    jinja::checked_depth(depth);
    if (numbers_values_ && source.message != Source::kNoMessage) source.value = ++value_;
    switch (json.type()) {
      case Json::value_t::null:
        return Value::none().with_source(source);
      case Json::value_t::boolean:
        return Value::boolean(json.get<bool>(), source);
      case Json::value_t::number_integer:
        return Value::integer(json.get<std::int64_t>(), source);
      case Json::value_t::number_unsigned:
        return unsigned_integer(json.get<std::uint64_t>(), source);
      case Json::value_t::number_float:
        // Within messages an error only where it would be written; all else is there to be written.
        if (!std::isfinite(json.get<double>()) && source.message == Source::kNoMessage)
          throw jinja::NonFinite();
        return Value::real(json.get<double>(), source);
      case Json::value_t::string:
        return string(json.get_ref<const std::string&>(), source);
      case Json::value_t::array: {
        std::vector<Value> items;
        items.reserve(json.size());
        for (const Json& item : json) items.push_back(convert(item, source, depth + 1));
        return jinja::make_list(std::move(items), source);
      }
      case Json::value_t::object: {
        auto dict = std::make_shared<jinja::Dict>();
        for (const auto& [key, value] : json.items())
          dict->insert(string(key, source), convert(value, source, depth + 1));
        return jinja::make_dict(std::move(dict), source);
      }
      case Json::value_t::binary: {
        const auto& bytes = json.get_binary();
        return jinja::make_big_integer(std::string(bytes.begin(), bytes.end()), source);
      }
      case Json::value_t::discarded:
        break;
    }
    fail("the input of a chat template holds a discarded JSON value");
  }

  /// An input that is no message: `message` is Source::kTools or kDocuments.
  Value input(const Json& json, std::int32_t message) {
    value_ = 0;
    return convert(json, {message, Source::kWholeMessage}, 0);
  }

  const std::string& key_name(std::int32_t index) const { return keys_[static_cast<std::size_t>(index)]; }
  std::int32_t key_index(const std::string& key) {
    for (std::size_t i = 1; i < keys_.size(); ++i) {
      if (keys_[i] == key) return static_cast<std::int32_t>(i);
    }
    keys_.push_back(key);
    return static_cast<std::int32_t>(keys_.size() - 1);
  }

 private:
  Value message(const Json& message, std::int32_t index) {
    const Source whole{index, Source::kWholeMessage};
    if (!message.is_object()) return convert(message, whole, 1);
    auto dict = std::make_shared<jinja::Dict>();
    for (const auto& [key, value] : message.items()) {
      const Source source{index, key_index(key)};
      value_ = 0;
      dict->insert(string(key, source), convert(value, source, 2));
    }
    return jinja::make_dict(std::move(dict), whole);
  }

  static Value unsigned_integer(std::uint64_t value, Source source) {
    if (value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return Value::integer(static_cast<std::int64_t>(value), source);
    }
    return jinja::make_big_integer(std::to_string(value), source);
  }

  static Value string(const std::string& text, Source source) {
    if (const std::size_t bad = unicode::find_invalid(text); bad != std::string::npos) {
      fail("a string in the input of a chat template is not UTF-8 (byte {} of it)", bad);
    }
    return Value::string(text, {source, 0});
  }

  bool numbers_values_;
  std::int32_t value_ = 0;  // the last one numbered
  std::vector<std::string> keys_ = {""};
};

std::vector<Value> make_context(const jinja::SymbolTable& symbols, const ChatInput& input,
                                InputConverter& convert) {
  std::vector<Value> context(symbols.size(), Value::missing());
  const auto set = [&](const std::string& name, auto make) {
    const jinja::Symbol symbol = symbols.find(name);
    if (symbol < context.size()) context[symbol] = make();
  };
  for (const auto& [name, token] : input.special_tokens) {
    set(name, [&, &text = token] { return convert.convert(Json(text), {}, 0); });
  }
  if (input.kwargs != nullptr) {
    if (!input.kwargs->is_object()) fail("the extra variables of a chat template must be a JSON object");
    for (const auto& [name, value] : input.kwargs->items()) {
      set(name, [&, &json = value] { return convert.convert(json, {}, 0); });
    }
  }
  if (input.messages != nullptr) set("messages", [&] { return convert.messages(*input.messages); });
  // Absent tools and documents are none, not undefined, unless the extra variables name them.
  const auto set_optional = [&](const std::string& name, const Json* json, std::int32_t source) {
    if (json == nullptr && input.kwargs != nullptr && input.kwargs->contains(name)) return;
    set(name, [&] { return json == nullptr ? Value::none() : convert.input(*json, source); });
  };
  set_optional("tools", input.tools, Source::kTools);
  set_optional("documents", input.documents, Source::kDocuments);
  set("add_generation_prompt", [&] { return Value::boolean(input.add_generation_prompt); });
  return context;
}

Rendered to_rendered(const jinja::Text& text, const InputConverter& inputs) {
  Rendered rendered;
  rendered.text = text.bytes;
  std::size_t begin = 0;
  Source last_source;
  std::int32_t last_generation = 0;
  for (const jinja::Text::Run& run : text.runs) {
    const Source source = run.mark.source;
    if (source.is_message()) {
      if (source.message == last_source.message && source.key == last_source.key) {
        rendered.sources.back().end = run.end;
      } else {
        rendered.sources.push_back({begin, run.end, source.message, inputs.key_name(source.key)});
      }
    }
    if (run.mark.generation != 0) {
      if (run.mark.generation == last_generation) {
        rendered.generation.back().second = run.end;
      } else {
        rendered.generation.emplace_back(begin, run.end);
      }
    }
    last_source = source;
    last_generation = run.mark.generation;
    begin = run.end;
  }
  return rendered;
}

/// Finds the values of an input that left no character in a text.
class Tracer {
 public:
  Tracer(const jinja::Text& text, InputConverter& inputs, Rendered& rendered)
      : inputs_(inputs), rendered_(rendered) {
    for (const jinja::Text::Run& run : text.runs)
      if (run.mark.source.message != Source::kNoMessage) written_.push_back(run.mark.source);
    std::sort(written_.begin(), written_.end(), before);
    written_.erase(std::unique(written_.begin(), written_.end()), written_.end());
  }

  void messages(const Json& messages) {
    static const std::string kMessages = "messages";
    if (!messages.is_array()) return;
    for (std::size_t i = 0; i < messages.size(); ++i) {
      if (!messages[i].is_object()) continue;
      for (const auto& [key, value] : messages[i].items()) {
        source_ = {static_cast<std::int32_t>(i), inputs_.key_index(key)};
        path_ = {{&kMessages}, {nullptr, i}, {&key}};
        const auto first = source_.value + 1;
        walk(value);
        if (key == "content" && value.is_structured() && is_written_container(value, first))
          rendered_.written_containers.push_back(i);
      }
    }
  }

  void input(const std::string& name, const Json& json, std::int32_t message) {
    source_ = {message, Source::kWholeMessage};
    path_ = {{&name}};
    walk(json);
  }

 private:
  static bool before(const Source& a, const Source& b) {
    return std::tie(a.message, a.key, a.value) < std::tie(b.message, b.key, b.value);
  }
  bool is_written(const Source& source) const {
    return std::binary_search(written_.begin(), written_.end(), source, before);
  }

  /// Of a path: a key, or an index.
  struct Step {
    const std::string* key = nullptr;
    std::size_t index = 0;
  };

  /// Counts as InputConverter does.
  void walk(const Json& json) {
    ++source_.value;
    if (json.is_array()) {
      for (std::size_t i = 0; i < json.size(); ++i) walk_member(json[i], {nullptr, i});
    } else if (json.is_object()) {
      for (const auto& [key, value] : json.items()) walk_member(value, {&key});
    } else if (!json.is_null() && !json.is_boolean() && !is_blank(json) && !is_written(source_)) {
      Json::json_pointer pointer;
      for (const Step& step : path_)
        pointer.push_back(step.key != nullptr ? *step.key : std::to_string(step.index));
      rendered_.unwritten.push_back(pointer.to_string());
    }
  }
  void walk_member(const Json& json, Step step) {
    path_.push_back(step);
    walk(json);
    path_.pop_back();
  }

  static bool is_blank(const Json& json) {
    return json.is_string() &&
           json.get_ref<const std::string&>().find_first_not_of(" \t\r\n") == std::string::npos;
  }

  /// Is a container, or one that it holds, written with its own characters? Its number is `value`.
  bool is_written_container(const Json& json, std::int32_t value) const {
    std::int32_t next = value;
    return container_written(json, next);
  }
  bool container_written(const Json& json, std::int32_t& next) const {
    const Source source{source_.message, source_.key, next++};
    if (!json.is_structured()) return false;
    bool written = is_written(source);
    for (const Json& member : json) written = container_written(member, next) || written;
    return written;
  }

  InputConverter& inputs_;
  Rendered& rendered_;
  std::vector<Source> written_;
  Source source_;
  std::vector<Step> path_;
};

/// Text on one line of at most `limit` bytes: line breaks, with the white space around them, become single
/// spaces.
std::string on_one_line(std::string_view text, std::size_t limit) {
  constexpr std::string_view kSpace = " \t\r\n";
  std::string line;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] != '\n' && text[at] != '\r') {
      line += text[at++];
      continue;
    }
    line.erase(line.find_last_not_of(kSpace) + 1);
    at = std::min(text.find_first_not_of(kSpace, at), text.size());
    if (at < text.size()) line += ' ';
  }
  if (line.size() <= limit) return line;
  std::size_t cut = limit;
  while (cut > 0 && !unicode::is_boundary_byte(line[cut])) --cut;
  return line.substr(0, cut) + "…";
}

/// Which number of the inputs JSON does not have, and what to write.
std::optional<std::string> non_finite_input(const ChatInput& input) {
  const std::array<std::pair<const char*, const Json*>, 4> all{{{"messages", input.messages},
                                                                {"tools", input.tools},
                                                                {"documents", input.documents},
                                                                {"chat_template_kwargs", input.kwargs}}};
  for (const auto& [name, json] : all) {
    if (json == nullptr) continue;
    if (const auto found = find_non_finite(*json, name))
      return fmt::format("{}, {}", *found, kNonFiniteAdvice);
  }
  return std::nullopt;
}

/// " (in {{ … }})": the tag at a position.
std::string construct_at(const jinja::Template& parsed, jinja::Position position) {
  if (position.tag == 0 || position.tag >= parsed.tags.size()) return "";
  const jinja::Tag tag = parsed.tags[position.tag];
  return fmt::format(
      " (in {})",
      on_one_line(std::string_view(parsed.source).substr(tag.begin, tag.end - tag.begin), kMaxConstruct));
}

}  // namespace

Json parse_chat_json(std::string_view text, std::string_view where) {
  return parse_json(
      text, std::string(where),
      {.repeated_keys = RepeatedKeys::kLastWins, .exact_integers = true, .name_has_line = true});
}

ChatTemplate::ChatTemplate(std::shared_ptr<const Program> program) : program_(std::move(program)) {}

ChatTemplate ChatTemplate::compile(std::string source, std::string name) {
  if (const std::size_t bad = unicode::find_invalid(source); bad != std::string::npos) {
    fail("{}: the template is not UTF-8 (byte {})", name, bad);
  }
  try {
    auto program = std::make_shared<Program>();
    program->parsed = jinja::parse_template(source);
    program->name = std::move(name);
    program->source = std::move(source);
    return ChatTemplate(std::move(program));
  } catch (const jinja::SyntaxError& error) {
    fail("{}:{}: {}", name, error.line(), on_one_line(error.what(), kMaxMessage));
  } catch (const jinja::Raise& error) {
    fail("{}: {}", name, error.what());
  }
}

Rendered ChatTemplate::render(const ChatInput& input) const {
  const jinja::Budget budget(input.limits.steps,
                             input.limits.held_bytes);  // before the values that it counts
  InputConverter convert(input.trace);
  std::vector<Value> context;
  try {
    context = make_context(program_->parsed.symbols, input, convert);
  } catch (const jinja::NonFinite& error) {
    fail("{}: {}", program_->name, non_finite_input(input).value_or(error.what()));
  } catch (const jinja::Raise& error) {
    fail("{}: the template's input: {}", program_->name, error.what());
  }
  jinja::Interpreter interpreter(program_->parsed, std::move(context), input.clock);
  try {
    const jinja::TextRef text = interpreter.render();
    Rendered rendered = to_rendered(*text, convert);
    if (!input.trace) return rendered;
    Tracer tracer(*text, convert, rendered);
    if (input.messages != nullptr) tracer.messages(*input.messages);
    if (input.tools != nullptr) tracer.input("tools", *input.tools, Source::kTools);
    if (input.documents != nullptr) tracer.input("documents", *input.documents, Source::kDocuments);
    return rendered;
  } catch (const jinja::NonFinite& error) {
    fail("{}:{}: {}{}", program_->name, interpreter.position().line,
         non_finite_input(input).value_or(error.what()),
         construct_at(program_->parsed, interpreter.position()));
  } catch (const jinja::Raise& error) {
    fail("{}:{}: {}{}", program_->name, interpreter.position().line, on_one_line(error.what(), kMaxMessage),
         construct_at(program_->parsed, interpreter.position()));
  }
}

bool ChatTemplate::has_generation_blocks() const {
  return program_->parsed.has_generation;
}
const std::string& ChatTemplate::source() const {
  return program_->source;
}
const std::string& ChatTemplate::name() const {
  return program_->name;
}

}  // namespace hone::text
