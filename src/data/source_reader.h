// From the files of sources to their tokens. Inside this room only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/token_file.h"

namespace hone::data {

/// One data file, tokenised.
struct SourceFile {
  std::shared_ptr<const TokenFile> tokens;
  RowSource place;  // of its row 0
  std::int64_t rows = 0;
  Report report;
  bool cached = false;  // taken from the cache
};

/// The files of one source.
struct SourceFiles {
  DataSource source;
  std::vector<SourceFile> files;
};

/// Reads and tokenises all files of all sources, or takes their tokens from the cache. Rows are tokenised
/// block by block by DatasetOptions::threads; neither the result nor the error depends on their number.
/// Throws Error(kUser) at the row.
std::vector<SourceFiles> read_sources(const std::vector<DataSource>& sources, const std::string& split,
                                      const text::PretrainedTokenizer* tokenizer,
                                      const DatasetOptions& options, const Dataset::Progress& progress);

}  // namespace hone::data
