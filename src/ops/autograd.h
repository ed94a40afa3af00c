// Reverse-mode differentiation, define-by-run. A Tape is an object: operations record on the one in their
// Context, and backward() walks it from the end, releasing each node (and what it kept) as it passes. Several
// tapes may live at once.
#pragma once

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <list>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "ops/context.h"
#include "ops/side_stream.h"

namespace hone::ops {

/// Where the gradient of one value gathers. Carried by the value's Tensor. A leaf's slot (a parameter's)
/// lives as long as the parameter and keeps its storage from step to step; any other is emptied as soon as
/// backward has passed the value.
class GradSlot {
 public:
  GradSlot(Shape shape, DType value_dtype) : shape_(std::move(shape)), dtype_(value_dtype) {}
  GradSlot(const GradSlot&) = delete;
  GradSlot& operator=(const GradSlot&) = delete;
  /// A parameter's slot; grad_dtype is f32 or bf16. The storage is allocated (Purpose::kGradients) when the
  /// first gradient arrives.
  static std::shared_ptr<GradSlot> leaf(Shape shape, DType grad_dtype);

  bool is_leaf() const { return is_leaf_; }
  /// The gradient gathered so far; undefined where none has arrived since the last reset().
  Tensor grad() const { return written_ ? grad_ : Tensor(); }
  DType grad_dtype() const { return dtype_; }
  /// The gradient gathered so far, moved out: its memory is the caller's, and none is held here until the
  /// next gradient arrives. For hooks that pass a leaf's gradient on. Undefined where grad() is.
  Tensor take_grad();
  /// Asks operations that can, of a leaf, to bring the sum of its gradient's squares along: whoever makes the
  /// norm needs not read the gradient again. Only the last contribution to a gradient knows it: ask before
  /// that.
  void ask_for_squares(bool asked) { asks_for_squares_ = asked; }
  /// Numbers in f64 whose sum it is, of grad(), moved out; undefined where the last contribution brought
  /// none.
  Tensor take_squares() { return std::exchange(squares_, Tensor()); }
  /// Forgets the gradient; a leaf keeps its storage. May come between forward and backward, but not after
  /// linear_cross_entropy, which has written its weight's gradient by then.
  void reset();
  /// Called in backward once the last recorded use of a leaf has contributed: once for all uses of a tied
  /// weight, in every tape that is alive. What the passed operations kept is free by then. Not called for a
  /// leaf that has no gradient. Where backward was given a SideStream the gradient may be under way there:
  /// what reads it is put there, too, or comes after SideStream::wait_for.
  void set_hook(std::function<void()> hook) { hook_ = std::move(hook); }

 private:
  friend class Tape;
  friend class Backward;
  friend struct GradTarget;
  friend class Saved;
  friend void can_remake(const Tensor&, std::function<Tensor(Context&)>);
  void add(Context& context, Tensor grad);  // takes a gradient over, or adds it
  Shape shape_;
  DType dtype_;
  bool is_leaf_ = false;
  bool written_ = false;
  int uses_ = 0;  // recorded uses that backward has not passed yet; before backward, all of them
  Tensor grad_;
  bool asks_for_squares_ = false;
  Tensor squares_;
  std::function<void()> hook_;
  std::function<Tensor(Context&)> remake_;  // the value itself, from what the operation that made it keeps
  std::weak_ptr<void> saved_;               // who keeps the value so far, where it can be made again
};

/// A place for a gradient function to write: overwrite it, or add to it where `accumulate` is set.
struct GradTarget {
  Tensor grad;
  bool accumulate = false;
  GradSlot* slot = nullptr;  // the value's
  /// Where the caller is to write (parts) f64, whose sum is that of the squares of the finished gradient;
  /// undefined where nobody asks for it.
  Tensor squares(Context& context, std::int64_t parts) const;
  /// The target of `value`, whose slot must exist. Storage: a leaf's own; else f32 where several uses will be
  /// summed, else the value's dtype. The caller must write it, in the context's stream: it counts as written
  /// from now on, and comes after what a leaf was given in the context's side stream.
  static GradTarget of(Context& context, GradSlot& slot);
  /// The same for work that is put into the context's side stream.
  static GradTarget beside(Context& context, GradSlot& slot);
};

/// Gradients of weights that backward() put off: what they are made of is kept, and run() makes them, in the
/// order in which backward() came to them: a leaf all of whose gradients wait gets the same bits. Input
/// gradients go to the stages of a pipeline before; these fill its bubbles. (Qi et al., arXiv:2401.10241.)
class DeferredGradients {
 public:
  DeferredGradients();
  ~DeferredGradients();  // those that have not been run are dropped: their leaves' hooks do not fire
  DeferredGradients(const DeferredGradients&) = delete;
  DeferredGradients& operator=(const DeferredGradients&) = delete;

