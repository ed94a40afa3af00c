// Which of its checkpoints a run is continued from: the newest that is whole.
#pragma once

#include <filesystem>
#include <vector>

#include "train/checkpoint.h"

namespace hone::train {

/// A checkpoint is found by its state before data and weights are read, and its tensors are read into the
/// model later; where either cannot be, the one before it takes its place.
class ResumePoint {
 public:
  /// Reads the state of the newest checkpoint that can be read. Throws Error(kUser) where there are
  /// checkpoints and none of them can be, and NewerCheckpoint.
  explicit ResumePoint(const CheckpointStore& store);

  bool exists() const { return !candidates_.empty(); }
  const TrainState& state() const { return state_; }
  /// Reads the tensors, falling back to older checkpoints (state() is then theirs), and puts those aside that
  /// could not be read. Throws as the constructor does.
  void restore(ops::Context& context, Optimizer& optimizer);

 private:
  void find();
  void refuse(const Error& error);

  const CheckpointStore& store_;
  std::vector<std::filesystem::path> candidates_;  // the newest first; state_ is the first one's
  std::vector<std::filesystem::path> broken_;      // newer ones that could not be read
  TrainState state_;
};

}  // namespace hone::train
