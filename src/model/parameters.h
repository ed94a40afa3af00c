// The parameters of a model: one list that allocation, initialisation, loading, saving, freezing, decay and
// checkpoints all read.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "model/spec.h"
#include "ops/autograd.h"
#include "ops/weight.h"

namespace hone::model {

enum class Role { kEmbedding, kNorm, kAttention, kRouter, kExpert, kSharedExpert, kDense, kHead };
std::string_view name_of(Role role);

/// What a parameter is, before any memory is spent on it.
struct ParameterSpec {
  std::string name;  // Transformers' in-memory name: model.layers.0.self_attn.q_proj.weight
  Shape shape;
  Role role = Role::kDense;
  int layer = -1;  // -1: not in a layer
  bool is_bias = false;
  /// Loaded, saved and computed with in f32, whatever the dtype of the rest, and never trained: a buffer of
  /// Transformers that it keeps in f32 (e_score_correction_bias).
  bool is_buffer = false;
  /// A linear layer of attention, a feed-forward or experts, products by which may be of operands in FP8. Not
  /// the embedding, the head, norms, biases, a router or the gate of a shared expert (DeepSeek-V3, 3.3.1):
  /// what few numbers decide, or what is looked up.
  bool may_be_in_fp8() const;
  /// Weight decay applies: not to norms, not to biases (Transformers' Trainer.get_decay_parameter_names).
  bool decays() const { return role != Role::kNorm && !is_bias; }
};

/// What the names of a layer's parameters begin with: "model.layers.3.".
std::string layer_prefix(std::size_t layer);

/// All parameters of a model in Transformers' order. A tied lm_head has none of its own, unless `untied_head`
/// (a stored one differs).
std::vector<ParameterSpec> list_parameters(const DecoderSpec& spec, bool untied_head = false);

/// How many elements a model's parameters have: in all, those that act on one token (of the experts its own),
/// and by role.
struct ParameterCounts {
  std::int64_t total = 0, active = 0;
  std::map<Role, std::int64_t> by_role;
};
ParameterCounts count_parameters(const DecoderSpec& spec, bool untied_head = false);

/// Collects a model's parameters, in Transformers' order.
class ParameterList {
 public:
  explicit ParameterList(std::int64_t hidden) : hidden_(hidden) {}
  std::int64_t hidden() const { return hidden_; }
  /// What follows belongs to this layer; -1: to none.
  void set_layer(int layer) { layer_ = layer; }
  void add(const std::string& name, Shape shape, Role role);
  void add_buffer(const std::string& name, Shape shape, Role role);
  /// NAME.weight (out, in), and NAME.bias (out) where there is one.
  void linear(const std::string& name, std::int64_t out, std::int64_t in, bool bias, Role role);
  std::vector<ParameterSpec> take() { return std::move(list_); }

 private:
  std::int64_t hidden_;
  int layer_ = -1;
  std::vector<ParameterSpec> list_;
};

/// A parameter: its description, its value, and where its gradient gathers.
struct Parameter {
  ParameterSpec spec;
  Tensor value;  // compute dtype (a buffer: f32); carries the gradient slot while trainable; undefined where
                 // there is a residency
  bool trainable = false;
  std::shared_ptr<ops::GradSlot> grad_slot = nullptr;   // null while frozen
  std::shared_ptr<ops::Residency> residency = nullptr;  // null: the value is there
  bool in_fp8 = false;  // products by it are of operands in FP8 (ops::Weight::in_fp8)

  /// What operations take.
  ops::Weight handle() const {
    const ops::Weight weight = residency ? ops::Weight(residency, grad_slot) : ops::Weight(value);
    return in_fp8 ? weight.in_fp8() : weight;
  }
};

/// The parameters of one model on one device.
class ParameterSet {
 public:
  /// Allocates them all, uninitialised, frozen.
  ParameterSet(ops::Context& context, const std::vector<ParameterSpec>& specs, DType dtype);

  std::vector<Parameter>& all() { return parameters_; }
  const std::vector<Parameter>& all() const { return parameters_; }
  /// Null where there is no such parameter.
  const Parameter* find(std::string_view name) const;
  /// The value. Throws where there is no such parameter.
  const Tensor& value(std::string_view name) const;

  std::vector<std::string> names() const;

  /// Makes the parameters but buffers trainable in whose names none of the patterns (name_pattern.h) is
  /// found, with gradients of grad_dtype. Returns for each pattern how many parameters it froze. Throws
  /// Error(kUser) for a pattern that is no regular expression or matches nothing.
  std::vector<std::int64_t> set_trainable(const std::vector<std::string>& freeze_patterns, DType grad_dtype);
  /// From now on products by what may_be_in_fp8() are of operands in FP8, or of none. Values stay as they
  /// are.
  void multiply_in_fp8(bool on);
  /// Forgets all gradients (their memory stays).
  void reset_grads();
  /// Total elements, without buffers (as Transformers' num_parameters); trainable only, if asked.
  std::int64_t num_elements(bool trainable_only = false) const;

  /// Normal(0, initializer_range) for matrices, 1 for norms (0 where they multiply by 1 + weight), 0 for
  /// biases, buffers and for the padding row of the embedding, as Transformers initialises; a function of
  /// (seed, name, element) alone. `drawn` (> 0): of a matrix only so many elements are drawn, which the
  /// others repeat: for measurements, where 8.1 B numbers would take a core 7 minutes.
  void initialize(ops::Context& context, const DecoderSpec& spec, std::uint64_t seed,
                  std::optional<std::int64_t> drawn = std::nullopt);

 private:
  std::vector<Parameter> parameters_;
  std::unordered_map<std::string, std::size_t> index_;
};

}  // namespace hone::model
