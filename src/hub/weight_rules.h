// Reversible weight rules: how the tensors of a checkpoint make up a model's parameters, and the way back.
//
// A family declares patterns; plan() matches them against a checkpoint and decides, per parameter, which of
// the accepted layouts is there (per-expert hub layout, or fused as Transformers 5 keeps it in memory). The
// plan lists pieces: this hub tensor is those consecutive elements of that parameter. Loading and saving walk
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
#include "hub/checkpoint.h"
#include "hub/checkpoint_writer.h"
#include "hub/key_pattern.h"

namespace hone::hub {

/// A parameter that the model computes with, named as Transformers 5 names it in memory
/// ("model.layers.0.mlp.experts.gate_up_proj").
struct WantedParameter {
  std::string name;
  Shape shape;
};

/// One hub tensor as a run of consecutive elements of a parameter (row-major).
struct WeightPiece {
  TensorSpec hub;                            ///< key, type and shape in the file
  const CheckpointTensor* source = nullptr;  ///< where it was found; nullptr in a fresh plan
  std::int64_t offset = 0;                   ///< of its first element in the parameter
  std::int64_t count = 0;                    ///< elements
  int group = 0;                             ///< of a fresh plan: see NewTensor::group
};

/// A parameter and the hub tensors that fill it, in the order of their offsets.
struct PlannedParameter {
  std::string name;
  Shape shape;
  std::vector<WeightPiece> pieces;
};

/// A stored copy of a parameter (a tied lm_head that is in the file although equal to the embedding): written
/// on save.
struct TiedCopy {
  TensorSpec hub;
  const CheckpointTensor* source = nullptr;
  std::size_t parameter = 0;  ///< index into parameters()
};

/// Where a parameter's values go (load) or come from (save): all of it, row-major, contiguous, host memory.
struct Destination {
  void* data = nullptr;
  DType dtype = DType::kF32;
  float* master = nullptr;  ///< where not null, the values once more, unrounded
};
struct Source {
  const void* data = nullptr;
  DType dtype = DType::kF32;
};

/// What a save has to report.
struct SaveReport {
  /// "key: value" of tensors stored as F16 whose values left its range (|x| > 65504) and were written as
  /// infinities.
  std::vector<std::string> overflowed;
};

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
  /// in the order they lie in the files, by all threads of OpenMP, kWindow bytes at a time: host memory stays
  /// below a window plus a piece a thread. All bytes are pinned (pinned_bytes.h), those of no parameter too:
  /// save() writes them again. `destination` is asked once per parameter before its first piece; a null
  /// `data` skips the parameter (meta), and reads none of it. `done`, where given, is called when a parameter
  /// is complete (to move it to a device and free the host copy). Calls are made from this thread only.
  /// Throws Error(kUser) that names the tensor and its file where a parameter holds NaN or an infinity; a
  /// tensor of no parameter that does is warned of.
  void load(const std::function<Destination(std::size_t parameter)>& destination,
            const std::function<void(std::size_t parameter)>& done = nullptr) const;
  static constexpr std::uint64_t kWindow = std::uint64_t{64} << 20;
  /// One parameter alone, after load() or without.
  void load_parameter(std::size_t parameter, const Destination& destination) const;

  /// Writes every parameter, tied copy and passed-through tensor to `writer`, made by writer(). `source`
  /// gives a parameter's values; nullopt means unchanged since it was read (frozen): its bytes are copied.
  /// Throws Error(kUser) where bytes to copy are no longer those that load() read. Does not publish.
  SaveReport save(CheckpointWriter& writer,
                  const std::function<std::optional<Source>(std::size_t parameter)>& source) const;
  /// A writer for this plan: like the checkpoint it was made from, or for a fresh plan a new one
  /// (`max_shard_bytes`).
  CheckpointWriter writer(const std::filesystem::path& target, IfExists if_exists = IfExists::kRefuse,
                          std::uint64_t max_shard_bytes = kDefaultMaxShardBytes) const;
  /// From now on save() stores every parameter and tied copy as `dtype` (f32, bf16, f16), under the keys and
  /// in the shards it was read from; tensors that pass through stay as they are. Values that a type cannot
  /// hold are rounded, to nearest even.
  void store_as(DType dtype);
  /// Bytes that save() writes.
  std::uint64_t total_bytes() const;

