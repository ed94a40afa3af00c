// The columns of a row beside what makes its kind: labels, masks and boundaries of token ids; and those that
// nothing reads. Inside this room only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/rows.h"

namespace hone::data {

/// The list of ids (0 ≤ id < vocab; vocab 0: any 32-bit) in a row; `ignored_allowed`: or kIgnoredLabel.
/// Throws Error(kUser) "WHERE: …".
std::vector<std::int32_t> ids_at(const Json& row, const char* key, bool ignored_allowed, std::int64_t vocab,
                                 const std::string& where);

/// Reads a row of input_ids: ids, labels and documents.
///   - labels, or the ids themselves; less what a mask has 0 for. Masks are completion_mask, assistant_masks
///     and their like: 0 or 1 (also true, 1.0) for every id. Several count together, as TRL has it: a token
///     is learnt where all of them, and the labels, say so.
///   - weights, of each id or of the row, as read_weights says.
///   - documents of a row that was packed elsewhere, by position_ids that start again at 0, by lengths
///     (seq_lengths), by offsets (cu_seqlens) or by numbers that change (document_ids).
///   - attention_mask of ones; padding has to be left out.
/// Each has to have the ids' length (lengths: their sum), and boundaries have to agree. Throws Error(kUser)
/// "WHERE: …".
void read_token_columns(const Json& json, Row& row, std::int64_t vocab, const std::string& where);

/// Reads what a row's tokens count in the loss (weights.h) into row.weight and row.token_weights: a number in
/// weight, loss_weight or sample_weight. In a row of input_ids each of these, weights, loss_weights or
/// token_weights may be the number, and all but sample_weight a list of one for every id. Adds the keys to
/// `read`. Two numbers, or two lists, are an error. Throws Error(kUser) "WHERE: …".
void read_weights(const Json& json, Row& row, std::vector<std::string_view>& read, const std::string& where);

/// Adds a finding for every column that is none of the row's kind. `read`: the keys that something reads.
void find_unread_columns(const Json& json, const std::vector<std::string_view>& read, Row& row);

}  // namespace hone::data
