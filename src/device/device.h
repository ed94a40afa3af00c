// Where memory lives and where work runs.
#pragma once

#include <string>
#include <string_view>

namespace hone::device {

enum class DeviceType { kCpu, kCuda, kMeta };

/// A place to compute. Of NVIDIA cards the index says which. kMeta has shapes and no bytes: running the
/// program on it counts memory and work without doing any.
struct Device {
  DeviceType type = DeviceType::kCpu;
  int index = 0;
  DeviceType stands_for = DeviceType::kCpu;  // of kMeta: whose kernels' scratch memory is counted
  bool operator==(const Device&) const = default;
};

/// What `device` would do, without doing it.
inline Device meta_of(Device device) {
  return {DeviceType::kMeta, 0, device.type == DeviceType::kMeta ? device.stands_for : device.type};
}

/// "cpu", "cuda:0", "meta".
std::string name_of(Device device);
/// The inverse of name_of; "cuda" is the first card. Throws Error(kUser) that lists the known devices.
Device parse_device(std::string_view name);
/// What computes where nothing says so: the CPU, or what the environment variable HONE_DEVICE names. Throws
/// Error(kUser) where that is none.
Device default_device();

}  // namespace hone::device
