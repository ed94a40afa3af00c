// What nearly all accesses of kernels are, decided where they are made: a thread's own local memory, and
// whole granules of shared and global memory that are allocated, written if they are read, and that nobody
// near has touched. What is none of that check() has to look at. (This in front of it makes kernels of
// products several times as fast.)
#pragma once

#include "state.h"

namespace cuda_emulation {

/// Whether who was here before (0: nobody) came before: by an earlier launch, in program order, or with the
/// block's last barrier between. False: maybe. `mine` has the bits of the running thread.
inline bool surely_before(Record before, bool shared, Record mine, const Worker& w) {
  if (before.bits == 0) return true;
  if (before.block() == mine.block())
    return before.thread() == mine.thread() ||
           (static_cast<int>(before.thread()) < w.num_threads && before.clock() < w.barrier_clock);
  return shared || before.block() - w.launch->first_block >= (1U << 31);
}

/// The same, and false only where a check has to stop the block: what barriers of all kinds have handed on
/// counts.
inline bool came_before(Record before, bool shared, Record mine, const Worker& w) {
  return surely_before(before, shared, mine, w) || (before.block() == mine.block() && ordered(before));
}

inline Record record_of(const Fiber& fiber, const Worker& w, unsigned bytes, bool atomic) {
  return {static_cast<std::uint64_t>(w.block) << 32 | static_cast<std::uint64_t>(fiber.index) << 22 |
          static_cast<std::uint64_t>(fiber.clock) << 3 | bytes << 1 | (atomic ? 1U : 0U)};
}

/// True where an access of `size` bytes, not an atomic one, is surely allowed, and then it is recorded; false
/// where check_granule has to look, granule by granule.
inline bool pass_quickly(const Arena& arena, const Worker& w, const Fiber& me, bool shared,
                         std::uintptr_t address, std::size_t size, Access access) {
  if (((address | size) & (kGranule - 1)) != 0) return false;
  const std::size_t first = arena.granule(address), end = first + size / kGranule;
  constexpr std::uint8_t kGood = kAllocated | kWritten;
  unsigned bad = 0;
  for (std::size_t g = first; g < end; ++g)
    bad |= __atomic_load_n(&arena.states[g], __ATOMIC_RELAXED) ^ kGood;
  if (bad != 0) return false;
  const Record mine = record_of(me, w, kAllocated, false);
  for (std::size_t g = first; g < end; ++g) {
    Cell& cell = arena.cells[g];
    const Record reader{cell.reader.load(std::memory_order_relaxed)};
    if (access == Access::kRead && reader.bits == mine.bits) continue;
    if (!came_before({cell.writer.load(std::memory_order_relaxed)}, shared, mine, w)) return false;
    if (access == Access::kRead) {
      if (reader.block() == mine.block() && reader.thread() / 32 != mine.thread() / 32)
        cell.other_reader.store(reader.bits, std::memory_order_relaxed);
      cell.reader.store(mine.bits, std::memory_order_relaxed);
    } else {
      if (!came_before(reader, shared, mine, w) ||
          !came_before({cell.other_reader.load(std::memory_order_relaxed)}, shared, mine, w))
        return false;
      cell.writer.store(mine.bits, std::memory_order_relaxed);
    }
  }
  return true;
}

/// An access of the running thread, if there is one: recorded, or its block is stopped.
template <Access kAccess>
inline void seen(const volatile void* at, std::size_t size) {
  const Fiber* me = current;
  if (me == nullptr) return;
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  if (address - me->stack < kStackBytes) return;
  const Worker& w = *worker;
  if (w.shared.holds(address)) {
    if (w.checks && (kAccess == Access::kRead || w.async.products == 0) &&
        pass_quickly(w.shared, w, *me, true, address, size, kAccess))
      return;
  } else if (w.global.holds(address)) {
    if (w.checks && me->may_touch_global && pass_quickly(w.global, w, *me, false, address, size, kAccess))
      return;
  } else if (kAccess == Access::kRead && address - reinterpret_cast<std::uintptr_t>(me) < sizeof(Fiber)) {
    return;  // threadIdx and the like
  }
  if (!stopping) check(address, size, kAccess);
}

}  // namespace cuda_emulation
