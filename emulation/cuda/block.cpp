// A block: its threads as fibers, run in random order from one collective to the next.
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "state.h"

#if !defined(__x86_64__)
#error "the CUDA emulator switches fibers on x86-64 only"
#endif

// void switch_stacks(void** save, void* to): pushes the registers that a call keeps, and goes on there.
asm(R"(
.text
.type cuda_emulation_switch_stacks, @function
cuda_emulation_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_emulation_switch_stacks, .-cuda_emulation_switch_stacks
)");
extern "C" void cuda_emulation_switch_stacks(void** save, void* to);

namespace cuda_emulation {

constinit thread_local Fiber* current = nullptr;
constinit thread_local Worker* worker = nullptr;
constinit thread_local bool stopping = false;

namespace {

constexpr std::size_t kSharedArena = std::size_t{512} << 10, kSharedRedZone = 64;

/// Somebody who can go on, drawn; there is one.
Fiber& draw_runnable(Worker& w) {
  auto& chosen = w.runnable[w.draw() % w.runnable.size()];
  Fiber& fiber = w.fibers[chosen];
  chosen = w.runnable.back();
  w.runnable.pop_back();
  return fiber;
}

/// The running thread waits, or has exited. Where there is nothing else to draw the next one goes on at once.
void to_scheduler() {
  Worker& w = *worker;
  Fiber& me = *current;
  if (w.cluster->blocks.size() > 1 || !w.async.events.empty() || w.runnable.empty()) {
    cuda_emulation_switch_stacks(&me.stack_pointer, w.cluster->scheduler);
    return;
  }
  Fiber& next = draw_runnable(w);
  if (&next == &me) return;
  current = &next;
  cuda_emulation_switch_stacks(&me.stack_pointer, next.stack_pointer);
}

void run_fiber() {
  worker->launch->run(worker->launch->arguments.get());
  for (const auto& group : current->copies) finish(group);
  check_stores_were_read();
  current->exited = true;
  worker->absent[static_cast<std::size_t>(current->warp())] |= 1U << current->lane();
  ++worker->exited;
  to_scheduler();
}

/// This host thread's for the block of a cluster that has this rank.
Worker& worker_here(int rank) {
  thread_local std::array<std::unique_ptr<Worker>, kMostBlocks> mine;
  auto& there = mine[static_cast<std::size_t>(rank)];
  if (there != nullptr) return *there;
  there = std::make_unique<Worker>([] {
    Worker w;
    w.shared = make_arena(kSharedArena);
    w.global = global_memory();
    w.checks = checks_are_on();
    void* at = ::mmap(nullptr, kStackBytes * kMaxThreads, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    w.stacks = static_cast<char*>(at);
    return w;
  }());
  return *there;
}

void prepare(Fiber& fiber, int index, const Launch& launch, std::uint32_t block) {
  const auto t = static_cast<unsigned>(index);
  fiber.index = index;
  fiber.here = {
      {t % launch.block.x, t / launch.block.x % launch.block.y, t / launch.block.x / launch.block.y},
      {block % launch.grid.x, block / launch.grid.x % launch.grid.y, block / launch.grid.x / launch.grid.y},
      launch.block,
      launch.grid};
  fiber.exited = false;
  fiber.may_touch_global = !launch.early;
  fiber.waits_in_warp = fiber.waits_in_block = nullptr;
  fiber.clock = 1;
  fiber.known.fill(0);
  fiber.order.reset();
  fiber.waits_asynchronously = nullptr;
  fiber.copies.clear();
  fiber.stores.clear();
  char* const begin = worker->stacks + static_cast<std::size_t>(index) * kStackBytes;
  fiber.stack = reinterpret_cast<std::uintptr_t>(begin);
  // nor within a page do they all begin at the same place
  auto* top = reinterpret_cast<void**>(begin + kStackBytes - static_cast<std::size_t>(index % 32) * 128) - 2;
  *top = reinterpret_cast<void*>(&run_fiber);  // where the first switch returns to, the stack 8 below 16
  fiber.stack_pointer = top - 6;
  std::fill(top - 6, top, nullptr);
}

/// Why nothing goes on: a thread that waits for one that waits elsewhere or has exited.
std::string describe_deadlock() {
  for (Fiber& fiber : worker->fibers) {
    if (fiber.exited || fiber.waits_asynchronously == nullptr) continue;
    current = &fiber;
    return "deadlock: waits for " + (*fiber.waits_asynchronously)();
  }
  for (Fiber& fiber : worker->fibers) {
    if (fiber.exited) continue;
    const bool block = fiber.waits_in_block != nullptr;
    for (const Fiber& other : worker->fibers) {
      const bool wanted = block || (other.warp() == fiber.warp() && (fiber.mask >> other.lane() & 1) != 0);
      if (!wanted || (block ? other.waits_in_block : other.waits_in_warp) != nullptr) continue;
      current = &fiber;
      const std::string where =
          other.exited ? "has exited"
                       : fmt::format("waits in {}", block ? other.waits_in_warp : other.waits_in_block);
      return fmt::format("divergent barrier: waits in {} for thread ({}, {}, {}), which {}",
                         block ? fiber.waits_in_block : fiber.waits_in_warp, other.here.thread.x,
                         other.here.thread.y, other.here.thread.z, where);
    }
  }
  return "divergent barrier: all threads wait";
}

std::string located(std::string_view what) {
  const Here& h = current->here;
  return fmt::format("[cuda emulation] {}, block ({}, {}, {}), thread ({}, {}, {}): {}",
                     worker->launch->launch.kernel_name, h.block.x, h.block.y, h.block.z, h.thread.x,
                     h.thread.y, h.thread.z, what);
}

}  // namespace

void wake(Fiber& fiber) {
  worker->runnable.push_back(static_cast<std::uint16_t>(fiber.index));
}

void suspend(const std::function<std::string()>& what) {
  Fiber& me = *current;
  me.waits_asynchronously = &what;
  to_scheduler();
  me.waits_asynchronously = nullptr;
}

void tick(Fiber& fiber) {
  if (fiber.clock == Record::kMaxClock)
    stop(fmt::format("more than {} collectives in one block: more than the emulator counts",
                     Record::kMaxClock));
  ++fiber.clock;
}

const Here& here() {
  return current->here;
}
int lane_of_here() {
  return current->lane();
}

void stop(std::string_view what) {
  stopping = true;  // the standard library's code may be the kernels' copy of it, which is checked
  worker->cluster->failure = located(what);
  void* abandoned = nullptr;
  cuda_emulation_switch_stacks(&abandoned, worker->cluster->scheduler);
  __builtin_unreachable();
}

namespace {

void start_block(LaunchState& state, std::uint32_t index, int rank, Cluster& cluster) {
  worker = &worker_here(rank);
  Worker& w = *worker;
  cluster.blocks.push_back(worker);
  w.cluster = &cluster;
  w.rank = rank;
  const Launch& launch = state.launch;
  w.launch = &state;
  w.block = state.first_block + index;
  w.random = (state.seed + index) * 0x9e3779b97f4a7c15U | 1;
  w.num_threads = static_cast<int>(launch.block.x * launch.block.y * launch.block.z);
  w.exited = w.waiting_in_block = 0;
  w.waited_for_grids = !launch.early;
  w.waiting.fill(0);
  w.absent.fill(0);
  if (w.num_threads % 32 != 0)
    w.absent[static_cast<std::size_t>(w.num_threads / 32)] = ~0U << w.num_threads % 32;
  w.barrier_clock = 0;
  // What is left of shared memory's last user: nothing is allocated or written there.
  std::memset(w.shared.states, 0, w.static_end / kGranule + kSharedRedZone);
  std::memset(reinterpret_cast<void*>(w.shared.base), 0xff, std::max(w.static_end, launch.shared_bytes));
  mark(w.shared, reinterpret_cast<void*>(w.shared.base), launch.shared_bytes, true, false);
  w.dynamic_bytes = launch.shared_bytes;
  w.static_end = (launch.shared_bytes + kSharedRedZone + 127) / 128 * 128;
  w.sites.clear();
  start_asynchronous();
  w.fibers.resize(static_cast<std::size_t>(w.num_threads));
  for (; w.guarded < w.num_threads; ++w.guarded)  // a stack that overflows dies there
    ::mprotect(w.stacks + static_cast<std::size_t>(w.guarded) * kStackBytes, 4096, PROT_NONE);
  w.runnable.clear();
  for (int i = 0; i < w.num_threads; ++i) {
    prepare(w.fibers[static_cast<std::size_t>(i)], i, launch, index);
    wake(w.fibers[static_cast<std::size_t>(i)]);
  }
}

/// Lets something happen in `worker`; false where nothing can.
bool go_on() {
  Worker& w = *worker;
  auto& events = w.async.events;
  // copies come at random moments, at the latest when nobody can go on without
  if (!events.empty() && w.exited < w.num_threads && (w.runnable.empty() || w.draw() % 64 == 0)) {
    std::swap(events[w.draw() % events.size()], events.back());
    const auto event = std::move(events.back());
    events.pop_back();
    event();
    return true;
  }
  if (w.runnable.empty()) return false;
  Fiber& fiber = draw_runnable(w);
  current = &fiber;
  cuda_emulation_switch_stacks(&w.cluster->scheduler, fiber.stack_pointer);
  return true;
}

}  // namespace

bool run_cluster(LaunchState& state, std::uint32_t first, std::string& failure) {
  Cluster cluster;
  stopping = false;
  for (int rank = 0; rank < state.cluster; ++rank)
    start_block(state, first + static_cast<std::uint32_t>(rank), rank, cluster);
  const auto& blocks = cluster.blocks;
  for (bool goes_on = true; goes_on && cluster.failure.empty();) {
    goes_on = false;
    const std::size_t some = blocks.size() == 1 ? 0 : blocks[0]->draw() % blocks.size();
    for (std::size_t i = 0; i < blocks.size() && !goes_on; ++i) {
      worker = blocks[(some + i) % blocks.size()];
      goes_on = go_on();
    }
  }
  for (Worker* block : blocks) {
    worker = block;
    if (cluster.failure.empty() && block->exited < block->num_threads) {
      const std::string what = describe_deadlock();
      cluster.failure = located(what);
    }
    if (cluster.failure.empty()) {
      const std::string left = left_asynchronous();
      if (!left.empty()) cluster.failure = located(left);
    }
    if (cluster.failure.empty() && !block->waited_for_grids)
      cluster.failure = located(
          "the block ends without griddepcontrol.wait, so that the next kernel may overtake the one before");
    for (Fiber& fiber : block->fibers) land_stores(fiber);
  }
  current = nullptr;
  failure = cluster.failure;
  return failure.empty();
}

void grid_dependency_wait() {
  current->may_touch_global = worker->waited_for_grids = true;
}

void check_waited(std::string_view what) {
  if (!current->may_touch_global)
    stop(fmt::format("{} before griddepcontrol.wait: the kernel before may be at work yet", what));
}

void meet_warp(const char* what, unsigned mask, void* mine, Meet meet) {
  meet_warp(what, mask, mine, meet, true);
}

void meet_warp(const char* what, unsigned mask, void* mine, Meet meet, bool orders_memory) {
  Fiber& me = *current;
  Worker& w = *worker;
  if ((mask >> me.lane() & 1) == 0)
    stop(fmt::format("{} with mask {:#x}, in which the lane itself is not", what, mask));
  me.waits_in_warp = what;
  me.mask = mask;
  me.mine = mine;
  const int first = me.warp() * 32;
  const auto warp = static_cast<std::size_t>(me.warp());
  if (const unsigned absent = w.absent[warp] & mask; absent != 0) {
    const int lane = __builtin_ctz(absent);
    stop(fmt::format("{} with mask {:#x} waits for lane {}, which {}", what, mask, lane,
                     first + lane >= w.num_threads ? "is none of the block's threads" : "has exited"));
  }
  w.waiting[warp] |= 1U << me.lane();
  if ((w.waiting[warp] & mask) != mask) {
    to_scheduler();
    return;
  }
  Fiber* const fibers = w.fibers.data() + first;
  Fiber* taking[32];
  int count = 0;
  for (unsigned left = mask; left != 0; left &= left - 1) {
    const int lane = __builtin_ctz(left);
    Fiber& other = fibers[lane];
    if (other.mask != mask || (other.waits_in_warp != what && std::string_view(other.waits_in_warp) != what))
      stop(fmt::format("{} with mask {:#x} while lane {} waits in {} with mask {:#x}", what, mask, lane,
                       other.waits_in_warp, other.mask));
    taking[count++] = &other;
  }
  w.waiting[warp] &= ~mask;
  // The last one: does it for all, and all know now what each has done.
  void* lanes[32] = {};
  for (int i = 0; i < count; ++i) lanes[taking[i]->lane()] = taking[i]->mine;
  meet(lanes, mask);
  if (orders_memory) {
    std::array<std::uint32_t, 32> known{};
    for (int i = 0; i < count; ++i) max_into(known.data(), taking[i]->known.data(), 32);
    for (int i = 0; i < count; ++i) known[static_cast<std::size_t>(taking[i]->lane())] = taking[i]->clock;
    share_orders({taking, static_cast<std::size_t>(count)});
    for (int i = 0; i < count; ++i) {
      taking[i]->known = known;
      tick(*taking[i]);
    }
  }
  for (int i = 0; i < count; ++i) {
    taking[i]->waits_in_warp = nullptr;
    wake(*taking[i]);
  }
  to_scheduler();  // whoever is first from here on is drawn
}

namespace {
struct Shuffled {
  std::uint64_t value;
  int source;
  std::uint64_t result;
};
struct Gathered {
  std::uint64_t value;
  std::uint64_t* values;
};
}  // namespace

std::uint64_t shuffle(const char* what, unsigned mask, std::uint64_t value, int source) {
  if ((mask >> source & 1) == 0)
    stop(fmt::format("{} with mask {:#x} takes the value of lane {}, which does not take part", what, mask,
                     source));
  Shuffled mine{value, source, 0};
  meet_warp(what, mask, &mine, [](Lanes lanes, unsigned) {
    for (void* lane : lanes)
      if (auto* to = static_cast<Shuffled*>(lane); to != nullptr)
        to->result = static_cast<Shuffled*>(lanes[to->source])->value;
  });
  return mine.result;
}

void gather(const char* what, unsigned mask, std::uint64_t value, std::uint64_t (&values)[32]) {
  Gathered mine{value, values};
  meet_warp(what, mask, &mine, [](Lanes lanes, unsigned) {
    for (void* lane : lanes)
      if (lane != nullptr)
        for (int i = 0; i < 32; ++i)
          static_cast<Gathered*>(lane)->values[i] =
              lanes[i] != nullptr ? static_cast<Gathered*>(lanes[i])->value : 0;
  });
}

int meet_block(const char* what, Vote vote, bool mine) {
  Worker& w = *worker;
  Fiber& me = *current;
  me.waits_in_block = what;
  me.vote = mine;
  if (++w.waiting_in_block < w.num_threads) {
    to_scheduler();
  } else {
    int count = 0;
    std::uint32_t clock = 0;
    for (const Fiber& fiber : w.fibers) {
      if (fiber.waits_in_block != what && std::string_view(fiber.waits_in_block) != what)
        stop(fmt::format("{} while thread ({}, {}, {}) waits in {}", what, fiber.here.thread.x,
                         fiber.here.thread.y, fiber.here.thread.z, fiber.waits_in_block));
      count += fiber.vote ? 1 : 0;
      clock = std::max(clock, fiber.clock);
    }
    w.vote_result = count;
    w.waiting_in_block = 0;
    w.barrier_clock = clock + 1;
    if (std::ranges::any_of(w.fibers, [](const Fiber& fiber) { return fiber.order != nullptr; })) {
      std::vector<Fiber*> all;
      for (Fiber& fiber : w.fibers) all.push_back(&fiber);
      share_orders(all);
    }
    for (Fiber& fiber : w.fibers) {
      fiber.clock = clock;
      tick(fiber);
      fiber.waits_in_block = nullptr;
      wake(fiber);
    }
    to_scheduler();
  }
  // Read before anybody can have completed the next barrier, which this thread has not come to.
  const int count = w.vote_result;
  if (vote == Vote::kAnd) return count == w.num_threads ? 1 : 0;
  return vote == Vote::kOr ? (count > 0 ? 1 : 0) : count;
}

void* static_shared(const void* site, const char* name, std::size_t size, std::size_t alignment) {
  Worker& w = *worker;
  for (const auto& known : w.sites)
    if (known.site == site) return reinterpret_cast<void*>(known.at);
  const std::size_t step = std::max<std::size_t>(alignment, 16);
  const std::size_t at = (w.static_end + step - 1) / step * step;
  std::size_t sum = size;
  for (const auto& known : w.sites) sum += known.size;
  if (sum > kStaticSharedLimit || sum + w.dynamic_bytes > w.launch->shared_limit)
    stop(fmt::format("too much shared memory: {} bytes of its own and {} dynamic of {}", sum, w.dynamic_bytes,
                     w.launch->shared_limit));
  w.static_end = at + size + kSharedRedZone;
  auto* memory = reinterpret_cast<void*>(w.shared.base + at);
  mark(w.shared, memory, size, true, false);
  w.sites.push_back({site, name, w.shared.base + at, size});
  return memory;
}

void* dynamic_shared() {
  return reinterpret_cast<void*>(worker->shared.base);
}

void copy_async(void* to, const void* from, std::size_t size, std::size_t from_size) {
  const auto target = reinterpret_cast<std::uintptr_t>(to), source = reinterpret_cast<std::uintptr_t>(from);
  if (size != 4 && size != 8 && size != 16) stop(fmt::format("cp.async of {} bytes", size));
  if (from_size > size) stop(fmt::format("cp.async of {} bytes from {}", size, from_size));
  if (target % size != 0 || (from_size > 0 && source % size != 0))
    stop(fmt::format("misaligned cp.async of {} bytes from {:#x} to {:#x}", size, source, target));
  if (!worker->shared.holds(target))
    stop(fmt::format("cp.async to {:#x}, which is not shared memory", target));
  if (from_size > 0) check(source, from_size, Access::kRead);
  check(target, size, Access::kWrite);
  for (std::size_t i = 0; i < size; i += kGranule)
    worker->shared.states[worker->shared.granule(target + i)] |= kPending;
  if (current->copies.empty()) current->copies.emplace_back();
  current->copies.back().push_back({target, source, size, from_size});
}

void finish(const std::vector<PendingCopy>& group) {
  for (const PendingCopy& copy : group) {
    for (std::size_t i = 0; i < copy.size; i += kGranule)
      worker->shared.states[worker->shared.granule(copy.to + i)] &= static_cast<std::uint8_t>(~kPending);
    auto* to = reinterpret_cast<char*>(copy.to);
    std::memcpy(to, reinterpret_cast<const void*>(copy.from), copy.from_size);
    std::memset(to + copy.from_size, 0, copy.size - copy.from_size);
    check(copy.to, copy.size,
          Access::kWrite);  // by this thread, now: others see it after a barrier from here
  }
}

void commit_copies() {
  current->copies.emplace_back();
}

void wait_copies(int groups) {
  auto& all = current->copies;
  // The last one is open: what was put there since the last commit is not waited for.
  while (static_cast<int>(all.size()) - 1 > groups) {
    finish(all.front());
    all.erase(all.begin());
  }
}

}  // namespace cuda_emulation
