// Where the threads of the CPU kernels run.
#pragma once

namespace hone::device {

/// Pins the OpenMP workers 0 … num_threads-1 of the calling thread's team to distinct cores of those this process may use, where there are
/// that many; does nothing otherwise, or where the environment variable HONE_PIN is 0. Unpinned workers may land on one core and
/// spin there: 162 s instead of 17 for the same step, once. Threads made later by the caller may run on all of those cores.
void pin_threads(int num_threads);

}  // namespace hone::device