  std::size_t size() const;
  /// Makes the first `count` of them. Hooks of leaves fire after their last contribution, as in backward().
  void run(Context& context, std::size_t count = static_cast<std::size_t>(-1));

 private:
  friend class Backward;
  struct Work;
  std::list<Work> work_;
};

/// What a gradient function sees: the gradients of its outputs, and where those of its inputs go.
class Backward {
 public:
  Context& context() { return context_; }
  /// The gradient of output i; undefined where nothing downstream depended on it.
  const Tensor& grad(std::size_t output = 0) const;
  /// The same, moved out: its memory is free as soon as the caller lets go, or the caller's to overwrite
  /// where owns_buffer_alone().
  Tensor take_grad(std::size_t output = 0);
  /// True where input i needs a gradient.
  bool wants(std::size_t input) const;
  /// Where to write input i's gradient; only if wants(i).
  GradTarget target(std::size_t input);
  /// The same for gradients that nothing else waits for: `make` is called with the targets of these inputs
  /// (an undefined one where it is not wanted) at once, or, where all are of leaves, when DeferredGradients
  /// that backward() was given are run, or in the SideStream that it was given. Nothing happens unless one is
  /// wanted. operands: makes what `make` reads besides what it captured, never in a side stream, since what
  /// is made but once (Saved) is read by others, too. Operands, and what `make` captured, are kept until the
  /// work is done.
  using MakeOperands = std::function<std::vector<Tensor>(Context&)>;
  using MakeGradients =
      std::function<void(Context&, const std::vector<Tensor>& operands, const std::vector<GradTarget>&)>;
  void later(const std::vector<std::size_t>& inputs, MakeOperands operands, MakeGradients make);
  /// Whether later() puts gradients of leaves off.
  bool defers() const { return deferred_ != nullptr; }
  /// Hands over a gradient that exists already (a residual's): moved where it is the first, else added. The
  /// same tensor may be given to several inputs: whoever adds to it later makes a copy first. Nothing happens
  /// unless wants(i).
  void give(std::size_t input, Tensor grad);

 private:
  friend class Tape;
  friend std::vector<Tensor> checkpoint(
      Context&, const std::vector<Tensor>&,
      std::function<std::vector<Tensor>(Context&, const std::vector<Tensor>&)>);
  Backward(Context& context, DeferredGradients* deferred,
           const std::vector<std::shared_ptr<GradSlot>>& inputs,
           const std::vector<std::shared_ptr<GradSlot>>& outputs);
  Context& context_;
  DeferredGradients* deferred_;  // null: nothing is put off
  const std::vector<std::shared_ptr<GradSlot>>& inputs_;
  std::vector<Tensor> grads_;
};

using GradFn = std::function<void(Backward&)>;

class Tape {
 public:
  Tape() = default;
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// Differentiates from `loss` (one element, f32), whose gradient is 1. Throws where loss depends on nothing
  /// that wants a gradient. deferred: takes the gradients that can wait; null: none do. beside: of `context`,
  /// where those that can wait and are not deferred are made, and joined at the end: the same bits; null: in
  /// their turn.
  void backward(Context& context, const Tensor& loss, DeferredGradients* deferred = nullptr,
                SideStream* beside = nullptr);
  /// Differentiates from given gradients of given values. Undefined gradients are left out. Move the vector
  /// in, and each gradient is freed as soon as it has been used.
  void backward(Context& context, std::vector<std::pair<Tensor, Tensor>> outputs_and_grads,
                DeferredGradients* deferred = nullptr, SideStream* beside = nullptr);

