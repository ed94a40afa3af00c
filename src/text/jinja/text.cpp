// Marked text: building it, and asking where its characters came from.
#include "text/jinja/text.h"

#include <algorithm>

#include "text/jinja/unicode.h"

namespace hone::text::jinja {

Source merge(Source a, Source b) {
  if (a == b || b.message == Source::kNoMessage) return a;
  if (a.message == Source::kNoMessage) return b;
  if (a.message == b.message) return {a.message, a.key == b.key ? a.key : Source::kWholeMessage};
  if (!a.is_message() || !b.is_message()) return b.is_message() ? b : a;
  return {Source::kSeveral, Source::kWholeMessage};
}

std::size_t Text::offset(std::size_t index) const {
  if (is_ascii()) return index;
  Budget::spend_on_text(4 * index);  // decoded, not just read
  std::size_t at = 0;
  for (; index > 0; --index) decode_utf8(bytes, at);
  return at;
}

Mark Text::mark_at(std::size_t at) const {
  const auto it = std::upper_bound(runs.begin(), runs.end(), at,
                                   [](std::size_t position, const Run& run) { return position < run.end; });
  return it == runs.end() ? Mark{} : it->mark;
}

Mark Text::mark_of(std::size_t begin, std::size_t end) const {
  auto it = std::upper_bound(runs.begin(), runs.end(), begin,
                             [](std::size_t position, const Run& run) { return position < run.end; });
  if (it == runs.end() || begin >= end) return {};
  Mark mark = it->mark;
  while (it->end < end && ++it != runs.end()) {
    mark.source = merge(mark.source, it->mark.source);
    if (mark.generation != it->mark.generation) mark.generation = 0;
  }
  return mark;
}

void TextBuilder::append(std::string_view bytes, const Mark& mark) {
  if (bytes.empty()) return;
  if (bytes.size() > kMaxTextBytes - bytes_.size()) {
    raise("MemoryError", "a text of the template grew beyond {} MiB", kMaxTextBytes >> 20);
  }
  Budget::spend(1 + bytes.size() / Budget::kBytesPerStep);
  holding_.take(bytes.size());
  bytes_.append(bytes);
  if (mark != Mark{}) is_marked_ = true;
  if (!runs_.empty() && runs_.back().mark == mark) {
    runs_.back().end = bytes_.size();
  } else {
    holding_.take(sizeof(Text::Run));
    runs_.push_back({bytes_.size(), mark});
  }
}

void TextBuilder::append(const Text& text, std::size_t begin, std::size_t end) {
  const std::string_view bytes = text.bytes;
  if (text.runs.empty()) return append(bytes.substr(begin, end - begin));
  auto run = std::upper_bound(text.runs.begin(), text.runs.end(), begin,
                              [](std::size_t position, const Text::Run& r) { return position < r.end; });
  while (begin < end) {
    const std::size_t stop = std::min(end, run->end);
    append(bytes.substr(begin, stop - begin), run->mark);
    begin = stop;
    ++run;
  }
}

TextRef TextBuilder::finish(bool markup) {
  auto text = std::make_shared<Text>();
  text->bytes = std::move(bytes_);
  text->length = count_code_points(text->bytes);
  text->markup = markup;
  if (is_marked_) text->runs = std::move(runs_);
  holding_.give_back();
  text->holding.take(sizeof(Text) + text->bytes.size() + text->runs.size() * sizeof(Text::Run));
  bytes_.clear();
  runs_.clear();
  is_marked_ = false;
  return text;
}

}  // namespace hone::text::jinja
