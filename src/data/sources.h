// What a dataset is made of: files, in which proportion, and what becomes of each.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "data/column_names.h"
#include "data/records.h"

namespace hone::data {

/// Files of one origin.
struct DataSource {
  std::string path;        // a file, a glob or a directory (data_files.h)
  std::string split = "";  // of a directory: "train", "valid", "test" or another; "": what the dataset is for
  FileFormat format = FileFormat::kAuto;
  ColumnNames columns = {};
  std::optional<std::int64_t> max_rows = std::nullopt;  // only the first so many
  /// How often an epoch goes through the rows: 2 twice, 0.5 through half of them, the other half in the next.
  double repeat = 1;
  /// Instead of `repeat`, of all sources or of none: the share of an epoch's rows that are of this source,
  /// relative to the others' weights. An epoch is as long as it can be without a row twice in it.
  std::optional<double> weight = std::nullopt;
};

/// Rows that are kept for evaluation. Which those are is decided by what a row says (TokenizedRow::content),
/// not by its place or a seed: the same rows for every order, seed and model, rows that say the same
/// together.
struct Holdout {
  double share = 0;  // of the rows, between 0 and 1
  bool holds(std::uint64_t content) const;
};

/// Where tokenised files are kept from one start to the next.
struct TokenCacheOptions {
  std::filesystem::path directory = {};  // "": nowhere, tokens are in memory
  /// Data files of fewer bytes are tokenised anew, faster than it would be to keep account of them.
  std::int64_t least_bytes = std::int64_t{16} << 20;
  std::filesystem::path tokenizer = {};  // the directory the tokenizer was read from
};

/// $XDG_CACHE_HOME/hone/tokens or ~/.cache/hone/tokens; "" where there is no home.
std::filesystem::path default_token_cache();

}  // namespace hone::data
