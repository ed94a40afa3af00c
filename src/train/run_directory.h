// The run directory: who owns it, what lies where, and the metrics that are written there as the run goes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace hone::train {

/// OUTPUT/ of a recipe: recipe.yaml (resolved), metrics.jsonl, experts.jsonl, report.html, checkpoints/,
/// model/.
class RunDirectory {
 public:
  /// Creates or opens it, and locks it for as long as this object lives (a killed process's lock vanishes
  /// with it). Throws Error(kUser) where it cannot be written, holds something that is not a run of hone, or
  /// is in use by another process.
  explicit RunDirectory(const std::filesystem::path& path);
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path recipe() const { return path_ / "recipe.yaml"; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path experts() const { return path_ / "experts.jsonl"; }
  std::filesystem::path report() const { return path_ / "report.html"; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }
  std::filesystem::path model() const { return path_ / "model"; }

 private:
  void lock();
  std::filesystem::path path_;
  int lock_ = -1;
  std::filesystem::path created_;  // the outermost directory that did not exist before
};

/// A JSONL file with one row per step, each handed to the system when the step ends.
class StepLog {
 public:
  /// Opens `path` for the steps after `last_step`: rows of later steps (of a run that was killed after its
  /// last checkpoint) and a broken last line are dropped.
  StepLog(const std::filesystem::path& path, std::int64_t last_step);
  /// Throws Error(kUser) where the row cannot be written.
  void write(const nlohmann::ordered_json& row);
  /// Waits until the rows are on the disk.
  void sync() const;

 private:
  std::filesystem::path path_;
  std::ofstream out_;
};

}  // namespace hone::train
