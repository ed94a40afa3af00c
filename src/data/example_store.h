// All tokenised rows of a dataset, four bytes a token. Inside this room only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace hone::data {

/// Ids lie in large pieces that never move; labels are kept as runs of learnt tokens, or one by one in the
/// rows whose labels are not their ids.
class ExampleStore {
 public:
  /// Numbers a file; rows name it by that.
  std::int32_t add_file(const RecordReader& file);
  void add(const std::vector<std::int32_t>& ids, const std::vector<std::int32_t>& labels, std::int32_t file,
           std::int64_t line);

  std::int64_t size() const { return static_cast<std::int64_t>(rows_.size()); }
  Example example(std::int64_t index) const;
  RowSource source(std::int64_t index) const;
  /// Tokens of every example.
  std::vector<std::int32_t> lengths() const;
  /// A hash of all ids and labels and their order.
  std::uint64_t hash() const { return hash_; }

 private:
  struct Row {
    std::uint32_t piece = 0, begin = 0, length = 0;  // where the ids are
    std::int32_t file = 0;
    std::int64_t line = 0;
    std::int64_t labels = 0;  // the first of its runs; or, where num_runs is kOwnLabels, of its labels
    std::uint32_t num_runs = 0;
  };
  struct Run {
    std::uint32_t begin = 0, end = 0;
  };
  static constexpr std::uint32_t kOwnLabels = 0xFFFFFFFFu;

  const Row& row(std::int64_t index) const;
  void add_labels(Row& row, const std::vector<std::int32_t>& ids, const std::vector<std::int32_t>& labels);

  std::vector<RowSource> files_;  // each as the source of a row
  std::vector<Row> rows_;
  std::vector<std::vector<std::int32_t>> pieces_;
  std::vector<Run> runs_;
  std::vector<std::int32_t> own_labels_;
  std::uint64_t hash_ = 0;
};

/// `hash` with one more value.
std::uint64_t mix_hash(std::uint64_t hash, std::uint64_t value);

}  // namespace hone::data
