#include "device/device.h"

#include "base/error.h"

namespace hone::device {

std::string name_of(Device device) {
  switch (device.type) {
    case DeviceType::kCpu:
      return "cpu";
    case DeviceType::kMeta:
      return "meta";
  }
  HONE_CHECK(false, "no device of type {}", static_cast<int>(device.type));
}

Device parse_device(std::string_view name) {
  if (name == "cpu") return {DeviceType::kCpu, 0};
  if (name == "meta") return {DeviceType::kMeta, 0};
  fail("unknown device '{}'; known: cpu, meta", name);
}

}  // namespace hone::device
