// JSON as Python's json module reads it (NaN, Infinity and huge numbers included), but strict about duplicate
// keys, with every error at file:line:column, and typed access whose errors name the key path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hone::hub {

/// Parses a JSON document; objects keep the order of the text. `name` stands for the file in messages. Throws
/// Error(kUser) "name:line:column: what" for text that is not JSON, is not UTF-8, repeats a key in an object,
/// or nests deeper than 500.
nlohmann::ordered_json parse_json(std::string_view text, const std::string& name);

/// A value in a JSON document, that knows its key path. Cheap to copy; shares the document. Getters throw
/// Error(kUser) `config.json: rope_scaling.factor is "8", expected a number`.
class JsonNode {
 public:
  /// Reads a whole file. Throws as parse_json does, and where the file cannot be read.
  static JsonNode read(const std::filesystem::path& path);
  /// The same from text; `name` stands for the file.
  static JsonNode parse(std::string_view text, const std::string& name);

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
  /// The value under a key. Throws for an absent one and suggests the nearest key there is.
  JsonNode at(std::string_view key) const;
  /// Keys of an object in the order of the text.
  std::vector<std::string> keys() const;

  /// Elements of an array or an object.
  std::size_t size() const;
  /// Element of an array.
  JsonNode operator[](std::size_t index) const;
  std::vector<JsonNode> elements() const;

  std::string as_string() const;
  bool as_bool() const;
  /// Integers, and numbers like 4096.0 whose value is one.
  std::int64_t as_integer() const;
  double as_number() const;

  /// The value as compact JSON, cut to `max_chars`.
  std::string text(std::size_t max_chars = 60) const;
  const std::string& file() const;
  /// "rope_scaling.factor", "layer_types[3]"; "" for the document.
  const std::string& key_path() const { return path_; }
  /// Throws Error(kUser) `FILE: KEY PATH is VALUE, expected WHAT`.
  [[noreturn]] void fail_expected(std::string_view what) const;

 private:
  struct Document;
  JsonNode(std::shared_ptr<const Document> document, const nlohmann::ordered_json* value, std::string path);
  std::string child_path(std::string_view key) const;

  std::shared_ptr<const Document> document_;
  const nlohmann::ordered_json* value_ = nullptr;
  std::string path_;
};

}  // namespace hone::hub
