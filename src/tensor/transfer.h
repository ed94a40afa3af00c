// Tensors and host memory: the verbs of device::Stream over whole tensors. Whoever holds a Tensor reads and
// writes its elements through these and through kernels, by nothing else.
#pragma once

#include <memory>
#include <span>

#include "device/stream.h"
#include "tensor/tensor.h"

namespace hone {

// Tensors are contiguous and of the stream's device.

/// to = values. `values` is the caller's again on return.
void upload_bytes(device::Stream& stream, std::span<const std::byte> values, const Tensor& to);
/// Copies the elements of one tensor over another of equal shape and dtype that shares no memory with it.
void copy_bytes(device::Stream& stream, const Tensor& from, const Tensor& to);
/// Sets all elements to 0.
void fill_with_zeros(device::Stream& stream, const Tensor& tensor);

// Tensors whose bytes lie in memory of the host beside a device of its own (Stream::pinned_memory), in the
// order of a stream: until an event recorded afterwards is done, what is brought is not written, and what is
// brought back not read.

/// to = from, which is of the host.
void bring(device::Stream& stream, const Tensor& from, const Tensor& to);
/// to = from; `to` is of the host.
void bring_back(device::Stream& stream, const Tensor& from, const Tensor& to);

/// Bytes of a tensor on their way to the host. The tensor may be written and let go of meanwhile.
class HostCopy {
 public:
  HostCopy() = default;
  HostCopy(device::Stream& stream, const Tensor& from);
  /// Waits for them; all 0 on the meta device. Valid as long as this, or a copy of this, lives.
  std::span<const std::byte> bytes() const;
  /// The same as elements of the tensor's type T.
  template <typename T>
  std::span<const T> values() const {
    check_type(dtype_of<T>());
    return {reinterpret_cast<const T*>(bytes().data()), bytes().size() / sizeof(T)};
  }

 private:
  void check_type(DType wanted) const;
  std::shared_ptr<device::Buffer> memory_;
  std::shared_ptr<const device::Event> arrived_;
  DType dtype_ = DType::kF32;
};

/// The bytes of a tensor for the host to read now: in place where the device's memory, or the tensor's, is
/// the host's, else a copy that it waits for. The tensor must not be written meanwhile. Empty on the meta
/// device.
class HostView {
 public:
  HostView(device::Stream& stream, const Tensor& tensor);
  std::span<const std::byte> bytes() const { return bytes_; }
  const std::byte* data() const { return bytes_.data(); }

 private:
  Tensor tensor_;
  HostCopy copy_;
  std::span<const std::byte> bytes_;
};

/// Host memory for all bytes of a tensor, to be written whole and then sent: the tensor's own where that, or
/// the device's, is the host's. Empty on the meta device.
class Staging {
 public:
  Staging(device::Stream& stream, const Tensor& target);
  std::span<std::byte> bytes() const { return bytes_; }
  std::byte* data() const { return bytes_.data(); }
  /// Once, after the last byte was written and before the tensor is used.
  void send();

 private:
  device::Stream* stream_;
  Tensor target_;
  std::shared_ptr<device::Buffer> memory_;  // null where nothing lies between
  std::span<std::byte> bytes_;
};

}  // namespace hone
