#include "ops/autograd.h"

#include <algorithm>

#include "ops/launch.h"

namespace hone::ops {

namespace {

void add_into(Context& context, const Tensor& from, const Tensor& to, bool accumulate) {
  HONE_CHECK(from.shape() == to.shape(), "[ops.autograd] a gradient {} for a value {}", from.shape().str(),
             to.shape().str());
  copy(context, "ops.autograd", from, to, accumulate);
}

const std::shared_ptr<GradSlot>& slot_of(const Tensor* tensor) {
  static const std::shared_ptr<GradSlot> kNone;
  return tensor->defined() ? tensor->grad_slot() : kNone;
}

/// The inputs of a recomputed block, cut off from the graph outside it: the same bytes, slots of their own.
std::vector<Tensor> cut(const std::vector<Tensor>& inputs) {
  std::vector<Tensor> copies;
  for (const Tensor& t : inputs) {
    Tensor copy = t.detach();
    if (slot_of(&t)) copy.set_grad_slot(std::make_shared<GradSlot>(t.shape(), t.dtype()));
    copies.push_back(std::move(copy));
  }
  return copies;
}

}  // namespace

std::shared_ptr<GradSlot> GradSlot::leaf(Shape shape, DType grad_dtype) {
  HONE_CHECK(grad_dtype == DType::kF32 || grad_dtype == DType::kBF16,
             "[ops.autograd] gradients are f32 or bf16, not {}", name_of(grad_dtype));
  auto slot = std::make_shared<GradSlot>(std::move(shape), grad_dtype);
  slot->is_leaf_ = true;
  return slot;
}

Tensor GradSlot::take_grad() {
  const bool written = std::exchange(written_, false);
  squares_ = Tensor();
  Tensor grad = std::exchange(grad_, Tensor());
  return written ? grad : Tensor();
}

void GradSlot::reset() {
  written_ = false;
  squares_ = Tensor();
  if (!is_leaf_) grad_ = Tensor();
}

GradTarget GradTarget::of(Context& context, GradSlot& slot) {
  if (SideStream* side = context.side_stream(); side != nullptr && slot.is_leaf_) side->wait_for(slot.grad_);
  return beside(context, slot);
}

GradTarget GradTarget::beside(Context& context, GradSlot& slot) {
  slot.squares_ = Tensor();  // of the gradient so far
  if (slot.is_leaf_) {
    if (!slot.grad_.defined())
      slot.grad_ = context.empty(slot.shape_, slot.dtype_, device::Purpose::kGradients);
    return {slot.grad_, std::exchange(slot.written_, true), &slot};
  }
  if (!slot.written_) {
    slot.grad_ = context.empty(slot.shape_, slot.uses_ > 1 ? DType::kF32 : slot.dtype_);
    slot.written_ = true;
    return {slot.grad_, false, &slot};
  }
  if (!slot.grad_.owns_buffer_alone()) {  // handed over by give() and still somebody else's too
    const Tensor own = context.empty(slot.shape_, slot.grad_.dtype());
    add_into(context, slot.grad_, own, false);
    slot.grad_ = own;
  }
  return {slot.grad_, true, &slot};
}

Tensor GradTarget::squares(Context& context, std::int64_t parts) const {
  if (slot == nullptr || !slot->is_leaf_ || !slot->asks_for_squares_) return {};
  slot->squares_ = context.empty({parts}, DType::kF64, device::Purpose::kGradients);
  return slot->squares_;
}

void GradSlot::add(Context& context, Tensor grad) {
  HONE_CHECK(grad.shape() == shape_, "[ops.autograd] a gradient {} for a value {}", grad.shape().str(),
             shape_.str());
  // A sum of several is gathered in f32; and what consumes this gradient expects f32 or the value's dtype.
  const bool fits = grad.dtype() == DType::kF32 || (grad.dtype() == dtype_ && uses_ <= 1);
  if (!is_leaf_ && !written_ && fits && grad.is_contiguous()) {
    grad_ = std::move(grad);
    grad_.set_grad_slot(nullptr);
    written_ = true;
    return;
  }
  const GradTarget to = GradTarget::of(context, *this);
  add_into(context, grad, to.grad, to.accumulate);
}

struct DeferredGradients::Work {
  std::vector<std::shared_ptr<GradSlot>> slots;  // null: not wanted
  Tape::Uses uses;                               // keep the hooks of the slots waiting
  Backward::MakeOperands operands;
  Backward::MakeGradients make;

