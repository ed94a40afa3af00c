#include "data/dataset.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <filesystem>
#include <mutex>
#include <optional>
#include <utility>

#include "base/error.h"
#include "data/data_files.h"
#include "data/example_store.h"
#include "data/packing.h"

namespace hone::data {

struct Dataset::State {
  ExampleStore examples;
  std::optional<Packs> packs;  // nothing: every example is a pack of its own
  bool shuffle = true;
  std::uint64_t seed = 0;
  std::uint64_t fingerprint = 0;

  std::int64_t num_packs() const { return packs ? packs->size() : examples.size(); }

  /// The packs of an epoch in order, or null for ascending order. The last epoch asked for is kept.
  std::shared_ptr<const std::vector<std::int64_t>> order(std::int64_t epoch) const {
    if (!shuffle) return nullptr;
    const std::lock_guard lock(mutex_);
    if (!order_ || epoch_ != epoch) {
      order_ = std::make_shared<const std::vector<std::int64_t>>(
          random_permutation(num_packs(), seed, static_cast<std::uint64_t>(epoch)));
      epoch_ = epoch;
    }
    return order_;
  }

  std::vector<std::int64_t> members(std::int64_t pack) const {
    if (!packs) return {pack};
    const auto items = (*packs)[pack];
    return {items.begin(), items.end()};
  }

 private:
  mutable std::mutex mutex_;
  mutable std::int64_t epoch_ = 0;
  mutable std::shared_ptr<const std::vector<std::int64_t>> order_;
};

namespace {

constexpr std::size_t kBlockRows = 16384;
constexpr std::size_t kBlockBytes = std::size_t{16} << 20;
/// The stream of random numbers that places rows of one length into packs; epochs count up from 0.
constexpr std::uint64_t kPackingStream = ~std::uint64_t{0};

/// Rows that are read before they are tokenised.
struct Block {
  std::string bytes;                  // their JSON, one after another
  std::vector<std::size_t> ends;      // in `bytes`
  std::vector<std::int64_t> numbers;  // RowSource::line

  /// Takes the next rows of a file; false where there are none.
  bool read(RecordReader& file) {
    bytes.clear();
    ends.clear();
    numbers.clear();
    for (Record record; ends.size() < kBlockRows && bytes.size() < kBlockBytes && file.next(record);) {
      bytes += record.json;
      ends.push_back(bytes.size());
      numbers.push_back(record.number);
    }
    return !ends.empty();
  }
  std::string_view row(std::size_t i) const {
    const std::size_t begin = i == 0 ? 0 : ends[i - 1];
    return std::string_view(bytes).substr(begin, ends[i] - begin);
  }
};

/// Reads files block by block: the rows of a block are tokenised in parallel and stored in order.
class Loader {
 public:
  Loader(const text::PretrainedTokenizer* tokenizer, const DatasetOptions& options)
      : options_(options),
        row_tokenizer_(tokenizer, {.for_training = options.for_training,
                                   .vocab = options.vocab,
                                   .now = options.now,
                                   .columns = options.columns}) {}

  void read(const std::vector<std::string>& paths, const Dataset::Progress& progress);
  /// Throws where rows are too long for the policy, or none is left. `path` is what the user named.
  void check(const std::string& path) const;

  ExampleStore& examples() { return examples_; }
  DatasetStatistics& statistics() { return statistics_; }

 private:
  void tokenize(const Block& block, const RecordReader& file, std::int32_t file_number);
  void add(TokenizedRow row, const RecordReader& file, std::int32_t file_number, std::int64_t line);
  void add_document(std::vector<std::int32_t> ids, std::vector<std::int32_t> labels, const RecordReader& file,
                    std::int32_t file_number, std::int64_t line);

