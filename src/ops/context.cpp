#include "ops/context.h"

namespace hone::ops {

Context::Context(device::Device device, int num_threads)
    : device_(device),
      allocator_(device::make_allocator(device)),
      stream_(allocator_, num_threads),
      kernels_(&kernels::kernels_for(device)) {}

}  // namespace hone::ops
