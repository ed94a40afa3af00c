// The run directory: who owns it, and what lies where.
#pragma once

#include <filesystem>

namespace hone::train {

/// OUTPUT/ of a recipe: recipe.yaml (resolved), metrics.jsonl, samples.jsonl, experts.jsonl, tensorboard/,
/// report.html, checkpoints/, model/.
class RunDirectory {
 public:
  /// Creates or opens it, and locks it for as long as this object lives (a killed process's lock vanishes
  /// with it). Throws Error(kUser) where it cannot be written, holds something that is not a run of hone, or
  /// is in use by another process.
  explicit RunDirectory(const std::filesystem::path& path);
  ~RunDirectory();
  RunDirectory(RunDirectory&& other) noexcept;
  RunDirectory& operator=(RunDirectory&&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path recipe() const { return path_ / "recipe.yaml"; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path samples() const { return path_ / "samples.jsonl"; }
  std::filesystem::path tensorboard() const { return path_ / "tensorboard"; }
  std::filesystem::path experts() const { return path_ / "experts.jsonl"; }
  std::filesystem::path report() const { return path_ / "report.html"; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }
  std::filesystem::path model() const { return path_ / "model"; }

 private:
  void lock();
  void remove_temporaries() const;
  std::filesystem::path path_;
  int lock_ = -1;
  std::filesystem::path created_;  // the outermost directory that did not exist before
};

}  // namespace hone::train
