#include "tensor/transfer.h"

namespace hone {

namespace {

/// Beside a device that has memory of its own.
bool is_of_host(const device::Stream& stream, const Tensor& tensor) {
  return tensor.defined() && tensor.device().type == device::DeviceType::kCpu &&
         stream.device().type == device::DeviceType::kCuda;
}

void check(const device::Stream& stream, const Tensor& tensor) {
  HONE_CHECK(tensor.defined() && tensor.is_contiguous() && tensor.device() == stream.device(),
             "the bytes of a tensor {} that is not contiguous, or not on {}",
             tensor.defined() ? tensor.shape().str() : "without shape", device::name_of(stream.device()));
}

}  // namespace

void upload_bytes(device::Stream& stream, std::span<const std::byte> values, const Tensor& to) {
  check(stream, to);
  HONE_CHECK(values.size() == to.size_bytes(), "{} bytes for a tensor {} {}", values.size(),
             name_of(to.dtype()), to.shape().str());
  stream.upload(values, to.data());
}

void copy_bytes(device::Stream& stream, const Tensor& from, const Tensor& to) {
  check(stream, from);
  check(stream, to);
  HONE_CHECK(from.shape() == to.shape() && from.dtype() == to.dtype(), "copy of {} {} to {} {}",
             name_of(from.dtype()), from.shape().str(), name_of(to.dtype()), to.shape().str());
  stream.copy(from.data(), to.data(), to.size_bytes());
}

void fill_with_zeros(device::Stream& stream, const Tensor& tensor) {
  check(stream, tensor);
  stream.fill(tensor.data(), 0, tensor.size_bytes());
}

void bring(device::Stream& stream, const Tensor& from, const Tensor& to) {
  check(stream, to);
  HONE_CHECK(from.shape() == to.shape() && from.dtype() == to.dtype(), "{} {} brought to {} {}",
             name_of(from.dtype()), from.shape().str(), name_of(to.dtype()), to.shape().str());
  stream.upload(from.as_buffer(), to.data());
}

void bring_back(device::Stream& stream, const Tensor& from, const Tensor& to) {
  check(stream, from);
  HONE_CHECK(from.shape() == to.shape() && from.dtype() == to.dtype(), "{} {} brought back to {} {}",
             name_of(from.dtype()), from.shape().str(), name_of(to.dtype()), to.shape().str());
  stream.download(from.data(), to.as_buffer());
}

HostCopy::HostCopy(device::Stream& stream, const Tensor& from) : dtype_(from.dtype()) {
  check(stream, from);
  memory_ = stream.host_memory(from.size_bytes());
  stream.download(from.data(), memory_);
  arrived_ = stream.record();
}

std::span<const std::byte> HostCopy::bytes() const {
  HONE_CHECK(memory_ != nullptr, "the bytes of no tensor");
  arrived_->wait();
  return {static_cast<const std::byte*>(memory_->data()), memory_->size_bytes()};
}

void HostCopy::check_type(DType wanted) const {
  HONE_CHECK(dtype_ == wanted, "values {} read as {}", name_of(dtype_), name_of(wanted));
}

HostView::HostView(device::Stream& stream, const Tensor& tensor) : tensor_(tensor) {
  const bool in_place = stream.shares_host_memory() || is_of_host(stream, tensor);
  if (!is_of_host(stream, tensor)) check(stream, tensor);
  if (stream.is_meta()) return;
  if (in_place) {
    stream.synchronize();
    bytes_ = {static_cast<const std::byte*>(tensor.data()), tensor.size_bytes()};
  } else {
    copy_ = HostCopy(stream, tensor);
    bytes_ = copy_.bytes();
  }
}

Staging::Staging(device::Stream& stream, const Tensor& target) : stream_(&stream), target_(target) {
  const bool in_place = stream.shares_host_memory() || is_of_host(stream, target);
  if (!is_of_host(stream, target)) check(stream, target);
  if (stream.is_meta()) return;
  if (in_place) {
    stream.synchronize();
    bytes_ = {static_cast<std::byte*>(target.data()), target.size_bytes()};
  } else {
    memory_ = stream.host_memory(target.size_bytes());
    bytes_ = {static_cast<std::byte*>(memory_->data()), target.size_bytes()};
  }
}

void Staging::send() {
  if (memory_ == nullptr) return;
  bytes_ = {};
  stream_->upload(std::move(memory_), target_.data());
}

}  // namespace hone
