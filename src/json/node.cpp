#include "json/node.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/message.h"
#include "base/suggest.h"

namespace hone {

using Json = nlohmann::ordered_json;

struct JsonNode::Document {
  std::string name;
  Json root;
};

JsonNode::JsonNode(std::shared_ptr<const Document> document, const nlohmann::ordered_json* value,
                   std::string path, std::size_t depth)
    : document_(std::move(document)), value_(value), path_(std::move(path)), depth_(depth) {}

JsonNode JsonNode::read(const std::filesystem::path& path, const JsonOptions& options) {
  return parse(read_regular_file(path), path.string(), options);
}

JsonNode JsonNode::parse(std::string_view text, const std::string& name, const JsonOptions& options) {
  return of(parse_json(text, name, options), name);
}

JsonNode JsonNode::of(Json value, const std::string& name) {
  auto document = std::make_shared<Document>(Document{name, std::move(value)});
  const Json* root = &document->root;
  return {std::move(document), root, "", 0};
}

bool JsonNode::is_null() const {
  return value_->is_null();
}
bool JsonNode::is_object() const {
  return value_->is_object();
}
bool JsonNode::is_array() const {
  return value_->is_array();
}
bool JsonNode::is_string() const {
  return value_->is_string();
}
bool JsonNode::is_bool() const {
  return value_->is_boolean();
}
bool JsonNode::is_integer() const {
  return value_->is_number_integer();
}
bool JsonNode::is_number() const {
  return value_->is_number();
}

bool JsonNode::has(std::string_view key) const {
  return is_object() && find(key).has_value();
}

std::optional<JsonNode> JsonNode::find(std::string_view key) const {
  if (!is_object()) fail_expected("an object");
  for (const auto& [name, child] : value_->get_ref<const Json::object_t&>())
    if (name == key) return JsonNode(document_, &child, child_path(key), depth_ + 1);
  return std::nullopt;
}

std::optional<JsonNode> JsonNode::find_given(std::string_view key) const {
  auto child = find(key);
  return child && child->is_null() ? std::nullopt : std::move(child);
}

JsonNode JsonNode::at(std::string_view key) const {
  if (auto child = find(key)) return *std::move(child);
  const auto known = keys();
  fail("{}: no key {}{}", file(), shown(child_path(key)), shown(suggestion(key, known), 300));
}

std::vector<std::string> JsonNode::keys() const {
  if (!is_object()) fail_expected("an object");
  std::vector<std::string> names;
  for (const auto& member : value_->get_ref<const Json::object_t&>()) names.push_back(member.first);
  return names;
}

std::size_t JsonNode::size() const {
  if (!is_object() && !is_array()) fail_expected("a list or an object");
  return value_->size();
}

JsonNode JsonNode::operator[](std::size_t index) const {
  if (!is_array()) fail_expected("a list");
  HONE_CHECK(index < value_->size(), "element {} of {} in {}", index, value_->size(), path_);
  return {document_, &(*value_)[index], fmt::format("{}[{}]", path_, index), depth_ + 1};
}

std::vector<JsonNode> JsonNode::elements() const {
  if (!is_array()) fail_expected("a list");
  std::vector<JsonNode> all;
  for (std::size_t i = 0; i < value_->size(); ++i) all.push_back((*this)[i]);
  return all;
}

std::vector<std::pair<std::string, JsonNode>> JsonNode::members() const {
  if (!is_object()) fail_expected("an object");
  std::vector<std::pair<std::string, JsonNode>> all;
  for (const auto& [key, child] : value_->get_ref<const Json::object_t&>())
    all.emplace_back(key, JsonNode(document_, &child, child_path(key), depth_ + 1));
  return all;
}

std::string JsonNode::as_string() const {
  if (!is_string()) fail_expected("a string");
  return value_->get<std::string>();
}

bool JsonNode::as_bool() const {
  if (!is_bool()) fail_expected("true or false");
  return value_->get<bool>();
}

std::int64_t JsonNode::as_integer() const {
  if (value_->is_number_float()) {
    const double value = value_->get<double>();
    if (std::trunc(value) == value && std::abs(value) < 0x1p53) return static_cast<std::int64_t>(value);
  }
  if (!is_integer()) fail_expected("an integer");
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (value_->is_number_unsigned() && value_->get<std::uint64_t>() > kMax)
    fail_expected("an integer below 2^63");
  return value_->get<std::int64_t>();
}

double JsonNode::as_number() const {
  if (!is_number()) fail_expected("a number");
  return value_->get<double>();
}

std::uint64_t JsonNode::as_count(std::uint64_t most) const {
  // A number that a program put there may be stored signed.
  const bool natural =
      value_->is_number_unsigned() || (value_->is_number_integer() && value_->get<std::int64_t>() >= 0);
  if (!natural || value_->get<std::uint64_t>() > most)
    fail_expected(fmt::format("an integer from 0 to {}", most));
  return value_->get<std::uint64_t>();
}

char32_t JsonNode::as_character() const {
  // The parser lets only valid UTF-8 through.
  const std::string text = as_string();
  const auto lead = static_cast<unsigned char>(text.empty() ? 0 : text[0]);
  const std::size_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (text.empty() || text.size() != size) fail_expected("one character");
  char32_t code = size == 1 ? lead : lead & (0x7fU >> size);
  for (std::size_t i = 1; i < size; ++i) code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3fU);
  return code;
}

std::size_t JsonNode::one_of(std::span<const std::string> known, std::string_view what) const {
  const std::string name = as_string();
  std::string list;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (known[i] == name) return i;
    list += (i == 0 ? "" : ", ") + known[i];
  }
  fail_here(fmt::format("unsupported {} '{}'; supported: {}", what, shown(name), list));
}

bool JsonNode::flag_or(std::string_view key, bool fallback) const {
  const auto node = find_given(key);
  return node ? node->as_bool() : fallback;
}

std::string JsonNode::text(std::size_t max_chars) const {
  if (value_->is_number_float() && !std::isfinite(value_->get<double>()))
    return fmt::format("{}", value_->get<double>());
  return shown(value_->dump(-1, ' ', false, Json::error_handler_t::replace), max_chars);
}

const std::string& JsonNode::file() const {
  return document_->name;
}

std::string JsonNode::location() const {
  return path_.empty() ? file() : fmt::format("{}: {}", file(), shown(path_, 200));
}

void JsonNode::fail_here(std::string_view message) const {
  fail("{}: {}", location(), message);
}

void JsonNode::fail_expected(std::string_view what) const {
  fail("{}: {} is {}, expected {}", file(), path_.empty() ? "the document" : shown(path_, 200), text(), what);
}

std::string JsonNode::child_path(std::string_view key) const {
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

}  // namespace hone
