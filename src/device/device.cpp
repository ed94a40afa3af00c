#include "device/device.h"

#include <charconv>
#include <cstdlib>

#include "base/error.h"

namespace hone::device {

std::string name_of(Device device) {
  switch (device.type) {
    case DeviceType::kCpu:
      return "cpu";
    case DeviceType::kCuda:
      return fmt::format("cuda:{}", device.index);
    case DeviceType::kMeta:
      return "meta";
  }
  HONE_CHECK(false, "no device of type {}", static_cast<int>(device.type));
}

Device parse_device(std::string_view name) {
  if (name == "cpu") return {DeviceType::kCpu, 0};
  if (name == "meta") return {DeviceType::kMeta, 0};
  if (name == "cuda") return {DeviceType::kCuda, 0};
  constexpr std::string_view kCard = "cuda:";
  if (name.starts_with(kCard)) {
    int index = -1;
    const char* end = name.data() + name.size();
    const auto [rest, error] = std::from_chars(name.data() + kCard.size(), end, index);
    if (error == std::errc() && rest == end && index >= 0) return {DeviceType::kCuda, index};
    fail("device '{}': after 'cuda:' comes the number of a card, from 0 on", name);
  }
  fail("unknown device '{}'; known: cpu, cuda, cuda:N", name);
}

Device default_device() {
  const char* asked = std::getenv("HONE_DEVICE");
  if (asked == nullptr || *asked == '\0') return {};
  try {
    return parse_device(asked);
  } catch (const Error& e) {
    fail("HONE_DEVICE: {}", e.what());
  }
}

}  // namespace hone::device
