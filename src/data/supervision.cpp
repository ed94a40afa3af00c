#include "data/supervision.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace hone::data {

namespace {

using text::MessageSpan;
using text::Rendered;

constexpr std::string_view kWhiteSpace = " \t\r\n";

std::size_t common_prefix(std::string_view a, std::string_view b) {
  const auto n = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.begin() + n, b.begin()).first - a.begin());
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(kWhiteSpace) == std::string_view::npos;
}

bool is_word(char c) {
  return c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
         static_cast<unsigned char>(c) >= 0x80;
}

std::string_view strip_right(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kWhiteSpace) + 1);
}

/// What the template wrote behind the last character of any message.
std::string_view ending_of(const Rendered& rendered) {
  const std::size_t said = rendered.sources.empty() ? 0 : rendered.sources.back().end;
  return std::string_view(rendered.text).substr(said);
}

/// Where a gap goes on behind the ending of the chat before. A question that says nothing is part of the gap.
std::optional<std::size_t> behind(std::string_view ending, std::string_view gap) {
  if (gap.starts_with(ending)) return ending.size();
  if (is_blank(ending)) return std::nullopt;
  ending.remove_prefix(ending.find_first_not_of(kWhiteSpace));
  const std::size_t at = gap.rfind(ending);
  return at == std::string_view::npos ? std::nullopt : std::optional(at + ending.size());
}

/// Is the span what an assistant message says, not how it is addressed?
bool is_content(const MessageSpan& span) {
  constexpr std::array<std::string_view, 6> kAddress{"role", "name", "id", "train", "weight", "tool_call_id"};
  return std::find(kAddress.begin(), kAddress.end(), span.key) == kAddress.end();
}

bool is_content_of(const MessageSpan& span, std::size_t message) {
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
  std::optional<std::size_t> begin_after_prompt(std::size_t message, const Rendered& prompted);
  std::optional<std::size_t> begin_without_prompt(std::size_t message, std::string_view ending,
                                                  std::size_t at, const std::optional<Gap>& gap);
  std::optional<std::string> header_of_answer(std::size_t message, std::string_view ending) const;
  std::optional<std::size_t> begin_in_gap(const std::optional<Gap>& gap, std::string_view header) const;
  std::optional<std::size_t> begin_after_ending(std::size_t message, const Rendered& prompted,
                                                const std::optional<Gap>& gap);
  std::optional<std::size_t> partial_header(std::size_t header_begin, std::string_view header,
                                            const std::optional<Gap>& gap) const;
  std::size_t find_end(std::size_t message, std::size_t begin);
  std::size_t end_by_rendering(std::size_t message, std::size_t begin, std::size_t said) const;
  std::size_t end_of_changed_turn(std::size_t message, std::size_t begin, std::size_t said,
                                  const Rendered& alone, std::size_t said_alone) const;
  std::size_t with_stop(std::size_t said, std::size_t end) const;
  std::size_t end_marker(std::size_t said, std::size_t limit, bool whole) const;

  static std::optional<Gap> gap_in(const std::vector<MessageSpan>& sources, std::size_t message,
                                   std::size_t from = 0);
  std::optional<Gap> gap_of_silent(std::size_t message) const;
  std::optional<std::size_t> said_until(const Rendered& rendered, std::size_t message) const;
  std::size_t said_next(std::size_t at) const;
  std::optional<Rendered> try_render(const Json& messages, bool generation_prompt) const;
  std::optional<Rendered> try_render(std::size_t count, bool generation_prompt) const;
  Json first_messages(std::size_t count) const;
  std::string probe_header() const;
  std::size_t token_begin(std::size_t at) const;

  const RenderedChat& chat_;
  const Markers& markers_;
  const Renderer& render_;
  std::string_view text_;
  const std::vector<MessageSpan>& sources_;
  bool only_turn_;
  bool ignores_prompt_ = false;        // add_generation_prompt changes nothing
  std::optional<std::string> header_;  // of the first turn that was analysed
  std::vector<std::string> ends_;      // what followed the last character of turns that were analysed
};

std::optional<Rendered> TurnFinder::try_render(const Json& messages, bool generation_prompt) const {
  try {
    return render_(messages, generation_prompt);
  } catch (const Error&) {
    return std::nullopt;  // a template may refuse a part of a chat that it takes whole
  }
}

