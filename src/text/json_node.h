// A value inside tokenizer.json that knows its key path, so that every complaint names the file and the
// place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace hone::text::tok {

/// Borrows the document and the file name. Readers throw Error(kUser) "file: path: what is wrong".
class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, const std::string& file) : value_(&value), file_(&file) {}

  /// The member `key` of an object; throws where this is no object or the key is missing.
  JsonNode at(std::string_view key) const;
  /// The member `key`, or nothing where it is missing or null.
  std::optional<JsonNode> find(std::string_view key) const;
  /// Element `index` of an array.
  JsonNode at(std::size_t index) const;
  /// Number of elements; throws where this is no array.
  std::size_t array_size() const;

  const std::string& string() const;
  bool boolean() const;
  std::uint64_t unsigned_integer() const;
  double number() const;
  /// A string of exactly one character.
  char32_t character() const;
  /// A string that is one of `known`; returns its index. `what` names the thing in the message.
  std::size_t one_of(std::span<const std::string> known, std::string_view what) const;
  /// The boolean member `key`, or `fallback` where it is missing or null.
  bool flag_or(std::string_view key, bool fallback) const;

  void require_object() const;
  bool is_string() const;
  bool is_array() const;
  const nlohmann::json& value() const { return *value_; }
  const std::string& path() const { return path_; }

  /// Throws Error "file: path: message".
  [[noreturn]] void fail_here(std::string_view message) const;
  /// "file: path", for messages of others.
  std::string location() const;
  /// How many keys and indices lead here; guards recursion over nested components.
  std::size_t depth() const { return depth_; }

 private:
  JsonNode child(const nlohmann::json& value, std::string path) const;
  [[noreturn]] void fail_type(std::string_view expected) const;

  const nlohmann::json* value_;
  const std::string* file_;
  std::string path_;
  std::size_t depth_ = 0;
};

/// Text cut to 60 bytes at a character, control characters replaced, for messages.
std::string shown(std::string_view text);

}  // namespace hone::text::tok
