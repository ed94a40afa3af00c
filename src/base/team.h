// A team of threads that computes together: loops over pieces of work, in a CPU kernel or on the host.
//
// The pauses between the regions of a training step are shorter than waking a thread takes (20 to 40 us), so
// a thread that waits stays awake for kAwake; then it sleeps, so that a team at rest, or one that shares its
// cores with others, takes nothing from them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

namespace hone {

/// The caller of a loop, who is thread 0 of it, and num_threads - 1 threads of the team's own, made by the
/// first loop that asks for two and ended with the team.
///
/// They are pinned: thread i > 0 runs on the i-th allowed core after `first_core` alone. The caller is not
/// held, because threads and child processes that it starts would inherit that; a loop that finds it on the
/// core of another thread moves it to its own. Not where the environment variable HONE_PIN is 0, nor where
/// there are more threads than cores from first_core on. Teams that work at the same time (ranks that are
/// threads of one process) are given different first cores.
///
/// One thread at a time may call. A loop that is called while another one runs, from inside it or by a second
/// caller, runs on its caller alone, as thread 0. A child process that was forked makes threads of its own;
/// one that was forked inside a loop has only its caller.
///
/// A loop whose function throws hands out no more, and throws what was thrown (of several, one) when all
/// threads have come to rest.
class Team {
 public:
  /// How long a waiting thread stays awake.
  static constexpr std::chrono::microseconds kAwake{100};

  /// num_threads 0: one per core that this process may use.
  explicit Team(int num_threads = 0, int first_core = 0);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int num_threads() const { return num_threads_; }

  // Loops over 0 … n-1 by the threads 0 … threads-1, or fewer: at most num_threads, and what there is to do.

  /// Calls f(i, thread): each i, `chunk` neighbours at a time, by whoever is free. For pieces of work that
  /// take different times.
  template <class F>
  [[gnu::always_inline]] void parallel_for(int threads, std::int64_t n, const F& f, std::int64_t chunk = 1) {
    const Call call = [](const void* body, std::int64_t begin, std::int64_t end, int thread) {
      for (std::int64_t i = begin; i < end; ++i) (*static_cast<const F*>(body))(i, thread);
    };
    run({call, &f, n, chunk, threads});
  }
  /// Calls f(begin, end, thread): an even share of neighbours each, the first to thread 0 and so on. For
  /// passes over memory: of arrays of one length a thread meets the same part in every loop.
  template <class F>
  [[gnu::always_inline]] void parallel_ranges(int threads, std::int64_t n, const F& f) {
    const Call call = [](const void* body, std::int64_t begin, std::int64_t end, int thread) {
      (*static_cast<const F*>(body))(begin, end, thread);
    };
    run({call, &f, n, kEvenShares, threads});
  }

  /// The most threads of a loop since this was last asked, at least 1: for tests of who uses how many.
  int take_most_threads();

 private:
  using Call = void (*)(const void* f, std::int64_t begin, std::int64_t end, int thread);
  static constexpr std::int64_t kEvenShares = 0;
  struct Loop {
    Call call = nullptr;
    const void* f = nullptr;
    std::int64_t n = 0, chunk = 1;
    int threads = 1;
  };
  class Crew;
  void run(Loop loop);
  Crew& crew();

  int num_threads_, first_core_;
  int most_threads_ = 1;
  std::atomic<bool> busy_ = false;
  std::unique_ptr<Crew> crew_;  // null until it is needed
};

}  // namespace hone
