#include "ops/autograd.h"

#include <utility>

#include "ops/matrix.h"

namespace hone::ops {

namespace {

void add_into(Context& context, const Tensor& from, const Tensor& to, bool accumulate) {
  const kernels::Matrix x = as_matrix(from);
  const kernels::Matrix y = as_matrix(to);
  HONE_CHECK(x.rows == y.rows && x.cols == y.cols, "[ops.autograd] a gradient {} for a value {}",
             from.shape().str(), to.shape().str());
  context.kernels().copy({.x = x, .y = y, .accumulate = accumulate}, context.stream());
}

std::shared_ptr<GradSlot> slot_of(const Tensor* tensor) {
  return tensor->defined() ? tensor->grad_slot() : nullptr;
}

}  // namespace

std::shared_ptr<GradSlot> GradSlot::leaf(Shape shape, DType grad_dtype) {
  auto slot = std::make_shared<GradSlot>(std::move(shape), grad_dtype);
  slot->is_leaf_ = true;
  return slot;
}

void GradSlot::reset() {
  written_ = false;
  uses_ = 0;
  if (!is_leaf_) grad_ = Tensor();
}

GradTarget GradTarget::of(Context& context, GradSlot& slot) {
  if (slot.is_leaf_) {
    if (!slot.grad_.defined())
      slot.grad_ = context.empty(slot.shape_, slot.dtype_, device::Purpose::kGradients);
    return {slot.grad_, std::exchange(slot.written_, true)};
  }
  if (!slot.written_) {
    slot.grad_ = context.empty(slot.shape_, slot.uses_ > 1 ? DType::kF32 : slot.dtype_);
    slot.written_ = true;
    return {slot.grad_, false};
  }
  if (!slot.grad_.owns_buffer_alone()) {  // handed over by give() and still somebody else's too
    const Tensor own = context.empty(slot.shape_, slot.grad_.dtype());
    add_into(context, slot.grad_, own, false);
    slot.grad_ = own;
  }
  return {slot.grad_, true};
}

Backward::Backward(Context& context, const std::vector<std::shared_ptr<GradSlot>>& inputs,
                   const std::vector<std::shared_ptr<GradSlot>>& outputs)
    : context_(context), inputs_(inputs) {
  for (const auto& slot : outputs) {
    grads_.push_back(slot ? slot->grad() : Tensor());
    if (slot) slot->reset();  // nothing will add to it any more: handing it on with give() then moves it
  }
}

const Tensor& Backward::grad(std::size_t output) const {
  return grads_.at(output);
}

bool Backward::wants(std::size_t input) const {
  return inputs_.at(input) != nullptr;
}

GradTarget Backward::target(std::size_t input) {
  HONE_CHECK(wants(input), "[ops.autograd] input {} wants no gradient", input);
  return GradTarget::of(context_, *inputs_[input]);
}

void Backward::give(std::size_t input, const Tensor& grad) {
  if (!wants(input)) return;
  GradSlot& slot = *inputs_[input];
  if (!slot.is_leaf_ && !slot.written_ && grad.is_contiguous()) {
    slot.grad_ = grad.shape() == slot.shape_ ? grad.detach() : grad.reshape(slot.shape_);
    slot.written_ = true;
    return;
  }
  const GradTarget to = GradTarget::of(context_, slot);
  add_into(context_, grad, to.grad, to.accumulate);
}

void Tape::backward(Context& context, const Tensor& loss) {
  HONE_CHECK(loss.numel() == 1 && loss.dtype() == DType::kF32,
             "[ops.autograd] backward from {} {}; give its gradient", name_of(loss.dtype()),
             loss.shape().str());
  const Tensor one = context.empty(loss.shape(), DType::kF32);
  if (one.data() != nullptr) *one.as<float>() = 1.0F;
  backward(context, {{loss, one}});
}

void Tape::backward(Context& context, const std::vector<std::pair<Tensor, Tensor>>& outputs_and_grads) {
  for (const auto& [output, grad] : outputs_and_grads) {
    if (!grad.defined() || !output.grad_slot()) continue;
    GradSlot& slot = *output.grad_slot();
    if (!slot.written_) {
      slot.grad_ = grad.detach();
      slot.written_ = true;
    } else {
      const GradTarget to = GradTarget::of(context, slot);
      add_into(context, grad, to.grad, to.accumulate);
    }
  }
  run(context);
}

void Tape::run(Context& context) {
  const TapeScope no_recording(context, nullptr);
  while (!nodes_.empty()) {
    Node node = std::move(nodes_.back());
    nodes_.pop_back();
    bool reached = false;
    for (const auto& slot : node.outputs) reached = reached || (slot && slot->written_);
    if (reached) {
      Backward backward_pass(context, node.inputs, node.outputs);
      node.grad_fn(backward_pass);
    }
    for (const auto& slot : node.inputs) {
      if (!slot) continue;
      if (--slot->uses_ == 0 && slot->is_leaf_ && slot->written_ && slot->hook_) slot->hook_();
    }
  }
}

bool needs_grad(const Context& context, std::initializer_list<const Tensor*> inputs) {
  if (context.tape() == nullptr) return false;
  for (const Tensor* t : inputs)
    if (slot_of(t)) return true;
  return false;
}

void record(Context& context, std::string_view op, std::vector<const Tensor*> inputs,
            std::vector<Tensor*> outputs, GradFn grad_fn) {
  Tape* tape = context.tape();
  HONE_CHECK(tape != nullptr, "[ops.{}] recorded without a tape", op);
  Tape::Node node{.op = op, .inputs = {}, .outputs = {}, .grad_fn = std::move(grad_fn)};
  for (const Tensor* input : inputs) node.inputs.push_back(slot_of(input));
  for (Tensor* output : outputs) {
    if (!output->defined()) {
      node.outputs.push_back(nullptr);
      continue;
    }
    output->set_grad_slot(std::make_shared<GradSlot>(output->shape(), output->dtype()));
    node.outputs.push_back(output->grad_slot());
  }
  for (const auto& slot : node.inputs)
    if (slot && !(slot->is_leaf_ && tape->mode_ == Tape::Mode::kReplay)) ++slot->uses_;
  if (tape->mode_ != Tape::Mode::kCountUses) tape->nodes_.push_back(std::move(node));
}

std::shared_ptr<GradSlot> require_grad(Tensor& tensor, DType grad_dtype) {
  auto slot = GradSlot::leaf(tensor.shape(), grad_dtype);
  tensor.set_grad_slot(slot);
  return slot;
}

std::vector<Tensor> checkpoint(Context& context, const std::vector<Tensor>& inputs,
                               std::function<std::vector<Tensor>(const std::vector<Tensor>&)> forward) {
  if (context.tape() == nullptr) return forward(inputs);
  const auto fresh_inputs = [&inputs] {
    std::vector<Tensor> copies;
    for (const Tensor& t : inputs) {
      Tensor copy = t.detach();
      if (t.grad_slot()) copy.set_grad_slot(std::make_shared<GradSlot>(t.shape(), t.dtype()));
      copies.push_back(std::move(copy));
    }
    return copies;
  };
  std::vector<Tensor> outputs;
  {
    Tape counting(Tape::Mode::kCountUses);
    const TapeScope scope(context, &counting);
    outputs = forward(fresh_inputs());
  }
  for (Tensor& t : outputs) t = t.detach();

  std::vector<const Tensor*> input_list;
  for (const Tensor& t : inputs) input_list.push_back(&t);
  std::vector<Tensor*> output_list;
  for (Tensor& t : outputs) output_list.push_back(&t);
  const auto kept = fresh_inputs();
  record(context, "checkpoint", input_list, output_list, [kept, forward = std::move(forward)](Backward& b) {
    Tape inner(Tape::Mode::kReplay);
    std::vector<Tensor> again;
    {
      const TapeScope scope(b.context(), &inner);
      again = forward(kept);
    }
    std::vector<std::pair<Tensor, Tensor>> seeds;
    for (std::size_t i = 0; i < again.size(); ++i) seeds.emplace_back(again[i], b.grad(i));
    again.clear();
    inner.backward(b.context(), seeds);
    for (std::size_t i = 0; i < kept.size(); ++i)
      if (kept[i].grad_slot() && kept[i].grad_slot()->grad().defined())
        b.give(i, kept[i].grad_slot()->grad());
  });
  return outputs;
}

}  // namespace hone::ops
