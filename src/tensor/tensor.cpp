#include "tensor/tensor.h"

namespace hone {

Tensor Tensor::view_buffer(std::shared_ptr<device::Buffer> buffer, std::size_t offset_bytes, Shape shape,
                           DType dtype) {
  Tensor t;
  t.buffer_ = std::move(buffer);
  t.offset_bytes_ = offset_bytes;
  t.shape_ = std::move(shape);
  t.dtype_ = dtype;
  t.row_stride_ = t.rank() > 0 ? t.size(-1) : 1;
  HONE_CHECK(offset_bytes + t.size_bytes() <= t.buffer_->size_bytes(),
             "a tensor {} {} at byte {} of a buffer of {} bytes", name_of(dtype), t.shape_.str(),
             offset_bytes, t.buffer_->size_bytes());
  return t;
}

Tensor Tensor::empty(device::Allocator& allocator, Shape shape, DType dtype, device::Purpose purpose) {
  const auto bytes = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
  return view_buffer(allocator.allocate(bytes, purpose), 0, std::move(shape), dtype);
}

Tensor Tensor::zeros(device::Stream& stream, Shape shape, DType dtype, device::Purpose purpose) {
  Tensor t = empty(stream.allocator(), std::move(shape), dtype, purpose);
  stream.fill(t.data(), 0, t.size_bytes());
  return t;
}

bool Tensor::is_contiguous() const {
  return rank() != 2 || row_stride_ == size(1) || size(0) <= 1;
}

void* Tensor::data() const {
  auto* base = static_cast<std::byte*>(buffer_->data());
  return base == nullptr ? nullptr : base + offset_bytes_;
}

void Tensor::check_type(DType wanted) const {
  HONE_CHECK(dtype_ == wanted, "a tensor {} {} used as {}", name_of(dtype_), shape_.str(), name_of(wanted));
}

void Tensor::check_view(std::string_view view) const {
  HONE_CHECK(grad_slot_ == nullptr,
             "{} of a tensor {} that wants a gradient would lose it; detach() it, or cut it by ops/slices.h",
             view, shape_.str());
}

Tensor Tensor::reshape(Shape shape) const {
  check_view("reshape");
  HONE_CHECK(is_contiguous() && shape.numel() == numel(), "reshape {} to {}", shape_.str(), shape.str());
  return view_buffer(buffer_, offset_bytes_, std::move(shape), dtype_);
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  check_view("rows");
  HONE_CHECK(rank() >= 1 && begin >= 0 && begin <= end && end <= size(0), "rows {}..{} of {}", begin, end,
             shape_.str());
  Tensor t = *this;
  std::vector<std::int64_t> dims = shape_.dims();
  std::int64_t stride = rank() == 2 ? row_stride_ : 1;
  for (int i = 1; rank() != 2 && i < rank(); ++i) stride *= size(i);
  dims[0] = end - begin;
  t.shape_ = Shape(std::move(dims));
  t.offset_bytes_ += static_cast<std::size_t>(begin * stride) * size_of(dtype_);
  return t;
}

Tensor Tensor::columns(std::int64_t begin, std::int64_t end) const {
  check_view("columns");
  HONE_CHECK(rank() == 2 && begin >= 0 && begin <= end && end <= size(1), "columns {}..{} of {}", begin, end,
             shape_.str());
  Tensor t = *this;
  t.shape_ = Shape{size(0), end - begin};
  t.offset_bytes_ += static_cast<std::size_t>(begin) * size_of(dtype_);
  return t;
}

Tensor Tensor::detach() const {
  Tensor t = *this;
  t.grad_slot_ = nullptr;
  return t;
}

std::shared_ptr<device::Buffer> Tensor::as_buffer() const {
  HONE_CHECK(is_contiguous(), "a tensor {} with rows {} elements apart as a buffer", shape_.str(),
             row_stride_);
  return device::Buffer::wrap(device(), data(), size_bytes(), buffer_);
}

}  // namespace hone