  void run(Context& context) const {
    std::vector<GradTarget> targets;
    for (const auto& slot : slots) targets.push_back(slot ? GradTarget::of(context, *slot) : GradTarget());
    make(context, operands(context), targets);
  }
  /// Into `side`, of `context`.
  void run_beside(Context& context, SideStream& side) && {
    std::vector<GradTarget> targets;
    std::vector<Tensor> written;
    for (const auto& slot : slots) {
      targets.push_back(slot ? GradTarget::beside(context, *slot) : GradTarget());
      written.push_back(targets.back().grad);
    }
    const std::vector<Tensor> read = operands(context);
    side.put(read, std::move(written),
             [make = std::move(make), read, targets = std::move(targets)](Context& there) {
               make(there, read, targets);
             });
  }
};

DeferredGradients::DeferredGradients() = default;
DeferredGradients::~DeferredGradients() = default;

std::size_t DeferredGradients::size() const {
  return work_.size();
}

void DeferredGradients::run(Context& context, std::size_t count) {
  const TapeScope no_recording(context, nullptr);
  for (; count > 0 && !work_.empty(); --count) {
    Work work = std::move(work_.front());
    work_.pop_front();
    work.run(context);
    work.operands = nullptr;
    work.make = nullptr;  // what it kept is free before a hook asks for memory
    work.uses.pass();
  }
}

Backward::Backward(Context& context, DeferredGradients* deferred,
                   const std::vector<std::shared_ptr<GradSlot>>& inputs,
                   const std::vector<std::shared_ptr<GradSlot>>& outputs)
    : context_(context), deferred_(deferred), inputs_(inputs) {
  for (const auto& slot : outputs) {
    grads_.push_back(slot ? slot->grad() : Tensor());
    if (slot) slot->reset();  // nothing will add to it any more: handing it on with give() then moves it
  }
}

const Tensor& Backward::grad(std::size_t output) const {
  return grads_.at(output);
}

Tensor Backward::take_grad(std::size_t output) {
  return std::exchange(grads_.at(output), Tensor());
}

bool Backward::wants(std::size_t input) const {
  return inputs_.at(input) != nullptr;
}

GradTarget Backward::target(std::size_t input) {
  HONE_CHECK(wants(input), "[ops.autograd] input {} wants no gradient", input);
  return GradTarget::of(context_, *inputs_[input]);
}

void Backward::later(const std::vector<std::size_t>& inputs, MakeOperands operands, MakeGradients make) {
  DeferredGradients::Work work{
      .slots = {}, .uses = {}, .operands = std::move(operands), .make = std::move(make)};
  bool are_leaves = true;
  bool any = false;
  for (const std::size_t input : inputs) {
    const auto& slot = inputs_.at(input);
    work.slots.push_back(slot);
    are_leaves = are_leaves && (slot == nullptr || slot->is_leaf());
    any = any || slot != nullptr;
  }
  if (!any) return;
  if (!are_leaves) return work.run(context_);
  if (deferred_ == nullptr) {
    SideStream* const side = context_.side_stream();
    return side != nullptr ? std::move(work).run_beside(context_, *side) : work.run(context_);
  }
  for (const auto& slot : work.slots)
    if (slot) work.uses.add(slot);
  deferred_->work_.push_back(std::move(work));
}

void Backward::give(std::size_t input, Tensor grad) {
  if (wants(input)) inputs_[input]->add(context_, std::move(grad));
}

void Tape::Uses::add(std::shared_ptr<GradSlot> slot) {
  ++slot->uses_;
  slots_.push_back(std::move(slot));
}

void Tape::Uses::take_back() {
  for (const auto& slot : slots_)
    if (slot) --slot->uses_;
  slots_.clear();
}

void Tape::Uses::pass() {
  for (auto& entry : slots_) {
    const auto slot = std::exchange(entry, nullptr);  // passed, even if the hook throws
    if (--slot->uses_ == 0 && slot->is_leaf_ && slot->written_ && slot->hook_) slot->hook_();
  }
}

void Tape::backward(Context& context, const Tensor& loss, DeferredGradients* deferred, SideStream* beside) {
  HONE_CHECK(loss.numel() == 1 && loss.dtype() == DType::kF32,
             "[ops.autograd] backward from {} {}; give its gradient", name_of(loss.dtype()),
             loss.shape().str());
  HONE_CHECK(loss.grad_slot() != nullptr, "[ops.autograd] the loss depends on nothing that wants a gradient");
  std::vector<std::pair<Tensor, Tensor>> seeds;
  seeds.emplace_back(loss, context.one().reshape(loss.shape()));
  backward(context, std::move(seeds), deferred, beside);
}

void Tape::backward(Context& context, std::vector<std::pair<Tensor, Tensor>> outputs_and_grads,
                    DeferredGradients* deferred, SideStream* beside) {
  if (beside == nullptr)  // or this is the inside of a recomputed block, whose gradients go where all do
    return differentiate(context, std::move(outputs_and_grads), deferred);
  const SideStreamScope scope(context, beside);
  differentiate(context, std::move(outputs_and_grads), deferred);
  beside->join();
}

void Tape::differentiate(Context& context, std::vector<std::pair<Tensor, Tensor>> outputs_and_grads,
                         DeferredGradients* deferred) {
  HONE_CHECK(keeps_, "[ops.autograd] backward over a tape that only counts");
  {
    Uses seeds;  // a seed is one contribution among those of the later uses
    for (const auto& [output, grad] : outputs_and_grads)
      if (grad.defined() && slot_of(&output)) seeds.add(output.grad_slot());
    for (auto& [output, grad] : outputs_and_grads)
      if (grad.defined() && slot_of(&output)) output.grad_slot()->add(context, std::exchange(grad, Tensor()));
  }
  outputs_and_grads.clear();
  run(context, deferred);
}

void Tape::run(Context& context, DeferredGradients* deferred) {
  const TapeScope no_recording(context, nullptr);
  while (!nodes_.empty()) {
    Node node = std::move(nodes_.back());
    nodes_.pop_back();
    const bool reached = std::any_of(node.outputs.begin(), node.outputs.end(),
                                     [](const auto& slot) { return slot && slot->written_; });
    if (reached) {
      Backward backward_pass(context, deferred, node.inputs, node.outputs);
      node.grad_fn(backward_pass);
    }
    node.grad_fn = nullptr;  // what it kept is free before a hook asks for memory
    node.uses.pass();
    if (node.recomputed_uses) node.recomputed_uses->pass();  // of a block that was not reached
  }
}

bool needs_grad(const Context& context, std::initializer_list<const Tensor*> inputs) {
  if (context.tape() == nullptr) return false;
  return std::any_of(inputs.begin(), inputs.end(), [](const Tensor* t) { return slot_of(t) != nullptr; });
}

void record(Context& context, std::string_view op, std::vector<const Tensor*> inputs,
            std::vector<Tensor*> outputs, GradFn grad_fn) {
  Tape* tape = context.tape();
  HONE_CHECK(tape != nullptr, "[{}] recorded without a tape", op);
  Tape::Node node{.op = op,
                  .inputs = {},
                  .outputs = {},
                  .uses = {},
                  .recomputed_uses = {},
                  .grad_fn = std::move(grad_fn)};
  for (const Tensor* input : inputs) {
    const auto& slot = slot_of(input);
    node.inputs.push_back(slot);
    if (!slot) continue;
    if (slot->is_leaf()) ++tape->num_leaf_uses_;
    if (tape->keeps_)
      node.uses.add(slot);
    else if (slot->is_leaf())
      tape->leaf_uses_.add(slot);
  }
  for (Tensor* output : outputs) {
    if (output->defined())
      output->set_grad_slot(std::make_shared<GradSlot>(output->shape(), output->dtype()));
    node.outputs.push_back(slot_of(output));
  }
  if (tape->keeps_) tape->nodes_.push_back(std::move(node));
}

std::shared_ptr<GradSlot> require_grad(Tensor& tensor, DType grad_dtype) {
  HONE_CHECK(grad_dtype == DType::kF32 || grad_dtype == tensor.dtype(),
             "[ops.autograd] a gradient in {} for a value in {}; it is f32 or of the value's dtype",
             name_of(grad_dtype), name_of(tensor.dtype()));
  auto slot = GradSlot::leaf(tensor.shape(), grad_dtype);
  tensor.set_grad_slot(slot);
  return slot;
}

std::vector<Tensor> checkpoint(
    Context& context, const std::vector<Tensor>& inputs,
    std::function<std::vector<Tensor>(Context&, const std::vector<Tensor>&)> forward) {
  // Inside the first pass of another recomputed block, this one's leaves are counted with that block's.
  if (context.tape() == nullptr || !context.tape()->keeps()) return forward(context, inputs);
  std::vector<Tensor> outputs;
  Tape counting;
  counting.keeps_ = false;
  {
    const TapeScope scope(context, &counting);
    outputs = forward(context, cut(inputs));
  }
  context.tape()->num_leaf_uses_ += counting.num_leaf_uses_;
  std::vector<Tensor*> differentiable;
  std::vector<std::size_t> indices;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const bool depends = slot_of(&outputs[i]) != nullptr;
    outputs[i] = outputs[i].detach();
    if (!depends) continue;
    differentiable.push_back(&outputs[i]);
    indices.push_back(i);
  }
  if (differentiable.empty()) return outputs;

