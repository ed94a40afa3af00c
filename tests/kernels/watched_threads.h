// How many threads each kernel used.
#pragma once

#include <algorithm>
#include <map>
#include <string>

#include "kernels/kernels.h"

namespace hone::test {

/// The fewest and the most threads that calls of a slot used.
struct ThreadsUsed {
  int fewest = 1 << 30, most = 0;
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
      stream.team().take_most_threads();  // of what came before
      watched_kernel<Args>(a, stream);
      const int threads = stream.team().take_most_threads();
      ThreadsUsed& used = threads_used[watched_name<Args>];
      used.fewest = std::min(used.fewest, threads);
      used.most = std::max(used.most, threads);
    };
  });
  return table;
}

}  // namespace hone::test
