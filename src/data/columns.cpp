#include "data/columns.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "base/error.h"
#include "data/conversation.h"
#include "data/weights.h"

namespace hone::data {

namespace {

/// 1: learnt from. Of TRL, Transformers' apply_chat_template, verl, Megatron and others.
constexpr std::array<const char*, 10> kMasks{
    "completion_mask", "assistant_masks", "assistant_mask", "assistant_tokens_mask", "loss_mask",
    "response_mask",   "target_mask",     "label_mask",     "labels_mask",           "train_mask"};

/// How a column says where the documents of a packed row begin.
enum class Boundary { kPositions, kLengths, kOffsets, kNumbers };
struct BoundaryColumn {
  const char* key;
  Boundary boundary;
};
constexpr std::array<BoundaryColumn, 13> kBoundaries{{{"position_ids", Boundary::kPositions},
                                                      {"seq_lengths", Boundary::kLengths},
                                                      {"seq_lens", Boundary::kLengths},
                                                      {"sequence_lengths", Boundary::kLengths},
                                                      {"document_lengths", Boundary::kLengths},
                                                      {"cu_seqlens", Boundary::kOffsets},
                                                      {"cu_seq_lens", Boundary::kOffsets},
                                                      {"document_ids", Boundary::kNumbers},
                                                      {"doc_ids", Boundary::kNumbers},
                                                      {"segment_ids", Boundary::kNumbers},
                                                      {"sequence_ids", Boundary::kNumbers},
                                                      {"seq_idx", Boundary::kNumbers},
                                                      {"sub_seq_ids", Boundary::kNumbers}}};

/// What tokens count in the loss. The first three in every row; a list where the second is true.
struct WeightColumn {
  const char* key;
  bool list;
};
constexpr std::array<WeightColumn, 6> kWeights{{{"weight", true},
                                                {"loss_weight", true},
                                                {"sample_weight", false},
                                                {"weights", true},
                                                {"loss_weights", true},
                                                {"token_weights", true}}};
constexpr std::size_t kWeightsOfAnyRow = 3;

/// Columns of a row that change what other tools learn from it; of hone only where a kind of row reads them.
constexpr std::array<std::string_view, 18> kMeaningful{
    "labels",        "attention_mask",  "token_type_ids",
    "prompt_mask",   "weights",         "loss_weights",
    "token_weights", "sample_weights",  "example_weight",
    "loss_scale",    "train",           "mask_history",
    "mask",          "functions",       "system",
    "images",        "enable_thinking", "num_prompt_tokens"};

/// A list as long as the ids.
const Json& aligned(const Json& json, const char* key, std::size_t ids, const std::string& where) {
  const Json& list = json[key];
  if (!list.is_array()) fail("{}: {} is a {}, not a list", where, key, type_name(list));
  if (list.size() != ids)
    fail("{}: {} values in {} for {} input_ids; it is aligned with the ids", where, list.size(), key, ids);
  return list;
}

/// Integers of a list; nothing where it holds anything else.
std::optional<std::vector<std::int64_t>> integers(const Json& list) {
  std::vector<std::int64_t> numbers;
  for (const Json& item : list) {
    if (!item.is_number_integer()) return std::nullopt;
    numbers.push_back(item.get<std::int64_t>());
  }
  return numbers;
}

void apply_mask(const Json& json, const char* key, Row& row, const std::string& where) {
  const Json& mask = aligned(json, key, row.ids.size(), where);
  for (std::size_t i = 0; i < mask.size(); ++i) {
    const Json& value = mask[i];
    const bool flag = value.is_boolean() ? value.get<bool>() : value == 1;
    if (!value.is_boolean() && value != 0 && value != 1)
      fail("{}: {}[{}] is {}; a token is learnt from (1) or not (0)", where, key, i,
           one_line(value.dump(-1, ' ', false, Json::error_handler_t::replace), 40));
    if (!flag) (*row.labels)[i] = kIgnoredLabel;
  }
  row.findings.push_back({FindingKind::kMaskColumn, key});
}

void read_token_weights(const Json& json, const char* key, Row& row, const std::string& where) {
  Finding weights{FindingKind::kWeights, key};
  for (const Json& value : aligned(json, key, row.ids.size(), where)) {
    const double weight = weight_of(value, fmt::format("{}: {}[{}]", where, key, row.token_weights.size()));
    row.token_weights.push_back(weight);
    weights.weights.add(weight);
  }
  if (weights.weights.is_plain()) weights.kind = FindingKind::kMaskColumn;
  row.findings.push_back(std::move(weights));
}

/// Lengths of documents that are begun by 0 and counted up; nothing where the positions are of another kind.
std::optional<std::vector<std::int64_t>> lengths_of_positions(const std::vector<std::int64_t>& positions) {
  std::vector<std::int64_t> lengths;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    if (positions[i] == 0)
      lengths.push_back(0);
    else if (i == 0 || positions[i] != positions[i - 1] + 1)
      return std::nullopt;
    ++lengths.back();
  }
  return lengths;
}

std::vector<std::int64_t> lengths_of_numbers(const std::vector<std::int64_t>& numbers) {
  std::vector<std::int64_t> lengths;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (i == 0 || numbers[i] != numbers[i - 1]) lengths.push_back(0);
    ++lengths.back();
  }
  return lengths;
}

