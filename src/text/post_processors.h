// The "post_processor" section of tokenizer.json: adds the tokens around a text, and trims offsets.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "json/node.h"
#include "text/text_piece.h"

namespace hone::text::tok {

/// A token on its way out. `leading` and `trailing` count the white space characters at the ends of its text.
struct OutputToken {
  std::int32_t id = 0;
  InputRange source;
  std::uint32_t leading = 0;
  std::uint32_t trailing = 0;
};

/// The tokens of a text in parts: a template leaves each of its pieces as a part.
using OutputParts = std::vector<std::vector<OutputToken>>;

class PostProcessor {
 public:
  virtual ~PostProcessor() = default;
  /// Changes the parts; `text` is the input, whose bytes the sources count.
  virtual void process(OutputParts& parts, std::string_view text, bool add_special_tokens) const = 0;
  /// Does it look at OutputToken::leading and trailing?
  virtual bool trims() const = 0;
};

/// Builds a post-processor from its JSON. Throws Error naming the key path.
std::unique_ptr<PostProcessor> make_post_processor(const JsonNode& node);

/// Sets `leading` and `trailing` of a token with this text.
void count_outer_spaces(std::string_view token_text, OutputToken& token);

}  // namespace hone::text::tok
