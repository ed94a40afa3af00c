// Where the turns of a chat begin (turn_begin.cpp) and end (turn_end.cpp); supervision.h says by which rules.
// Inside this room only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/supervision.h"

namespace hone::data {

inline constexpr std::string_view kWhiteSpace = " \t\r\n";

inline std::size_t common_prefix(std::string_view a, std::string_view b) {
  const auto n = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.begin() + n, b.begin()).first - a.begin());
}

inline bool is_blank(std::string_view text) {
  return text.find_first_not_of(kWhiteSpace) == std::string_view::npos;
}

inline std::string_view strip_right(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kWhiteSpace) + 1);
}

inline bool is_content_of(const text::MessageSpan& span, std::size_t message) {
  return span.message == static_cast<int>(message) && is_content(span);
}

/// Finds the turns of one chat, last first, and remembers the header and the end of what it has analysed.
class TurnFinder {
 public:
  TurnFinder(const RenderedChat& chat, const Markers& markers, const Renderer& render)
      : chat_(chat),
        markers_(markers),
        render_(render),
        text_(chat.rendered.text),
        sources_(chat.rendered.sources),
        only_turn_(chat.num_learnt() == 1) {}

  /// Nothing, one span, or several where another message's text is written into the turn.
  std::vector<TextSpan> find(std::size_t message) {
    const auto begin = find_begin(message);
    if (!begin) return {};
    return without_others(message, {*begin, find_end(message, *begin)});
  }

 private:
  /// The template's writing between what was said before a message and its own first character.
  struct Gap {
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  std::vector<TextSpan> without_others(std::size_t message, TextSpan turn) const;
  std::size_t end_before_others(std::size_t message, std::size_t begin, std::size_t other) const;
  std::optional<std::size_t> find_begin(std::size_t message);
  std::optional<std::size_t> begin_by_rendering(std::size_t message, const std::optional<Gap>& gap);
  std::optional<std::size_t> begin_after_prompt(std::size_t message, const text::Rendered& prompted);
  std::optional<std::size_t> begin_without_prompt(std::size_t message, std::string_view ending,
                                                  std::size_t at, const std::optional<Gap>& gap);
  std::optional<std::string> header_of_answer(std::size_t message, std::string_view ending) const;
  std::optional<std::size_t> begin_in_gap(const std::optional<Gap>& gap, std::string_view header) const;
  std::optional<std::size_t> begin_after_ending(std::size_t message, const text::Rendered& prompted,
                                                const std::optional<Gap>& gap);
  std::optional<std::size_t> partial_header(std::size_t header_begin, std::string_view header,
                                            const std::optional<Gap>& gap) const;
  std::size_t find_end(std::size_t message, std::size_t begin);
  std::size_t end_by_rendering(std::size_t message, std::size_t begin, std::size_t said) const;
  std::size_t end_of_changed_turn(std::size_t message, std::size_t begin, std::size_t said,
                                  const text::Rendered& alone, std::size_t said_alone) const;
  std::size_t with_stop(std::size_t said, std::size_t end) const;
  std::size_t end_marker(std::size_t said, std::size_t limit, bool whole) const;

  static std::optional<Gap> gap_in(const std::vector<text::MessageSpan>& sources, std::size_t message,
                                   std::size_t from = 0);
  std::optional<Gap> gap_of_silent(std::size_t message) const;
  std::optional<std::size_t> said_until(const text::Rendered& rendered, std::size_t message) const;
  std::size_t said_next(std::size_t at) const;
  std::optional<text::Rendered> try_render(const Json& messages, bool generation_prompt) const;
  std::optional<text::Rendered> try_render(std::size_t count, bool generation_prompt) const;
  Json first_messages(std::size_t count) const;
  std::string probe_header() const;
  std::size_t token_begin(std::size_t at) const;

  const RenderedChat& chat_;
  const Markers& markers_;
  const Renderer& render_;
  std::string_view text_;
  const std::vector<text::MessageSpan>& sources_;
  bool only_turn_;
  bool ignores_prompt_ = false;        // add_generation_prompt changes nothing
  std::optional<std::string> header_;  // of the first turn that was analysed
  std::vector<std::string> ends_;      // what followed the last character of turns that were analysed
};

}  // namespace hone::data
