// From one line of JSON to a row of one kind, checked field by field. Inside this room only.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/column_names.h"
#include "data/tokenize.h"

namespace hone::data {

using Json = nlohmann::ordered_json;  // templates see keys in the order of the file

/// A chat in the OpenAI format, as templates take it. Null where a row has none.
struct ChatRow {
  Json messages = Json::array();
  Json tools, documents, template_kwargs;
  std::vector<double> weights;      // by message: in the loss, if it is an assistant's; 0: not learnt from
  std::vector<std::string> places;  // by message: where it is in the row, as in messages[1]
};

struct Row {
  RowKind kind = RowKind::kText;
  bool conversational = false;  // the row is in `chat`, else in the fields below
  ChatRow chat;
  std::string prompt;             // kCompletion
  std::string text;               // the completion, or the text
  std::vector<std::int32_t> ids;  // kTokens
  std::optional<std::vector<std::int32_t>> labels;
  std::vector<std::int64_t> documents;  // the lengths of those packed into ids, if there are several
  double weight = 1;                    // of every token in the loss
  std::vector<double> token_weights;    // kTokens: times these; empty: 1
  std::vector<Finding> findings;
};

/// Throws Error(kUser) "WHERE: …". `vocab`: what ids and labels must lie below; 0: not checked. `columns`:
/// what the row calls its keys.
Row parse_row(std::string_view json, const std::string& where, std::int64_t vocab,
              const ColumnNames& columns = {});

/// TokenizedRow::content. Without the row's and its tokens' weights: a row is on one side of a holdout
/// however much it counts.
std::uint64_t content_of(const Row& row);

/// Text from elsewhere for a message: on one line, cut to `longest` bytes.
std::string one_line(std::string_view text, std::size_t longest);

/// The keys of an object, "a, b, c", on one line.
std::string key_list(const Json& object);

}  // namespace hone::data