/// Lengths given as such, or as offsets 0, …, n.
std::vector<std::int64_t> lengths_given(const Json& json, const char* key, Boundary boundary, std::size_t ids,
                                        const std::string& where) {
  const auto numbers = integers(json[key]);
  if (!numbers) fail("{}: {} holds something else than integers", where, key);
  std::vector<std::int64_t> lengths = *numbers;
  if (boundary == Boundary::kOffsets) {
    if (lengths.empty() || lengths.front() != 0) fail("{}: {} does not begin with 0", where, key);
    for (std::size_t i = 0; i + 1 < lengths.size(); ++i) lengths[i] = lengths[i + 1] - lengths[i];
    lengths.pop_back();
  }
  std::int64_t sum = 0;
  for (const std::int64_t length : lengths) {
    if (length < 1 || length > static_cast<std::int64_t>(ids))
      fail("{}: {} has a document of {} tokens in a row of {} input_ids", where, key, length, ids);
    sum += length;
  }
  if (sum != static_cast<std::int64_t>(ids))
    fail("{}: the documents of {} have {} tokens, the row {} input_ids", where, key, sum, ids);
  return lengths;
}

/// Documents by one column; nothing where it says nothing about them.
std::optional<std::vector<std::int64_t>> lengths_by(const Json& json, const BoundaryColumn& column, Row& row,
                                                    const std::string& where) {
  const char* const key = column.key;
  if (column.boundary == Boundary::kLengths || column.boundary == Boundary::kOffsets)
    return json[key].is_array()
               ? std::optional(lengths_given(json, key, column.boundary, row.ids.size(), where))
               : std::nullopt;
  if (column.boundary == Boundary::kNumbers && !json[key].is_array())
    return std::nullopt;  // the row's own id
  const auto numbers = integers(aligned(json, key, row.ids.size(), where));
  const auto lengths = !numbers ? std::nullopt
                       : column.boundary == Boundary::kPositions
                           ? lengths_of_positions(*numbers)
                           : std::optional(lengths_of_numbers(*numbers));
  if (!lengths) row.findings.push_back({FindingKind::kIgnoredColumn, key});
  return lengths;
}

void read_documents(const Json& json, Row& row, const std::string& where) {
  std::optional<std::vector<std::int64_t>> documents;
  const char* by = nullptr;
  for (const auto& column : kBoundaries) {
    if (!has(json, column.key)) continue;
    auto lengths = lengths_by(json, column, row, where);
    if (!lengths) continue;
    if (documents && *documents != *lengths)
      fail("{}: {} and {} cut the row into different documents", where, by, column.key);
    if (!documents) by = column.key;
    documents = std::move(lengths);
  }
  if (!documents || documents->size() < 2) return;
  row.documents = std::move(*documents);
  row.findings.push_back({FindingKind::kPrepacked, by});
}

void check_attention_mask(const Json& json, const Row& row, const std::string& where) {
  if (!has(json, "attention_mask")) return;
  for (const Json& item : aligned(json, "attention_mask", row.ids.size(), where))
    if (item != 1 && item != true)
      fail("{}: attention_mask has values other than 1; leave padding out of input_ids", where);
}

}  // namespace

