// The "added_tokens" section of tokenizer.json: tokens found in the text before the model sees it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "json/node.h"
#include "text/bpe.h"
#include "text/function_ref.h"
#include "text/normalizers.h"
#include "text/text_piece.h"
#include "text/tokenizer.h"

namespace hone::text::tok {

/// Finds the longest of a set of strings at every place of a text, leftmost first, without overlaps.
class LongestMatcher {
 public:
  struct Match {
    std::size_t begin;
    std::size_t end;
    std::int32_t id;
  };

  /// Adds a string; the first id of a string wins. It must not be empty.
  void add(std::string_view text, std::int32_t id);
  bool empty() const { return nodes_.size() == 1; }
  /// The first match at or behind `from`, or nothing.
  std::optional<Match> find(std::string_view text, std::size_t from) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, std::uint32_t>> children;
    std::int32_t id = -1;
  };
  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<std::uint32_t, 256> first_{};  // the root's children; 0: none
};

/// The added tokens with the ids that the library gives them: the vocabulary's id where the content is in it,
/// else the next free one. A file whose "id" says otherwise is loaded the same way, with a warning.
class AddedTokens {
 public:
  AddedTokens() = default;
  /// `node` is the array, or null for none; an entry's id may be null where it is the next one. Throws Error
  /// naming the key path. `split_special_tokens`: special tokens are never found in a text.
  AddedTokens(const std::optional<JsonNode>& node, const Bpe& model, const Normalizer* normalizer,
              bool split_special_tokens);

  /// A piece, and the id of the added token that it is.
  using Sink = FunctionRef<void(const Piece&, std::optional<std::int32_t>)>;
  /// Cuts a piece at the added tokens that are looked for in the raw text (`normalized` false) or in the
  /// normalized text (true). Empty parts are left out.
  void split(const Piece& piece, bool normalized, Sink sink) const;

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  /// The entry of an id, or null.
  const AddedToken* find(std::int32_t id) const;
  std::optional<std::int32_t> token_to_id(std::string_view content) const;
  /// How the decoder sees an added token: its normalized content where it is normalized. Null for other ids.
  const std::string* decoded(std::int32_t id) const;
  /// Does decode leave out this token text when it skips special tokens? One that was special once is so for
  /// good, as in the library, also where a later entry of the same content is not.
  bool is_special_text(std::string_view token) const { return special_.find(token) != special_.end(); }
  /// How many contents are no tokens of the model.
  std::size_t count_beyond_model() const { return beyond_model_; }

 private:
  void add(const AddedToken& token, const Bpe& model, const Normalizer* normalizer, const JsonNode& where);
  void finish(const JsonNode& where);

  bool splits_special_ = false;
  std::vector<AddedToken> tokens_;  // sorted by id
  std::unordered_map<std::int32_t, std::size_t> by_id_;
  std::unordered_map<std::string, std::int32_t> by_content_;
  std::unordered_map<std::int32_t, std::string> normalized_;  // where it differs from the content
  std::set<std::string, std::less<>> special_;
  LongestMatcher raw_matcher_;
  LongestMatcher normalized_matcher_;
  std::int32_t next_id_ = 0;
  std::size_t beyond_model_ = 0;
};

}  // namespace hone::text::tok
