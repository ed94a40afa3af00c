// Encoding by byte pair merges: characters to symbols, symbols to merged symbols.
#include "text/bpe.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "text/byte_level.h"
#include "text/unicode.h"

namespace hone::text::tok {

namespace {

constexpr std::uint32_t kNoRank = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
constexpr std::size_t kFew = 40;           // symbols up to which scanning for the lowest rank beats a heap
constexpr std::size_t kLongestWord = 64;   // bytes of text of a remembered word
constexpr std::size_t kLongestGroup = 32;  // symbols of a remembered group

}  // namespace

std::optional<std::int32_t> Bpe::token_to_id(std::string_view token) const {
  const auto it = ids_.find(token);
  return it == ids_.end() ? std::nullopt : std::optional(it->second);
}

const std::string* Bpe::id_to_token(std::int32_t id) const {
  return id >= 0 && id < id_limit() ? tokens_[static_cast<std::size_t>(id)] : nullptr;
}

void Bpe::tokenize(const Piece& piece, BpeScratch& scratch, std::vector<Symbol>& out) const {
  if (piece.byte_level) {
    tokenize_bytes(piece.text, scratch, out);
  } else {
    tokenize_characters(piece.text, scratch, out);
  }
}

BpeScratch::Word& Bpe::word_slot(BpeScratch& scratch, std::string_view key) {
  return scratch.words_[std::hash<std::string_view>{}(key) & (BpeScratch::kWords - 1)];
}

void Bpe::tokenize_bytes(std::string_view text, BpeScratch& scratch, std::vector<Symbol>& out) const {
  const bool remember = text.size() <= kLongestWord;
  BpeScratch::Word* word = remember ? &word_slot(scratch, text) : nullptr;
  if (remember && word->key == text) {
    out.insert(out.end(), word->symbols.begin(), word->symbols.end());
    return;
  }
  auto& group = scratch.group_;
  group.clear();
  const auto whole = ignore_merges_ ? whole_words_.find(text) : whole_words_.end();
  if (whole != whole_words_.end()) {
    group.push_back({whole->second, static_cast<std::uint32_t>(text.size())});
  } else {
    for (const char byte : text) group.push_back({byte_ids_[static_cast<unsigned char>(byte)], 1});
    merge(scratch);
  }
  out.insert(out.end(), group.begin(), group.end());
  if (remember) {
    word->key = text;
    word->symbols = group;
  }
}

std::int32_t Bpe::character_id(char32_t code) const {
  const std::size_t page = code >> 8;
  return page < characters_.size() && !characters_[page].empty() ? characters_[page][code & 0xFF] : -1;
}

/// One symbol per character, with the library's ways for unknown ones: bytes, unk, or nothing.
void Bpe::start_from_characters(std::string_view text, std::vector<Symbol>& out) const {
  const bool decorated = !prefix_.empty() || !suffix_.empty();
  std::optional<Symbol> unknown;  // not yet appended, it may grow
  std::string spelling;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t code = unicode::decode(text, at);
    const auto length = static_cast<std::uint32_t>(at - begin);
    std::int32_t id = -1;
    std::string_view spelt = text.substr(begin, length);
    if (decorated) {
      spelling = begin == 0 ? "" : prefix_;
      spelling += spelt;
      if (at == text.size()) spelling += suffix_;
      spelt = spelling;
      id = token_to_id(spelt).value_or(-1);
    } else {
      id = character_id(code);
    }
    if (id >= 0) {
      if (unknown) out.push_back(*unknown);
      unknown.reset();
      out.push_back({id, length});
      continue;
    }
    const auto fallback_of = [&](char byte) { return fallback_ids_[static_cast<unsigned char>(byte)]; };
    if (byte_fallback_ &&
        std::all_of(spelt.begin(), spelt.end(), [&](char byte) { return fallback_of(byte) >= 0; })) {
      // The library does not append a pending unknown first: it comes after the bytes.
      for (const char byte : spelt) out.push_back({fallback_of(byte), 1});
      continue;
    }
    if (!unk_token_) continue;
    if (!unk_id_)
      fail("{}: '{}' is not in the vocabulary, and the text has a character that needs it", unk_location_,
           *unk_token_);
    if (unknown && fuse_unk_) {
      unknown->length += length;
    } else {
      if (unknown) out.push_back(*unknown);
      unknown = Symbol{*unk_id_, length};
    }
  }
  if (unknown) out.push_back(*unknown);
}

void Bpe::tokenize_characters(std::string_view text, BpeScratch& scratch, std::vector<Symbol>& out) const {
  if (ignore_merges_) {
    if (const auto id = token_to_id(text)) {
      out.push_back({*id, static_cast<std::uint32_t>(text.size())});
      return;
    }
  }
  auto& symbols = scratch.symbols_;
  symbols.clear();
  start_from_characters(text, symbols);
  // A SentencePiece-style piece is the whole text. No merge crosses two characters that no merge brings
  // together, so the text falls into words there, and words repeat.
  for (std::size_t begin = 0; begin < symbols.size();) {
    std::size_t end = begin + 1;
    while (end < symbols.size() &&
           (!splits_at_joints_ || joints_.find(symbols[end - 1].id, symbols[end].id) != nullptr)) {
      ++end;
    }
    if (end == begin + 1) {
      out.push_back(symbols[begin]);
    } else {
      const auto first = symbols.begin() + static_cast<std::ptrdiff_t>(begin);
      scratch.group_.assign(first, first + static_cast<std::ptrdiff_t>(end - begin));
      merge_group(scratch, out);
    }
    begin = end;
  }
}

