#include "device/threads.h"

#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string_view>

namespace hone::device {

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
  /// Applies to the calling thread. A refusal (a container's policy) leaves it where it was: pinning only
  /// makes things faster.
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

void allow_calling_thread(const std::vector<int>& cores) {
  CoreSet(cores).apply();
}

bool pinning_is_off() {
  const char* value = std::getenv("HONE_PIN");
  return value != nullptr && std::string_view(value) == "0";
}

}  // namespace

std::vector<int> allowed_cores() {
  for (int capacity = 1024; capacity <= 1 << 20; capacity *= 2) {
    CoreSet set(capacity);
    if (set.read()) return set.cores();
  }
  return {};
}

bool pin_threads(int num_threads, int first_core) {
  const std::vector<int> allowed = allowed_cores();
  const auto first = static_cast<std::size_t>(first_core);
  if (num_threads < 2 || first_core < 0 || first + static_cast<std::size_t>(num_threads) > allowed.size())
    return false;
  if (pinning_is_off()) return false;
    // The workers first: the calling thread then leaves their cores for its own.
#pragma omp parallel num_threads(num_threads)
  {
    const auto thread = static_cast<std::size_t>(omp_get_thread_num());
    if (thread > 0) allow_calling_thread({allowed[first + thread]});
  }
  allow_calling_thread({allowed[first]});
  allow_calling_thread(allowed);
  return true;
}

void unpin_threads(int num_threads) {
  const std::vector<int> allowed = allowed_cores();
  if (allowed.empty()) return;
#pragma omp parallel num_threads(num_threads)
  allow_calling_thread(allowed);
}

void restart_with_short_spins(char* const* argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  // 4,000 turns are 60 to 100 microseconds: the pauses between the kernels of a step are shorter, waking a
  // sleeping thread takes 20 to 40.
  if (::setenv("GOMP_SPINCOUNT", "4000", 0) != 0) return;
  ::execv("/proc/self/exe", argv);
}

}  // namespace hone::device
