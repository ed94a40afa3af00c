// A WeightPlan: which tensors of a checkpoint make up which parameters of a model. Loading and saving walk
// the same pieces in opposite directions, so what was read is written back under its own key, layout, dtype
// and shard.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/dtype.h"
#include "base/shape.h"
#include "base/team.h"
#include "hub/checkpoint.h"
#include "hub/checkpoint_writer.h"
#include "hub/quantized_tensor.h"
#include "hub/weight_map.h"

namespace hone::hub {

/// A parameter that the model computes with, named as Transformers 5 names it in memory
/// ("model.layers.0.mlp.experts.gate_up_proj").
struct WantedParameter {
  std::string name;
  Shape shape;
  bool stays_f32 = false;  ///< stored as f32 in a fresh plan; keeps its type in store_as()
};

/// How a quantised tensor is read, and what it is written as once it is not quantised any more.
struct Quantized {
  QuantizedTensor read;
  TensorSpec plain;
  WeightMap plain_map;
};

/// One hub tensor, or a box of it, and where its elements lie in a parameter.
struct WeightPiece {
  TensorSpec hub;                            ///< key, type and shape in the file
  const CheckpointTensor* source = nullptr;  ///< where it was found; nullptr in a fresh plan
  WeightMap map;                             ///< of the values that it decodes to, if it is quantised
  int group = 0;                             ///< of a fresh plan: see NewTensor::group
  std::optional<Quantized> quantized = std::nullopt;
};

/// A parameter and the pieces that fill it, each element once.
struct PlannedParameter {
  std::string name;
  Shape shape;
  std::vector<WeightPiece> pieces;
  bool stays_f32 = false;
};

/// A stored copy of a parameter (a tied lm_head that is in the file although equal to the embedding): written
/// on save.
struct TiedCopy {
  TensorSpec hub;
  const CheckpointTensor* source = nullptr;
  std::size_t parameter = 0;  ///< index into parameters()
};

/// Where a parameter's values go (load) or come from (save): all of it or a region, row-major, contiguous,
/// host memory.
struct Destination {
  void* data = nullptr;
  DType dtype = DType::kF32;
  float* master = nullptr;  ///< where not null, the values once more, unrounded
  Region region = {};
};
struct Source {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  Region region = {};
  std::shared_ptr<const void> owner = nullptr;  ///< of the bytes, where nobody else keeps them
};

/// What a save has to report.
struct SaveReport {
  /// "key: value" of tensors stored as F16 whose values left its range (|x| > 65504) and were written as
  /// infinities.
  std::vector<std::string> overflowed;
  /// What coding took from the trained values of quantised tensors: how many have been coded, and the one
  /// that lost most.
  struct Coding {
    std::int64_t tensors = 0;
    std::string worst;
    double worst_error = 0;  ///< CodingError::relative()
  } coding = {};
};
/// "quantised again: 48 tensors, error up to 2.61 % (root mean square, KEY)".
std::string coding_text(const SaveReport::Coding& coding);

/// The matching of one model against one checkpoint, or of a fresh model against no checkpoint.
class WeightPlan {
 public:
  /// In the order they were asked for.
  const std::vector<PlannedParameter>& parameters() const { return parameters_; }
  /// Index of a parameter by name. Throws Error(kInternal) for an unknown one.
  std::size_t index_of(std::string_view name) const;
  const std::vector<TiedCopy>& tied_copies() const { return tied_copies_; }
  /// Tensors that no parameter takes, to be named to the user; they are written back byte for byte.
  const std::vector<const CheckpointTensor*>& passed_through() const { return passed_through_; }
  /// The same, but of no interest (rotary_emb.inv_freq).
  const std::vector<const CheckpointTensor*>& silently_passed_through() const { return silent_; }

