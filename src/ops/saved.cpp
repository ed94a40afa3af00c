#include "ops/saved.h"

namespace hone::ops {

void can_remake(const Tensor& y, Remake remake) {
  HONE_CHECK(y.grad_slot() != nullptr && !y.grad_slot()->is_leaf(),
             "[ops.can_remake] the value is no operation's recorded output");
  y.grad_slot()->remake_ = std::move(remake);
}

Saved::Saved(const Tensor& value) {
  if (!value.defined()) return;
  GradSlot* slot = value.grad_slot().get();
  if (slot == nullptr || !slot->remake_) {
    kept_ = std::make_shared<Kept>(Kept{value.detach(), nullptr});
    return;
  }
  kept_ = std::static_pointer_cast<Kept>(slot->saved_.lock());
  if (kept_) return;
  kept_ = std::make_shared<Kept>(Kept{{}, slot->remake_});
  slot->saved_ = kept_;
}

Tensor Saved::get(Context& context) const {
  if (!kept_) return {};
  if (!kept_->value.defined()) kept_->value = kept_->remake(context);
  return kept_->value;
}

}  // namespace hone::ops