/// Merges scratch.group_ and appends the result; remembers it by the ids.
void Bpe::merge_group(BpeScratch& scratch, std::vector<Symbol>& out) const {
  auto& group = scratch.group_;
  std::array<std::int32_t, kLongestGroup> ids{};
  bool remember = splits_at_joints_ && group.size() <= kLongestGroup;
  for (std::size_t i = 0; remember && i < group.size(); ++i) {
    ids[i] = group[i].id;
    remember = !unk_id_ || ids[i] != *unk_id_;  // of all symbols, only unk has no fixed length
  }
  const std::string_view key(reinterpret_cast<const char*>(ids.data()), group.size() * sizeof(std::int32_t));
  BpeScratch::Word* word = remember ? &word_slot(scratch, key) : nullptr;
  if (remember && word->key == key) {
    out.insert(out.end(), word->symbols.begin(), word->symbols.end());
    return;
  }
  merge(scratch);
  out.insert(out.end(), group.begin(), group.end());
  if (remember) {
    word->key = key;
    word->symbols = group;
  }
}

void Bpe::merge(BpeScratch& scratch) const {
  if (scratch.group_.size() <= kFew) {
    merge_few(scratch);
  } else {
    merge_many(scratch);
  }
}

/// Quadratic, without any bookkeeping: words are short.
void Bpe::merge_few(BpeScratch& scratch) const {
  auto& symbols = scratch.group_;
  auto& ranks = scratch.ranks_;
  auto& merged = scratch.merged_;
  const auto look_up = [&](std::size_t i) {
    const Merge* found = merges_.find(symbols[i].id, symbols[i + 1].id);
    ranks[i] = found == nullptr ? kNoRank : found->rank;
    merged[i] = found == nullptr ? -1 : found->merged;
  };
  if (symbols.size() < 2) return;
  ranks.resize(symbols.size());
  merged.resize(symbols.size());
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) look_up(i);
  while (symbols.size() >= 2) {
    const auto pairs_end = ranks.begin() + static_cast<std::ptrdiff_t>(symbols.size() - 1);
    const auto lowest = std::min_element(ranks.begin(), pairs_end);
    if (*lowest == kNoRank) return;
    const auto offset = lowest - ranks.begin();
    const auto i = static_cast<std::size_t>(offset);
    symbols[i] = {merged[i], symbols[i].length + symbols[i + 1].length};
    symbols.erase(symbols.begin() + offset + 1);
    ranks.erase(ranks.begin() + offset);
    merged.erase(merged.begin() + offset);
    if (i + 1 < symbols.size()) look_up(i);
    if (i > 0) look_up(i - 1);
  }
}

/// A heap of candidate merges over a linked list, O(n log n) for any text. A candidate is stale when its
/// symbols have changed since; it is then dropped, as the library does.
void Bpe::merge_many(BpeScratch& scratch) const {
  auto& symbols = scratch.group_;
  auto& links = scratch.links_;
  auto& heap = scratch.heap_;
  const auto count = static_cast<std::uint32_t>(symbols.size());
  const auto later = [](const auto& a, const auto& b) { return a.order > b.order; };
  links.resize(count);
  heap.clear();
  const auto candidate = [&](std::uint32_t left,
                             std::uint32_t right) -> std::optional<BpeScratch::Candidate> {
    const Merge* found = merges_.find(symbols[left].id, symbols[right].id);
    if (found == nullptr) return std::nullopt;
    return BpeScratch::Candidate{std::uint64_t{found->rank} << 32 | left, found->merged};
  };
  for (std::uint32_t i = 0; i < count; ++i) {
    links[i] = {i == 0 ? kNone : i - 1, i + 1 == count ? kNone : i + 1};
    if (i + 1 == count) break;
    if (const auto next = candidate(i, i + 1)) heap.push_back(*next);
  }
  std::make_heap(heap.begin(), heap.end(), later);
  const auto push = [&](std::uint32_t left, std::uint32_t right) {
    if (const auto next = candidate(left, right)) {
      heap.push_back(*next);
      std::push_heap(heap.begin(), heap.end(), later);
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const auto [order, merged] = heap.back();
    heap.pop_back();
    const auto left = static_cast<std::uint32_t>(order & 0xFFFFFFFFU);
    const std::uint32_t right = links[left].next;
    if (symbols[left].length == 0 || right == kNone) continue;
    const Merge* current = merges_.find(symbols[left].id, symbols[right].id);
    if (current == nullptr || current->merged != merged) continue;
    symbols[left] = {merged, symbols[left].length + symbols[right].length};
    symbols[right].length = 0;  // removed
    const std::uint32_t next = links[right].next;
    links[left].next = next;
    if (next != kNone) links[next].previous = left;
    if (links[left].previous != kNone) push(links[left].previous, left);
    if (next != kNone) push(left, next);
  }
  std::erase_if(symbols, [](const Symbol& symbol) { return symbol.length == 0; });
}

}  // namespace hone::text::tok
