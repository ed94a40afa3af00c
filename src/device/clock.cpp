#include "device/clock.h"

#include "device/cuda_device.h"

namespace hone::device {

std::shared_ptr<const TimedEvent> record_time(Stream& stream) {
  return stream.device().type == DeviceType::kCuda ? record_cuda_time(stream) : nullptr;
}

}  // namespace hone::device
