// Checkpoints of a run: everything that the next start needs to continue with the same bits.
//
// checkpoints/step-N/ holds safetensors shards, one per rank, and index.json: where the run stands, and the
// tensors by pieces (saved_tensors.h). So a checkpoint written by some ranks can be read by others, and one
// that has rotted is noticed. One rank so far.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "data/dataset.h"
#include "train/optimizer.h"
#include "train/saved_tensors.h"
#include "train/step_record.h"

namespace hone::train {

/// A run that went on with other values, on purpose (hone train --extend).
struct Extension {
  std::int64_t step = 0;             // steps done by then
  std::vector<std::string> changes;  // "train.steps: 100 -> 200"
};

/// Where a run stands, besides the optimizer's tensors.
struct TrainState {
  std::int64_t step = 0;                    // steps done, skipped ones included
  data::Cursor cursor;                      // where the next batch begins
  std::int64_t updates = 0;                 // of the optimizer
  std::optional<double> last_norm;          // of its gradients, at the last update
  std::int64_t tokens = 0, supervised = 0;  // seen so far
  double seconds = 0;                       // of training so far
  std::optional<double> average_loss;       // as the step line shows
  std::int64_t consecutive_skips = 0;       // steps in a row that were not finite
  std::optional<double> best_eval_loss;
  std::int64_t best_step = -1;
  std::int64_t evaluations_without_gain = 0;  // in a row, for train.early_stopping
  bool stopped_early = false;                 // by it, after this step
  bool finished = false;
  std::string started;  // when the run began, as its chat templates read the time (text/moment.h)
  std::vector<std::vector<std::int64_t>> expert_counts;  // loads since the last row of experts.jsonl
  std::optional<StepRecord> waiting;  // the last step's record, where its evaluations are still to come
  std::string run_key;                // what must not change between starts (run_key.h)
  std::vector<Extension> history;
  /// Steps done when the present data, or their order, began: epochs count from there.
  std::int64_t data_since = 0;
  // A field that is added is read with its default where it is absent: that needs no new format.
};

/// Thrown for a checkpoint in the format of a newer hone: it is whole, and this program must leave it alone.
class NewerCheckpoint : public Error {
 public:
  explicit NewerCheckpoint(const std::string& message) : Error(ErrorKind::kUser, message) {}
};

/// The tensors of a checkpoint, of this or an older format. Throws NewerCheckpoint for a newer one, and as
/// SavedTensors.
SavedTensors open_tensors(const std::filesystem::path& checkpoint);

/// The checkpoints of one run directory.
class CheckpointStore {
 public:
  explicit CheckpointStore(std::filesystem::path directory) : directory_(std::move(directory)) {}
  const std::filesystem::path& directory() const { return directory_; }

  /// Writes step-N whole or not at all, N = state.step. Throws Error(kUser) (disk full, no permission) with
  /// the older ones intact.
  void save(ops::Context& context, const TrainState& state, const Optimizer& optimizer) const;
  /// Bytes that a save of this optimizer writes.
  static std::uint64_t size_bytes(const Optimizer& optimizer);
  /// Where a step's checkpoint lies, or would.
  std::filesystem::path path_of(std::int64_t step) const {
    return directory_ / ("step-" + std::to_string(step));
  }
  /// All of them, the newest first.
  std::vector<std::filesystem::path> all() const;
  /// Removes what a killed save or deletion left behind.
  void clean_up() const;
  /// Reads a checkpoint's state, and its tensors into the optimizer, of this or an older format. Throws
  /// NewerCheckpoint for a newer one, and Error(kUser) where a file is missing or does not hold what was
  /// written, and where the tensors do not fit the model.
  static TrainState load_state(const std::filesystem::path& checkpoint);
  static void load_tensors(const std::filesystem::path& checkpoint, ops::Context& context,
                           Optimizer& optimizer);
  /// Renames checkpoints that cannot be read to broken-step-N, out of the way of later ones.
  void set_aside(const std::vector<std::filesystem::path>& broken) const;
  /// Deletes all but the newest `keep_last` and step `best`.
  void prune(std::int64_t keep_last, std::int64_t best) const;

 private:
  void write(ops::Context& context, const TrainState& state, const Optimizer& optimizer) const;
  std::vector<std::int64_t> steps() const;
  std::filesystem::path directory_;
};

}  // namespace hone::train
