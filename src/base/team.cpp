#include "base/team.h"

#include <pthread.h>

#include <algorithm>
#include <exception>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/cores.h"
#include "base/error.h"

namespace hone {

namespace {

/// Two cache lines, which processors fetch together: what different threads write lies so far apart.
constexpr std::size_t kApart = 128;

/// Lets the other threads of a core and its power have the time that is spent waiting.
void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");  // takes as long as x86's; `yield` takes no time
#endif
}

/// Waits awake, for Team::kAwake or not at all. Whether `done` came true meanwhile.
template <class Done>
bool wait_awake(bool stays_awake, const Done& done) {
  if (done()) return true;
  if (!stays_awake) return false;
  std::chrono::steady_clock::time_point end{};
  do {
    for (int turn = 0; turn < 64; ++turn) {  // 1 us and more: reading the clock takes 20 ns
      if (done()) return true;
      pause();
    }
    if (end == std::chrono::steady_clock::time_point{}) end = std::chrono::steady_clock::now() + Team::kAwake;
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

/// How many forks lie between the first process that had a team and this one.
std::atomic<unsigned> g_forks = 0;
unsigned forks() {
  static const int kRegistered =
      ::pthread_atfork(nullptr, nullptr, [] { g_forks.store(g_forks.load(std::memory_order_relaxed) + 1); });
  HONE_CHECK(kRegistered == 0, "pthread_atfork: {}", kRegistered);
  return g_forks.load(std::memory_order_relaxed);
}

}  // namespace

/// The threads of a team, and how they are told what to do.
class Team::Crew {
 public:
  Crew(int num_threads, int first_core) : num_workers_(num_threads - 1) {
    const std::vector<int> allowed = allowed_cores();
    const auto first = static_cast<std::size_t>(std::max(0, first_core));
    const auto count = static_cast<std::size_t>(num_threads);
    stays_awake_ = count <= allowed.size();
    if (!pinning_is_off() && first_core >= 0 && first + count <= allowed.size()) {
      cores_.assign(allowed.begin() + static_cast<std::ptrdiff_t>(first),
                    allowed.begin() + static_cast<std::ptrdiff_t>(first + count));
    }
    workers_ = std::make_unique<Worker[]>(static_cast<std::size_t>(num_workers_));
    try {
      for (int i = 0; i < num_workers_; ++i)
        worker(i).thread = std::thread([this, i] { be_worker(worker(i), i + 1); });
    } catch (const std::system_error& error) {
      end();
      fail("cannot start {} threads: {}; ask for fewer", num_threads, error.what());
    }
  }
  ~Crew() { end(); }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  bool is_of_this_process() const { return forks_ == forks(); }

  void run(const Loop& loop) {
    keep_caller_apart();
    loop_ = loop;
    next_.store(0, std::memory_order_relaxed);
    failed_.store(false, std::memory_order_relaxed);
    tell_workers(loop.threads - 1);
    do_share(0);
    wait_for_workers();
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
  struct alignas(kApart) Worker {
    std::atomic<std::uint32_t> told = 0;  // the number of the last loop that it has a share in
    std::atomic<bool> asleep = false;
    std::thread thread;
  };
  Worker& worker(int i) const { return workers_[static_cast<std::size_t>(i)]; }

  /// Starts the first `count` workers on loop_.
  void tell_workers(int count) {
    working_.store(static_cast<std::uint32_t>(count), std::memory_order_relaxed);
    ++number_;
    for (int i = 0; i < count; ++i) worker(i).told.store(number_, std::memory_order_release);
    // Either this sees that a worker is falling asleep, or the worker that there is work; so for the caller.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    for (int i = 0; i < count; ++i) {
      if (worker(i).asleep.load(std::memory_order_relaxed)) worker(i).told.notify_one();
    }
  }
  void wait_for_workers() {
    const auto done = [&] { return working_.load(std::memory_order_acquire) == 0; };
    if (wait_awake(stays_awake_, done)) return;
    caller_asleep_.store(true, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    while (const std::uint32_t left = working_.load(std::memory_order_acquire))
      working_.wait(left, std::memory_order_acquire);
    caller_asleep_.store(false, std::memory_order_relaxed);
  }

  void be_worker(Worker& self, int thread) {
    if (!cores_.empty()) allow_calling_thread({cores_[static_cast<std::size_t>(thread)]});
    for (std::uint32_t last = 0;;) {
      const auto told = [&] { return self.told.load(std::memory_order_acquire) != last; };
      if (!wait_awake(stays_awake_, told)) {
        self.asleep.store(true, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        self.told.wait(last, std::memory_order_acquire);
        self.asleep.store(false, std::memory_order_relaxed);
      }
      last = self.told.load(std::memory_order_acquire);
      if (loop_.call == nullptr) return;  // the end
      do_share(thread);
      if (working_.fetch_sub(1, std::memory_order_acq_rel) > 1) continue;
      std::atomic_thread_fence(std::memory_order_seq_cst);
      if (caller_asleep_.load(std::memory_order_relaxed)) working_.notify_one();
    }
  }

  void do_share(int thread) noexcept {
    const Loop& loop = loop_;
    try {
      if (loop.chunk == kEvenShares) {
        loop.call(loop.f, loop.n * thread / loop.threads, loop.n * (thread + 1) / loop.threads, thread);
        return;
      }
      for (;;) {
        const std::int64_t begin = next_.fetch_add(loop.chunk, std::memory_order_relaxed);
        if (begin >= loop.n) return;
        loop.call(loop.f, begin, std::min(begin + loop.chunk, loop.n), thread);
      }
    } catch (...) {
      if (!failed_.exchange(true)) failure_ = std::current_exception();
      next_.store(loop.n, std::memory_order_relaxed);
    }
  }

  /// The system may have put the caller on the core of a worker.
  void keep_caller_apart() const {
    if (cores_.empty()) return;
    const int core = current_core();
    if (core == cores_[0] || !std::binary_search(cores_.begin(), cores_.end(), core)) return;
    const std::vector<int> allowed = allowed_cores();
    if (!std::binary_search(allowed.begin(), allowed.end(), cores_[0])) return;
    allow_calling_thread({cores_[0]});
    allow_calling_thread(allowed);
  }

  void end() {
    loop_ = {};
    tell_workers(num_workers_);
    for (int i = 0; i < num_workers_; ++i) {
      if (worker(i).thread.joinable()) worker(i).thread.join();
    }
  }

  const unsigned forks_ = forks();
  int num_workers_;
  bool stays_awake_ = true;     // not where threads share cores: who waits would keep from working
  std::vector<int> cores_;      // of every thread; empty: they are not pinned
  std::uint32_t number_ = 0;    // of the last loop
  Loop loop_;                   // what the threads told of read
  std::exception_ptr failure_;  // written by who sets failed_
  std::unique_ptr<Worker[]> workers_;
  alignas(kApart) std::atomic<std::int64_t> next_ = 0;  // of loop_.n
  std::atomic<bool> failed_ = false;
  alignas(kApart) std::atomic<std::uint32_t> working_ = 0;  // workers that have not finished
  std::atomic<bool> caller_asleep_ = false;
};

Team::Team(int num_threads, int first_core)
    : num_threads_(num_threads > 0 ? num_threads : available_cores()), first_core_(first_core) {}

Team::~Team() {
  if (crew_ && !crew_->is_of_this_process()) (void)crew_.release();
}

Team::Crew& Team::crew() {
  // The parent's threads are not this process's to end, nor is there anything of them but their memory.
  if (crew_ && !crew_->is_of_this_process()) (void)crew_.release();
  if (!crew_) crew_ = std::make_unique<Crew>(num_threads_, first_core_);
  return *crew_;
}

void Team::run(Loop loop) {
  if (loop.n <= 0) return;
  const std::int64_t pieces = loop.chunk == kEvenShares ? loop.n : (loop.n - 1) / loop.chunk + 1;
  loop.threads = static_cast<int>(std::min<std::int64_t>(std::min(loop.threads, num_threads_), pieces));
  if (loop.threads < 2 || busy_.exchange(true, std::memory_order_acquire)) {
    loop.call(loop.f, 0, loop.n, 0);
    return;
  }
  const auto free = [](std::atomic<bool>* busy) { busy->store(false, std::memory_order_release); };
  const std::unique_ptr<std::atomic<bool>, decltype(free)> busy(&busy_, free);
  most_threads_ = std::max(most_threads_, loop.threads);
  crew().run(loop);
}

int Team::take_most_threads() {
  return std::exchange(most_threads_, 1);
}

}  // namespace hone
