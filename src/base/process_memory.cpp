#include "base/process_memory.h"

#include <malloc.h>

#include <fstream>
#include <string>

namespace hone {

namespace {

/// A line of /proc/self/status, in bytes.
std::int64_t status_bytes(const char* key) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::int64_t kib = 0;
    if (word == key && status >> kib) return kib * 1024;
  }
  return 0;
}

}  // namespace

std::int64_t resident_bytes() {
  return status_bytes("VmRSS:");
}

std::int64_t peak_resident_bytes() {
  return status_bytes("VmHWM:");
}

void reset_peak_resident() {
  std::ofstream("/proc/self/clear_refs") << "5";
}

void trim_heap() {
  ::malloc_trim(0);
}

}  // namespace hone
