// Which cores of the machine this process, and each of its threads, may run on.
#pragma once

#include <vector>

namespace hone {

/// The cores that the calling thread may run on (its affinity mask, which threads and child processes that it
/// starts inherit), ascending.
std::vector<int> allowed_cores();
/// Their number, at least 1.
int available_cores();

/// From now on the calling thread runs on these alone, not none. A refusal (a container's policy) leaves it
/// where it was: holding a thread only makes things faster.
void allow_calling_thread(const std::vector<int>& cores);
/// The core that the calling thread runs on at this moment; negative where the system does not say.
int current_core();

/// Whether the environment variable HONE_PIN is 0: no thread is to be held on a core.
bool pinning_is_off();

}  // namespace hone