  DatasetOptions options_;
  RowTokenizer row_tokenizer_;
  ExampleStore examples_;
  DatasetStatistics statistics_;
  std::optional<RowSource> first_overlong_;
  std::int64_t first_overlong_length_ = 0, overlong_ = 0;
};

void Loader::read(const std::vector<std::string>& paths, const Dataset::Progress& progress) {
  std::int64_t bytes = 0;
  for (const auto& path : paths) {
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(path, ignored)) continue;  // a pipe can be read once
    bytes +=
        RecordReader::open(path, options_.format)->size();  // what cannot be read is said before the work
  }
  std::int64_t bytes_before = 0;
  Block block;
  for (const auto& path : paths) {
    const auto file = RecordReader::open(path, options_.format);
    const std::int32_t number = examples_.add_file(*file);
    while (block.read(*file)) {
      tokenize(block, *file, number);
      const double done =
          static_cast<double>(bytes_before) + file->share() * static_cast<double>(file->size());
      if (progress)
        progress(statistics_.rows, bytes > 0 ? std::min(1.0, done / static_cast<double>(bytes)) : 0.0);
    }
    bytes_before += file->size();
  }
}

void Loader::tokenize(const Block& block, const RecordReader& file, std::int32_t file_number) {
  const auto count = static_cast<std::int64_t>(block.ends.size());
  std::vector<TokenizedRow> rows(block.ends.size());
  std::vector<std::exception_ptr> errors(rows.size());
  std::atomic<std::int64_t> first_error{count};  // rows behind it need not be looked at
#pragma omp parallel for schedule(dynamic, 8)
  for (std::int64_t i = 0; i < count; ++i) {
    if (i > first_error.load(std::memory_order_relaxed)) continue;
    const auto at = static_cast<std::size_t>(i);
    try {
      rows[at] = row_tokenizer_.tokenize(block.row(at), file.source(block.numbers[at]).where());
    } catch (...) {
      errors[at] = std::current_exception();
      std::int64_t known = first_error.load();
      while (i < known && !first_error.compare_exchange_weak(known, i)) {
      }
    }
  }
  if (const auto first = first_error.load(); first < count)
    std::rethrow_exception(errors[static_cast<std::size_t>(first)]);
  for (std::size_t i = 0; i < rows.size(); ++i) add(std::move(rows[i]), file, file_number, block.numbers[i]);
}

void Loader::add(TokenizedRow row, const RecordReader& file, std::int32_t file_number, std::int64_t line) {
  ++statistics_.rows;
  if (!row.no_target.empty() && (options_.for_training || row.ids.empty()))
    row.findings.push_back({FindingKind::kNoTarget, row.no_target});
  if (!row.findings.empty()) statistics_.report.add(row.findings, file.source(line));
  if (row.documents.empty())
    return add_document(std::move(row.ids), std::move(row.labels), file, file_number, line);
  std::ptrdiff_t at = 0;
  for (const std::int64_t length : row.documents) {
    const auto part = [&](const std::vector<std::int32_t>& of) {
      return std::vector(of.begin() + at, of.begin() + at + length);
    };
    add_document(part(row.ids), part(row.labels), file, file_number, line);
    at += length;
  }
}

void Loader::add_document(std::vector<std::int32_t> ids, std::vector<std::int32_t> labels,
                          const RecordReader& file, std::int32_t file_number, std::int64_t line) {
  const auto length = static_cast<std::int64_t>(ids.size());
  const auto supervised = [&] {
    return labels.empty() ? 0
                          : static_cast<std::int64_t>(labels.size()) - 1 -
                                std::count(labels.begin() + 1, labels.end(), kIgnoredLabel);
  };
  statistics_.longest = std::max(statistics_.longest, length);
  if (ids.empty() || (options_.for_training && supervised() == 0)) {
    ++statistics_.without_target;
    return;
  }
  if (length > options_.seq_len) {
    if (!first_overlong_) {
      first_overlong_ = file.source(line);
      first_overlong_length_ = length;
    }
    ++overlong_;
    if (options_.overlong == Overlong::kError) return;
    if (options_.overlong == Overlong::kDrop) {
      ++statistics_.dropped;
      return;
    }
    const bool learnt = supervised() > 0;
    ids.resize(static_cast<std::size_t>(options_.seq_len));
    labels.resize(ids.size());
    ++statistics_.truncated;
    if (learnt && supervised() == 0) {
      ++statistics_.emptied;
      return;
    }
  }
  statistics_.tokens += static_cast<std::int64_t>(ids.size());
  statistics_.supervised += supervised();
  examples_.add(ids, labels, file_number, line);
  ++statistics_.examples;
}

void Loader::check(const std::string& path) const {
  if (statistics_.rows == 0) fail("{}: the data has no rows (blank lines are skipped)", path);
  if (options_.overlong == Overlong::kError && overlong_ > 0)
    fail(
        "{}: {} tokens, longer than data.seq_len {}; {} of {} rows are, up to {} tokens; raise "
        "data.seq_len, or set data.overlong: truncate (keeps the start) or drop (leaves the row out)",
        first_overlong_->where(), first_overlong_length_, options_.seq_len, overlong_, statistics_.rows,
        statistics_.longest);
  if (statistics_.examples == 0 && statistics_.dropped + statistics_.emptied == 0) {
    const auto& entries = statistics_.report.entries();
    const auto why = std::find_if(entries.begin(), entries.end(),
                                  [](const auto& entry) { return entry.kind == FindingKind::kNoTarget; });
    HONE_CHECK(why != entries.end(), "{} rows vanished", statistics_.rows);
    fail("{}: no token of {} rows is learnt from: {}", path, statistics_.rows, describe(*why));
  }
  if (statistics_.examples == 0)
    fail(
        "{}: no row is left: of {} rows, {} were dropped as longer than data.seq_len {}, {} had nothing to "
        "learn from within it, and {} nothing at all; raise data.seq_len",
        path, statistics_.rows, statistics_.dropped, options_.seq_len, statistics_.emptied,
        statistics_.without_target);
}

}  // namespace

