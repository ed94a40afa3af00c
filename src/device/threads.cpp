#include "device/threads.h"

#include <omp.h>
#include <sched.h>

#include <cstdlib>
#include <string_view>
#include <vector>

namespace hone::device {

namespace {

/// The cores the process may use, remembered from before anything was pinned.
const std::vector<int>& allowed_cores() {
  static const std::vector<int> kCores = [] {
    std::vector<int> cores;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof set, &set) != 0) return cores;
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(core, &set)) cores.push_back(core);
    return cores;
  }();
  return kCores;
}

}  // namespace

void pin_threads(int num_threads) {
  const char* wanted = std::getenv("HONE_PIN");
  if (wanted != nullptr && std::string_view(wanted) == "0") return;
  const auto& cores = allowed_cores();
  if (num_threads < 2 || static_cast<int>(cores.size()) < num_threads) return;
#pragma omp parallel num_threads(num_threads)
  {
    const int worker = omp_get_thread_num();
    if (worker < num_threads) {
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(cores[static_cast<std::size_t>(worker)], &set);
      ::sched_setaffinity(0, sizeof set, &set);
    }
  }
}

}  // namespace hone::device
