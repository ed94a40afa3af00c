#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "data/chat_rendering.h"
#include "data/conversation.h"
#include "data/supervision.h"

namespace hone::data {

namespace {

using text::Rendered;

/// Something a row says that the template may have left out.
struct Field {
  FindingKind kind;
  std::string what;
  std::string place;
  std::optional<std::size_t> message;  // nothing: of the row
  std::vector<std::string> values;     // pointers, as in Rendered::unwritten
};

constexpr std::array<std::string_view, 3> kReasoning{"reasoning_content", "thinking", "reasoning"};
/// Keys of a message that say who speaks to whom; is_learning_key: or how it is learnt.
constexpr std::array<std::string_view, 2> kSilentKeys{"role", "id"};

std::vector<std::string> steps_of(const std::string& pointer) {
  std::vector<std::string> steps;
  Json::json_pointer path(pointer);
  for (; !path.empty(); path.pop_back()) steps.push_back(path.back());
  std::reverse(steps.begin(), steps.end());
  return steps;
}

std::size_t number(const std::string& step) {
  return static_cast<std::size_t>(std::stoull(step));
}

std::int64_t count_values(const Json& json) {
  if (json.is_structured()) {
    std::int64_t count = 0;
    for (const Json& member : json) count += count_values(member);
    return count;
  }
  if (json.is_string())
    return json.get_ref<const std::string&>().find_first_not_of(" \t\r\n") == std::string::npos ? 0 : 1;
  return json.is_null() || json.is_boolean() ? 0 : 1;
}

/// From unwritten values to fields.
class FieldFinder {
 public:
  explicit FieldFinder(const ChatRow& chat) : chat_(chat) {}

  std::vector<Field> find(const std::vector<std::string>& unwritten) {
    for (const auto& pointer : unwritten) {
      const auto steps = steps_of(pointer);
      if (steps.size() < 2) continue;
      if (steps[0] == "messages")
        in_message(number(steps[1]), steps, pointer);
      else
        in_list(steps, pointer);
    }
    finish_messages();
    finish_lists();
    return std::move(fields_);
  }

 private:
  Field& field(FindingKind kind, std::string what, std::string place, std::optional<std::size_t> message) {
    const auto same = std::find_if(fields_.begin(), fields_.end(),
                                   [&](const Field& f) { return f.kind == kind && f.place == place; });
    if (same != fields_.end()) return *same;
    fields_.push_back({kind, std::move(what), std::move(place), message, {}});
    return fields_.back();
  }

  void in_message(std::size_t i, const std::vector<std::string>& steps, const std::string& pointer) {
    if (steps.size() < 3 || i >= chat_.messages.size()) return;
    const std::string& key = steps[2];
    const std::string place = chat_.places[i] + "." + key;
    const auto add = [&](FindingKind kind, std::string what, const std::string& where) {
      field(kind, std::move(what), where, i).values.push_back(pointer);
    };
    if (key == "content") {
      if (steps.size() == 3) return add(content_kind(i), role(i), place);
      if (steps.back() == "type") return;
      return add(FindingKind::kDroppedPart, role(i), place + "[" + steps[3] + "]");
    }
    if (among(kReasoning, key)) return add(FindingKind::kDroppedReasoning, "reasoning", chat_.places[i]);
    if (key == "tool_calls" || key == "function_call") return in_call(i, steps, pointer, place);
    if (!among(kSilentKeys, key) && !is_learning_key(key))
      add(FindingKind::kUnreadKey, one_line(key, 60), place);
  }

  void in_call(std::size_t i, const std::vector<std::string>& steps, const std::string& pointer,
               std::string place) {
    std::size_t at = 3;
    if (steps[2] == "tool_calls" && steps.size() > 3) place += "[" + steps[at++] + "]";
    if (at < steps.size() && steps[at] == "function") ++at;
    if (at >= steps.size()) return;
    const std::string& key = steps[at];
    if (key == "id" || key == "type" || key == "index") return;
    const bool name = key == "name";
    field(name ? FindingKind::kDroppedCall : FindingKind::kDroppedArguments, name ? "" : one_line(key, 60),
          place, i)
        .values.push_back(pointer);
  }

  void in_list(const std::vector<std::string>& steps, const std::string& pointer) {
    const bool tools = steps[0] == "tools";
    field(tools ? FindingKind::kDroppedTool : FindingKind::kDroppedDocument, "",
          fmt::format("{}[{}]", steps[0], steps[1]), std::nullopt)
        .values.push_back(pointer);
  }

