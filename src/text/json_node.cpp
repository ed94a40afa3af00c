// Typed access to tokenizer.json with key paths in the errors.
#include "text/json_node.h"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/suggest.h"
#include "text/unicode.h"

namespace hone::text::tok {

JsonNode JsonNode::child(const nlohmann::json& value, std::string path) const {
  JsonNode node(value, *file_);
  node.path_ = std::move(path);
  node.depth_ = depth_ + 1;
  return node;
}

std::string JsonNode::location() const {
  return path_.empty() ? *file_ : *file_ + ": " + path_;
}

void JsonNode::fail_here(std::string_view message) const {
  fail("{}: {}", location(), message);
}

void JsonNode::fail_type(std::string_view expected) const {
  fail_here(fmt::format("expected {}, found {}", expected, value_->type_name()));
}

void JsonNode::require_object() const {
  if (!value_->is_object()) fail_type("an object");
}

JsonNode JsonNode::at(std::string_view key) const {
  require_object();
  const auto it = value_->find(key);
  if (it == value_->end()) {
    std::vector<std::string> present;
    for (const auto& item : value_->items()) {
      if (present.size() < 64) present.push_back(item.key());
    }
    const std::string near = nearest_name(key, present);
    fail_here(
        fmt::format("'{}' is missing{}", key, near.empty() ? "" : "; is '" + shown(near) + "' a typo?"));
  }
  return child(*it, path_.empty() ? std::string(key) : path_ + "." + std::string(key));
}

std::optional<JsonNode> JsonNode::find(std::string_view key) const {
  require_object();
  const auto it = value_->find(key);
  if (it == value_->end() || it->is_null()) return std::nullopt;
  return at(key);
}

JsonNode JsonNode::at(std::size_t index) const {
  if (!value_->is_array()) fail_type("an array");
  if (index >= value_->size()) fail_here(fmt::format("element {} is missing", index));
  return child((*value_)[index], path_ + "[" + std::to_string(index) + "]");
}

std::size_t JsonNode::array_size() const {
  if (!value_->is_array()) fail_type("an array");
  return value_->size();
}

const std::string& JsonNode::string() const {
  if (!value_->is_string()) fail_type("a string");
  return value_->get_ref<const std::string&>();
}

bool JsonNode::boolean() const {
  if (!value_->is_boolean()) fail_type("true or false");
  return value_->get<bool>();
}

std::uint64_t JsonNode::unsigned_integer() const {
  if (value_->is_number_unsigned()) return value_->get<std::uint64_t>();
  if (value_->is_number()) fail_here(fmt::format("expected an integer from 0, found {}", value_->dump()));
  fail_type("an integer from 0");
}

double JsonNode::number() const {
  if (!value_->is_number()) fail_type("a number");
  return value_->get<double>();
}

char32_t JsonNode::character() const {
  const std::string& text = string();
  std::size_t at_byte = 0;
  const char32_t code = text.empty() ? U'\0' : unicode::decode(text, at_byte);
  if (text.empty() || at_byte != text.size()) {
    fail_here(fmt::format("expected one character, found '{}'", shown(text)));
  }
  return code;
}

std::size_t JsonNode::one_of(std::span<const std::string> known, std::string_view what) const {
  const std::string& name = string();
  std::string list;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (known[i] == name) return i;
    list += (i == 0 ? "" : ", ") + known[i];
  }
  fail_here(fmt::format("unsupported {} '{}'; supported: {}", what, shown(name), list));
}

bool JsonNode::flag_or(std::string_view key, bool fallback) const {
  const auto node = find(key);
  return node ? node->boolean() : fallback;
}

bool JsonNode::is_string() const {
  return value_->is_string();
}
bool JsonNode::is_array() const {
  return value_->is_array();
}

std::string shown(std::string_view text) {
  std::string out;
  const bool cut = text.size() > 60;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (cut && out.size() >= 57 && unicode::is_boundary_byte(text[i])) break;
    out += static_cast<unsigned char>(text[i]) < 0x20 || text[i] == 0x7F ? '?' : text[i];
  }
  return cut ? out + "..." : out;
}

}  // namespace hone::text::tok
