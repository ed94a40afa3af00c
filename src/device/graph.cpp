#include "device/graph.h"

#include "base/error.h"
#include "device/cuda_device.h"

namespace hone::device {

std::string why_no_graph(const Stream& stream) {
  return stream.device().type == DeviceType::kCuda
             ? why_no_cuda_graph(stream)
             : "on " + name_of(stream.device()) + " a kernel is a call of a function";
}

Captured capture(Stream& stream, const std::function<void()>& work) {
  if (auto why = why_no_graph(stream); !why.empty()) return {.graph = nullptr, .why_none = std::move(why)};
  return capture_cuda_graph(stream, work);
}

}  // namespace hone::device
