// Which streams there are.
#include "base/error.h"
#include "device/cuda_device.h"
#include "device/guarded_stream.h"

namespace hone::device {

std::unique_ptr<Stream> make_stream(Device device, int num_threads, int first_core) {
  switch (device.type) {
    case DeviceType::kCpu:
      if (guard_is_asked_for()) return std::make_unique<GuardedStream>(num_threads, first_core);
      return std::make_unique<CpuStream>(make_allocator(device), num_threads, first_core);
    case DeviceType::kCuda:
      return make_cuda_stream(device, num_threads, first_core);
    case DeviceType::kMeta:
      return std::make_unique<MetaStream>(num_threads, device.stands_for);
  }
  HONE_CHECK(false, "no device of type {}", static_cast<int>(device.type));
}

}  // namespace hone::device
