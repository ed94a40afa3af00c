// Context: everything an operation needs besides its arguments, passed down explicitly. There are no process
// globals, so several models, and several ranks as threads, can live side by side.
#pragma once

#include <cstdint>
#include <memory>

#include "device/stream.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

namespace hone::ops {

class Tape;

class Context {
 public:
  /// num_threads 0: one per available core. Throws Error(kUser) where the device cannot be used.
  explicit Context(device::Device device = {}, int num_threads = 0);

  device::Device device() const { return device_; }
  device::Allocator& allocator() const { return *allocator_; }
  device::MemoryLedger& ledger() const { return allocator_->ledger(); }
  device::Stream& stream() { return stream_; }
  const kernels::KernelTable& kernels() const { return *kernels_; }
  /// Replaces the kernel table (tests force an instruction set; profilers wrap the slots).
  void set_kernels(const kernels::KernelTable& table) { kernels_ = &table; }

  /// The tape that operations record on; null: no gradients are wanted.
  Tape* tape() const { return tape_; }
  void set_tape(Tape* tape) { tape_ = tape; }

  Tensor empty(Shape shape, DType dtype, device::Purpose purpose = device::Purpose::kActivations) const {
    return Tensor::empty(*allocator_, std::move(shape), dtype, purpose);
  }

 private:
  device::Device device_;
  std::shared_ptr<device::Allocator> allocator_;
  device::Stream stream_;
  const kernels::KernelTable* kernels_;
  Tape* tape_ = nullptr;
};

/// Records on `tape` (or on none, for nullptr) while it lives, then restores what was there.
class TapeScope {
 public:
  TapeScope(Context& context, Tape* tape) : context_(context), before_(context.tape()) {
    context.set_tape(tape);
  }
  ~TapeScope() { context_.set_tape(before_); }
  TapeScope(const TapeScope&) = delete;
  TapeScope& operator=(const TapeScope&) = delete;

 private:
  Context& context_;
  Tape* before_;
};

}  // namespace hone::ops