std::optional<Rendered> TurnFinder::try_render(std::size_t count, bool generation_prompt) const {
  return try_render(first_messages(count), generation_prompt);
}

Json TurnFinder::first_messages(std::size_t count) const {
  Json part = Json::array();
  for (std::size_t i = 0; i < count; ++i) part.push_back(chat_.messages[i]);
  return part;
}

/// From the last character of another message to the first of this one at or behind `from`.
std::optional<TurnFinder::Gap> TurnFinder::gap_in(const std::vector<MessageSpan>& sources,
                                                  std::size_t message, std::size_t from) {
  std::size_t before = 0;
  for (const auto& span : sources) {
    if (span.end > from && is_content_of(span, message)) return Gap{before, std::max(span.begin, from)};
    if (span.message != static_cast<int>(message)) before = span.end;
  }
  return std::nullopt;
}

/// The same of a turn of which the template writes no character: up to where it would write an answer.
std::optional<TurnFinder::Gap> TurnFinder::gap_of_silent(std::size_t message) const {
  Json messages = chat_.messages;
  messages[message]["content"] = "?";
  const auto answered = try_render(messages, chat_.generation_prompt);
  const auto gap = answered ? gap_in(answered->sources, message) : std::nullopt;
  return gap && text_.starts_with(std::string_view(answered->text).substr(0, gap->end)) ? gap : std::nullopt;
}

/// Where the last character that a message says ends; nothing where it says none.
std::optional<std::size_t> TurnFinder::said_until(const Rendered& rendered, std::size_t message) const {
  for (auto span = rendered.sources.rbegin(); span != rendered.sources.rend(); ++span)
    if (is_content_of(*span, message)) return span->end;
  return std::nullopt;
}

/// The beginning of the token that holds byte `at`, or `at` between tokens.
std::size_t TurnFinder::token_begin(std::size_t at) const {
  const auto& offsets = chat_.encoding.offsets;
  const auto token =
      std::partition_point(offsets.begin(), offsets.end(), [&](const auto& o) { return o.second <= at; });
  return token != offsets.end() && token->first < at ? token->first : at;
}

std::optional<std::size_t> TurnFinder::find_begin(std::size_t message) {
  auto gap = gap_in(sources_, message);
  if (!gap) gap = gap_of_silent(message);
  if (header_ && !is_blank(*header_) && gap) {
    const auto between = text_.substr(gap->begin, gap->end - gap->begin);
    const auto at = between.find(*header_);
    if (at != std::string_view::npos && between.find(*header_, at + 1) == std::string_view::npos)
      return gap->begin + at + header_->size();
  }
  if (auto begin = begin_by_rendering(message, gap)) return begin;
  if (!gap) return std::nullopt;
  return gap->end;
}

std::optional<std::size_t> TurnFinder::begin_by_rendering(std::size_t message,
                                                          const std::optional<Gap>& gap) {
  const auto prompted = message > 0 ? try_render(message, true) : std::nullopt;
  if (!prompted) return begin_in_gap(gap, header_ ? *header_ : probe_header());
  const std::string& prompt = prompted->text;
  const std::size_t shared = common_prefix(prompt, text_);
  if (shared == prompt.size()) return begin_after_prompt(message, *prompted);
  const auto plain = try_render(message, false);
  if (!plain || !prompt.starts_with(plain->text)) return begin_in_gap(gap, header_.value_or(""));
  const auto header = std::string_view(prompt).substr(plain->text.size());
  if (shared >= plain->text.size()) return partial_header(plain->text.size(), header, gap);
  return header.empty() ? begin_after_ending(message, *prompted, gap) : begin_in_gap(gap, header);
}

/// `prompt`, what the model is given at inference, is how the chat begins: the turn is the rest, unless the
/// template ignores add_generation_prompt and the rest begins with the header.
std::optional<std::size_t> TurnFinder::begin_after_prompt(std::size_t message, const Rendered& prompted) {
  const std::string& prompt = prompted.text;
  const auto said = gap_in(sources_, message, prompt.size());
  if (said && is_blank(text_.substr(prompt.size(), said->end - prompt.size())) && (header_ || only_turn_))
    return prompt.size();
  if (!header_ || header_->empty()) {
    const auto plain = try_render(message, false);
    if (!plain) return prompt.size();
    header_ = prompt.substr(token_begin(common_prefix(plain->text, prompt)));
    ignores_prompt_ = header_->empty();
  }
  if (!ignores_prompt_) return prompt.size();
  return begin_without_prompt(message, ending_of(prompted), prompt.size(), said);
}

