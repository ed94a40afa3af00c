// Text that knows its origin: every run of characters carries the message it came from and the `{% generation
// %}` block that wrote it. Also the errors and the limits that all of the interpreter shares.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/budget.h"

namespace hone::text::jinja {

class Value;

/// A Python exception inside a template. Becomes hone::Error, with name and line, where rendering ends.
class Raise : public std::runtime_error {
 public:
  /// `type` is Python's name ("TypeError"), or "" for errors that Jinja raises under its own names: then only
  /// the message is shown.
  Raise(std::string_view type, const std::string& message)
      : std::runtime_error(type.empty() ? message : fmt::format("{}: {}", type, message)) {}
};

/// A number that JSON does not have was to be written. Python would write NaN, nan, Infinity or inf, which no
/// model has learnt to read.
class NonFinite : public Raise {
 public:
  NonFinite() : Raise("", "a number is NaN or infinite") {}
};

template <typename... Args>
[[noreturn]] void raise(std::string_view type, fmt::format_string<Args...> format, Args&&... args) {
  throw Raise(type, fmt::format(format, std::forward<Args>(args)...));
}
inline constexpr std::string_view kTypeError = "TypeError";
inline constexpr std::string_view kValueError = "ValueError";
inline constexpr std::string_view kIndexError = "IndexError";
inline constexpr std::string_view kOverflowError = "OverflowError";
inline constexpr std::string_view kPlain = "";

/// Limits against runaway templates.
inline constexpr std::size_t kMaxTextBytes = std::size_t{1} << 26;
inline constexpr std::size_t kMaxItems = 10'000'000;
inline constexpr std::uint32_t kMaxNesting = 400;

/// What something was derived from: the message and the index of its key in the renderer's table of keys;
/// and, where the renderer numbers them, the value within that key.
struct Source {
  static constexpr std::int32_t kNoMessage = -2;
  static constexpr std::int32_t kSeveral = -1;
  static constexpr std::int32_t kTools = -3;        ///< the variable `tools`, not a message
  static constexpr std::int32_t kDocuments = -4;    ///< the variable `documents`
  static constexpr std::int32_t kWholeMessage = 0;  ///< the key index that stands for no single key
  static constexpr std::int32_t kSeveralValues = 0;
  std::int32_t message = kNoMessage;
  std::int32_t key = kWholeMessage;
  std::int32_t value = kSeveralValues;  ///< numbered from 1, containers before what they hold
  bool operator==(const Source&) const = default;

  bool is_message() const { return message >= kSeveral; }
};
/// Of both; a message hides other inputs.
Source merge(Source a, Source b);

/// What is known about a run of characters. `generation` numbers the generation block that wrote them; 0:
/// none did.
struct Mark {
  Source source;
  std::int32_t generation = 0;
  bool operator==(const Mark&) const = default;
};

/// The heap part of a value. `depth` bounds recursion over nested values.
struct Object {
  virtual ~Object() = default;
  virtual std::string type_name() const { return "object"; }
  virtual std::string repr() const { return fmt::format("<{}>", type_name()); }
  /// A Python attribute of an object that is neither str, list, tuple, dict nor range.
  virtual std::optional<Value> attribute(std::string_view name);
  std::uint32_t depth = 0;
  Holding holding;
};

/// An immutable string. Offsets are bytes; Python's indices are code points (equal where is_ascii()).
struct Text final : Object {
  struct Run {
    std::size_t end;  ///< one behind the last byte
    Mark mark;
  };
  std::string bytes;
  std::vector<Run> runs;   ///< ascending, covering; empty: all of it unmarked
  std::size_t length = 0;  ///< in code points
  bool markup = false;     ///< Markup('…'): `safe` was applied, so + and % escape the other side

  bool is_ascii() const { return length == bytes.size(); }
  /// The byte offset of code point `index` (<= length).
  std::size_t offset(std::size_t index) const;
  /// The mark of the byte at `at`.
  Mark mark_at(std::size_t at) const;
  /// The merged source of bytes [begin, end), and their generation block where they share one.
  Mark mark_of(std::size_t begin, std::size_t end) const;
  Mark mark_of_all() const { return mark_of(0, bytes.size()); }
};
using TextRef = std::shared_ptr<const Text>;

/// Builds a Text piece by piece, keeping marks. Throws Raise beyond kMaxTextBytes.
class TextBuilder {
 public:
  void append(std::string_view bytes, const Mark& mark = {});
  void append(const Text& text) { append(text, 0, text.bytes.size()); }
  void append(const Text& text, std::size_t begin, std::size_t end);
  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  TextRef finish(bool markup = false);

 private:
  std::string bytes_;
  std::vector<Text::Run> runs_;
  bool is_marked_ = false;
  Holding holding_;
};

}  // namespace hone::text::jinja
