// What warps of a block meet by other than __syncthreads: mbarriers, named barriers, proxies, registers.
#include <fmt/format.h>
#include <hopper.h>

#include <algorithm>

#include "state.h"

namespace cuda_emulation {

void Order::merge(const Order& other) {
  seen.resize(std::max(seen.size(), other.seen.size()));
  fenced.resize(std::max(fenced.size(), other.fenced.size()));
  for (std::size_t i = 0; i < other.seen.size(); ++i) seen[i] = std::max(seen[i], other.seen[i]);
  for (std::size_t i = 0; i < other.fenced.size(); ++i) fenced[i] = std::max(fenced[i], other.fenced[i]);
  others.resize(std::max(others.size(), other.others.size()));
  for (std::size_t i = 0; i < other.others.size(); ++i) others[i].merge(other.others[i]);
}

Order order_of_here() {
  const Fiber& me = *current;
  Order order = me.order != nullptr ? *me.order : Order{};
  const auto size = static_cast<std::size_t>(worker->num_threads + kEngines);
  order.seen.resize(size);
  order.fenced.resize(size);
  for (int lane = 0; lane < 32 && me.warp() * 32 + lane < worker->num_threads; ++lane) {
    auto& seen = order.seen[static_cast<std::size_t>(me.warp() * 32 + lane)];
    seen = std::max(seen, me.known[static_cast<std::size_t>(lane)]);
  }
  order.seen[static_cast<std::size_t>(me.index)] = me.clock;
  return order;
}

void share_orders(const std::vector<Fiber*>& fibers) {
  std::vector<const Order*> distinct;
  for (const Fiber* fiber : fibers)
    if (fiber->order != nullptr && std::ranges::find(distinct, fiber->order.get()) == distinct.end())
      distinct.push_back(fiber->order.get());
  if (distinct.empty()) return;
  auto all = std::make_shared<Order>();
  for (const Order* order : distinct) all->merge(*order);
  for (Fiber* fiber : fibers) fiber->order = all;
}

namespace {

Asynchronous& async() {
  return worker->async;
}

void learn(const Order& order) {
  auto all = std::make_shared<Order>(order);
  if (current->order != nullptr) all->merge(*current->order);
  current->order = std::move(all);
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
  barrier.coming.merge(order_of_here());
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
    suspend(fmt::format("phase {} of the mbarrier at {}, which {} arrivals and {} bytes are missing to",
                        barrier.phase, name_of(reinterpret_cast<std::uintptr_t>(at)), barrier.pending,
                        barrier.bytes));
  }
  if (barrier.settled != nullptr) learn(*barrier.settled);
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
  for (std::size_t i = 0; i < order->seen.size(); ++i) {
    std::uint32_t seen = order->seen[i];
    if (i < static_cast<std::size_t>(worker->num_threads) && worker->barrier_clock > 0)
      seen = std::max(seen, worker->barrier_clock - 1);
    order->fenced[i] = std::max(order->fenced[i], seen);
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
  barrier.order.merge(order_of_here());
  tick(*current);
  if (++barrier.arrived < threads) {
    if (!waits) return;
    barrier.waiting.push_back(static_cast<std::uint16_t>(current->index));
    suspend(
        fmt::format("named barrier {} of {} threads, to which {} have come", id, threads, barrier.arrived));
    return;
  }
  const auto order = std::make_shared<const Order>(std::move(barrier.order));
  for (const std::uint16_t index : barrier.waiting) worker->fibers[index].order = order;
  if (waits) current->order = order;
  barrier.order = {};
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
    suspend(fmt::format("setmaxnreg.inc from {} to {}, of {} for all warps", mine, count, a.register_limit));
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
