#include "ops/context.h"

#include <utility>

namespace hone::ops {

Context::Context(device::Device device, int num_threads)
    : Context(device::make_stream(device, num_threads)) {}

Context::Context(std::unique_ptr<device::Stream> stream)
    : stream_(std::move(stream)), kernels_(&kernels::kernels_for(stream_->device())) {}

const Tensor& Context::one() {
  if (!one_.defined()) one_ = upload<float>({1}, device::Purpose::kWorkspace);
  return one_;
}

}  // namespace hone::ops
