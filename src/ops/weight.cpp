#include "ops/weight.h"

namespace hone::ops {

Weight Weight::detach() const {
  Weight weight = *this;
  weight.slot_ = nullptr;
  weight.value_ = value_.defined() ? value_.detach() : Tensor();
  return weight;
}

Weight Weight::in_fp8() const {
  Weight weight = *this;
  weight.in_fp8_ = true;
  return weight;
}

HeldWeight::HeldWeight(Context& context, const Weight& weight)
    : context_(context), residency_(weight.residency_), value_(weight.value_) {
  if (residency_ == nullptr) return;
  value_ = residency_->acquire(context).detach();
  value_.set_grad_slot(weight.slot_);
}

HeldWeight::~HeldWeight() {
  if (residency_ == nullptr) return;
  value_ = Tensor();
  residency_->release(context_);
}

}  // namespace hone::ops
