// The "pre_tokenizer" section of tokenizer.json: cuts a text into the pieces that the model tokenizes one by
// one.
#pragma once

#include <memory>

#include "json/node.h"
#include "text/function_ref.h"
#include "text/text_piece.h"

namespace hone::text::tok {

using PieceSink = FunctionRef<void(const Piece&)>;

/// Cuts one piece into pieces, in order; empty ones are left out.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void split(const Piece& piece, Workspace& workspace, PieceSink sink) const = 0;
};

/// Builds a pre-tokenizer from its JSON. With `model_reads_bytes`, a ByteLevel that comes last leaves the
/// text as it is and marks its pieces byte_level instead of spelling them in the byte alphabet. Throws Error
/// naming the key path.
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const JsonNode& node, bool model_reads_bytes);

}  // namespace hone::text::tok
