// Columns that are called otherwise than hone calls them, and rows of pairs that other tools name their own
// way.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace hone::data {

/// From a key that hone reads to the column that holds it: {prompt: question, completion: answer}. Beside the
/// keys of rows (RowKind) there are `user`, `assistant` and `system`, strings of which a chat of one turn is
/// made, `instruction`, `input` and `output`, alpaca's, and `weight` (weights.h).
using ColumnNames = std::map<std::string, std::string>;
/// The keys that ColumnNames may hold.
const std::vector<std::string>& column_keys();

/// Stanford Alpaca's prompt for an instruction, and for one with an input (tatsu-lab/stanford_alpaca,
/// train.py, PROMPT_DICT).
std::string alpaca_prompt(const std::string& instruction, const std::string& input);

/// Gives a row the keys that hone reads, in place:
///   - the columns that `names` names, and, where they make the row of a kind, no other key that would. One
///     that is missing is an error, but for system, input, tools, documents, labels and weight;
///   - a row of instruction and output (alpaca; a `text` beside them is the same once more) becomes one of
///     prompt and completion, one of user and assistant, where `names` made it, one of messages;
///   - lists that are written as a string of JSON, as CSV must and Parquet may, become lists.
/// Throws Error(kUser) "WHERE: …".
void apply_columns(nlohmann::ordered_json& row, const ColumnNames& names, const std::string& where);

}  // namespace hone::data