  /// Reasoning is seen under several names, one of which is enough; a call without its name is lost as a
  /// whole; content without any of its parts is lost as content.
  void finish_messages() {
    std::vector<std::string> lost_calls;
    for (const Field& f : fields_)
      if (f.kind == FindingKind::kDroppedCall) lost_calls.push_back(f.place);
    std::erase_if(fields_, [&](const Field& f) {
      if (f.kind == FindingKind::kDroppedArguments) return among(lost_calls, f.place);
      if (f.kind != FindingKind::kDroppedReasoning) return false;
      const Json& message = chat_.messages[*f.message];
      const bool third = message.contains("reasoning") && !message["reasoning"].is_null();
      return f.values.size() < (third ? 3U : 2U);
    });
    for (std::size_t i = 0; i < chat_.messages.size(); ++i) {
      const auto content = chat_.messages[i].find("content");
      if (content == chat_.messages[i].end() || !content->is_array()) continue;
      const auto is_part = [&](const Field& f) {
        return f.kind == FindingKind::kDroppedPart && f.message == i;
      };
      const auto lost = std::count_if(fields_.begin(), fields_.end(), is_part);
      if (lost == 0 || lost < static_cast<std::ptrdiff_t>(content->size())) continue;
      Field whole{content_kind(i), role(i), chat_.places[i] + ".content", i, {}};
      for (const Field& f : fields_)
        if (is_part(f)) whole.values.insert(whole.values.end(), f.values.begin(), f.values.end());
      std::erase_if(fields_, is_part);
      fields_.push_back(std::move(whole));
    }
  }

  /// Templates pick from a tool's schema and from a document what they need: lost is one of which there is
  /// nothing, or a tool without its name.
  void finish_lists() {
    std::erase_if(fields_, [&](const Field& f) {
      if (f.message) return false;
      const auto steps = steps_of(f.values.front());
      const Json& list = steps[0] == "tools" ? chat_.tools : chat_.documents;
      const Json& item = list[number(steps[1])];
      const bool named = f.kind == FindingKind::kDroppedTool &&
                         std::any_of(f.values.begin(), f.values.end(), [&](const std::string& value) {
                           return value == fmt::format("/tools/{}/function/name", steps[1]) ||
                                  value == fmt::format("/tools/{}/name", steps[1]);
                         });
      return !named && static_cast<std::int64_t>(f.values.size()) < count_values(item);
    });
  }

  std::string role(std::size_t i) const {
    return one_line(chat_.messages[i]["role"].get_ref<const std::string&>(), 40);
  }
  FindingKind content_kind(std::size_t i) const {
    const Json& role = chat_.messages[i]["role"];
    return role == "system" || role == "developer" ? FindingKind::kDroppedSystem
                                                   : FindingKind::kDroppedContent;
  }

  const ChatRow& chat_;
  std::vector<Field> fields_;
};

/// Another value, that a template which only tests values does not tell from the old one.
void change(Json& value) {
  if (value.is_string())
    value = value.get_ref<const std::string&>() + "x";
  else if (value.is_number_integer())
    value = value.get<std::int64_t>() % 1000 + 1;
  else if (value.is_number())
    value = value.get<double>() / 2 + 1;
}

ChatRow changed(const ChatRow& chat, const std::vector<const Field*>& fields) {
  ChatRow other = chat;
  for (const Field* field : fields) {
    for (const auto& pointer : field->values) {
      auto steps = steps_of(pointer);
      Json& root = steps[0] == "messages" ? other.messages
                   : steps[0] == "tools"  ? other.tools
                                          : other.documents;
      Json::json_pointer path;
      for (std::size_t i = 1; i < steps.size(); ++i) path /= steps[i];
      if (root.contains(path)) change(root[path]);
    }
    // Reasoning is seen under other names than the row's.
    if (field->kind == FindingKind::kDroppedReasoning)
      for (const auto& key : kReasoning)
        if (Json& message = other.messages[*field->message]; message.contains(key))
          message[std::string(key)] = "another thought";
  }
  return other;
}

bool left_out(const Rendered& rendered, const Field& field) {
  return std::all_of(field.values.begin(), field.values.end(),
                     [&](const std::string& value) { return among(rendered.unwritten, value); });
}

ChatRow first_messages(const ChatRow& chat, std::size_t count) {
  ChatRow part = chat;
  part.messages.erase(part.messages.begin() + static_cast<std::ptrdiff_t>(count), part.messages.end());
  return part;
}

/// Tells what is lost from what the template takes account of otherwise.
class Judge {
 public:
  Judge(const ChatRow& chat, const Rendered& rendered, const TracingRenderer& render, bool generation_prompt)
      : chat_(chat), rendered_(rendered), render_(render), generation_prompt_(generation_prompt) {}

