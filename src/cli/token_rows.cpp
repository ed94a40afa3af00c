#include "cli/token_rows.h"

#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "data/weights.h"
#include "json/node.h"
#include "model/batch.h"

namespace hone::cli {

namespace {

std::vector<std::int32_t> read_ids(const JsonNode& row, const char* key, const std::string& where,
                                   std::int64_t vocab) {
  const bool labels = std::string(key) == "labels";
  std::vector<std::int32_t> ids;
  for (const auto& item : row.at(key).elements()) {
    const std::int64_t id = item.as_integer();
    if ((id < 0 || id >= vocab) && !(labels && id == kIgnoredLabel))
      fail("{}: {}[{}] is {}, outside the model's vocabulary of {}", where, key, ids.size(), id, vocab);
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

std::vector<float> read_weights(const JsonNode& row, const std::string& where) {
  std::vector<float> weights;
  for (const auto& item : row.at("loss_weights").elements()) {
    data::check_weight(item.as_number(), fmt::format("{}: loss_weights[{}]", where, weights.size()));
    weights.push_back(static_cast<float>(item.as_number()));
  }
  return weights;
}

}  // namespace

std::vector<TokenRow> read_token_rows(const std::string& path, const model::DecoderSpec& spec) {
  std::vector<TokenRow> rows;
  std::istringstream in(read_file(path));
  std::int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    TokenRow row;
    row.where = fmt::format("{}:{}", path, number);
    const auto json = JsonNode::parse(line, row.where, {.name_has_line = true});
    if (!json.is_object() || !json.has("input_ids"))
      fail("{}: expected a row {{\"input_ids\": [...]}}", row.where);
    row.ids = read_ids(json, "input_ids", row.where, spec.vocab);
    if (row.ids.empty()) fail("{}: input_ids is empty", row.where);
    model::check_context(spec, static_cast<std::int64_t>(row.ids.size()),
                         fmt::format("{}: {} tokens", row.where, row.ids.size()));
    if (json.has("labels")) {
      row.labels = read_ids(json, "labels", row.where, spec.vocab);
      if (row.labels.size() != row.ids.size())
        fail("{}: {} labels for {} input_ids; they are aligned, -100 where not supervised", row.where,
             row.labels.size(), row.ids.size());
    }
    if (json.has("loss_weights")) {
      row.weights = read_weights(json, row.where);
      if (row.weights.size() != row.labels.size())
        fail("{}: {} loss_weights for {} labels; they are aligned", row.where, row.weights.size(),
             row.labels.size());
    }
    if (!rows.empty() && rows.front().labels.empty() != row.labels.empty())
      fail("{}: {} labels, but {} {}; give all rows labels or none", row.where,
           row.labels.empty() ? "has no" : "has", rows.front().where,
           row.labels.empty() ? "has some" : "has none");
    rows.push_back(std::move(row));
  }
  if (rows.empty()) fail("{}: has no rows", path);
  return rows;
}

}  // namespace hone::cli
