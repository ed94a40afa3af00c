#include <utility>

#include "data/turn_finder.h"

namespace hone::data {

using text::MessageSpan;
using text::Rendered;

std::size_t TurnFinder::find_end(std::size_t message, std::size_t begin) {
  // What the turn itself says comes first; characters of the message that stand behind another message's are
  // repeated there, as a tool's answer repeats the tool's name.
  std::optional<std::size_t> said;
  bool whole_group = true;
  for (const auto& span : sources_) {
    if (span.end <= begin) continue;
    const bool own = is_content_of(span, message);
    if (own && whole_group) said = span.end;
    if (said && span.message != static_cast<int>(message)) whole_group = false;
  }
  if (said)
    for (const auto& end : ends_)
      if (text_.substr(*said).starts_with(end)) return with_stop(*said, *said + end.size());
  if (!said) {
    const auto gap = gap_of_silent(message);
    const std::size_t from = gap ? std::max(gap->end, begin) : begin;
    const std::size_t end = end_by_rendering(message, from, from);
    return end > from ? end : begin;
  }
  const std::size_t end = end_by_rendering(message, begin, *said);
  if (end > *said) ends_.emplace_back(text_.substr(*said, end - *said));
  return end;
}

/// Where the next thing is said behind `at`; whose it is is part of its header.
std::size_t TurnFinder::said_next(std::size_t at) const {
  const auto next = std::find_if(sources_.begin(), sources_.end(), [&](const MessageSpan& span) {
    return span.begin >= at && is_content(span);
  });
  return next != sources_.end() ? next->begin : text_.size();
}

/// A template may write a tool's answer between a call and what the same message says then. From the end of
/// the call to where the message speaks again, it is left out.
std::vector<TextSpan> TurnFinder::without_others(std::size_t message, TextSpan turn) const {
  std::vector<TextSpan> parts;
  bool others = false;
  for (const auto& span : sources_) {
    if (span.begin < turn.begin || span.end > turn.end) continue;
    if (span.message == static_cast<int>(message)) {
      if (others && is_content(span)) turn.begin = span.begin;
      others = others && !is_content(span);
    } else if (!others && is_content(span)) {
      const std::size_t end = end_before_others(message, turn.begin, span.begin);
      if (end > turn.begin) parts.push_back({turn.begin, end});
      others = true;
    }
  }
  if (!others && turn.end > turn.begin) parts.push_back(turn);
  return parts;
}

/// Where a turn from `begin` ends before another message's text at `other`: where the turn rendered without
/// that message goes on otherwise, or behind the last that was said.
std::size_t TurnFinder::end_before_others(std::size_t message, std::size_t begin, std::size_t other) const {
  if (const auto alone = try_render(message + 1, false)) {
    const std::size_t shared = token_begin(common_prefix(alone->text, text_));
    if (shared > begin && shared < other) return shared;
  }
  const auto said = std::find_if(sources_.rbegin(), sources_.rend(), [&](const MessageSpan& span) {
    return span.end <= other && is_content_of(span, message);
  });
  return said != sources_.rend() && said->end > begin ? end_marker(said->end, other, false) : begin;
}

std::size_t TurnFinder::end_by_rendering(std::size_t message, std::size_t begin, std::size_t said) const {
  const bool last = message + 1 == chat_.messages.size();
  if (last && !chat_.generation_prompt) return end_marker(said, text_.size(), true);
  const auto alone = try_render(message + 1, false);
  if (!alone) return end_marker(said, said_next(said), false);
  const std::size_t shared = common_prefix(alone->text, text_);
  const std::size_t said_alone = std::max(said_until(*alone, message).value_or(said), begin);
  if (shared < said_alone) return end_of_changed_turn(message, begin, said, *alone, said_alone);
  if (shared == alone->text.size()) return end_marker(said_alone, shared, true);
  return end_marker(said_alone, said_next(said_alone), false);
}

/// The turn reads otherwise once more turns follow. Its last words are still the same: the copy of them with
/// the same number (a later turn may repeat them, as a tool's answer repeats the tool's name). Where they are
/// not, what it says in the text, to `said`, has to do.
std::size_t TurnFinder::end_of_changed_turn(std::size_t message, std::size_t begin, std::size_t said,
                                            const Rendered& alone, std::size_t said_alone) const {
  const auto words = [](std::string_view text, const MessageSpan& span) {
    return text.substr(span.begin, span.end - span.begin);
  };
  const MessageSpan* last = nullptr;
  for (const auto& span : alone.sources)
    if (is_content_of(span, message)) last = &span;
  if (last == nullptr) return end_marker(said, said_next(said), false);
  std::size_t copies = 0;
  for (const auto& span : alone.sources)
    copies += is_content_of(span, message) && span.key == last->key &&
                      words(alone.text, span) == words(alone.text, *last)
                  ? 1
                  : 0;
  std::size_t same = begin;
  for (const auto& span : sources_) {
    if (span.begin < begin || !is_content_of(span, message) || span.key != last->key) continue;
    if (words(text_, span) != words(alone.text, *last) || copies == 0) continue;
    same = span.end;
    --copies;
  }
  if (same != begin) said = same;
  const auto tail = strip_right(std::string_view(alone.text).substr(said_alone));
  if (!tail.empty() && text_.substr(said).starts_with(tail)) return with_stop(said, said + tail.size());
  return end_marker(said, said_next(said), false);
}

/// The end of a turn whose last word ends at `said`: `end`, or behind the stop that the next header begins
/// with where the turn has none of its own.
std::size_t TurnFinder::with_stop(std::size_t said, std::size_t end) const {
  const auto& [ids, offsets] = chat_.encoding;
  auto i = static_cast<std::size_t>(
      std::partition_point(offsets.begin(), offsets.end(), [&](const auto& o) { return o.first < said; }) -
      offsets.begin());
  for (; i < ids.size() && offsets[i].second <= end; ++i)
    if (markers_.is_stop(ids[i])) return end;
  const bool stops_next = i < ids.size() && offsets[i].first == end && markers_.is_stop(ids[i]);
  return stops_next ? offsets[i].second : end;
}

/// The end of a turn whose last word ends at `said`. `limit`: where the turn ends (`whole`), or only where
/// the next thing is said, with the next header before it.
std::size_t TurnFinder::end_marker(std::size_t said, std::size_t limit, bool whole) const {
  const auto& [ids, offsets] = chat_.encoding;
  auto i = static_cast<std::size_t>(
      std::partition_point(offsets.begin(), offsets.end(), [&](const auto& o) { return o.first < said; }) -
      offsets.begin());
  std::optional<std::size_t> added;
  for (; i < ids.size() && offsets[i].second <= limit; ++i) {
    if (markers_.is_stop(ids[i]) || (!whole && markers_.is_special(ids[i]))) return offsets[i].second;
    if (markers_.is_added(ids[i]) && (whole || !added)) added = offsets[i].second;
  }
  const bool stops_next = whole && i < ids.size() && offsets[i].first == limit && markers_.is_stop(ids[i]);
  if (stops_next) return offsets[i].second;
  if (added) return *added;
  if (!whole) return said;
  return said + strip_right(text_.substr(said, limit - said)).size();
}

}  // namespace hone::data
