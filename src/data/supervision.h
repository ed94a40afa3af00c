// Which characters of a rendered chat are learnt from. Inside this room only.
//
// An assistant turn is learnt from after its header through its end-of-turn token. Both are found without
// knowing the template:
//
//   header  What the template itself writes for add_generation_prompt: if the chat before the turn, rendered
//           with it, is a prefix of the whole chat, then what follows is what the model must write at
//           inference, and the turn is learnt from there ("<think>\n", "<|channel|>final<|message|>" and the
//           like between header and content included). Where the template writes an earlier turn differently
//           once more turns follow (it drops its reasoning, say), the generation prompt is looked for before
//           the turn's first character instead. Of a template that ignores add_generation_prompt the header
//           is what it writes before a plain answer, by the template interpreter's record. Where a turn says
//           nothing, its place is where a plain answer would stand.
//   end     The chat through the turn, rendered alone, is where the turn ends. Of what the template wrote
//           after the message's last character it is learnt up to the first token the model stops at (eos);
//           where the next header begins with such a token, through that (GLM's <|user|>); else up to the
//           last added token; else up to the last character that is no white space. Where the turn ends
//           otherwise once more turns follow (<|end|> for <|return|>), the first special token behind the
//           same last word ends it. Text of other messages inside a turn (a tool's answer) is left out.
//
// The last turn is analysed so; another turn whose surroundings read just the same needs no rendering of its
// own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "data/rows.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace hone::data {

/// Bytes [begin, end) of a text, and what its tokens count in the loss.
struct TextSpan {
  std::size_t begin = 0;
  std::size_t end = 0;
  double weight = 1;
  bool operator==(const TextSpan&) const = default;
};

/// What is known about token ids.
class Markers {
 public:
  /// `stops`: the ids that end a generation. `tokenizer` must outlive this.
  Markers(const text::Tokenizer& tokenizer, std::vector<std::int32_t> stops);
  bool is_stop(std::int32_t id) const;
  bool is_added(std::int32_t id) const;
  bool is_special(std::int32_t id) const;

 private:
  const text::Tokenizer* tokenizer_;
  std::vector<std::int32_t> stops_;
};

/// Is the span what an assistant message says, not how it is addressed (its role, name, …)?
bool is_content(const text::MessageSpan& span);

/// Renders messages with the row's tools and variables. May throw Error.
using Renderer = std::function<text::Rendered(const Json& messages, bool generation_prompt)>;

/// A chat as rendered and tokenised.
struct RenderedChat {
  const Json& messages;
  const std::vector<double>& weights;      // by message; 0: excluded
  const std::vector<std::string>& places;  // by message: what findings call it
  const text::Rendered& rendered;
  const text::Encoding& encoding;  // of rendered.text
  bool generation_prompt = false;  // rendered with one at its end

  /// Is the message an assistant turn that is not excluded?
  bool learns(std::size_t message) const;
  std::size_t num_learnt() const;
};

/// The learnt spans of a chat, sorted and disjoint. `render` is called for parts of it.
std::vector<TextSpan> find_learnt_turns(const RenderedChat& chat, const Markers& markers,
                                        const Renderer& render);

/// The {% generation %} blocks of a chat, less those that belong to excluded messages.
std::vector<TextSpan> find_generation_blocks(const RenderedChat& chat);

/// Labels of a text's tokens: the id where the token has a byte in one of the spans (sorted, disjoint), else
/// kIgnoredLabel. A token at the edge that has bytes on both sides is thus learnt from. A token without bytes
/// of its own (white space that the tokenizer trims from offsets) counts as the byte before it.
std::vector<std::int32_t> labels_of(const text::Encoding& encoding, const std::vector<TextSpan>& spans);
/// The weights of the same tokens, each of the first span it has a byte in; of the others 0.
std::vector<double> weights_of(const text::Encoding& encoding, const std::vector<TextSpan>& spans);

}  // namespace hone::data
