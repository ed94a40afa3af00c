#include "data/supervision.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "data/conversation.h"
#include "data/turn_finder.h"

namespace hone::data {

bool is_content(const text::MessageSpan& span) {
  constexpr std::array<std::string_view, 4> kAddress{"role", "name", "id", "tool_call_id"};
  return !among(kAddress, span.key) && !is_learning_key(span.key);
}

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
  return messages[message]["role"] == "assistant" && weights[message] != 0;
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
      for (const auto& span : finder.find(message))
        spans.push_back({span.begin, span.end, chat.weights[message]});
  std::sort(spans.begin(), spans.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  std::vector<TextSpan> disjoint;
  for (auto span : spans) {
    if (!disjoint.empty() && span.begin <= disjoint.back().end) {
      if (span.weight == disjoint.back().weight) {
        disjoint.back().end = std::max(disjoint.back().end, span.end);
        continue;
      }
      span.begin = disjoint.back().end;
      if (span.end <= span.begin) continue;
    }
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
    const double weight = owned ? chat.weights.at(static_cast<std::size_t>(owner->message)) : 1;
    if (weight != 0) spans.push_back({begin, end, weight});
  }
  return spans;
}

namespace {

/// Calls use(token, span) for every token that has a byte in a span, with the first such span.
template <typename Use>
void for_each_learnt(const text::Encoding& encoding, const std::vector<TextSpan>& spans, const Use& use) {
  std::size_t next = 0;  // the first span that does not end before the token
  for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
    auto [begin, end] = encoding.offsets[i];
    if (begin == end) {
      if (begin == 0) continue;
      --begin;
    }
    while (next < spans.size() && spans[next].end <= begin) ++next;
    if (next < spans.size() && std::max(begin, spans[next].begin) < std::min(end, spans[next].end))
      use(i, spans[next]);
  }
}

}  // namespace

std::vector<std::int32_t> labels_of(const text::Encoding& encoding, const std::vector<TextSpan>& spans) {
  std::vector<std::int32_t> labels(encoding.ids.size(), kIgnoredLabel);
  for_each_learnt(encoding, spans, [&](std::size_t i, const TextSpan&) { labels[i] = encoding.ids[i]; });
  return labels;
}

std::vector<double> weights_of(const text::Encoding& encoding, const std::vector<TextSpan>& spans) {
  std::vector<double> weights(encoding.ids.size(), 0);
  for_each_learnt(encoding, spans, [&](std::size_t i, const TextSpan& span) { weights[i] = span.weight; });
  return weights;
}

}  // namespace hone::data
