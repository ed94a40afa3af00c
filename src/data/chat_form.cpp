#include "data/chat_form.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "data/conversation.h"

namespace hone::data {

namespace {

constexpr std::array<std::string_view, 8> kRoles{"system", "developer", "user",    "assistant",
                                                 "tool",   "function",  "ipython", "observation"};

/// Of a message, in other tools: how much of it is learnt from.
constexpr std::array<std::string_view, 11> kMarks{"mask",       "masked",     "loss_mask",    "trainable",
                                                  "learn",      "train_on",   "train_detail", "train_on_turn",
                                                  "loss_scale", "supervised", "training"};

/// What a part that is no text holds, by its type or by one of its keys.
constexpr std::array<std::string_view, 14> kOtherMedia{
    "image", "image_url", "input_image", "image_pil", "image_base64", "video",      "video_url",
    "audio", "audio_url", "input_audio", "document",  "file",         "input_file", "media"};

const Json* find(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::int64_t drop_null_keys(Json& object) {
  std::int64_t count = 0;
  for (auto it = object.begin(); it != object.end();)
    if (it->is_null()) {
      it = object.erase(it);
      ++count;
    } else {
      ++it;
    }
  return count;
}

class Normaliser {
 public:
  Normaliser(ChatRow& chat, std::vector<Finding>& findings, const std::string& where)
      : chat_(chat), findings_(findings), where_(where) {}

  void run() {
    if (!chat_.tools.is_null()) {
      for (Json& tool : chat_.tools) drop_schema_nulls(tool);
      if (chat_.tools.empty()) chat_.tools = nullptr;
    }
    if (nulls_ > 0) note(FindingKind::kNullInTools, "", "tools", nulls_);
    for (std::size_t i = 0; i < chat_.messages.size(); ++i) {
      place_ = chat_.places[i];
      message(chat_.messages[i]);
    }
  }

 private:
  void note(FindingKind kind, std::string what, std::string place, std::int64_t count = 1) {
    findings_.push_back({kind, std::move(what), std::move(place), count});
  }

  void message(Json& message) {
    role(message);
    marks(message);
    if (const auto content = message.find("content"); content != message.end()) parts(*content);
    const auto calls = message.find("tool_calls");
    if (calls == message.end() || !calls->is_array()) return;
    for (std::size_t i = calls->size(); i-- > 0;)
      if ((*calls)[i].is_null()) calls->erase(i);
    if (calls->empty()) {
      message.erase("tool_calls");
      return;
    }
    for (std::size_t i = 0; i < calls->size(); ++i)
      call((*calls)[i], fmt::format("{}.tool_calls[{}]", place_, i));
  }

  void role(Json& message) {
    const std::string role = message["role"].get<std::string>();
    if (among(kRoles, role)) return;
    const auto meant = role_meant_by(role);
    if (meant.empty()) return note(FindingKind::kUnknownRole, one_line(role, 60), place_ + ".role");
    note(FindingKind::kForeignRole, fmt::format("'{}', taken as '{}'", role, meant), place_ + ".role");
    message["role"] = meant;
  }

  void marks(const Json& message) {
    const bool assistant = message["role"] == "assistant";
    for (const auto& [key, value] : message.items()) {
      if (value.is_null()) continue;
      const bool asks = is_learning_key(key) && !assistant && value != false && value != 0;
      if (asks || among(kMarks, key) || (key == "loss" && !value.is_boolean()))
        note(FindingKind::kIgnoredMark,
             fmt::format("'{}' on a turn of role '{}'", key,
                         one_line(message["role"].get_ref<const std::string&>(), 40)),
             place_ + "." + key);
    }
  }

  void parts(Json& content) {
    if (content.is_object()) content = Json::array({std::move(content)});
    if (!content.is_array()) return;
    for (std::size_t i = 0; i < content.size(); ++i) {
      Json& part = content[i];
      if (part.is_string()) part = Json{{"type", "text"}, {"text", std::move(part)}};
      if (!part.is_object())
        fail("{}: {}.content[{}] is a {}, not a part {{\"type\": \"text\", \"text\": …}}", where_, place_, i,
             type_name(part));
      drop_null_keys(part);
      refuse_other_media(part, i);
      const Json* const text = find(part, "text");
      if (text == nullptr || !text->is_string()) continue;
      const Json* const type = find(part, "type");
      if (type == nullptr || *type == "input_text" || *type == "output_text") part["type"] = "text";
    }
  }

  void refuse_other_media(const Json& part, std::size_t index) const {
    std::string medium;
    if (const Json* const type = find(part, "type"); type != nullptr && type->is_string())
      medium = type->get<std::string>();
    if (!among(kOtherMedia, medium)) {
      if (medium == "text") return;
      const auto key = std::find_if(kOtherMedia.begin(), kOtherMedia.end(),
                                    [&](std::string_view name) { return part.contains(std::string(name)); });
      if (key == kOtherMedia.end()) return;
      medium = *key;
    }
    fail(
        "{}: {}.content[{}] is a part of type '{}'; hone trains on text alone: write what it says as text, "
        "or "
        "remove the row",
        where_, place_, index, medium);
  }

  void call(Json& call, const std::string& place) {
    if (!call.is_object()) return;
    drop_null_keys(call);
    const auto wrapped = call.find("function");
    Json& function = wrapped != call.end() && wrapped->is_object() ? *wrapped : call;
    if (&function != &call) drop_null_keys(function);
    const auto arguments = function.find("arguments");
    if (arguments == function.end() || !arguments->is_object()) return;
    const Json* const name = find(function, "name");
    const std::int64_t count = drop_null_arguments(*arguments, name != nullptr ? schema_of(*name) : nullptr);
    if (count > 0) note(FindingKind::kNullArgument, "", place, count);
  }

  /// The JSON schema of a tool's arguments, or null where the row has none.
  const Json* schema_of(const Json& name) const {
    if (!chat_.tools.is_array()) return nullptr;
    for (const Json& tool : chat_.tools) {
      const Json* const function = find(tool, "function");
      const Json& described = function != nullptr ? *function : tool;
      const Json* const own_name = find(described, "name");
      if (own_name == nullptr || *own_name != name) continue;
      const Json* const schema = find(described, "parameters");
      return schema != nullptr ? schema : find(described, "input_schema");
    }
    return nullptr;
  }

  static bool allows_null(const Json& schema) {
    if (!schema.is_object()) return schema == true;
    if (const Json* const nullable = find(schema, "nullable"); nullable != nullptr && *nullable == true)
      return true;
    bool constrained = false;
    if (const Json* const type = find(schema, "type")) {
      constrained = true;
      if (*type == "null" || std::find(type->begin(), type->end(), "null") != type->end()) return true;
    }
    if (const auto values = schema.find("enum"); values != schema.end() && values->is_array()) {
      constrained = true;
      if (std::any_of(values->begin(), values->end(), [](const Json& v) { return v.is_null(); })) return true;
    }
    for (const char* key : {"anyOf", "oneOf"})
      if (const Json* const choices = find(schema, key); choices != nullptr && choices->is_array()) {
        constrained = true;
        if (std::any_of(choices->begin(), choices->end(), allows_null)) return true;
      }
    return !constrained && !schema.contains("$ref");
  }

  /// `schema`: of this object, or null where it is not known.
  static std::int64_t drop_null_arguments(Json& arguments, const Json* schema) {
    const Json* const properties = schema != nullptr ? find(*schema, "properties") : nullptr;
    std::int64_t count = 0;
    for (auto it = arguments.begin(); it != arguments.end();) {
      const Json* const property = properties != nullptr ? find(*properties, it.key().c_str()) : nullptr;
      if (it->is_null() && (property == nullptr || !allows_null(*property))) {
        it = arguments.erase(it);
        ++count;
        continue;
      }
      if (it->is_object()) count += drop_null_arguments(*it, property);
      if (it->is_array()) {
        const Json* const items = property != nullptr ? find(*property, "items") : nullptr;
        for (Json& item : *it)
          if (item.is_object()) count += drop_null_arguments(item, items);
      }
      ++it;
    }
    return count;
  }

  void drop_schema_nulls(Json& schema) {
    if (schema.is_array())
      for (Json& item : schema) drop_schema_nulls(item);
    if (!schema.is_object()) return;
    for (auto it = schema.begin(); it != schema.end();) {
      if (it->is_null() && it.key() != "default" && it.key() != "const") {
        it = schema.erase(it);
        ++nulls_;
        continue;
      }
      drop_schema_nulls(*it);
      ++it;
    }
  }

  ChatRow& chat_;
  std::vector<Finding>& findings_;
  const std::string& where_;
  std::string place_;
  std::int64_t nulls_ = 0;
};

}  // namespace

void normalise_chat(ChatRow& chat, std::vector<Finding>& findings, const std::string& where) {
  Normaliser(chat, findings, where).run();
}

bool is_text_parts(const Json& content) {
  return content.is_array() && !content.empty() &&
         std::all_of(content.begin(), content.end(), [](const Json& part) {
           const Json* const text = find(part, "text");
           const Json* const type = find(part, "type");
           return text != nullptr && text->is_string() && type != nullptr && *type == "text";
         });
}

std::string joined_parts(const Json& content) {
  std::string text;
  for (const Json& part : content) text += part["text"].get_ref<const std::string&>();
  return text;
}

}  // namespace hone::data
