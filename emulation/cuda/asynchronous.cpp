// What warps of a block meet by other than __syncthreads: mbarriers, named barriers, proxies, registers.
#include <fmt/format.h>
#include <hopper.h>

#include <algorithm>

#include "state.h"

namespace cuda_emulation {

[[gnu::target_clones("avx2", "default")]] void max_into(std::uint32_t* to, const std::uint32_t* from,
                                                        std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) to[i] = std::max(to[i], from[i]);
}

void Order::merge(const Order& other) {
  if (seen.size() < other.seen.size()) seen.resize(other.seen.size());
  if (fenced.size() < other.fenced.size()) fenced.resize(other.fenced.size());
  max_into(seen.data(), other.seen.data(), other.seen.size());
  max_into(fenced.data(), other.fenced.data(), other.fenced.size());
  if (others.size() < other.others.size()) others.resize(other.others.size());
  for (std::size_t i = 0; i < other.others.size(); ++i) others[i].merge(other.others[i]);
}

void add_order_of_here(Order& to, std::shared_ptr<const Order>& last) {
  const Fiber& me = *current;
  if (me.order != nullptr && me.order != last) {
    to.merge(*me.order);
    last = me.order;
  }
  const auto size = static_cast<std::size_t>(worker->num_threads + kEngines);
  if (to.seen.size() < size) to.seen.resize(size);
  if (to.fenced.size() < size) to.fenced.resize(size);
  const int first = me.warp() * 32, lanes = std::min(32, worker->num_threads - first);
  if (lanes > 0)  // a visitor of a cluster is none of them
    max_into(to.seen.data() + first, me.known.data(), static_cast<std::size_t>(lanes));
  auto& own = to.seen[static_cast<std::size_t>(me.index)];
  own = std::max(own, me.clock);
}

Order order_of_here() {
  Order order;
  std::shared_ptr<const Order> none;
  add_order_of_here(order, none);
  return order;
}

void share_orders(std::span<Fiber* const> fibers) {
  if (std::ranges::all_of(fibers, [&](const Fiber* fiber) { return fiber->order == fibers[0]->order; }))
    return;
  std::vector<const Order*> distinct;
  std::shared_ptr<const Order> all;
  for (const Fiber* fiber : fibers)
    if (fiber->order != nullptr && fiber->order != all &&
        std::ranges::find(distinct, fiber->order.get()) == distinct.end()) {
      distinct.push_back(fiber->order.get());
      if (all == nullptr) all = fiber->order;
    }
  if (distinct.size() > 1) {
    auto merged = std::make_shared<Order>(*distinct[0]);
    for (std::size_t i = 1; i < distinct.size(); ++i) merged->merge(*distinct[i]);
    all = std::move(merged);
  }
  for (Fiber* fiber : fibers)
    if (fiber->order != all) fiber->order = all;
}

namespace {

Asynchronous& async() {
  return worker->async;
}

/// The running thread has waited for the last whole phase.
void learn(AsyncBarrier& barrier) {
  auto& mine = current->order;
  if (mine == nullptr) mine = barrier.settled;
  if (mine == barrier.settled) return;
  if (barrier.waited != barrier.settled || barrier.waited_knew != mine) {
    auto all = std::make_shared<Order>(*mine);
    all->merge(*barrier.settled);
    barrier.waited = barrier.settled;
    barrier.waited_knew = mine;
    barrier.learnt = std::move(all);
  }
  mine = barrier.learnt;
}

void wake_all(std::vector<std::uint16_t>& waiting) {
  for (const std::uint16_t index : waiting) wake(worker->fibers[index]);
  waiting.clear();
}

AsyncBarrier& barrier_at(const char* what, const void* barrier) {
  const auto at = reinterpret_cast<std::uintptr_t>(barrier);
  const auto found = async().barriers.find(at);
  if (found == async().barriers.end())
    stop(fmt::format("{} at {}, where no mbarrier was initialised", what, name_of(at)));
  if (!ordered(found->second.initialised))
    stop(fmt::format("race: {} at {}, whose initialisation by thread {} may not have come before", what,
                     name_of(at), found->second.initialised.thread()));
  return found->second;
}

void arrive(const char* what, void* at, std::int64_t bytes) {
  AsyncBarrier& barrier = barrier_at(what, at);
  if (barrier.pending == 0)
    stop(fmt::format("{} at {}: more than the {} arrivals of a phase", what,
                     name_of(reinterpret_cast<std::uintptr_t>(at)), barrier.count));
  add_order_of_here(barrier.coming, barrier.last_come);
  tick(*current);
  barrier.bytes += bytes;
  --barrier.pending;
  settle(barrier);
}

}  // namespace

