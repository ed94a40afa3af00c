#include "device/device.h"

#include "base/error.h"

namespace hone::device {

std::string name_of(Device device) {
  return device.type == DeviceType::kCpu ? "cpu" : "meta";
}

Device parse_device(std::string_view name) {
  if (name == "cpu") return {DeviceType::kCpu, 0};
  if (name == "meta") return {DeviceType::kMeta, 0};
  fail("unknown device '{}'; known: cpu, meta", name);
}

}  // namespace hone::device
