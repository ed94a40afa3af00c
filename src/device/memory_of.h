// How much memory a device has.
#pragma once

#include <cstdint>

#include "device/device.h"

namespace hone::device {

/// Bytes. 0: not known.
struct DeviceMemory {
  std::int64_t total = 0;
  std::int64_t available = 0;  // to this process, besides what it has
};
/// Of the CPU what the system calls available, or the control group's limit where that is less; of a card
/// what its driver calls free. Throws Error(kUser) for a card that cannot be used.
DeviceMemory memory_of(Device device);

}  // namespace hone::device