std::vector<std::int32_t> ids_at(const Json& row, const char* key, bool ignored_allowed, std::int64_t vocab,
                                 const std::string& where) {
  const Json& list = row[key];
  if (!list.is_array()) fail("{}: {} is a {}, not a list of integers", where, key, type_name(list));
  const std::int64_t limit = vocab > 0 ? vocab : std::int64_t{std::numeric_limits<std::int32_t>::max()};
  std::vector<std::int32_t> ids;
  ids.reserve(list.size());
  for (const Json& item : list) {
    if (!item.is_number_integer())
      fail("{}: {}[{}] is a {}, not an integer", where, key, ids.size(), type_name(item));
    constexpr auto kLargest = std::numeric_limits<std::int64_t>::max();
    const bool huge =
        item.is_number_unsigned() && item.get<std::uint64_t>() > static_cast<std::uint64_t>(kLargest);
    const std::int64_t id = huge ? kLargest : item.get<std::int64_t>();
    const bool ignored = ignored_allowed && id == kIgnoredLabel;
    if (!ignored && (id < 0 || id >= limit))
      fail("{}: {}[{}] is {}, outside the vocabulary of {} ids (0 to {}){}", where, key, ids.size(),
           item.dump(), limit, limit - 1, ignored_allowed ? "; -100 is a label that is not learnt from" : "");
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

void read_token_columns(const Json& json, Row& row, std::int64_t vocab, const std::string& where) {
  row.ids = ids_at(json, "input_ids", false, vocab, where);
  row.labels = row.ids;
  if (has(json, "labels")) {
    row.labels = ids_at(json, "labels", true, vocab, where);
    if (row.labels->size() != row.ids.size())
      fail("{}: {} labels for {} input_ids; labels are aligned with the ids, -100 where not learnt from",
           where, row.labels->size(), row.ids.size());
  }
  for (const char* key : kMasks)
    if (has(json, key)) apply_mask(json, key, row, where);
  check_attention_mask(json, row, where);
  read_documents(json, row, where);
  std::vector<std::string_view> read{"input_ids", "labels", "attention_mask", "text"};
  read_weights(json, row, read, where);
  read.insert(read.end(), kMasks.begin(), kMasks.end());
  for (const auto& column : kBoundaries)
    if (has(json, column.key) && json[column.key].is_array()) read.emplace_back(column.key);
  const bool one_segment = has(json, "token_type_ids") && json["token_type_ids"].is_array() &&
                           std::all_of(json["token_type_ids"].begin(), json["token_type_ids"].end(),
                                       [](const Json& v) { return v == 0; });
  if (one_segment) read.emplace_back("token_type_ids");
  find_unread_columns(json, read, row);
}

void read_weights(const Json& json, Row& row, std::vector<std::string_view>& read, const std::string& where) {
  const bool tokens = row.kind == RowKind::kTokens;
  const char* of_row = nullptr;
  const char* of_tokens = nullptr;
  for (std::size_t c = 0; c < (tokens ? kWeights.size() : kWeightsOfAnyRow); ++c) {
    const char* const key = kWeights[c].key;
    if (!has(json, key)) continue;
    const bool list = tokens && kWeights[c].list && json[key].is_array();
    const char*& by = list ? of_tokens : of_row;
    if (by != nullptr)
      fail("{}: {} and {} both say what {} counts in the loss; keep one", where, by, key,
           list ? "each token" : "the row");
    by = key;
    read.emplace_back(key);
    if (list) {
      read_token_weights(json, key, row, where);
      continue;
    }
    row.weight = weight_of(json[key], fmt::format("{}: {}", where, key));
    Finding weights{FindingKind::kWeights, key};
    weights.weights.add(row.weight);
    if (!weights.weights.is_plain()) row.findings.push_back(std::move(weights));
  }
}

void find_unread_columns(const Json& json, const std::vector<std::string_view>& read, Row& row) {
  for (const auto& [key, value] : json.items()) {
    if (value.is_null() || among(read, key)) continue;
    const bool boundary = value.is_array() && std::any_of(kBoundaries.begin(), kBoundaries.end(),
                                                          [&, k = key](const auto& c) { return k == c.key; });
    const bool meaningful = among(kMeaningful, key) || among(kMasks, key) || boundary;
    row.findings.push_back(
        {meaningful ? FindingKind::kIgnoredColumn : FindingKind::kUnknownColumn, one_line(key, 60)});
  }
}

}  // namespace hone::data
