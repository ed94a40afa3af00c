// How many threads each kernel used. Regions that GCC compiles for OpenMP all start with GOMP_parallel, whose
// number of threads is noted here on its way: include this in one file of a program.
#pragma once

#include <dlfcn.h>

#include <algorithm>
#include <map>
#include <string>

#include "kernels/kernels.h"

namespace hone::test {

/// The most threads of a region since it was set.
inline unsigned region_threads = 1;

}  // namespace hone::test

// NOLINTNEXTLINE(readability-identifier-naming): libgomp's own name, taken over in this program
extern "C" void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags) {
  using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
  static const auto kReal = reinterpret_cast<Parallel>(::dlsym(RTLD_NEXT, "GOMP_parallel"));
  hone::test::region_threads = std::max(hone::test::region_threads, threads);
  kReal(body, data, threads, flags);
}

namespace hone::test {

/// Whether this compiler's regions start so.
#if defined(__GNUC__) && !defined(__clang__)
inline constexpr bool kCanWatchThreads = true;
#else
inline constexpr bool kCanWatchThreads = false;
#endif

/// The fewest and the most threads that calls of a slot used.
struct ThreadsUsed {
  unsigned fewest = ~0U, most = 0;
};
/// By slot, of the tables made by watched().
inline std::map<std::string, ThreadsUsed, std::less<>> threads_used;

template <class Args>
kernels::Kernel<Args> watched_kernel = nullptr;
template <class Args>
std::string watched_name;

/// A table that notes in threads_used how many threads its kernels use. One at a time.
inline kernels::KernelTable watched(kernels::KernelTable table) {
  kernels::for_each_slot(table, []<class Args>(std::string_view name, kernels::Kernel<Args>& slot) {
    watched_kernel<Args> = slot;
    watched_name<Args> = name;
    slot = [](const Args& a, device::Stream& stream) {
      region_threads = 1;
      watched_kernel<Args>(a, stream);
      ThreadsUsed& used = threads_used[watched_name<Args>];
      used.fewest = std::min(used.fewest, region_threads);
      used.most = std::max(used.most, region_threads);
    };
  });
  return table;
}

}  // namespace hone::test
