#include "ops/context.h"

namespace hone::ops {

Context::Context(device::Device device, int num_threads)
    : stream_(device::make_stream(device, num_threads)), kernels_(&kernels::kernels_for(device)) {}

const Tensor& Context::one() {
  if (!one_.defined()) one_ = upload<float>({1}, device::Purpose::kWorkspace);
  return one_;
}

}  // namespace hone::ops
