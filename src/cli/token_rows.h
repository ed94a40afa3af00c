// JSONL rows of token ids, as `hone logits` reads them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/spec.h"

namespace hone::cli {

struct TokenRow {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;  // empty: none given
  std::vector<float> weights;        // of labels, in the loss; empty: 1
  std::string where;                 // "rows.jsonl:3"
};

/// Reads {"input_ids": [...], "labels": [...]?, "loss_weights": [...]?} rows. Throws Error(kUser) at
/// file:line for what is not such a row, ids outside [0, vocab), labels that are neither -100 nor inside it
/// or of another length, weights that are none (data/weights.h) or of no labels, rows longer than the model's
/// context, rows of which only some have labels, and an empty file.
std::vector<TokenRow> read_token_rows(const std::string& path, const model::DecoderSpec& spec);

}  // namespace hone::cli
