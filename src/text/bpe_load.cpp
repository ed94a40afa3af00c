// Reading a BPE model from tokenizer.json, and the tables that make encoding fast.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/message.h"
#include "text/bpe.h"
#include "text/byte_level.h"
#include "text/unicode.h"

namespace hone::text::tok {

namespace {

// Ids index arrays here and rows of an embedding later; more than this is a damaged file.

std::string fallback_token(unsigned byte) {
  return fmt::format("<0x{:02X}>", byte);
}

}  // namespace

Bpe::Bpe(const JsonNode& node) {
  static const std::array<std::string, 1> kKinds = {"BPE"};
  const auto type = node.find_given("type");
  if (type) type->one_of(kKinds, "model");
  if (!type && !node.find_given("merges"))
    node.fail_here("'type' is missing, and there are no merges: only BPE is supported");
  read_options(node);
  read_vocabulary(node.at("vocab"));
  if (unk_token_) unk_id_ = token_to_id(*unk_token_);
  fallback_ids_.fill(-1);
  for (unsigned byte = 0; byte < 256; ++byte)
    fallback_ids_[byte] = token_to_id(fallback_token(byte)).value_or(-1);
  read_merges(node.at("merges"));
  index_characters();
  index_bytes();
}

void Bpe::read_options(const JsonNode& node) {
  if (const auto dropout = node.find_given("dropout"); dropout && dropout->as_number() != 0.0) {
    dropout->fail_here("BPE dropout is not supported; set it to null");
  }
  const auto text_or_empty = [&](std::string_view key) {
    const auto value = node.find_given(key);
    return value ? value->as_string() : std::string();
  };
  if (const auto unk = node.find_given("unk_token")) {
    unk_token_ = unk->as_string();
    unk_location_ = unk->location();
  }
  prefix_ = text_or_empty("continuing_subword_prefix");
  suffix_ = text_or_empty("end_of_word_suffix");
  fuse_unk_ = node.flag_or("fuse_unk", false);
  byte_fallback_ = node.flag_or("byte_fallback", false);
  ignore_merges_ = node.flag_or("ignore_merges", false);
}

void Bpe::read_vocabulary(const JsonNode& node) {
  if (!node.is_object()) node.fail_expected("an object of tokens and ids");
  const auto& vocabulary = node.value();
  ids_.reserve(vocabulary.size());
  for (const auto& [token, value] : vocabulary.items()) {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= kMostIds) {
      node.fail_here(fmt::format("the id of '{}' is {}; expected an integer from 0 to {}", shown(token),
                                 shown(value.dump()), kMostIds - 1));
    }
    const auto id = value.get<std::int32_t>();
    const auto& key = ids_.emplace(token, id).first->first;
    const auto index = static_cast<std::size_t>(id);
    if (index >= tokens_.size()) tokens_.resize(index + 1, nullptr);
    if (tokens_[index] != nullptr) {
      node.fail_here(
          fmt::format("'{}' and '{}' have the same id {}", shown(*tokens_[index]), shown(key), id));
    }
    tokens_[index] = &key;
  }
}

void Bpe::add_merge(const std::string& left, const std::string& right, std::uint32_t rank,
                    const JsonNode& merges, std::size_t index) {
  const auto id_of = [&](std::string_view token) {
    const auto id = token_to_id(token);
    if (!id) merges[index].fail_here(fmt::format("'{}' is not in the vocabulary", shown(token)));
    return *id;
  };
  if (right.size() < prefix_.size()) {
    merges[index].fail_here(fmt::format("'{}' is shorter than continuing_subword_prefix", shown(right)));
  }
  const std::int32_t first = id_of(left);
  const std::int32_t second = id_of(right);
  merges_.put(first, second, {rank, id_of(left + right.substr(prefix_.size()))});
}

void Bpe::read_merges(const JsonNode& node) {
  if (!node.is_array()) node.fail_expected("a list of merges");
  const std::size_t count = node.size();
  if (count >= kMostIds) node.fail_here(fmt::format("{} merges are too many", count));
  merges_ = PairTable<Merge>(count);
  const bool as_strings = count > 0 && node[0].is_string();
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs;
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto& value = node.value()[i];
    std::string left;
    std::string right;
    if (as_strings) {
      if (!value.is_string()) node[i].fail_expected("a string");
      const auto& line = value.get_ref<const std::string&>();
      if (line.starts_with("#version")) continue;
      const std::size_t space = line.find(' ');
      if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos) {
        node[i].fail_here(fmt::format("'{}' is not two tokens with a space between", shown(line)));
      }
      left = line.substr(0, space);
      right = line.substr(space + 1);
    } else {
      if (!value.is_array() || value.size() != 2 || !value[0].is_string() || !value[1].is_string()) {
        node[i].fail_here("expected an array of two tokens");
      }
      left = value[0].get<std::string>();
      right = value[1].get<std::string>();
    }
    add_merge(left, right, rank++, node, i);
    pairs.emplace_back(*token_to_id(left), *token_to_id(right));
  }
  index_joints(pairs);
}

/// Collects which adjacent characters a merge can bring into one token: the last of its left part with the
/// first of its right part. Not possible where symbols are not plain characters.
void Bpe::index_joints(const std::vector<std::pair<std::int32_t, std::int32_t>>& pairs) {
  if (!prefix_.empty() || !suffix_.empty()) return;
  // Symbols that stand for no character of their own text.
  std::unordered_set<std::int32_t> opaque;
  if (unk_id_) opaque.insert(*unk_id_);
  if (byte_fallback_) opaque.insert(fallback_ids_.begin(), fallback_ids_.end());
  joints_ = PairTable<bool>(pairs.size());
  for (const auto& [left, right] : pairs) {
    if (opaque.count(left) > 0 || opaque.count(right) > 0) return;
    const std::string& left_text = *id_to_token(left);
    const std::string& right_text = *id_to_token(right);
    if (left_text.empty() || right_text.empty()) return;
    std::size_t last = left_text.size() - 1;
    while (!unicode::is_boundary_byte(left_text[last])) --last;
    const std::size_t first_size = unicode::sequence_length(static_cast<unsigned char>(right_text[0]));
    const auto before = token_to_id(std::string_view(left_text).substr(last));
    const auto after = token_to_id(std::string_view(right_text).substr(0, first_size));
    // Characters that are no tokens never become symbols, so no merge can arise there.
    if (before && after) joints_.put(*before, *after, true);
  }
  splits_at_joints_ = true;
}

void Bpe::index_characters() {
  for (const auto& [token, id] : ids_) {
    if (token.empty()) continue;
    std::size_t at = 0;
    const char32_t code = unicode::decode(token, at);
    if (at != token.size()) continue;
    const std::size_t page = code >> 8;
    if (page >= characters_.size()) characters_.resize(page + 1);
    if (characters_[page].empty()) characters_[page].assign(256, -1);
    characters_[page][code & 0xFF] = id;
  }
}

void Bpe::index_bytes() {
  reads_bytes_ = prefix_.empty() && suffix_.empty();
  for (unsigned byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = character_id(byte_to_code(static_cast<unsigned char>(byte)));
    reads_bytes_ = reads_bytes_ && byte_ids_[byte] >= 0;
  }
  if (!reads_bytes_ || !ignore_merges_) return;
  whole_words_.reserve(ids_.size());
  for (const auto& [token, id] : ids_) {
    if (auto bytes = from_byte_level(token)) whole_words_.emplace(std::move(*bytes), id);
  }
}

}  // namespace hone::text::tok