void settle(AsyncBarrier& barrier) {
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  barrier.settled = std::make_shared<const Order>(barrier.coming);
  ++barrier.phase;
  barrier.pending = barrier.count;
  wake_all(barrier.waiting);
}

std::uint32_t shared_address(const void* p) {
  const auto at = reinterpret_cast<std::uintptr_t>(p);
  if (!worker->shared.holds(at)) stop(fmt::format("{} is not shared memory", fmt::ptr(p)));
  return static_cast<std::uint32_t>(at - worker->shared.base);
}

void mbarrier_init(void* barrier, int count) {
  const auto at = reinterpret_cast<std::uintptr_t>(barrier);
  if (!worker->shared.holds(at) || at % 8 != 0)
    stop(
        fmt::format("mbarrier.init at {}, which is not 8 aligned bytes of shared memory", fmt::ptr(barrier)));
  if (count < 1 || count >= 1 << 20) stop(fmt::format("mbarrier.init of {} arrivals", count));
  check(at, 8, Access::kWrite);
  const auto engine = worker->num_threads + static_cast<int>(async().barriers.size());
  if (engine >= worker->num_threads + kEngines - 1 ||
      engine > 1023)  // the last one is visitors': cluster.cpp
    stop("more mbarriers than the emulator has engines for");
  AsyncBarrier fresh;
  fresh.count = fresh.pending = count;
  fresh.initialised = {static_cast<std::uint64_t>(current->index) << 22 |
                       static_cast<std::uint64_t>(current->clock) << 3};
  fresh.engine = engine;
  if (!async().barriers.emplace(at, std::move(fresh)).second)
    stop(fmt::format("mbarrier.init at {}, where there is one", name_of(at)));
}

void fence_mbarrier_init() {
  for (auto& [at, barrier] : async().barriers)
    if (static_cast<int>(barrier.initialised.thread()) == current->index) barrier.published = true;
}

void mbarrier_arrive(void* barrier) {
  arrive("mbarrier.arrive", barrier, 0);
}

void mbarrier_arrive_in(void* barrier, int rank) {
  if (rank == worker->rank) return mbarrier_arrive(barrier);
  const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(barrier) - worker->shared.base;
  in_block(rank, [&] {
    // what the visitor knows is what the one who sent it may tell
    arrive("mbarrier.arrive", reinterpret_cast<void*>(worker->shared.base + at), 0);
  });
  tick(*current);
}

void mbarrier_arrive_expect(void* barrier, std::uint32_t bytes) {
  if (bytes >= 1U << 20) stop(fmt::format("mbarrier.arrive.expect_tx of {} bytes", bytes));
  arrive("mbarrier.arrive.expect_tx", barrier, bytes);
}

void mbarrier_wait(void* at, unsigned parity) {
  AsyncBarrier& barrier = barrier_at("mbarrier.try_wait", at);
  while ((barrier.phase & 1) == (parity & 1)) {
    barrier.waiting.push_back(static_cast<std::uint16_t>(current->index));
    suspend([&] {
      return fmt::format("phase {} of the mbarrier at {}, which {} arrivals and {} bytes are missing to",
                         barrier.phase, name_of(reinterpret_cast<std::uintptr_t>(at)), barrier.pending,
                         barrier.bytes);
    });
  }
  if (barrier.settled != nullptr) learn(barrier);
}

