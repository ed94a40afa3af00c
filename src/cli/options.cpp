#include "cli/options.h"

#include "device/threads.h"

namespace hone::cli {

ops::Context ComputeOptions::context() const {
  const int count = threads > 0 ? threads : device::available_cores();
  device::pin_threads(count);
  return ops::Context(device::Device{}, count);
}

}  // namespace hone::cli