Dataset::Dataset(std::shared_ptr<const State> state, DatasetStatistics statistics)
    : state_(std::move(state)), statistics_(std::move(statistics)) {}

Dataset Dataset::load(const std::string& path, const std::string& split,
                      const text::PretrainedTokenizer* tokenizer, const DatasetOptions& options,
                      const Progress& progress) {
  HONE_CHECK(options.seq_len > 0, "a seq_len of {}", options.seq_len);
  Loader loader(tokenizer, options);
  loader.read(find_data_files(path, split), progress);
  loader.check(path);

  auto state = std::make_shared<State>();
  auto statistics = loader.statistics();
  state->examples = std::move(loader.examples());
  state->shuffle = options.shuffle;
  state->seed = options.seed;
  if (options.packing) {
    const auto order = options.shuffle
                           ? random_permutation(state->examples.size(), options.seed, kPackingStream)
                           : std::vector<std::int64_t>{};
    state->packs = pack_best_fit(state->examples.lengths(), options.seq_len, order);
  }
  statistics.packs = state->num_packs();
  if (options.packing)
    statistics.fill = static_cast<double>(statistics.tokens) /
                      (static_cast<double>(statistics.packs) * static_cast<double>(options.seq_len));
  state->fingerprint = state->examples.hash();
  for (const auto value : {static_cast<std::uint64_t>(options.packing ? options.seq_len : 0),
                           static_cast<std::uint64_t>(options.shuffle), options.shuffle ? options.seed : 0})
    state->fingerprint = mix_hash(state->fingerprint, value);
  return Dataset(std::move(state), std::move(statistics));
}

std::int64_t Dataset::num_examples() const {
  return state_->examples.size();
}

Example Dataset::example(std::int64_t index) const {
  return state_->examples.example(index);
}

RowSource Dataset::source(std::int64_t index) const {
  return state_->examples.source(index);
}

std::int64_t Dataset::num_packs() const {
  return state_->num_packs();
}

std::vector<std::int64_t> Dataset::pack(std::int64_t epoch, std::int64_t pack) const {
  HONE_CHECK(epoch >= 0 && pack >= 0 && pack < num_packs(), "pack {} of {} in epoch {}", pack, num_packs(),
             epoch);
  const auto order = state_->order(epoch);
  return state_->members(order ? (*order)[static_cast<std::size_t>(pack)] : pack);
}

std::vector<std::vector<std::int64_t>> Dataset::next_batch(Cursor& cursor, std::int64_t global_batch) const {
  HONE_CHECK(global_batch > 0, "a batch of {}", global_batch);
  const std::int64_t end = std::min(num_packs(), cursor.pack + global_batch);
  std::vector<std::vector<std::int64_t>> packs;
  for (std::int64_t i = cursor.pack; i < end; ++i) packs.push_back(pack(cursor.epoch, i));
  HONE_CHECK(!packs.empty(), "a cursor at pack {} of {}", cursor.pack, num_packs());
  cursor.pack = end;
  if (end == num_packs()) cursor = {cursor.epoch + 1, 0};
  return packs;
}

std::int64_t Dataset::steps_per_epoch(std::int64_t global_batch) const {
  HONE_CHECK(global_batch > 0, "a batch of {}", global_batch);
  return (num_packs() + global_batch - 1) / global_batch;
}

std::uint64_t Dataset::fingerprint() const {
  return state_->fingerprint;
}

}  // namespace hone::data