void mbarrier_arrive_after_copies(void* at) {
  barrier_at("cp.async.mbarrier.arrive", at);
  auto groups = std::move(current->copies);
  current->copies.clear();
  const Order order = order_of_here();
  const Record writer{static_cast<std::uint64_t>(worker->block) << 32 |
                      static_cast<std::uint64_t>(current->index) << 22 |
                      static_cast<std::uint64_t>(current->clock) << 3};
  tick(*current);
  async().events.emplace_back([groups = std::move(groups), order, writer, at] {
    for (const auto& group : groups)
      for (const PendingCopy& copy : group) {
        std::array<char, 16> bytes{};
        std::memcpy(bytes.data(), reinterpret_cast<const void*>(copy.from), copy.from_size);
        land(copy.to, bytes.data(), copy.size, writer);
      }
    AsyncBarrier& barrier = async().barriers.at(reinterpret_cast<std::uintptr_t>(at));
    barrier.coming.merge(order);
    --barrier.pending;  // below 0: the phase never ends
    settle(barrier);
  });
}

void fence_proxy_async() {
  auto order = std::make_shared<Order>(order_of_here());
  max_into(order->fenced.data(), order->seen.data(), order->seen.size());
  if (worker->barrier_clock > 0)
    for (int i = 0; i < worker->num_threads; ++i) {
      auto& fenced = order->fenced[static_cast<std::size_t>(i)];
      fenced = std::max(fenced, worker->barrier_clock - 1);
    }
  current->order = std::move(order);
  tick(*current);
}

void named_barrier(int id, int threads, bool waits) {
  if (id < 0 || id > 15 || threads <= 0 || threads % 32 != 0 || threads > worker->num_threads)
    stop(fmt::format("bar {} of {} threads", id, threads));
  NamedBarrier& barrier = async().named[static_cast<std::size_t>(id)];
  if (barrier.arrived == 0) barrier.threads = threads;
  if (barrier.threads != threads)
    stop(fmt::format("bar {} of {} threads, to which others have come as {}", id, threads, barrier.threads));
  add_order_of_here(barrier.order, barrier.last_come);
  tick(*current);
  if (++barrier.arrived < threads) {
    if (!waits) return;
    barrier.waiting.push_back(static_cast<std::uint16_t>(current->index));
    suspend([&] {
      return fmt::format("named barrier {} of {} threads, to which {} have come", id, threads,
                         barrier.arrived);
    });
    return;
  }
  const auto order = std::make_shared<const Order>(std::move(barrier.order));
  for (const std::uint16_t index : barrier.waiting) worker->fibers[index].order = order;
  if (waits) current->order = order;
  barrier.order = {};
  barrier.last_come = nullptr;
  barrier.arrived = 0;
  wake_all(barrier.waiting);
}

void set_registers(int count, bool increase) {
  if (count < 24 || count > 256 || count % 8 != 0) stop(fmt::format("setmaxnreg of {}", count));
  meet_warp(
      increase ? "setmaxnreg.inc" : "setmaxnreg.dec", 0xffffffffU, nullptr, [](Lanes, unsigned) {}, false);
  Asynchronous& a = async();
  int& mine = a.registers[static_cast<std::size_t>(current->warp())];
  if (!increase) {
    if (count > mine) stop(fmt::format("setmaxnreg.dec from {} to {}", mine, count));
    mine = count;
    wake_all(a.waiting_for_registers);
    return;
  }
  if (count < mine) stop(fmt::format("setmaxnreg.inc from {} to {}", mine, count));
  const auto taken = [&] {
    int sum = 0;
    for (int warp = 0; warp * 32 < worker->num_threads; ++warp)
      sum += a.registers[static_cast<std::size_t>(warp)];
    return sum;
  };
  while (taken() - mine + count > a.register_limit) {
    a.waiting_for_registers.push_back(static_cast<std::uint16_t>(current->index));
    suspend([&] {
      return fmt::format("setmaxnreg.inc from {} to {}, of {} for all warps", mine, count, a.register_limit);
    });
  }
  mine = count;
}

void start_asynchronous() {
  Asynchronous& a = async();
  a = {};
  // what the compiler may give each thread, one block a multiprocessor
  const int each = std::min(255, 65536 / worker->num_threads / 8 * 8);
  a.registers.fill(each);
  a.register_limit = each * ((worker->num_threads + 31) / 32);
}

std::string left_asynchronous() {
  if (!async().events.empty())
    return fmt::format("the block exits with {} copies on their way", async().events.size());
  if (async().products > 0)
    return fmt::format("the block exits with {} wgmma of a warp on their way", async().products);
  return "";
}

}  // namespace cuda_emulation
