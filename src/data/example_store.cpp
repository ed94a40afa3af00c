#include "data/example_store.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace hone::data {

namespace {

constexpr std::size_t kPieceTokens = std::size_t{1} << 22;

std::uint64_t mix_all(std::uint64_t hash, const std::vector<std::int32_t>& values) {
  for (std::size_t i = 0; i < values.size(); i += 2) {
    const std::uint64_t low = static_cast<std::uint32_t>(values[i]);
    const std::uint64_t high = i + 1 < values.size() ? static_cast<std::uint32_t>(values[i + 1]) : 0;
    hash = mix_hash(hash, high << 32 | low);
  }
  return mix_hash(hash, values.size());
}

}  // namespace

/// The finalizer of splitmix64 (Steele et al., "Fast splittable pseudorandom number generators", 2014) on the
/// sum.
std::uint64_t mix_hash(std::uint64_t hash, std::uint64_t value) {
  std::uint64_t z = hash * 0x9E3779B97F4A7C15u + value + 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

std::int32_t ExampleStore::add_file(const RecordReader& file) {
  files_.push_back(file.source(0));
  return static_cast<std::int32_t>(files_.size() - 1);
}

void ExampleStore::add(const std::vector<std::int32_t>& ids, const std::vector<std::int32_t>& labels,
                       std::int32_t file, std::int64_t line) {
  HONE_CHECK(!ids.empty() && ids.size() == labels.size(), "{} labels for {} ids", labels.size(), ids.size());
  HONE_CHECK(ids.size() < std::numeric_limits<std::uint32_t>::max(), "a row of {} tokens", ids.size());
  if (pieces_.empty() || pieces_.back().capacity() - pieces_.back().size() < ids.size()) {
    pieces_.emplace_back();
    pieces_.back().reserve(std::max(kPieceTokens, ids.size()));
  }
  auto& piece = pieces_.back();
  Row row{.piece = static_cast<std::uint32_t>(pieces_.size() - 1),
          .begin = static_cast<std::uint32_t>(piece.size()),
          .length = static_cast<std::uint32_t>(ids.size()),
          .file = file,
          .line = line};
  piece.insert(piece.end(), ids.begin(), ids.end());
  add_labels(row, ids, labels);
  rows_.push_back(row);
  hash_ = mix_all(mix_all(hash_, ids), labels);
}

void ExampleStore::add_labels(Row& row, const std::vector<std::int32_t>& ids,
                              const std::vector<std::int32_t>& labels) {
  const std::size_t first_run = runs_.size();
  for (std::uint32_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == kIgnoredLabel) continue;
    if (labels[i] != ids[i]) {
      runs_.resize(first_run);
      row.num_runs = kOwnLabels;
      row.labels = static_cast<std::int64_t>(own_labels_.size());
      own_labels_.insert(own_labels_.end(), labels.begin(), labels.end());
      return;
    }
    if (runs_.size() > first_run && runs_.back().end == i)
      ++runs_.back().end;
    else
      runs_.push_back({i, i + 1});
  }
  row.labels = static_cast<std::int64_t>(first_run);
  row.num_runs = static_cast<std::uint32_t>(runs_.size() - first_run);
}

const ExampleStore::Row& ExampleStore::row(std::int64_t index) const {
  HONE_CHECK(index >= 0 && index < size(), "example {} of {}", index, size());
  return rows_[static_cast<std::size_t>(index)];
}

Example ExampleStore::example(std::int64_t index) const {
  const Row& r = row(index);
  const auto* const ids = pieces_[r.piece].data() + r.begin;
  Example example;
  example.ids.assign(ids, ids + r.length);
  if (r.num_runs == kOwnLabels) {
    const auto* const labels = own_labels_.data() + r.labels;
    example.labels.assign(labels, labels + r.length);
    return example;
  }
  example.labels.assign(r.length, kIgnoredLabel);
  for (std::uint32_t i = 0; i < r.num_runs; ++i) {
    const Run run = runs_[static_cast<std::size_t>(r.labels) + i];
    std::copy(ids + run.begin, ids + run.end, example.labels.begin() + run.begin);
  }
  return example;
}

RowSource ExampleStore::source(std::int64_t index) const {
  const Row& r = row(index);
  RowSource source = files_[static_cast<std::size_t>(r.file)];
  source.line = r.line;
  return source;
}

std::vector<std::int32_t> ExampleStore::lengths() const {
  std::vector<std::int32_t> lengths;
  lengths.reserve(rows_.size());
  for (const Row& r : rows_) lengths.push_back(static_cast<std::int32_t>(r.length));
  return lengths;
}

}  // namespace hone::data
