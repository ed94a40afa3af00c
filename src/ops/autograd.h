// Reverse-mode differentiation, define-by-run. A Tape is an object: operations record on the one in their
// Context, and backward() walks it from the end, releasing each node (and what it kept) as it passes. Several
// tapes may live at once.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "ops/context.h"

namespace hone::ops {

/// Where the gradient of one value gathers. Carried by the value's Tensor. A leaf's slot (a parameter's)
/// lives as long as the parameter and keeps its storage from step to step; any other is emptied as soon as
/// backward has passed the value.
class GradSlot {
 public:
  GradSlot(Shape shape, DType value_dtype) : shape_(std::move(shape)), dtype_(value_dtype) {}
  /// A parameter's slot; grad_dtype is f32 or bf16. The storage is allocated (Purpose::kGradients) when the
  /// first gradient arrives.
  static std::shared_ptr<GradSlot> leaf(Shape shape, DType grad_dtype);

  bool is_leaf() const { return is_leaf_; }
  /// The gradient gathered so far; undefined where none has arrived since the last reset().
  Tensor grad() const { return written_ ? grad_ : Tensor(); }
  DType grad_dtype() const { return dtype_; }
  /// Forgets the gradient (a leaf keeps its storage) and any uses of an abandoned tape.
  void reset();
  /// Called in backward once the last recorded use of a leaf has contributed (a tied weight counts all its
  /// uses).
  void set_hook(std::function<void()> hook) { hook_ = std::move(hook); }

 private:
  friend class Tape;
  friend class Backward;
  friend struct GradTarget;
  Shape shape_;
  DType dtype_;
  bool is_leaf_ = false;
  bool written_ = false;
  int uses_ = 0;  // recorded uses that backward has not passed yet; before backward, all of them
  Tensor grad_;
  std::function<void()> hook_;
};

/// A place for a gradient function to write: overwrite it, or add to it where `accumulate` is set.
struct GradTarget {
  Tensor grad;
  bool accumulate = false;
  /// The target of `value`, whose slot must exist. Storage: a leaf's own; else f32 where several uses will be
  /// summed, else the value's dtype. The caller must write it: it counts as written from now on.
  static GradTarget of(Context& context, GradSlot& slot);
};

/// What a gradient function sees: the gradients of its outputs, and where those of its inputs go.
class Backward {
 public:
  Context& context() { return context_; }
  /// The gradient of output i; undefined where nothing downstream depended on it.
  const Tensor& grad(std::size_t output = 0) const;
  /// True where input i needs a gradient.
  bool wants(std::size_t input) const;
  /// Where to write input i's gradient; only if wants(i).
  GradTarget target(std::size_t input);
  /// Hands over a gradient that exists already (a residual's): moved where it is the first, else added.
  /// Nothing happens unless wants(i).
  void give(std::size_t input, const Tensor& grad);

 private:
  friend class Tape;
  Backward(Context& context, const std::vector<std::shared_ptr<GradSlot>>& inputs,
           const std::vector<std::shared_ptr<GradSlot>>& outputs);
  Context& context_;
  const std::vector<std::shared_ptr<GradSlot>>& inputs_;
  std::vector<Tensor> grads_;
};

using GradFn = std::function<void(Backward&)>;

class Tape {
 public:
  enum class Mode {
    kRecord,     // the usual
    kCountUses,  // the first pass of a recomputed block: counts the uses of leaves, keeps nothing
    kReplay,     // its second pass: records, the uses were counted already
  };
  explicit Tape(Mode mode = Mode::kRecord) : mode_(mode) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// Differentiates from `loss` (one element, f32), whose gradient is 1.
  void backward(Context& context, const Tensor& loss);
  /// Differentiates from given gradients of given values. Undefined gradients are left out.
  void backward(Context& context, const std::vector<std::pair<Tensor, Tensor>>& outputs_and_grads);

  std::size_t num_nodes() const { return nodes_.size(); }

 private:
  friend void record(Context&, std::string_view, std::vector<const Tensor*>, std::vector<Tensor*>, GradFn);
  struct Node {
    std::string_view op;
    std::vector<std::shared_ptr<GradSlot>> inputs, outputs;  // null where no gradient is wanted
    GradFn grad_fn;
  };
  void run(Context& context);
  Mode mode_;
  std::vector<Node> nodes_;
};

/// True where a tape is recording and one of the (defined) inputs needs a gradient. Operations ask before
/// they keep anything.
bool needs_grad(const Context& context, std::initializer_list<const Tensor*> inputs);

/// Records one node: outputs get slots, and grad_fn will be called with their gradients. Call only if
/// needs_grad(); inputs may be undefined. What grad_fn captures is what the operation keeps.
void record(Context& context, std::string_view op, std::vector<const Tensor*> inputs,
            std::vector<Tensor*> outputs, GradFn grad_fn);

/// Gives a tensor a leaf slot: its gradient will be kept. Returns the slot.
std::shared_ptr<GradSlot> require_grad(Tensor& tensor, DType grad_dtype);

/// Recompute: runs forward(inputs) keeping only the inputs; backward runs the same forward again, now
/// recording. `forward` must be a pure function of its inputs and of parameters. Without a tape it just runs
/// it. (Chen et al., arXiv:1604.06174.)
std::vector<Tensor> checkpoint(Context& context, const std::vector<Tensor>& inputs,
                               std::function<std::vector<Tensor>(const std::vector<Tensor>&)> forward);

}  // namespace hone::ops
