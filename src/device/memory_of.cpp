#include "device/memory_of.h"

#include <algorithm>
#include <fstream>
#include <string>

#include "device/cuda_device.h"

namespace hone::device {

namespace {

/// The number in a file of one number; -1 where there is none ("max", say).
double number_in(const char* path) {
  std::ifstream in(path);
  double value = 0;
  return in >> value ? value : -1;
}

DeviceMemory host_memory() {
  double total = 0, available = 0;
  std::ifstream info("/proc/meminfo");
  for (std::string key; info >> key; std::getline(info, key)) {
    double kib = 0;
    if (key == "MemTotal:" && info >> kib) total = kib * 1024;
    if (key == "MemAvailable:" && info >> kib) available = kib * 1024;
  }
  const double limit = number_in("/sys/fs/cgroup/memory.max");
  if (limit > 0)
    available = std::min(available, limit);  // what is in use there may be page cache, given back
  return {static_cast<std::int64_t>(total), static_cast<std::int64_t>(available)};
}

}  // namespace

DeviceMemory memory_of(Device device) {
  switch (device.type) {
    case DeviceType::kCpu:
      return host_memory();
    case DeviceType::kCuda:
      return cuda_memory(device);
    case DeviceType::kMeta:
      break;
  }
  return {};
}

}  // namespace hone::device
