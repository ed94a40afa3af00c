// Decoding one id at a time: the last ids are decoded again with each new one, behind enough context that
// their text is the same as in the whole sequence.
#include <utility>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/tokenizer_impl.h"

namespace hone::text {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

StreamDecoder::StreamDecoder(Tokenizer tokenizer, bool skip_special_tokens)
    : tokenizer_(std::move(tokenizer)), skip_special_tokens_(skip_special_tokens) {}

/// How many of ids_ no later id can change: all but a run of byte tokens at the end (ids without text do not
/// end it).
std::size_t StreamDecoder::certain_ids() const {
  const Tokenizer::Impl& impl = *tokenizer_.impl_;
  if (impl.stream.rewrites_text) return 0;
  std::size_t count = ids_.size();
  while (impl.stream.holds_bytes && count > 0) {
    const std::string* text = impl.decoder_text(ids_[count - 1], skip_special_tokens_);
    if (text != nullptr && !tok::fallback_byte(*text)) break;
    --count;
  }
  return count;
}

std::string StreamDecoder::push(std::int32_t id) {
  ids_.push_back(id);
  const std::size_t certain = certain_ids();
  std::string text = tokenizer_.decode(std::span(ids_).first(certain), skip_special_tokens_);
  bool whole_characters = true;
  if (tokenizer_.impl_->stream.joins_bytes && text.ends_with(kReplacement)) {
    text.resize(text.size() - kReplacement.size());  // may be the beginning of a character
    whole_characters = false;
  }
  if (text.size() <= emitted_) return "";
  std::string out = text.substr(emitted_);
  emitted_ = text.size();
  // What has been emitted is needed only as context, and one id with text is enough of it: what decoders do
  // at the start of a text then stays there.
  if (whole_characters && certain > 1) {
    const std::string context =
        tokenizer_.decode(std::span(ids_).subspan(certain - 1, 1), skip_special_tokens_);
    if (!context.empty() && !context.ends_with(kReplacement) && !context.starts_with(kReplacement)) {
      ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(certain - 1));
      emitted_ = context.size();
    }
  }
  return out;
}

std::string StreamDecoder::finish() {
  const std::string text = tokenizer_.decode(ids_, skip_special_tokens_);
  HONE_CHECK(text.size() >= emitted_, "emitted {} bytes of a text of {}", emitted_, text.size());
  std::string out = text.substr(emitted_);
  ids_.clear();
  emitted_ = 0;
  return out;
}

}  // namespace hone::text