/// The template ignores add_generation_prompt, and the chat before the turn reads otherwise when it is all
/// there is, but for what stands behind its last words: the turn begins where that ends, or where the text
/// goes on otherwise, if the template writes no header before an answer.
std::optional<std::size_t> TurnFinder::begin_after_ending(std::size_t message, const Rendered& prompted,
                                                          const std::optional<Gap>& gap) {
  if (!gap) return std::nullopt;
  const auto ending = ending_of(prompted);
  const auto between = text_.substr(gap->begin, gap->end - gap->begin);
  if (const auto at = behind(ending, between))
    return begin_without_prompt(message, ending, gap->begin + *at, gap);
  const std::size_t shared = common_prefix(between, ending);
  const auto header = header_of_answer(message, ending);
  if (is_blank(between.substr(0, shared)) || !header || !is_blank(*header)) return std::nullopt;
  return std::max(token_begin(gap->begin + shared), gap->begin);
}

/// The chat before the turn ends with `ending`, at byte `at`, with or without add_generation_prompt. The
/// header is then what the template writes between that and a plain answer.
std::optional<std::size_t> TurnFinder::begin_without_prompt(std::size_t message, std::string_view ending,
                                                            std::size_t at, const std::optional<Gap>& gap) {
  const auto header = header_of_answer(message, ending);
  const auto fallback = gap ? std::optional(gap->end) : std::nullopt;
  if (!header) return fallback;
  if (is_blank(*header)) return at;
  header_ = header;
  if (text_.substr(at).starts_with(*header)) return at + header->size();
  const auto partial = partial_header(at, *header, gap);
  return partial ? partial : fallback;
}

/// What the template writes before a plain answer in the turn's place, behind the ending of the chat before.
std::optional<std::string> TurnFinder::header_of_answer(std::size_t message, std::string_view ending) const {
  Json part = first_messages(message);
  part.push_back({{"role", "assistant"}, {"content", "?"}});
  const auto answered = try_render(part, false);
  const auto gap = answered ? gap_in(answered->sources, message) : std::nullopt;
  if (!gap) return std::nullopt;
  const auto between = std::string_view(answered->text).substr(gap->begin, gap->end - gap->begin);
  const auto at = behind(ending, between);
  return at ? std::optional(std::string(between.substr(*at))) : std::nullopt;
}

/// Only the beginning of the header stands in the text: the turn goes on otherwise than its generation
/// prompt. What is left of it ends behind an added token, a line break or a whole word, and says something.
std::optional<std::size_t> TurnFinder::partial_header(std::size_t header_begin, std::string_view header,
                                                      const std::optional<Gap>& gap) const {
  const std::size_t shared = header_begin + common_prefix(header, text_.substr(header_begin));
  const std::size_t limit = gap ? std::min(shared, gap->end) : shared;
  const auto& encoding = chat_.encoding;
  std::optional<std::size_t> found;
  for (std::size_t i = 0; i < encoding.ids.size() && encoding.offsets[i].second <= limit; ++i)
    if (encoding.offsets[i].first >= header_begin && markers_.is_added(encoding.ids[i]))
      found = encoding.offsets[i].second;
  const auto header_left = header.substr(limit - header_begin);
  const bool ends_word = !header_left.empty() && kWhiteSpace.find(header_left[0]) != std::string_view::npos &&
                         (limit == text_.size() || !is_word(text_[limit]));
  for (std::size_t at = limit; at > found.value_or(header_begin); --at)
    if (text_[at - 1] == '\n' || (ends_word && at == limit)) {
      found = at;
      break;
    }
  if (!found || is_blank(text_.substr(header_begin, *found - header_begin))) return std::nullopt;
  return found;
}

