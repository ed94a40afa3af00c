// The "model" section of tokenizer.json: byte pair encoding.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "json/node.h"
#include "text/flat_table.h"
#include "text/text_piece.h"

namespace hone::text::tok {

/// Ids are below this: they index arrays and rows of an embedding.
inline constexpr std::int32_t kMostIds = 1 << 24;

/// A token of a piece: its id, and how many bytes of the piece's text it spans.
struct Symbol {
  std::int32_t id;
  std::uint32_t length;
};

/// What merging needs to write to, and the words it has seen; one per thread and model.
class BpeScratch {
 public:
  BpeScratch() : words_(kWords) {}

 private:
  friend class Bpe;
  static constexpr std::size_t kWords = 1 << 15;
  struct Word {
    std::string key;
    std::vector<Symbol> symbols;
  };
  struct Link {
    std::uint32_t previous;
    std::uint32_t next;
  };
  struct Candidate {
    std::uint64_t order;  // rank, then position
    std::int32_t merged;
  };

  std::vector<Word> words_;  // direct mapped by hash: bounded, and it follows the text
  std::vector<Symbol> symbols_;
  std::vector<Symbol> group_;
  std::vector<std::uint32_t> ranks_;
  std::vector<std::int32_t> merged_;
  std::vector<Link> links_;
  std::vector<Candidate> heap_;
};

/// A byte pair encoding as the `tokenizers` library runs it (without dropout): per piece, start from
/// characters, then always merge the adjacent pair of the lowest rank, leftmost first.
class Bpe {
 public:
  /// Throws Error naming the key path for what is malformed or not supported.
  explicit Bpe(const JsonNode& node);

  /// Can it tokenize bytes directly? True where each of the 256 bytes has its token of the byte alphabet.
  bool reads_bytes() const { return reads_bytes_; }

  /// Appends the tokens of a piece. Throws Error where a character is unknown and the file's unk_token is no
  /// token.
  void tokenize(const Piece& piece, BpeScratch& scratch, std::vector<Symbol>& out) const;

  std::optional<std::int32_t> token_to_id(std::string_view token) const;
  /// The token of an id, or null.
  const std::string* id_to_token(std::int32_t id) const;
  std::size_t vocab_size() const { return ids_.size(); }
  /// Largest id + 1, or 0.
  std::int32_t id_limit() const { return static_cast<std::int32_t>(tokens_.size()); }

 private:
  struct StringHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  using Vocabulary = std::unordered_map<std::string, std::int32_t, StringHash, std::equal_to<>>;
  struct Merge {
    std::uint32_t rank;
    std::int32_t merged;
  };

  void read_options(const JsonNode& node);
  void read_vocabulary(const JsonNode& node);
  void read_merges(const JsonNode& node);
  void add_merge(const std::string& left, const std::string& right, std::uint32_t rank,
                 const JsonNode& merges, std::size_t index);
  void index_characters();
  void index_bytes();
  void index_joints(const std::vector<std::pair<std::int32_t, std::int32_t>>& pairs);

  std::int32_t character_id(char32_t code) const;
  void start_from_characters(std::string_view text, std::vector<Symbol>& out) const;
  void tokenize_bytes(std::string_view text, BpeScratch& scratch, std::vector<Symbol>& out) const;
  void tokenize_characters(std::string_view text, BpeScratch& scratch, std::vector<Symbol>& out) const;
  void merge_group(BpeScratch& scratch, std::vector<Symbol>& out) const;
  void merge(BpeScratch& scratch) const;
  void merge_few(BpeScratch& scratch) const;
  void merge_many(BpeScratch& scratch) const;
  static BpeScratch::Word& word_slot(BpeScratch& scratch, std::string_view key);

  std::string unk_location_;  // "file: model.unk_token", for the error at its first use
  std::optional<std::string> unk_token_;
  std::optional<std::int32_t> unk_id_;
  std::string prefix_;  // continuing_subword_prefix
  std::string suffix_;  // end_of_word_suffix
  bool fuse_unk_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;

  Vocabulary ids_;
  std::vector<const std::string*> tokens_;  // by id; null in holes
  PairTable<Merge> merges_;
  bool reads_bytes_ = false;
  std::array<std::int32_t, 256> byte_ids_{};           // of the byte alphabet
  std::array<std::int32_t, 256> fallback_ids_{};       // of <0x00> ... <0xFF>; -1: not in the vocabulary
  Vocabulary whole_words_;                             // tokens by their bytes, for ignore_merges on bytes
  std::vector<std::vector<std::int32_t>> characters_;  // ids of one-character tokens, by code / 256 and % 256
  bool splits_at_joints_ = false;
  PairTable<bool> joints_;  // pairs of characters that some merge brings together
};

}  // namespace hone::text::tok
