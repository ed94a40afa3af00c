// Context: everything an operation needs besides its arguments, passed down explicitly. There are no process
// globals, so several models, and several ranks as threads, can live side by side.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "device/stream.h"
#include "kernels/kernels.h"
#include "kernels/profile.h"
#include "tensor/tensor.h"

namespace hone::ops {

class SideStream;
class Tape;

class Context {
 public:
  /// num_threads 0: one per available core. Throws Error(kUser) where the device cannot be used.
  explicit Context(device::Device device = device::default_device(), int num_threads = 0);
  /// With the kernels of the stream's device.
  explicit Context(std::unique_ptr<device::Stream> stream);

  device::Device device() const { return stream_->device(); }
  device::Allocator& allocator() const { return stream_->allocator(); }
  device::MemoryLedger& ledger() const { return allocator().ledger(); }
  device::Stream& stream() const { return *stream_; }
  const kernels::KernelTable& kernels() const { return *kernels_; }
  /// Replaces the kernel table (tests force an instruction set).
  void set_kernels(const kernels::KernelTable& table) { kernels_ = &table; }

  /// What times every kernel from now on; null: nothing does.
  void set_profile(kernels::Profile* profile) { profile_ = profile; }
  kernels::Profile* profile() const { return profile_; }

  /// The tape that operations record on; null: no gradients are wanted.
  Tape* tape() const { return tape_; }
  void set_tape(Tape* tape) { tape_ = tape; }

  /// Where backward puts gradients of weights, beside what it does in stream() (SideStreamScope); null: there
  /// is none, and they are made in their turn.
  SideStream* side_stream() const { return side_stream_; }
  void set_side_stream(SideStream* side) { side_stream_ = side; }

  Tensor empty(Shape shape, DType dtype, device::Purpose purpose = device::Purpose::kActivations) const {
    return Tensor::empty(allocator(), std::move(shape), dtype, purpose);
  }
  Tensor zeros(Shape shape, DType dtype, device::Purpose purpose = device::Purpose::kActivations) const {
    return Tensor::zeros(*stream_, std::move(shape), dtype, purpose);
  }
  /// What a loss is differentiated from: (1) f32, 1. Made once; nobody writes it.
  const Tensor& one();
  /// A copy of host values, which are the caller's again on return.
  template <typename T>
  Tensor upload(const std::vector<T>& values, Shape shape,
                device::Purpose purpose = device::Purpose::kData) const {
    return Tensor::from<T>(*stream_, values, std::move(shape), purpose);
  }
  /// The same as a vector.
  template <typename T>
  Tensor upload(const std::vector<T>& values, device::Purpose purpose = device::Purpose::kData) const {
    return upload(values, Shape{static_cast<std::int64_t>(values.size())}, purpose);
  }

 private:
  std::unique_ptr<device::Stream> stream_;
  const kernels::KernelTable* kernels_;
  kernels::Profile* profile_ = nullptr;
  Tensor one_;
  Tape* tape_ = nullptr;
  SideStream* side_stream_ = nullptr;
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
