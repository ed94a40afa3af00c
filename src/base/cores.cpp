#include "base/cores.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string_view>

namespace hone {

namespace {

/// A set of cores of any size: cpu_set_t ends at 1,024.
class CoreSet {
 public:
  explicit CoreSet(int capacity)
      : capacity_(capacity),
        size_(CPU_ALLOC_SIZE(static_cast<std::size_t>(capacity))),
        set_(CPU_ALLOC(static_cast<std::size_t>(capacity)), [](cpu_set_t* set) { CPU_FREE(set); }) {
    CPU_ZERO_S(size_, set_.get());
  }
  explicit CoreSet(const std::vector<int>& cores) : CoreSet(cores.back() + 1) {
    for (const int core : cores) CPU_SET_S(static_cast<std::size_t>(core), size_, set_.get());
  }

  /// False where the system knows more cores than this can hold.
  bool read() { return ::sched_getaffinity(0, size_, set_.get()) == 0 || errno != EINVAL; }
  /// Applies to the calling thread.
  void apply() const { (void)::sched_setaffinity(0, size_, set_.get()); }
  std::vector<int> cores() const {
    std::vector<int> cores;
    for (int core = 0; core < capacity_; ++core)
      if (CPU_ISSET_S(static_cast<std::size_t>(core), size_, set_.get())) cores.push_back(core);
    return cores;
  }

 private:
  int capacity_;
  std::size_t size_;
  std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set_;
};

}  // namespace

std::vector<int> allowed_cores() {
  for (int capacity = 1024; capacity <= 1 << 20; capacity *= 2) {
    CoreSet set(capacity);
    if (set.read()) return set.cores();
  }
  return {};
}

int available_cores() {
  return std::max(1, static_cast<int>(allowed_cores().size()));
}

void allow_calling_thread(const std::vector<int>& cores) {
  CoreSet(cores).apply();
}

int current_core() {
  return ::sched_getcpu();
}

bool pinning_is_off() {
  const char* value = std::getenv("HONE_PIN");
  return value != nullptr && std::string_view(value) == "0";
}

}  // namespace hone