 private:
  friend class WeightRules;
  friend class PlanBuilder;
  using Pins = std::unordered_map<const CheckpointTensor*, PinnedBytes>;
  std::optional<Checkpoint> checkpoint_;
  std::shared_ptr<Pins> pins_ = std::make_shared<Pins>();  // what load() has read, of every tensor
  std::vector<PlannedParameter> parameters_;
  std::unordered_map<std::string, std::size_t> index_of_;
  std::vector<std::size_t> write_order_;  // of a fresh plan: the order in which Transformers would shard
  std::vector<TiedCopy> tied_copies_;
  std::vector<const CheckpointTensor*> passed_through_;
  std::vector<const CheckpointTensor*> silent_;
  StoredTypes stored_types_;  // that differ from the checkpoint's, by store_as()
};

/// How a stored copy of a tensor relates to the tensor it may be tied to.
enum class TieState { kAbsent, kEqual, kDifferent };
/// Looks up both keys (with prefix tolerance) and compares shapes, types and bytes. kAbsent where `copy` is
/// not stored, or where `original` is not (then `copy` stands for it).
TieState tie_state(const Checkpoint& checkpoint, std::string_view copy, std::string_view original);

/// The rules of a family. A wanted parameter that no rule names is stored under its own name.
///
/// Patterns are literal but for {name}: a run of digits, the same digits wherever the same name is used in a
/// rule. Rules are tried in the order they were declared. A hub key "model.x" is also accepted as "x" (a
/// checkpoint of the base model).
class WeightRules {
 public:
  /// Parameter `logical` is stored whole under one of `hub_keys`. The first is what a fresh checkpoint is
  /// written with. rename("model.layers.{l}.mlp.gate.weight",
  /// {"model.layers.{l}.block_sparse_moe.gate.weight",
  ///        "model.layers.{l}.mlp.gate.weight"})
  WeightRules& rename(std::string_view logical, std::vector<std::string> hub_keys);

  /// Parameter `logical` (E, n*R, C) is stored as one (R, C) tensor per expert {e} and source pattern (n of
  /// them): expert e's rows k*R…(k+1)*R are sources[k] (gate first, then up). Or whole, under `fused`.
  /// expert_stack("model.layers.{l}.mlp.experts.gate_up_proj",
  /// {"model.layers.{l}.mlp.experts.{e}.gate_proj.weight",
  ///        "model.layers.{l}.mlp.experts.{e}.up_proj.weight"}, "model.layers.{l}.mlp.experts.gate_up_proj")
  WeightRules& expert_stack(std::string_view logical, std::vector<std::string> sources,
                            std::string_view fused);

  /// Stored copies of parameter `original` under key `copy` (a tied lm_head): written back with it. A
  /// checkpoint that has only the copy fills `original` from it. Declare only where tie_state() is not
  /// kDifferent; plan() refuses otherwise.
  WeightRules& tie(std::string_view copy, std::string_view original);

  /// Keys that end in `suffix` pass through unnamed. The buffers of old rotary embeddings
  /// ("rotary_emb.inv_freq" …) and ".masked_bias" are there from the start.
  WeightRules& pass_silently(std::string_view suffix);

  /// Matches `wanted` against a checkpoint. Throws Error(kUser), naming key, file and expected shape, for a
  /// parameter that is missing, present in part, present in two layouts, of another shape, or of a type that
  /// holds no weights (an FP8 weight), and for a tensor that belongs to a module the model computes but that
  /// is not used there (an o_proj.bias without attention_bias, an expert beyond num_experts).
  WeightPlan plan(const Checkpoint& checkpoint, const std::vector<WantedParameter>& wanted) const;

  /// The plan of a model that comes from no checkpoint: every parameter in its hub layout (per expert),
  /// stored as `dtype`.
  WeightPlan fresh_plan(const std::vector<WantedParameter>& wanted, DType dtype) const;

 private:
  friend class PlanBuilder;
  struct Rule {
    KeyPattern logical;
    std::vector<KeyPattern> whole;    // keys that hold the parameter whole, preferred first
    std::vector<KeyPattern> sources;  // per-expert keys; empty for rename()
  };
  struct Tie {
    std::string copy;
    std::string original;
  };
  std::vector<Rule> rules_;
  std::vector<Tie> ties_;
  std::vector<std::string> silent_suffixes_{"rotary_emb.inv_freq", "rotary_emb.cos_cached",
                                            "rotary_emb.sin_cached", ".masked_bias"};
};

}  // namespace hone::hub