  /// Fills parameters from the checkpoint, converting to each destination's dtype. Pieces of 1 MiB are read
  /// in the order they lie in the files, by all threads of `team`, kWindow bytes at a time: host memory stays
  /// below a window plus a piece a thread, and the scales of a window's quantised tensors. All bytes are
  /// pinned (pinned_bytes.h), those of no parameter too: save() writes them again. `destination` is asked
  /// once per parameter before its first piece; a null `data` skips the parameter (meta), and reads none of
  /// it, and of a region no MiB that has none of its elements. `done`, where given, is called when a
  /// parameter is complete (to move it to a device and free the host copy). Calls are made from this thread
  /// only. Throws Error(kUser) that names the tensor and its file where a parameter holds NaN or an infinity;
  /// a tensor of no parameter that does is warned of.
  void load(Team& team, const std::function<Destination(std::size_t parameter)>& destination,
            const std::function<void(std::size_t parameter)>& done = nullptr) const;
  static constexpr std::uint64_t kWindow = std::uint64_t{64} << 20;
  /// One parameter alone. Pins nothing, and after load() throws where the bytes are not those that it read.
  void load_parameter(Team& team, std::size_t parameter, const Destination& destination) const;

  /// Writes every parameter, tied copy and passed-through tensor to `writer`, made by writer(). `source`
  /// gives a parameter's values, or a region of them (the rest is to come by save_parameter()); nullopt means
  /// unchanged since it was read (frozen): its bytes are copied. Throws Error(kUser) where bytes to copy are
  /// no longer those that load() read. Does not publish.
  SaveReport save(Team& team, CheckpointWriter& writer,
                  const std::function<std::optional<Source>(std::size_t parameter)>& source) const;
  /// A further region of one parameter, which no other source gave.
  SaveReport save_parameter(Team& team, CheckpointWriter& writer, std::size_t parameter,
                            const Source& source) const;
  /// A writer for this plan: like the checkpoint it was made from, or for a fresh plan a new one
  /// (`max_shard_bytes`).
  CheckpointWriter writer(const std::filesystem::path& target, IfExists if_exists = IfExists::kRefuse,
                          std::uint64_t max_shard_bytes = kDefaultMaxShardBytes) const;
  /// From now on save() stores every parameter and tied copy as `dtype` (f32, bf16, f16), under the keys and
  /// in the shards it was read from; tensors that pass through or stay f32 are left as they are. Values that
  /// a type cannot hold are rounded, to nearest even.
  void store_as(DType dtype);
  /// From now on save() stores parameters that are quantised in the checkpoint as `dtype`, trained or not,
  /// without scales. Otherwise they are coded again in their format (block_format.h).
  void dequantize(DType dtype);
  /// Whether any parameter is quantised in the checkpoint, and is to be when it is saved.
  bool has_quantized() const;
  bool saves_quantized() const { return has_quantized() && !dequantizes_; }
  /// What coding a parameter again is expected to take from its values once training has moved them all, by
  /// the first MiB of its first quantised tensor (hub::expected_error); nothing where it has none.
  CodingError expected_coding_error(std::size_t parameter) const;
  /// Bytes that save() writes.
  std::uint64_t total_bytes() const;

 private:
  friend class WeightRules;
  friend class PlanBuilder;
  using Pins = std::unordered_map<const CheckpointTensor*, PinnedBytes>;
  class Saver;
  std::vector<NewTensor> new_tensors() const;  // of a fresh plan, in write order
  /// The values of some pieces of a parameter, verified against what load() read.
  void read_pieces(Team& team, std::span<const WeightPiece> pieces, std::size_t parameter,
                   const Destination& destination) const;
  std::optional<Checkpoint> checkpoint_;
  std::shared_ptr<Pins> pins_ = std::make_shared<Pins>();  // what load() has read, of every tensor
  std::vector<PlannedParameter> parameters_;
  std::unordered_map<std::string, std::size_t> index_of_;
  std::vector<std::size_t> write_order_;  // of a fresh plan: the order in which Transformers would shard
  std::vector<TiedCopy> tied_copies_;
  std::vector<const CheckpointTensor*> passed_through_;
  std::vector<const CheckpointTensor*> silent_;
  StoredChanges changes_;  // of the checkpoint's tensors, by store_as() and dequantize()
  bool dequantizes_ = false;
};

}  // namespace hone::hub
