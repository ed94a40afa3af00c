// Added tokens: reading them, giving them ids, finding them in text.
#include "text/added_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/message.h"
#include "text/unicode.h"

namespace hone::text::tok {

void LongestMatcher::add(std::string_view text, std::int32_t id) {
  std::uint32_t node = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    auto& children = nodes_[node].children;
    const auto it = std::find_if(children.begin(), children.end(),
                                 [&](const auto& child) { return child.first == byte; });
    if (it != children.end()) {
      node = it->second;
      continue;
    }
    const auto created = static_cast<std::uint32_t>(nodes_.size());
    children.emplace_back(byte, created);
    if (node == 0) first_[byte] = created;
    nodes_.emplace_back();
    node = created;
  }
  if (nodes_[node].id < 0) nodes_[node].id = id;
}

std::optional<LongestMatcher::Match> LongestMatcher::find(std::string_view text, std::size_t from) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    std::uint32_t node = first_[static_cast<unsigned char>(text[begin])];
    if (node == 0) continue;
    std::optional<Match> longest;
    for (std::size_t end = begin + 1; node != 0; ++end) {
      if (nodes_[node].id >= 0) longest = Match{begin, end, nodes_[node].id};
      if (end >= text.size()) break;
      const auto byte = static_cast<unsigned char>(text[end]);
      const auto& children = nodes_[node].children;
      const auto it = std::find_if(children.begin(), children.end(),
                                   [&](const auto& child) { return child.first == byte; });
      node = it == children.end() ? 0 : it->second;
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

AddedTokens::AddedTokens(const std::optional<JsonNode>& node, const Bpe& model, const Normalizer* normalizer,
                         bool split_special_tokens)
    : splits_special_(split_special_tokens) {
  if (!node) return;
  next_id_ = static_cast<std::int32_t>(model.vocab_size());
  std::unordered_map<std::uint64_t, std::string> stated;  // ids of the file
  std::size_t moved = 0;
  std::string first_moved;
  for (const JsonNode& entry : node->elements()) {
    AddedToken token;
    std::optional<std::uint64_t> id;  // none: whatever comes
    if (!entry.at("id").is_null()) id = entry.at("id").as_count(kMostIds - 1);
    token.content = entry.at("content").as_string();
    token.single_word = entry.at("single_word").as_bool();
    token.lstrip = entry.at("lstrip").as_bool();
    token.rstrip = entry.at("rstrip").as_bool();
    token.normalized = entry.at("normalized").as_bool();
    token.special = entry.at("special").as_bool();
    if (id) {
      const auto [other, is_new] = stated.emplace(*id, token.content);
      if (!is_new && other->second != token.content)
        entry.at("id").fail_here(fmt::format("'{}' and '{}' have the same id {}", shown(other->second),
                                             shown(token.content), *id));
    }
    if (token.content.empty()) continue;  // as the library
    add(token, model, normalizer, entry);
    const auto given = token_to_id(token.content);
    if (id && given && static_cast<std::uint64_t>(*given) != *id && moved++ == 0) {
      first_moved = fmt::format("'{}' has the id {} instead of {}", shown(token.content), *given, *id);
    }
  }
  if (moved > 0) {
    log_warning(
        "{}: {} of {} ids are not those that the vocabulary and the order give, and are ignored as the "
        "tokenizers library does: {}",
        node->location(), moved, node->size(), first_moved);
  }
  finish(*node);
}

void AddedTokens::add(const AddedToken& token, const Bpe& model, const Normalizer* normalizer,
                      const JsonNode& where) {
  auto id = token_to_id(token.content);
  const auto model_id = model.token_to_id(token.content);
  if (!id) {
    if (!model_id) ++beyond_model_;
    id = model_id ? *model_id : next_id_++;
  }
  if (token.normalized && normalizer != nullptr) {
    std::string text = normalizer->normalize_text(token.content);
    if (text.empty()) {
      where.fail_here(
          fmt::format("'{}' is normalized to nothing, so it would match everywhere; set \"normalized\" "
                      "to false",
                      shown(token.content)));
    }
    if (text != token.content) normalized_[*id] = std::move(text);
  } else {
    normalized_.erase(*id);
  }
  by_content_[token.content] = *id;
  if (token.special) special_.insert(token.content);
  AddedToken kept = token;
  kept.id = *id;
  const auto [it, is_new] = by_id_.emplace(*id, tokens_.size());
  if (is_new) {
    tokens_.push_back(std::move(kept));
  } else {
    tokens_[it->second] = std::move(kept);
  }
}

void AddedTokens::finish(const JsonNode& where) {
  std::sort(tokens_.begin(), tokens_.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  for (std::size_t i = 0; i < tokens_.size(); ++i) by_id_[tokens_[i].id] = i;
  if (!tokens_.empty() && tokens_.back().id >= kMostIds) where.fail_here("too many added tokens");
  // Where two tokens have the same normalized text the library takes one at random; here it is the lower id.
  for (const AddedToken& token : tokens_) {
    const auto changed = normalized_.find(token.id);
    if (!token.normalized) {
      raw_matcher_.add(token.content, token.id);
    } else {
      normalized_matcher_.add(changed == normalized_.end() ? token.content : changed->second, token.id);
    }
  }
}

const AddedToken* AddedTokens::find(std::int32_t id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : &tokens_[it->second];
}

std::optional<std::int32_t> AddedTokens::token_to_id(std::string_view content) const {
  const auto it = by_content_.find(std::string(content));
  return it == by_content_.end() ? std::nullopt : std::optional(it->second);
}

const std::string* AddedTokens::decoded(std::int32_t id) const {
  const AddedToken* token = find(id);
  if (token == nullptr) return nullptr;
  const auto changed = normalized_.find(id);
  return changed == normalized_.end() ? &token->content : &changed->second;
}

namespace {

std::size_t previous_boundary(std::string_view text, std::size_t at) {
  do {
    --at;
  } while (!unicode::is_boundary_byte(text[at]));
  return at;
}

char32_t code_before(std::string_view text, std::size_t at) {
  std::size_t begin = previous_boundary(text, at);
  return unicode::decode(text, begin);
}

bool touches_word(std::string_view text, std::size_t begin, std::size_t end) {
  if (begin > 0 && unicode::is_word(code_before(text, begin))) return true;
  return end < text.size() && unicode::is_word(unicode::decode(text, end));
}

std::size_t skip_space_back(std::string_view text, std::size_t at) {
  while (at > 0 && unicode::is_white_space(code_before(text, at))) at = previous_boundary(text, at);
  return at;
}

std::size_t skip_space(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    std::size_t next = at;
    if (!unicode::is_white_space(unicode::decode(text, next))) break;
    at = next;
  }
  return at;
}

}  // namespace

void AddedTokens::split(const Piece& piece, bool normalized, Sink sink) const {
  const LongestMatcher& matcher = normalized ? normalized_matcher_ : raw_matcher_;
  const std::string_view text = piece.text;
  std::size_t done = 0;
  const auto emit = [&](std::size_t begin, std::size_t end, std::optional<std::int32_t> id) {
    if (begin != end)
      sink(slice(piece, begin, end), id);  // also of the whole: what it covers may have shrunk
  };
  if (!matcher.empty()) {
    std::size_t from = 0;
    while (const auto match = matcher.find(text, from)) {
      from = match->end;  // also for a match that is turned down: no shorter one is tried
      const AddedToken& token = *find(match->id);
      std::size_t begin = match->begin;
      std::size_t end = match->end;
      if (token.single_word && touches_word(text, begin, end)) continue;
      if (splits_special_ && is_special_text(token.content)) continue;
      if (token.lstrip) begin = std::max(skip_space_back(text, begin), done);
      if (token.rstrip) end = skip_space(text, end);
      // White space that the token before has taken may itself be a token; the library crashes where it ends
      // earlier.
      end = std::max(begin, end);
      if (done < begin) emit(done, begin, std::nullopt);
      emit(begin, end, token.id);
      done = end;
    }
  }
  if (done != text.size()) emit(done, text.size(), std::nullopt);
}

}  // namespace hone::text::tok
