// The "normalizer" section of tokenizer.json.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "json/node.h"
#include "text/text_piece.h"

namespace hone::text::tok {

/// Changes a text before it is split.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// The normalized piece; `piece` itself where nothing changes.
  virtual Piece normalize(const Piece& piece, Workspace& workspace) const = 0;

  /// The same for a text on its own.
  std::string normalize_text(std::string_view text) const;
};

/// Builds a normalizer from its JSON. Throws Error naming the key path for what is malformed or not
/// supported.
std::unique_ptr<Normalizer> make_normalizer(const JsonNode& node);

/// What a Replace or Split looks for: a string, or a regex.
class Pattern {
 public:
  /// From {"String": …} or {"Regex": …}.
  static Pattern from_json(const JsonNode& node);
  static Pattern regex(std::string_view pattern, std::string_view where);

  /// Calls `found(begin, end)` for every match, left to right. An empty string pattern matches between all
  /// characters, as the library has it.
  void for_each_match(std::string_view text, RegexScratch& scratch,
                      FunctionRef<void(std::size_t, std::size_t)> found) const;

 private:
  std::string literal_;
  std::shared_ptr<const Regex> regex_;  // null: literal_
};

}  // namespace hone::text::tok
