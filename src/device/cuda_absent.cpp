// In place of device/cuda where hone is built without CUDA.
#include "base/error.h"
#include "device/cuda_device.h"

namespace hone::device {

namespace {
constexpr const char* kAbsent =
    "this hone was built without CUDA; configure with -DHONE_CUDA=ON, or use device cpu";
}

CudaReport cuda_report() {
  return {.why_none = kAbsent};
}

std::unique_ptr<Stream> make_cuda_stream(Device device, int, int) {
  fail("device {}: {}", name_of(device), kAbsent);
}

std::shared_ptr<Allocator> make_cuda_allocator(Device device) {
  fail("device {}: {}", name_of(device), kAbsent);
}

std::shared_ptr<const TimedEvent> record_cuda_time(Stream& stream) {
  fail("device {}: {}", name_of(stream.device()), kAbsent);
}

std::string why_no_cuda_graph(const Stream&) {
  return kAbsent;
}

Captured capture_cuda_graph(Stream& stream, const std::function<void()>&) {
  fail("device {}: {}", name_of(stream.device()), kAbsent);
}

DeviceMemory cuda_memory(Device device) {
  fail("device {}: {}", name_of(device), kAbsent);
}

}  // namespace hone::device
