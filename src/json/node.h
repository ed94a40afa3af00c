// Typed access to a JSON document, whose errors name the file and the key path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json/parse.h"

namespace hone {

/// A value in a JSON document, that knows its key path. Cheap to copy; shares the document. Getters throw
/// Error(kUser) `config.json: rope_scaling.factor is "8", expected a number`.
class JsonNode {
 public:
  /// Reads a whole file. Throws as parse_json does, and where the file cannot be read.
  static JsonNode read(const std::filesystem::path& path, const JsonOptions& options = {});
  /// The same from text; `name` stands for the file.
  static JsonNode parse(std::string_view text, const std::string& name, const JsonOptions& options = {});
  /// A document that is parsed already.
  static JsonNode of(nlohmann::ordered_json document, const std::string& name);

  bool is_null() const;
  bool is_object() const;
  bool is_array() const;
  bool is_string() const;
  bool is_bool() const;
  /// A number without fraction or exponent in the text.
  bool is_integer() const;
  /// Any number; NaN and the infinities are numbers.
  bool is_number() const;

  /// Whether this object has the key. False where this is not an object.
  bool has(std::string_view key) const;
  /// The value under a key, or nullopt where the key is absent. Throws where this is not an object.
  std::optional<JsonNode> find(std::string_view key) const;
  /// The value under a key, or nullopt where the key is absent or its value null.
  std::optional<JsonNode> find_given(std::string_view key) const;
  /// The value under a key. Throws for an absent one and suggests the nearest key there is.
  JsonNode at(std::string_view key) const;
  /// Keys of an object in the order of the text.
  std::vector<std::string> keys() const;

  /// Elements of an array or an object.
  std::size_t size() const;
  /// Element of an array.
  JsonNode operator[](std::size_t index) const;
  std::vector<JsonNode> elements() const;
  /// Keys and values of an object in the order of the text.
  std::vector<std::pair<std::string, JsonNode>> members() const;

  std::string as_string() const;
  bool as_bool() const;
  /// Integers, and numbers like 4096.0 whose value is one.
  std::int64_t as_integer() const;
  double as_number() const;
  /// An integer from 0 up to `most`, written without fraction or exponent.
  std::uint64_t as_count(std::uint64_t most) const;
  /// A string of exactly one character.
  char32_t as_character() const;
  /// A string that is one of `known`; returns its index. `what` names the thing in the message.
  std::size_t one_of(std::span<const std::string> known, std::string_view what) const;
  /// The boolean member `key`, or `fallback` where it is absent or null.
  bool flag_or(std::string_view key, bool fallback) const;

  /// The value itself. Borrowed from the document.
  const nlohmann::ordered_json& value() const { return *value_; }
  /// The value as compact JSON, cut to `max_chars`.
  std::string text(std::size_t max_chars = 60) const;
  const std::string& file() const;
  /// "rope_scaling.factor", "layer_types[3]"; "" for the document.
  const std::string& key_path() const { return path_; }
  /// "FILE: KEY PATH", for messages of others.
  std::string location() const;
  /// How many keys and indices lead here; guards recursion over nested components.
  std::size_t depth() const { return depth_; }
  /// Throws Error(kUser) `FILE: KEY PATH is VALUE, expected WHAT`.
  [[noreturn]] void fail_expected(std::string_view what) const;
  /// Throws Error(kUser) `FILE: KEY PATH: MESSAGE`.
  [[noreturn]] void fail_here(std::string_view message) const;

 private:
  struct Document;
  JsonNode(std::shared_ptr<const Document> document, const nlohmann::ordered_json* value, std::string path,
           std::size_t depth);
  std::string child_path(std::string_view key) const;

  std::shared_ptr<const Document> document_;
  const nlohmann::ordered_json* value_ = nullptr;
  std::string path_;
  std::size_t depth_ = 0;
};

}  // namespace hone
