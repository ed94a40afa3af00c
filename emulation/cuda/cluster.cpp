// Clusters: blocks that run at the same time, and what a thread does to another block of its own.
#include <fmt/format.h>
#include <hopper.h>

#include <algorithm>

#include "streams.h"

namespace cuda_emulation {

namespace {

Order alone(Order order) {
  order.others.clear();
  return order;
}

/// What somebody of block `from` knows, as one of block `to` would say it.
Order seen_from(const Order& mine, std::size_t from, std::size_t to, std::size_t blocks) {
  Order order = to < mine.others.size() ? mine.others[to] : Order{};
  order.others = mine.others;
  order.others.resize(blocks);
  order.others[from] = alone(mine);
  order.others[to] = {};
  return order;
}

}  // namespace

Order order_for_others() {
  Order order = order_of_here();
  for (int i = 0; i < worker->num_threads && worker->barrier_clock > 0; ++i) {
    auto& seen = order.seen[static_cast<std::size_t>(i)];
    seen = std::max(seen, worker->barrier_clock - 1);
  }
  return order;
}

void in_block(int rank, const std::function<void()>& f) {
  Worker* const home = worker;
  Fiber* const sender = current;
  const auto& blocks = home->cluster->blocks;
  if (rank < 0 || rank >= static_cast<int>(blocks.size()))
    stop(fmt::format("block {} of a cluster of {}", rank, blocks.size()));
  Worker& there = *blocks[static_cast<std::size_t>(rank)];
  if (there.exited == there.num_threads)
    stop(fmt::format("shared memory of block {} of the cluster, which has exited", rank));
  // Somebody who is no thread of it, and knows of it what the sender does: no barrier of the block itself.
  Fiber visitor;
  visitor.here = sender->here;
  visitor.index = there.num_threads + kEngines - 1;
  Order order = seen_from(order_for_others(), static_cast<std::size_t>(home->rank),
                          static_cast<std::size_t>(rank), blocks.size());
  order.seen.resize(static_cast<std::size_t>(there.num_threads + kEngines));
  order.fenced.resize(order.seen.size());
  visitor.order = std::make_shared<const Order>(std::move(order));
  const std::uint32_t barrier_clock = there.barrier_clock;
  there.barrier_clock = 0;
  worker = &there;
  current = &visitor;
  f();
  worker = home;
  current = sender;
  there.barrier_clock = barrier_clock;
}

int rank_in_cluster() {
  return worker->rank;
}

void cluster_barrier() {
  Cluster& all = *worker->cluster;
  all.coming.resize(all.blocks.size());
  all.coming[static_cast<std::size_t>(worker->rank)].merge(order_for_others());
  tick(*current);
  all.waiting.emplace_back(worker, static_cast<std::uint16_t>(current->index));
  std::size_t threads = 0;
  for (const Worker* block : all.blocks) threads += static_cast<std::size_t>(block->num_threads);
  if (all.waiting.size() < threads) {
    suspend([&] {
      return fmt::format("the cluster's barrier, to which {} threads of {} have come", all.waiting.size(),
                         threads);
    });
    return;
  }
  std::vector<std::shared_ptr<const Order>> known;
  for (std::size_t rank = 0; rank < all.blocks.size(); ++rank) {
    Order order = alone(all.coming[rank]);
    for (std::size_t other = 0; other < all.blocks.size(); ++other)
      order.others.push_back(other == rank ? Order{} : alone(all.coming[other]));
    known.push_back(std::make_shared<const Order>(std::move(order)));
  }
  Worker* const home = worker;
  for (const auto& [block, index] : all.waiting) {
    worker = block;
    Fiber& fiber = block->fibers[index];
    fiber.order = known[static_cast<std::size_t>(block->rank)];
    if (&fiber != current) wake(fiber);
  }
  worker = home;
  all.coming.clear();
  all.waiting.clear();
}

void set_cluster(const void* kernel, int blocks) {
  const std::lock_guard lock(runtime().mutex);
  runtime().clusters[kernel] = blocks;
}

}  // namespace cuda_emulation