/// Where the gap holds the generation prompt, or the longest part of its beginning that ends at white space
/// or a bracket, the header ends behind it.
std::optional<std::size_t> TurnFinder::begin_in_gap(const std::optional<Gap>& gap,
                                                    std::string_view header) const {
  if (!gap) return std::nullopt;
  const auto between = text_.substr(gap->begin, gap->end - gap->begin);
  for (std::size_t length = header.size(); length > 0; --length) {
    const auto part = header.substr(0, length);
    if (is_blank(part)) break;
    constexpr std::string_view kEdges = " \t\r\n>]:";
    if (length < header.size() && kEdges.find(part.back()) == std::string_view::npos) continue;
    const auto at = between.rfind(part);
    if (at != std::string_view::npos) return gap->begin + at + length;
  }
  return std::nullopt;
}

/// The generation prompt, learnt from a chat of one question.
std::string TurnFinder::probe_header() const {
  const Json question = Json::array({{{"role", "user"}, {"content", "?"}}});
  const auto plain = try_render(question, false);
  const auto prompted = try_render(question, true);
  if (!plain || !prompted || !prompted->text.starts_with(plain->text)) return "";
  return prompted->text.substr(plain->text.size());
}

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

}  // namespace

Markers::Markers(const text::Tokenizer& tokenizer, std::vector<std::int32_t> stops)
    : tokenizer_(&tokenizer), stops_(std::move(stops)) {}

bool Markers::is_stop(std::int32_t id) const {
  return std::find(stops_.begin(), stops_.end(), id) != stops_.end();
}

bool Markers::is_special(std::int32_t id) const {
  return tokenizer_->is_special(id);
}

bool Markers::is_added(std::int32_t id) const {
  const auto& added = tokenizer_->added_tokens();
  const auto it =
      std::lower_bound(added.begin(), added.end(), id,
                       [](const text::AddedToken& token, std::int32_t of) { return token.id < of; });
  return it != added.end() && it->id == id;
}

bool RenderedChat::learns(std::size_t message) const {
  return messages[message]["role"] == "assistant" && !excluded[message];
}

std::size_t RenderedChat::num_learnt() const {
  std::size_t count = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) count += learns(i) ? 1 : 0;
  return count;
}

std::vector<TextSpan> find_learnt_turns(const RenderedChat& chat, const Markers& markers,
                                        const Renderer& render) {
  TurnFinder finder(chat, markers, render);
  std::vector<TextSpan> spans;
  for (std::size_t message = chat.messages.size(); message-- > 0;)
    if (chat.learns(message))
      for (const auto& span : finder.find(message)) spans.push_back(span);
  std::sort(spans.begin(), spans.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  std::vector<TextSpan> disjoint;
  for (const auto& span : spans) {
    if (!disjoint.empty() && span.begin <= disjoint.back().end)
      disjoint.back().end = std::max(disjoint.back().end, span.end);
    else
      disjoint.push_back(span);
  }
  return disjoint;
}

std::vector<TextSpan> find_generation_blocks(const RenderedChat& chat) {
  std::vector<TextSpan> spans;
  for (const auto& [begin, end] : chat.rendered.generation) {
    const auto owner = std::find_if(chat.rendered.sources.begin(), chat.rendered.sources.end(),
                                    [&, from = begin, to = end](const auto& s) {
                                      return s.end > from && s.begin < to && s.message >= 0 && is_content(s);
                                    });
    const bool owned = owner != chat.rendered.sources.end();
    if (!owned || !chat.excluded.at(static_cast<std::size_t>(owner->message))) spans.push_back({begin, end});
  }
  return spans;
}

std::vector<std::int32_t> labels_of(const text::Encoding& encoding, const std::vector<TextSpan>& spans) {
  std::vector<std::int32_t> labels(encoding.ids.size(), kIgnoredLabel);
  std::size_t next = 0;  // the first span that does not end before the token
  for (std::size_t i = 0; i < labels.size(); ++i) {
    auto [begin, end] = encoding.offsets[i];
    if (begin == end) {
      if (begin == 0) continue;
      --begin;
    }
    while (next < spans.size() && spans[next].end <= begin) ++next;
    if (next < spans.size() && std::max(begin, spans[next].begin) < std::min(end, spans[next].end))
      labels[i] = encoding.ids[i];
  }
  return labels;
}

}  // namespace hone::data
