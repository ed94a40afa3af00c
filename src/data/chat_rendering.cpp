#include "data/chat_rendering.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "data/chat_form.h"

namespace hone::data {

namespace {

using text::Rendered;

/// One value of a chat's messages that is given another form.
struct Edit {
  Json::json_pointer at;  // in the messages
  Json value;
  Finding finding;
  std::string watched = "";  // what must not be left out with it: a pointer as in Rendered::unwritten
};
using Edits = std::vector<Edit>;

ChatRow edited(const ChatRow& chat, const Edits& edits) {
  ChatRow result = chat;
  for (const Edit& edit : edits) result.messages[edit.at] = edit.value;
  return result;
}

/// JSON as Python's json.dumps writes it, which is how templates write it, too.
std::string python_json(const Json& value) {
  static const auto printer = text::ChatTemplate::compile("{{ value | tojson }}", "tojson");
  const Json variables{{"value", value}};
  text::ChatInput input;
  input.kwargs = &variables;
  return printer.render(input).text;
}

std::string pointer(std::size_t message, const std::string& rest) {
  return "/messages/" + std::to_string(message) + rest;
}

bool leaves_out(const Rendered& rendered, const std::string& beginning) {
  return std::any_of(rendered.unwritten.begin(), rendered.unwritten.end(), [&](const std::string& path) {
    return path.starts_with(beginning) && (path.size() == beginning.size() || path[beginning.size()] == '/');
  });
}

Json::json_pointer at(std::size_t message, const std::string& key) {
  return Json::json_pointer() / message / key;
}

/// Calls `use(arguments, their pointer, the call's place)` for every tool call with arguments.
template <typename Use>
void for_each_arguments(const ChatRow& chat, const Use& use) {
  for (std::size_t i = 0; i < chat.messages.size(); ++i) {
    const auto calls = chat.messages[i].find("tool_calls");
    if (calls == chat.messages[i].end() || !calls->is_array()) continue;
    for (std::size_t j = 0; j < calls->size(); ++j) {
      const Json& call = (*calls)[j];
      if (!call.is_object()) continue;
      const bool wrapped = call.contains("function") && call["function"].is_object();
      const Json& function = wrapped ? call["function"] : call;
      auto path = at(i, "tool_calls") / j;
      if (wrapped) path /= "function";
      if (function.contains("arguments"))
        use(function["arguments"], path / "arguments", fmt::format("{}.tool_calls[{}]", chat.places[i], j));
    }
  }
}

/// A way to edit a chat for its template: where the rendering shows the need, or, where there is none because
/// the template refused, wherever it could help.
using Form = Edits (*)(const ChatRow&, const Rendered*);

Edits join_parts(const ChatRow& chat, const Rendered* rendered) {
  Edits edits;
  for (std::size_t i = 0; i < chat.messages.size(); ++i) {
    const auto content = chat.messages[i].find("content");
    if (content == chat.messages[i].end() || !is_text_parts(*content)) continue;
    if (rendered != nullptr) {
      const auto& containers = rendered->written_containers;
      bool needed = std::find(containers.begin(), containers.end(), i) != containers.end();
      for (std::size_t part = 0; part < content->size(); ++part)
        needed = needed || leaves_out(*rendered, pointer(i, fmt::format("/content/{}/text", part)));
      if (!needed) continue;
    }
    edits.push_back({at(i, "content"),
                     joined_parts(*content),
                     {FindingKind::kJoinedParts, "", chat.places[i] + ".content"},
                     pointer(i, "/content")});
  }
  return edits;
}

/// Is a string written as a JSON string, its quotes escaped?
bool is_quoted(const Json& value, std::string_view text) {
  const bool has_quotes = value.get_ref<const std::string&>().find('"') != std::string::npos;
  if (has_quotes && text.find("\\\"") == std::string_view::npos) return false;  // most rows end here
  return text.find(python_json(value)) != std::string_view::npos;
}

Edits parse_arguments(const ChatRow& chat, const Rendered* rendered) {
  Edits edits;
  for_each_arguments(chat, [&](const Json& arguments, const auto& path, const std::string& place) {
    if (!arguments.is_string()) return;
    if (rendered != nullptr && !is_quoted(arguments, rendered->text) &&
        !leaves_out(*rendered, "/messages" + path.to_string()))
      return;
    try {
      Json parsed = text::parse_chat_json(arguments.get_ref<const std::string&>(), place);
      if (parsed.is_object())
        edits.push_back({path, std::move(parsed), {FindingKind::kParsedArguments, "", place}});
    } catch (const Error&) {
      return;  // no JSON: it is what it is
    }
  });
  return edits;
}

Edits print_arguments(const ChatRow& chat, const Rendered* rendered) {
  Edits edits;
  for_each_arguments(chat, [&](const Json& arguments, const auto& path, const std::string& place) {
    if (!arguments.is_object() || (rendered != nullptr && arguments.empty())) return;
    if (rendered != nullptr &&
        rendered->text.find("{'" + arguments.begin().key() + "': ") == std::string::npos)
      return;
    edits.push_back({path, python_json(arguments), {FindingKind::kPrintedArguments, "", place}});
  });
  return edits;
}

Edits make_developer_system(const ChatRow& chat, const Rendered* rendered) {
  Edits edits;
  for (std::size_t i = 0; i < chat.messages.size(); ++i) {
    if (chat.messages[i]["role"] != "developer") continue;
    if (rendered != nullptr && !leaves_out(*rendered, pointer(i, "/content"))) continue;
    edits.push_back({at(i, "role"),
                     "system",
                     {FindingKind::kDeveloperAsSystem, "", chat.places[i] + ".role"},
                     pointer(i, "/content")});
  }
  return edits;
}

Edits fill_in_content(const ChatRow& chat, const Rendered* rendered) {
  Edits edits;
  for (std::size_t i = 0; rendered == nullptr && i < chat.messages.size(); ++i) {
    const auto content = chat.messages[i].find("content");
    if (content == chat.messages[i].end() || content->is_null())
      edits.push_back({at(i, "content"), "", {FindingKind::kEmptyContent, "", chat.places[i]}});
  }
  return edits;
}

/// The mildest first.
constexpr std::array<Form, 5> kForms{fill_in_content, join_parts, make_developer_system, print_arguments,
                                     parse_arguments};

void keep(ChatRow& chat, const Edits& edits, std::vector<Finding>& findings) {
  chat = edited(chat, edits);
  for (const Edit& edit : edits) findings.push_back(edit.finding);
}

/// The template refuses the chat: one form alone may help, or several together.
std::optional<Rendered> render_refused(ChatRow& chat, const TracingRenderer& render, bool generation_prompt,
                                       std::vector<Finding>& findings) {
  std::vector<Edits> candidates;
  Edits together;
  for (const Form form : kForms) {
    candidates.push_back(form(chat, nullptr));
    if (form == parse_arguments) continue;  // the opposite of print_arguments
    together.insert(together.end(), candidates.back().begin(), candidates.back().end());
    if (together.size() > candidates.back().size()) candidates.push_back(together);
  }
  for (const Edits& edits : candidates) {
    if (edits.empty()) continue;
    auto rendered = try_render(render, edited(chat, edits), generation_prompt);
    if (!rendered) continue;
    keep(chat, edits, findings);
    return rendered;
  }
  return std::nullopt;
}

/// Does an edited chat's rendering show what the edits were for?
bool mends(const Form form, const ChatRow& chat, const Edits& edits, const Rendered& rendered) {
  return form(chat, &rendered).empty() && std::none_of(edits.begin(), edits.end(), [&](const Edit& edit) {
           return !edit.watched.empty() && leaves_out(rendered, edit.watched);
         });
}

}  // namespace

std::optional<Rendered> try_render(const TracingRenderer& render, const ChatRow& chat,
                                   bool generation_prompt) {
  try {
    return render(chat, generation_prompt);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUser) throw;
    return std::nullopt;
  }
}

Rendered render_adapted(ChatRow& chat, const TracingRenderer& render, bool generation_prompt,
                        std::vector<Finding>& findings) {
  Rendered rendered;
  try {
    rendered = render(chat, generation_prompt);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUser) throw;
    auto adapted = render_refused(chat, render, generation_prompt, findings);
    if (!adapted) throw;
    rendered = *std::move(adapted);
  }
  for (const Form form : kForms) {
    const Edits edits = form(chat, &rendered);
    if (edits.empty()) continue;
    const ChatRow candidate = edited(chat, edits);
    auto adapted = try_render(render, candidate, generation_prompt);
    if (!adapted || !mends(form, candidate, edits, *adapted)) continue;
    keep(chat, edits, findings);
    rendered = *std::move(adapted);
  }
  return rendered;
}

}  // namespace hone::data
