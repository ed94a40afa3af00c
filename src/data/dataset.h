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
#include "data/report.h"
#include "data/sources.h"
#include "data/tokenize.h"

namespace hone::data {

/// What becomes of a row longer than seq_len: an error, its first seq_len tokens, nothing; or, of a text,
/// documents of seq_len tokens (and a shorter last one), while other rows are an error.
enum class Overlong { kError, kTruncate, kDrop, kSplit };

/// What is done about fields of rows that the chat template writes nowhere.
enum class OnDropped { kWarn, kError, kIgnore };

struct DatasetOptions {
  std::int64_t seq_len = 2048;
  bool packing = true;  // several rows share a pack of seq_len tokens, isolated from each other
  bool shuffle = true;  // a new order every epoch
  Overlong overlong = Overlong::kError;
  OnDropped on_dropped = OnDropped::kWarn;
  std::uint64_t seed = 0;
  std::int64_t vocab = 0;  // ids and labels must lie below it; 0: not checked
  /// Rows without a token to learn from are left out (and counted); a dataset of which none is left is an
  /// error, and so is what TokenizeOptions says.
  bool for_training = true;
  /// What `strftime_now` of a chat template reads; empty: the local time when loading begins. A run reads the
  /// clock once (text/moment.h) and gives that moment here for all its data, also when it is continued on
  /// another day, to find the same rows.
  std::optional<std::tm> now = std::nullopt;
  Holdout holdout = {};  // rows that are left out, and given by Dataset::held_out
  TokenCacheOptions cache = {};
  int threads = 0;  // that tokenise rows; 0: one per core that this process may use
};

/// One row, tokenised. labels are aligned with ids; kIgnoredLabel where not supervised.
struct Example {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;
  std::vector<float> weights;  // aligned with labels: what each counts in the loss (weights.h); empty: all 1
  std::int32_t source = 0;     // which of the dataset's sources it is of
};

/// Of one source.
struct SourceStatistics {
  std::string path;
  std::int64_t rows = 0, examples = 0, tokens = 0;  // as in DatasetStatistics
  double per_epoch = 0;                             // examples of it that an epoch goes through, on average
};

struct DatasetStatistics {
  std::int64_t rows = 0;        // read
  std::int64_t held_out = 0;    // of them, for the other side of the holdout
  std::int64_t examples = 0;    // kept; a text that was split, or a row packed elsewhere, is several
  std::int64_t tokens = 0;      // of the kept examples
  std::int64_t supervised = 0;  // labels learnt from (a document's first is not)
  std::int64_t longest = 0;     // tokens, before any truncation
  std::int64_t dropped = 0, truncated = 0;  // for their length
  std::int64_t split = 0;                   // rows
  std::int64_t emptied = 0;  // truncated rows that had nothing left to learn from, and were dropped too
  std::int64_t without_target = 0;           // documents with nothing to learn from, that were left out
  Report report;                             // of all rows read
  std::int64_t cached_files = 0, files = 0;  // whose tokens were there already; all
  std::vector<SourceStatistics> sources;
  // Of the first epoch; others differ where sources are taken in parts.
  std::int64_t epoch_examples = 0, epoch_tokens = 0;
  std::int64_t packs = 0;
  double fill = 1;  // epoch_tokens / (packs * seq_len) when packing
};

/// Where the next batch begins: a pack of an epoch's order.
struct Cursor {
  std::int64_t epoch = 0;
  std::int64_t pack = 0;
  bool operator==(const Cursor&) const = default;
};

/// All examples of a dataset, and their order. Tokens are in memory or, with a cache, on disk; of each
/// example 16 bytes are in memory, of an epoch's order some 30.
class Dataset {
 public:
  using Progress = std::function<void(std::int64_t rows, double share)>;
  /// `split` is what the dataset is for, which names the files of directories: "train", "valid" or "test".
  /// Rows are tokenised by several threads; neither the result nor the error depends on their number.
  /// Without a tokenizer (null) only rows of input_ids are accepted. Throws Error(kUser) at the row
  /// (RowSource::where) for the first that is not valid, and for a dataset, or a source, without examples.
  static Dataset load(const std::vector<DataSource>& sources, const std::string& split,
                      const text::PretrainedTokenizer* tokenizer, const DatasetOptions& options,
                      const Progress& progress = nullptr);
  /// The same of one file, glob or directory.
  static Dataset load(const std::string& path, const std::string& split,
                      const text::PretrainedTokenizer* tokenizer, const DatasetOptions& options,
                      const Progress& progress = nullptr) {
    return load({DataSource{.path = path}}, split, tokenizer, options, progress);
  }
  static Dataset load(const std::string& path, const std::string& split,
                      const text::PretrainedTokenizer& tokenizer, const DatasetOptions& options,
                      const Progress& progress = nullptr) {
    return load(path, split, &tokenizer, options, progress);
  }
  /// The rows that DatasetOptions::holdout left out, each once. Throws Error(kUser) where there are none.
  Dataset held_out() const;

  const DatasetStatistics& statistics() const { return statistics_; }
  std::int64_t num_examples() const;
  Example example(std::int64_t index) const;
  /// Tokens of an example; nothing is read for it.
  std::int64_t length(std::int64_t index) const;
  RowSource source(std::int64_t index) const;

  /// Packs an epoch has (rows, when not packing). Packs are formed once, and epochs differ in their order;
  /// but where sources are taken in parts, every epoch has rows, and packs, of its own. Without shuffling
  /// they are in the order of their first row, and always are the rows within a pack.
  std::int64_t num_packs(std::int64_t epoch = 0) const;
  /// The examples of pack number `pack` of `epoch`'s order; a function of (seed, epoch, pack) alone.
  std::vector<std::int64_t> pack(std::int64_t epoch, std::int64_t pack) const;

  /// The packs of the next optimizer step: up to global_batch of them, never across an epoch's end; moves the
  /// cursor behind them.
  std::vector<std::vector<std::int64_t>> next_batch(Cursor& cursor, std::int64_t global_batch) const;
  /// ceil(num_packs / global_batch), of the first epoch.
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
