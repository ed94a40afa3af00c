// Tensor: a shape, a dtype and maybe a row stride over a Buffer. Knows what its bytes mean, not who computes
// with them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/dtype.h"
#include "base/error.h"
#include "base/shape.h"
#include "device/stream.h"

namespace hone {

namespace ops {
class GradSlot;  // ops/autograd.h; a Tensor only carries it along
}

/// A cheap handle: copies share the bytes. Dense and row-major, except that a matrix (rank 2) may have a row
/// stride above its number of columns, which is enough to split a fused projection without a copy. A
/// default-constructed Tensor is undefined.
class Tensor {
 public:
  Tensor() = default;
  /// Uninitialised.
  static Tensor empty(device::Allocator& allocator, Shape shape, DType dtype,
                      device::Purpose purpose = device::Purpose::kActivations);
  static Tensor zeros(device::Stream& stream, Shape shape, DType dtype,
                      device::Purpose purpose = device::Purpose::kActivations);
  /// A copy of host values, which are the caller's again on return; T is float, std::int32_t, std::int64_t or
  /// BFloat16.
  template <typename T>
  static Tensor from(device::Stream& stream, std::span<const T> values, Shape shape,
                     device::Purpose purpose = device::Purpose::kActivations);
  /// A view of memory owned by `buffer`, offset_bytes into it. Throws where it does not fit.
  static Tensor view_buffer(std::shared_ptr<device::Buffer> buffer, std::size_t offset_bytes, Shape shape,
                            DType dtype);

  bool defined() const { return buffer_ != nullptr; }
  const Shape& shape() const { return shape_; }
  std::int64_t size(int dim) const { return shape_[dim]; }
  int rank() const { return shape_.rank(); }
  std::int64_t numel() const { return shape_.numel(); }
  DType dtype() const { return dtype_; }
  device::Device device() const { return buffer_->device(); }
  std::size_t size_bytes() const { return static_cast<std::size_t>(numel()) * size_of(dtype_); }

  /// Elements from one row to the next (rank 2), or the last dimension's size.
  std::int64_t row_stride() const { return row_stride_; }
  bool is_contiguous() const;
  /// True where no other Tensor shares this one's buffer.
  bool owns_buffer_alone() const { return buffer_.use_count() == 1; }
  /// Whether both are defined and lie in one buffer, on the meta device, too.
  bool shares_buffer_with(const Tensor& other) const {
    return buffer_ != nullptr && buffer_ == other.buffer_;
  }

  /// Address of the first element, for kernels and the verbs of device::Stream; null on the meta device. The
  /// host reads and writes elements by tensor/transfer.h.
  void* data() const;
  /// data() as T*, which must be this tensor's element type (float for f32, BFloat16, std::int32_t for i32,
  /// …).
  template <typename T>
  T* as() const;
  /// All elements of a contiguous tensor, for kernels and for tests on the CPU.
  template <typename T>
  std::span<T> span() const {
    return {as<T>(), static_cast<std::size_t>(numel())};
  }

  /// Views: the same bytes. Gradients do not pass through them: a tensor that has a slot is refused
  /// (Error(kInternal)), to be detach()ed or cut by ops/slices.h. reshape needs a contiguous tensor of as
  /// many elements.
  Tensor reshape(Shape shape) const;
  /// Elements [begin, end) of the first dimension.
  Tensor rows(std::int64_t begin, std::int64_t end) const;
  /// Columns [begin, end) of a matrix.
  Tensor columns(std::int64_t begin, std::int64_t end) const;
  /// This tensor without its gradient slot.
  Tensor detach() const;
  /// The bytes of a contiguous tensor as a buffer, which holds this one's.
  std::shared_ptr<device::Buffer> as_buffer() const;

  /// The place where this value's gradient gathers; null where none is wanted.
  const std::shared_ptr<ops::GradSlot>& grad_slot() const { return grad_slot_; }
  void set_grad_slot(std::shared_ptr<ops::GradSlot> slot) { grad_slot_ = std::move(slot); }

 private:
  void check_type(DType wanted) const;
  void check_view(std::string_view view) const;
  std::shared_ptr<device::Buffer> buffer_;
  std::size_t offset_bytes_ = 0;
  Shape shape_;
  DType dtype_ = DType::kF32;
  std::int64_t row_stride_ = 0;
  std::shared_ptr<ops::GradSlot> grad_slot_;
};

/// The DType whose elements are C++ type T.
template <typename T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::kF32;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::kF64;
}
template <>
constexpr DType dtype_of<BFloat16>() {
  return DType::kBF16;
}
template <>
constexpr DType dtype_of<std::int32_t>() {
  return DType::kI32;
}
template <>
constexpr DType dtype_of<std::int64_t>() {
  return DType::kI64;
}
template <>
constexpr DType dtype_of<std::uint8_t>() {
  return DType::kU8;
}

template <typename T>
T* Tensor::as() const {
  check_type(dtype_of<T>());
  return static_cast<T*>(data());
}

template <typename T>
Tensor Tensor::from(device::Stream& stream, std::span<const T> values, Shape shape, device::Purpose purpose) {
  Tensor t = empty(stream.allocator(), std::move(shape), dtype_of<T>(), purpose);
  HONE_CHECK(static_cast<std::int64_t>(values.size()) == t.numel(), "{} values for a tensor {}",
             values.size(), t.shape().str());
  stream.upload(std::as_bytes(values), t.data());
  return t;
}

}  // namespace hone