  std::vector<const Tensor*> input_list;
  for (const Tensor& t : inputs) input_list.push_back(&t);
  // The uses counted now keep a tied weight's hook waiting; the second pass counts them again.
  auto counted = std::make_shared<Tape::Uses>(std::move(counting.leaf_uses_));
  const auto grad_fn = [kept = cut(inputs), indices, counted, leaf_uses = counting.num_leaf_uses_,
                        forward = std::move(forward)](Backward& b) {
    counted->take_back();
    Tape inner;
    std::vector<std::pair<Tensor, Tensor>> seeds;
    {
      const TapeScope scope(b.context(), &inner);
      std::vector<Tensor> again = forward(b.context(), kept);
      for (std::size_t j = 0; j < indices.size(); ++j)
        seeds.emplace_back(std::move(again.at(indices[j])), b.take_grad(j));
    }
    HONE_CHECK(leaf_uses == inner.num_leaf_uses_,
               "[ops.checkpoint] a block used parameters {} times, and {} times when run again", leaf_uses,
               inner.num_leaf_uses_);
    inner.backward(b.context(), std::move(seeds), b.deferred_);
    for (std::size_t i = 0; i < kept.size(); ++i)
      if (slot_of(&kept[i]) && kept[i].grad_slot()->grad().defined()) b.give(i, kept[i].grad_slot()->grad());
  };
  record(context, "ops.checkpoint", input_list, differentiable, grad_fn);
  context.tape()->nodes_.back().recomputed_uses = counted;
  return outputs;
}

}  // namespace hone::ops
