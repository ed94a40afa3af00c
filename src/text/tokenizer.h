// tokenizer.json as the Hugging Face `tokenizers` library runs it: text -> token ids -> text. BPE models,
// byte level and SentencePiece style with byte fallback. The library's Tokenizer.from_file(path) is the
// oracle of every answer here.
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

namespace hone::text {

/// Token ids of one text, with the bytes of the input that each came from.
struct Encoding {
  std::vector<std::int32_t> ids;
  /// Per id, the half-open byte range [first, second) in the input text; (0, 0) for a token that the
  /// post-processor added. Always on character boundaries, so several tokens that share a character carry the
  /// same range.
  std::vector<std::pair<std::size_t, std::size_t>> offsets;
};

/// One entry of the "added_tokens" list, field by field as the file has it.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool single_word = false;  ///< matches only where no word character touches it
  bool lstrip = false;       ///< takes the white space on its left
  bool rstrip = false;       ///< takes the white space on its right
  bool normalized = true;    ///< looked for in the normalized text, not in the raw text
  bool special = false;      ///< left out by decode(ids, true)
};

/// A loaded tokenizer.json. Cheap to copy and move (it shares one immutable state); every method may be
/// called from many threads at once.
class Tokenizer {
 public:
  /// Reads a tokenizer.json. Throws Error naming the file and the key path for a malformed file and for a
  /// component this library does not run (Unigram, WordPiece and WordLevel models, Precompiled normalizers,
  /// ...).
  static Tokenizer from_file(const std::filesystem::path& tokenizer_json);
  /// The same from text in memory; `name` stands for the file name in messages.
  static Tokenizer from_json(std::string_view json, std::string_view name);
  /// The same from a parsed document. `split_special_tokens`: special tokens written in a text are not
  /// matched.
  static Tokenizer from_document(nlohmann::ordered_json document, const std::string& name,
                                 bool split_special_tokens = false);

  /// Ids of `text`. Special tokens written in the text are matched, as the library does. With
  /// `add_special_tokens` the post-processor adds its own (<s>, <|begin_of_text|>, ...). The "truncation" and
  /// "padding" sections are ignored: a data pipeline decides lengths itself, and Transformers'
  /// tokenizer(text) switches both off as well. Throws Error where `text` is not valid UTF-8 (it names the
  /// byte offset).
  Encoding encode(std::string_view text, bool add_special_tokens = true) const;

  /// Text of `ids`; ids without a token are skipped, as the library does. With `skip_special_tokens` the
  /// added tokens marked special are left out. Bytes that are not valid UTF-8 become U+FFFD (one per maximal
  /// broken part), so the result is always valid UTF-8.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens = false) const;

  /// The id of exactly this token (an added token wins over a model token), or nothing.
  std::optional<std::int32_t> token_to_id(std::string_view token) const;
  /// The token of `id` as the vocabulary spells it (e.g. "Ġthe"), or nothing. For an added token with
  /// `normalized` it is the normalized content, as in the library; added_tokens() has the plain one.
  std::optional<std::string> id_to_token(std::int32_t id) const;

  /// Number of distinct tokens, added tokens included (the library's get_vocab_size(True)).
  std::int64_t vocab_size() const;
  /// Largest id + 1: the least number of embedding rows this tokenizer needs. Differs from vocab_size() with
  /// holes.
  std::int64_t id_limit() const;
  /// Added tokens, sorted by id.
  const std::vector<AddedToken>& added_tokens() const;
  /// Is `id` an added token marked special?
  bool is_special(std::int32_t id) const;

  struct Impl;

 private:
  friend class StreamDecoder;
  explicit Tokenizer(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

/// Decodes a growing sequence of ids, e.g. a generation, and never emits part of a character. All that push()
/// and finish() return, joined, is exactly decode(all ids, skip_special_tokens): text that later ids may
/// still change is held back (an incomplete character; a run of <0x..> byte tokens, which becomes U+FFFDs as
/// a whole if it breaks).
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special_tokens = false);

  /// Adds one id and returns the text that has become certain, "" where there is none.
  std::string push(std::int32_t id);
  /// Returns what is left (an unfinished character as U+FFFD) and starts anew.
  std::string finish();

 private:
  std::size_t certain_ids() const;

  Tokenizer tokenizer_;
  bool skip_special_tokens_;
  std::vector<std::int32_t> ids_;  // the last ones: some already emitted, for context, and those held back
  std::size_t emitted_ = 0;        // how many bytes of decode(ids_) were returned
};

}  // namespace hone::text
