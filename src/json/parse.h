// The one reader of JSON text: configs, indexes, tokenizers and rows. As Python's json module reads it (NaN,
// the infinities and huge numbers included), with limits on size and depth, and with every error at line and
// column, and under its key path.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace hone {

/// Which member of an object counts where a key stands twice.
enum class RepeatedKeys {
  kRefused,   ///< neither: an error (configs, indexes, headers)
  kLastWins,  ///< the last, at the place of the first, as in Python (rows) and in `tokenizers`
};

struct JsonOptions {
  RepeatedKeys repeated_keys = RepeatedKeys::kRefused;
  /// Integers beyond 64 bits stay what they are, as a binary value of subtype kBigIntegerSubtype that holds
  /// the decimal digits. Otherwise they become floats.
  bool exact_integers = false;
  /// The name says the line already ("rows.jsonl:3"), as the text is one row of a file.
  bool name_has_line = false;
};
inline constexpr unsigned kBigIntegerSubtype = 0x49;

/// How deep arrays and objects may nest, and how many values a document may have. (Python's parser gives up
/// at a depth of about 1000; a tokenizer.json of 256,000 tokens has 2 million values, and 2^26 take about 2
/// GiB of memory.)
inline constexpr std::size_t kMaxJsonDepth = 500;
inline constexpr std::size_t kMaxJsonValues = std::size_t{1} << 26;

/// Parses a JSON document; objects keep the order of the text. `name` stands for the file in messages. Throws
/// Error(kUser) "name:line:column: what" for text that is not JSON, is not UTF-8, or exceeds a limit.
nlohmann::ordered_json parse_json(std::string_view text, const std::string& name,
                                  const JsonOptions& options = {});

/// The key path of the first number under `value` that JSON does not have (NaN, Infinity, -Infinity) and that
/// number, "a.b[3] is NaN", where there is one; `name` is the path of `value` itself.
std::optional<std::string> find_non_finite(const nlohmann::ordered_json& value, const std::string& name);
/// What to say of such a number.
inline constexpr std::string_view kNonFiniteAdvice =
    "which JSON does not have (Python's json and pandas write it); write null, or leave the key out";

}  // namespace hone
