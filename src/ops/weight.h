// A parameter as operations take it: a value that is there, or one that is acquired on use. A gradient
// function captures the handle, not the value, and acquires it again in backward.
#pragma once

#include <memory>
#include <utility>

#include "ops/context.h"
#include "tensor/tensor.h"

namespace hone::ops {

class GradSlot;

/// Where the value of one parameter comes from while an operation needs it.
class Residency {
 public:
  virtual ~Residency() = default;
  /// The value, of the same shape and dtype every time, on the context's device; it is there until as many
  /// release()s have been made as acquire()s. Uses nest. The work that used it may still be under way on the
  /// context's stream when it is released.
  virtual Tensor acquire(Context& context) = 0;
  virtual void release(Context& context) = 0;
};

/// A handle to a parameter's value. Copies share it; a default-constructed one is undefined (no bias).
class Weight {
 public:
  Weight() = default;
  /// A value that is there, with its gradient slot.
  Weight(const Tensor& value) : value_(value), slot_(value.grad_slot()) {}  // NOLINT: implicit on purpose
  /// One that is acquired on use. slot: of its gradient; null: none is wanted.
  explicit Weight(std::shared_ptr<Residency> residency, std::shared_ptr<GradSlot> slot = nullptr)
      : residency_(std::move(residency)), slot_(std::move(slot)) {}

  bool defined() const { return residency_ != nullptr || value_.defined(); }
  const std::shared_ptr<GradSlot>& grad_slot() const { return slot_; }
  /// This weight without its gradient slot.
  Weight detach() const;
  /// This weight as one products by which are of operands in FP8 (kernels::MatmulArgs::fp8). Its value stays
  /// what it is.
  Weight in_fp8() const;
  bool is_in_fp8() const { return in_fp8_; }

 private:
  friend class HeldWeight;
  Tensor value_;                          // undefined where there is a residency
  std::shared_ptr<Residency> residency_;  // null: value_ is there
  std::shared_ptr<GradSlot> slot_;
  bool in_fp8_ = false;
};

/// The value of a weight, acquired for as long as this lives.
class HeldWeight {
 public:
  HeldWeight(Context& context, const Weight& weight);
  ~HeldWeight();
  HeldWeight(const HeldWeight&) = delete;
  HeldWeight& operator=(const HeldWeight&) = delete;
  /// With the weight's gradient slot; undefined where the weight is.
  const Tensor& value() const { return value_; }

 private:
  Context& context_;
  std::shared_ptr<Residency> residency_;
  Tensor value_;
};

}  // namespace hone::ops
