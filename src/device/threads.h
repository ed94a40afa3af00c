// Threads of the CPU kernels: where they run, and how long they wait awake.
//
// Two traps, both met. A waiting OpenMP thread spins for milliseconds before it sleeps; where two threads of
// a team share a core, with each other or with another program, the one with work waits for the one without,
// at every parallel region (2,000 short regions: 13.7 s instead of 0.03). And nothing keeps the operating
// system from putting two threads of a team on one core.
#pragma once

#include <vector>

namespace hone::device {

/// The cores that this process may run on (its affinity mask), ascending.
std::vector<int> allowed_cores();

/// Puts the threads of the calling thread's OpenMP teams on cores of their own: thread i > 0 stays on the
/// i-th allowed core after `first_core`. The calling thread is moved to its core but not held there, because
/// threads and child processes that it starts inherit what holds it. Returns false, having done nothing, for
/// one thread, for more threads than cores, or where the environment variable HONE_PIN is 0.
///
/// A change of team size makes threads anew, which may run anywhere; so call it again every now and then
/// (once a training step: it takes microseconds). Ranks that are threads of one process give different first
/// cores.
bool pin_threads(int num_threads, int first_core = 0);
/// Lets the threads of such a team run on all allowed cores again.
void unpin_threads(int num_threads);

/// Makes waiting OpenMP threads spin for some 0.1 ms instead of milliseconds: as good for the pauses between
/// the kernels of a step, harmless where cores are shared. The OpenMP library decides this when a program
/// starts, so this sets GOMP_SPINCOUNT and executes the program again, with the same arguments and process
/// id. Returns where the environment says already how to wait (OMP_WAIT_POLICY or GOMP_SPINCOUNT), or where
/// executing fails. The first thing in main().
void restart_with_short_spins(char* const* argv);

}  // namespace hone::device
