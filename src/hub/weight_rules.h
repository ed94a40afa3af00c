// Reversible weight rules: how the tensors of a checkpoint make up a model's parameters, and the way back.
//
// A family declares patterns; plan() matches them against a checkpoint and decides, per parameter, which of
// the accepted layouts is there (per-expert hub layout, or fused as Transformers 5 keeps it in memory). The
// plan lists pieces: the elements of this hub tensor are those of that parameter (weight_map.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hub/key_pattern.h"
#include "hub/weight_plan.h"

namespace hone::hub {

/// One dimension of a stored tensor.
struct StoredDim {
  int dim = 0;  ///< of the parameter, along which it runs
  /// It has only the `part`th of `parts` equal parts of that dimension (several tensors joined: gate, up).
  std::int64_t part = 0, parts = 1;
  /// As many equal parts of that dimension alternate in it: gate 0, up 0, gate 1, up 1 …
  std::int64_t interleaved = 1;
  /// Those elements begin here in a stored dimension of this extent, of which other parameters have the rest
  /// (a fused projection that is cut); 0: nothing else is there.
  std::int64_t begin = 0, extent = 0;
};

/// A stored tensor that makes up a parameter, or a part of it.
struct Stored {
  std::string key;                   ///< a pattern
  std::vector<StoredDim> dims = {};  ///< outermost first; empty: those of the parameter, in order
  /// The dimension of the parameter that {e} in the key counts, one tensor for each of its elements; such a
  /// tensor does not have that dimension. -1: the key has no {e}.
  int stacked = -1;
  /// Stored as MXFP4: KEY_blocks (…, n / 32, 16) U8 and KEY_scales (…, n / 32) U8 for a tensor (…, n).
  bool mxfp4 = false;
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

  /// Any other layout: parameter `logical` is made of the tensors of the one of `layouts` that is there; the
  /// first is what a fresh checkpoint is written with, and dequantized weights.
  WeightRules& stored(std::string_view logical, std::vector<std::vector<Stored>> layouts);

  /// Stored copies of parameter `original` under key `copy` (a tied lm_head): written back with it. A
  /// checkpoint that has only the copy fills `original` from it. Declare only where tie_state() is not
  /// kDifferent; plan() refuses otherwise.
  WeightRules& tie(std::string_view copy, std::string_view original);

  /// Keys that end in `suffix` pass through unnamed. The buffers of old rotary embeddings
  /// ("rotary_emb.inv_freq" …) and ".masked_bias" are there from the start.
  WeightRules& pass_silently(std::string_view suffix);

  /// Elements of a scale's block in FP8 tensors (config.json's weight_block_size).
  WeightRules& fp8_block(std::int64_t rows, std::int64_t cols);

  /// Matches `wanted` against a checkpoint. In any layout KEY may be F8_E4M3 (…, rows, cols) beside
  /// KEY_scale_inv (…, blocks of rows, blocks of cols), or one scale for all. Without fp8_block() a block is
  /// 128 x 128 where that makes as many scales, else an equal part of the rows and columns. Throws
  /// Error(kUser), naming key, file and expected shape, for a parameter that is missing, present in part,
  /// present in two layouts, of another shape, or of a type that holds no weights, and for a tensor that
  /// belongs to a module the model computes but that is not used there (an o_proj.bias without
  /// attention_bias, an expert beyond num_experts).
  WeightPlan plan(const Checkpoint& checkpoint, const std::vector<WantedParameter>& wanted) const;

  /// The plan of a model that comes from no checkpoint: every parameter in its hub layout (per expert),
  /// stored as `dtype`.
  WeightPlan fresh_plan(const std::vector<WantedParameter>& wanted, DType dtype) const;

 private:
  friend class PlanBuilder;
  struct Rule {
    KeyPattern logical;
    std::vector<std::vector<Stored>> layouts;  // preferred first
  };
  struct Tie {
    std::string copy;
    std::string original;
  };
  std::vector<Rule> rules_;
  std::vector<Tie> ties_;
  std::int64_t fp8_block_rows_ = 0, fp8_block_cols_ = 0;
  std::vector<std::string> silent_suffixes_{"rotary_emb.inv_freq", "rotary_emb.cos_cached",
                                            "rotary_emb.sin_cached", ".masked_bias"};
};

}  // namespace hone::hub
