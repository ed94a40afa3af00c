// Datasets: rows of data files as tokenised examples, ordered into packs and batches, with a cursor that a
// run can resume from.
#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/records.h"
#include "data/tokenize.h"

namespace hone::data {

/// What becomes of a row longer than seq_len: an error, its first seq_len tokens, nothing.
enum class Overlong { kError, kTruncate, kDrop };

struct DatasetOptions {
  std::int64_t seq_len = 2048;
  bool packing = true;  // several rows share a pack of seq_len tokens, isolated from each other
  bool shuffle = true;  // a new order every epoch
  Overlong overlong = Overlong::kError;
  std::uint64_t seed = 0;
  std::int64_t vocab = 0;  // ids and labels must lie below it; 0: not checked
  /// Rows without a token to learn from are left out (and counted); a dataset of which none is left is an
  /// error, and so is what TokenizeOptions says.
  bool for_training = true;
  /// What `strftime_now` of a chat template reads; empty: the local time when loading begins. A run reads the
  /// clock once (text/moment.h) and gives that moment here for all its data, also when it is continued on
  /// another day, to find the same rows.
  std::optional<std::tm> now = std::nullopt;
  FileFormat format = FileFormat::kAuto;
  ColumnNames columns = {};  // what rows call their keys
};

/// One row, tokenised. labels are aligned with ids; kIgnoredLabel where not supervised.
struct Example {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;
};

struct DatasetStatistics {
  std::int64_t rows = 0;                    // read
  std::int64_t examples = 0;                // kept; a row that was packed elsewhere is several
  std::int64_t tokens = 0;                  // of the kept examples
  std::int64_t supervised = 0;              // labels learnt from (a document's first is not)
  std::int64_t longest = 0;                 // tokens, before any truncation
  std::int64_t dropped = 0, truncated = 0;  // for their length
  std::int64_t emptied = 0;  // truncated rows that had nothing left to learn from, and were dropped too
  std::int64_t without_target = 0;  // documents with nothing to learn from, that were left out
  Report report;
  std::int64_t packs = 0;
  double fill = 1;  // tokens / (packs * seq_len) when packing
};

/// Where the next batch begins: a pack of an epoch's order.
struct Cursor {
  std::int64_t epoch = 0;
  std::int64_t pack = 0;
  bool operator==(const Cursor&) const = default;
};

/// All examples of a dataset in memory (ids as 32-bit integers, labels as runs), and their order.
class Dataset {
 public:
  using Progress = std::function<void(std::int64_t rows, double share)>;
  /// `path`: a file (FileFormat), a glob, or a directory with train/valid/test.jsonl or the like (`split`
  /// names which: "train", "valid" or "test"; for a file or a glob it does not matter; data_files.h). Rows
  /// are tokenised by all OpenMP threads; neither the result nor the error depends on their number. Throws
  /// Error(kUser) at the row (RowSource::where) for the first that is not valid, and for a dataset without
  /// examples.
  static Dataset load(const std::string& path, const std::string& split,
                      const text::PretrainedTokenizer& tokenizer, const DatasetOptions& options,
                      const Progress& progress = nullptr) {
    return load(path, split, &tokenizer, options, progress);
  }
  /// The same; without a tokenizer (null) only rows of input_ids are accepted.
  static Dataset load(const std::string& path, const std::string& split,
                      const text::PretrainedTokenizer* tokenizer, const DatasetOptions& options,
                      const Progress& progress = nullptr);

  const DatasetStatistics& statistics() const { return statistics_; }
  std::int64_t num_examples() const;
  Example example(std::int64_t index) const;
  RowSource source(std::int64_t index) const;

  /// Packs an epoch has (rows, when not packing). Packs are formed once; epochs differ in their order.
  /// Without shuffling they are in the order of their first row, and always are the rows within a pack.
  std::int64_t num_packs() const;
  /// The examples of pack number `pack` of `epoch`'s order; a function of (seed, epoch, pack) alone.
  std::vector<std::int64_t> pack(std::int64_t epoch, std::int64_t pack) const;

  /// The packs of the next optimizer step: up to global_batch of them, never across an epoch's end; moves the
  /// cursor behind them.
  std::vector<std::vector<std::int64_t>> next_batch(Cursor& cursor, std::int64_t global_batch) const;
  /// ceil(num_packs / global_batch).
  std::int64_t steps_per_epoch(std::int64_t global_batch) const;
  /// A hash of everything that decides the order and the content: a resumed run must find the same.
  std::uint64_t fingerprint() const;

 private:
  struct State;
  explicit Dataset(std::shared_ptr<const State> state, DatasetStatistics statistics);
  std::shared_ptr<const State> state_;
  DatasetStatistics statistics_;
};

}  // namespace hone::data
