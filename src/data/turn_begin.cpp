#include <utility>

#include "base/error.h"
#include "data/turn_finder.h"

namespace hone::data {

using text::MessageSpan;
using text::Rendered;

namespace {

bool is_word(char c) {
  return c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
         static_cast<unsigned char>(c) >= 0x80;
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

}  // namespace

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

}  // namespace hone::data
