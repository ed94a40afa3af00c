// What a token counts in the loss, where rows say so.
//
// The loss of an optimizer step is sum(w * -log p) / sum(w) over its supervised tokens, and the same mean is
// what an evaluation gives: weights that are all the same change nothing, however rows fall into batches. A
// token's weight is the product of what its row, its message and it itself are given. One of 0 is not learnt
// from: its label is kIgnoredLabel.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace hone::data {

/// Is it 0, or from 1e-12 (as f32 has it) to 1e12? A step's sum of such weights and its inverse are f32, too.
bool is_weight(double weight);
/// Throws Error(kUser) "WHAT is …" unless it is one.
void check_weight(double weight, const std::string& what);
/// A number, or a string that is one (a cell of a CSV file), checked. Throws Error(kUser) "WHAT is …".
double weight_of(const nlohmann::ordered_json& value, const std::string& what);

}  // namespace hone::data