  std::size_t num_nodes() const { return nodes_.size(); }
  /// False in the first pass of a recomputed block: operations record as ever (it counts the uses of the
  /// leaves), but nothing is kept, so they leave out what only a gradient would read.
  bool keeps() const { return keeps_; }

 private:
  friend void record(Context&, std::string_view, std::vector<const Tensor*>, std::vector<Tensor*>, GradFn);
  friend std::vector<Tensor> checkpoint(
      Context&, const std::vector<Tensor>&,
      std::function<std::vector<Tensor>(Context&, const std::vector<Tensor>&)>);

  friend class DeferredGradients;
  friend class Backward;

  // Recorded uses of slots. Those that backward never passes (an abandoned tape, an exception) are taken back
  // when this is destroyed.
  class Uses {
   public:
    Uses() = default;
    Uses(Uses&& other) noexcept : slots_(std::exchange(other.slots_, {})) {}
    Uses& operator=(Uses&&) = delete;
    ~Uses() { take_back(); }
    void add(std::shared_ptr<GradSlot> slot);
    void take_back();
    void pass();  // backward has passed them: hooks of leaves fire on the last

   private:
    std::vector<std::shared_ptr<GradSlot>> slots_;
  };
  struct Node {
    std::string_view op;
    std::vector<std::shared_ptr<GradSlot>> inputs, outputs;  // null where no gradient is wanted
    Uses uses;
    std::shared_ptr<Uses> recomputed_uses;  // of a recomputed block: those of the leaves inside it
    GradFn grad_fn;
  };
  void differentiate(Context& context, std::vector<std::pair<Tensor, Tensor>> outputs_and_grads,
                     DeferredGradients* deferred);
  void run(Context& context, DeferredGradients* deferred);
  bool keeps_ = true;
  std::vector<Node> nodes_;
  Uses leaf_uses_;                 // where !keeps_: what the nodes that were not kept have used
  std::size_t num_leaf_uses_ = 0;  // recorded so far, those inside recomputed blocks included
};

/// True where a tape is recording and one of the (defined) inputs needs a gradient. Operations ask before
/// they keep anything.
bool needs_grad(const Context& context, std::initializer_list<const Tensor*> inputs);

/// Records one node: the defined outputs get slots, and grad_fn will be called with their gradients. Call
/// only if needs_grad(); inputs may be undefined. What grad_fn captures is what the operation keeps. `op`
/// must outlive the tape (a literal).
void record(Context& context, std::string_view op, std::vector<const Tensor*> inputs,
            std::vector<Tensor*> outputs, GradFn grad_fn);

/// Gives a tensor a leaf slot: its gradient will be kept, in f32 or the tensor's own dtype. Returns the slot.
std::shared_ptr<GradSlot> require_grad(Tensor& tensor, DType grad_dtype);

/// Recompute: runs forward(inputs) keeping only the inputs; backward runs the same forward again, now
/// recording, each time in the context that it is handed. `forward` must be a pure function of its inputs and
/// of parameters (leaves). Calls may nest.
/// Without a tape it just runs it. Gradients have the same bits as without recompute, except where an input
/// is used outside the block as well: those uses are then summed apart. (Chen et al., arXiv:1604.06174.)
std::vector<Tensor> checkpoint(
    Context& context, const std::vector<Tensor>& inputs,
    std::function<std::vector<Tensor>(Context&, const std::vector<Tensor>&)> forward);

}  // namespace hone::ops
