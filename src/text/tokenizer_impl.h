// The parts of a loaded tokenizer, shared by all its copies and never changed after loading.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/decoders.h"
#include "text/normalizers.h"
#include "text/post_processors.h"
#include "text/pre_tokenizers.h"
#include "text/tokenizer.h"

namespace hone::text {

struct Tokenizer::Impl {
  Impl(const JsonNode& root, std::string name, bool split_special_tokens);

  /// Memory that one call writes to. Calls borrow it, so that the words one call has seen serve the next.
  struct Scratch {
    tok::Workspace workspace;
    tok::BpeScratch bpe;
    std::vector<tok::Symbol> symbols;
  };
  class Borrowed;

  void encode_piece(const tok::Piece& piece, Scratch& scratch, std::vector<tok::OutputToken>& out) const;
  void encode_added(const tok::Piece& piece, std::int32_t id, std::vector<tok::OutputToken>& out) const;
  tok::OutputParts encode_text(std::string_view text, Scratch& scratch) const;
  /// The text of an id as the decoder gets it, or null where decode leaves the id out.
  const std::string* decoder_text(std::int32_t id, bool skip_special_tokens) const;

  std::string name;  // of the file, for messages
  tok::Bpe model;
  std::unique_ptr<tok::Normalizer> normalizer;  // null: none, as the next three
  std::unique_ptr<tok::PreTokenizer> pre_tokenizer;
  std::unique_ptr<tok::PostProcessor> post_processor;
  std::unique_ptr<tok::Decoder> decoder;
  tok::AddedTokens added;
  bool trims_offsets = false;
  tok::StreamTraits stream;

 private:
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;  // as many as calls ran at the same time
};

/// Takes a scratch from the idle ones, or a new one, and gives it back at its end.
class Tokenizer::Impl::Borrowed {
 public:
  explicit Borrowed(const Impl& impl);
  ~Borrowed();
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  Scratch& operator*() const { return *scratch_; }

 private:
  const Impl& impl_;
  std::unique_ptr<Scratch> scratch_;
};

}  // namespace hone::text