  /// Keeps the fields whose values make no difference.
  void keep_lost(std::vector<Field>& fields) const {
    std::vector<const Field*> all;
    for (const Field& field : fields)
      if (field.kind != FindingKind::kUnreadKey) all.push_back(&field);
    if (all.empty() || makes_no_difference(all)) return;
    std::erase_if(fields, [&](const Field& field) {
      return field.kind != FindingKind::kUnreadKey && !makes_no_difference({&field});
    });
  }

  /// Is the field written where its message is the last?
  bool is_written_when_last(const Field& field) const {
    const std::size_t i = *field.message;
    if (i + 1 >= chat_.messages.size()) return false;
    const auto alone = try_render(render_, first_messages(chat_, i + 1), false);
    return alone && !left_out(*alone, field);
  }

  /// Is it written in front of an answer, where the model is asked for one?
  bool is_written_when_asked(const Field& field) const {
    std::size_t last = chat_.messages.size();
    while (last > 0 && chat_.messages[last - 1]["role"] != "assistant") --last;
    if (last < 2 || *field.message >= last - 1) return false;
    const auto asked = try_render(render_, first_messages(chat_, last - 1), true);
    return asked && !left_out(*asked, field);
  }

 private:
  bool makes_no_difference(const std::vector<const Field*>& fields) const {
    const auto other = try_render(render_, changed(chat_, fields), generation_prompt_);
    return other && other->text == rendered_.text;
  }

  const ChatRow& chat_;
  const Rendered& rendered_;
  const TracingRenderer& render_;
  bool generation_prompt_;
};

/// Reports turns that say nothing: because their calls are lost, or of themselves.
void find_silent_turns(const ChatRow& chat, const Rendered& rendered, const std::vector<Field>& lost,
                       std::vector<Finding>& findings) {
  for (std::size_t i = 0; i < chat.messages.size(); ++i) {
    if (chat.messages[i]["role"] != "assistant" || chat.weights[i] == 0) continue;
    const bool speaks =
        std::any_of(rendered.sources.begin(), rendered.sources.end(), [&](const text::MessageSpan& span) {
          return span.message == static_cast<int>(i) && is_content(span);
        });
    if (speaks) continue;
    const auto of_turn = [&](FindingKind kind) {
      return std::any_of(lost.begin(), lost.end(),
                         [&](const Field& field) { return field.kind == kind && field.message == i; });
    };
    if (of_turn(FindingKind::kDroppedCall))
      findings.push_back({FindingKind::kSilentTurn, "", chat.places[i]});
    if (!chat.messages[i].contains("tool_calls") && !of_turn(FindingKind::kDroppedContent))
      findings.push_back({FindingKind::kEmptyTurn, "", chat.places[i]});
  }
}

}  // namespace

void find_dropped(const ChatRow& chat, const Rendered& rendered, const TracingRenderer& render,
                  bool generation_prompt, std::vector<Finding>& findings) {
  auto fields = FieldFinder(chat).find(rendered.unwritten);
  const Judge judge(chat, rendered, render, generation_prompt);
  judge.keep_lost(fields);
  find_silent_turns(chat, rendered, fields, findings);
  std::map<FindingKind, bool> by_design;  // asked once of a kind: it is the template's way
  for (Field& field : fields) {
    const bool of_earlier_turn = field.message && field.kind != FindingKind::kUnreadKey &&
                                 chat.messages[*field.message]["role"] == "assistant" &&
                                 *field.message + 1 < chat.messages.size();
    if (of_earlier_turn && !by_design.contains(field.kind))
      by_design[field.kind] = judge.is_written_when_last(field);
    if (of_earlier_turn && by_design[field.kind]) {
      field.what = field.kind == FindingKind::kDroppedReasoning ? "reasoning" : "words";
      field.kind = FindingKind::kDroppedHistory;
    } else if (field.kind == FindingKind::kDroppedSystem && judge.is_written_when_asked(field)) {
      field.what += ", though the model is asked with it";
    }
    findings.push_back({field.kind, std::move(field.what), std::move(field.place)});
  }
}

}  // namespace hone::data
