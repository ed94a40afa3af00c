// The "decoder" section of tokenizer.json: from token texts back to text.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "json/node.h"
#include "text/text_piece.h"

namespace hone::text::tok {

/// How a chain of decoders treats the end of an unfinished text; for StreamDecoder.
struct StreamTraits {
  bool joins_bytes = false;    ///< a last character may be incomplete (ByteLevel)
  bool holds_bytes = false;    ///< a last run of <0x..> tokens may still change (ByteFallback)
  bool rewrites_text = false;  ///< text may change once more follows; nothing is certain before the end
};

/// Changes a list of token texts; the concatenation of the last list is the text.
class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual void decode(std::vector<std::string>& tokens, RegexScratch& scratch) const = 0;
  /// Adds what this decoder does; `fused` says that the tokens are one text already, and is updated.
  virtual void describe(StreamTraits& traits, bool& fused) const = 0;
};

/// Builds a decoder from its JSON. Throws Error naming the key path.
std::unique_ptr<Decoder> make_decoder(const JsonNode& node);

/// Is this token text one of <0x00> ... <0xFF>? Then its byte.
std::optional<unsigned char> fallback_byte(std::string_view token);

}  // namespace hone::text::tok
