// Tensor maps, and the copies by them.
#include <fmt/format.h>
#include <hopper.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "state.h"

namespace cuda_emulation {

namespace {

/// What the 128 bytes hold.
struct Tiled {
  std::uintptr_t data;
  std::uint32_t magic, rank;
  std::array<cuuint64_t, 5> dims, strides;  // strides in bytes, of an element first
  std::array<std::uint16_t, 5> box;
  bool swizzled;
};
static_assert(sizeof(Tiled) <= sizeof(CUtensorMap));
constexpr std::uint32_t kMagic = 0x746d6170;

int size_of(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8:
      return 1;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
      return 2;
    case CU_TENSOR_MAP_DATA_TYPE_UINT32:
    case CU_TENSOR_MAP_DATA_TYPE_INT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
      return 4;
    case CU_TENSOR_MAP_DATA_TYPE_UINT64:
    case CU_TENSOR_MAP_DATA_TYPE_INT64:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT64:
      return 8;
  }
  return 0;
}

/// Calls f(byte of the box, its global address, whether it is of the tensor) for every 16 bytes.
template <typename F>
void for_each_16(const Tiled& map, const int* at, const F& f) {
  std::array<std::uint32_t, 5> i{};
  const auto element = static_cast<std::uint32_t>(map.strides[0]);
  for (std::size_t byte = 0;;) {
    bool inside = true;
    std::uintptr_t row = map.data;
    for (std::uint32_t d = 1; d < map.rank; ++d) {
      const std::int64_t place = std::int64_t{at[d]} + i[d];
      inside = inside && place >= 0 && place < static_cast<std::int64_t>(map.dims[d]);
      row += static_cast<std::uintptr_t>(place) * map.strides[d];
    }
    for (std::uint32_t c = 0; c < map.box[0] * element; c += 16, byte += 16) {
      const std::int64_t first = std::int64_t{at[0]} + c / element;
      const std::int64_t size = static_cast<std::int64_t>(map.dims[0]);
      // what lies across the end is 0 by the element
      const std::int64_t n =
          inside && first >= 0 ? std::clamp<std::int64_t>(size - first, 0, 16 / element) : 0;
      f(byte, row + static_cast<std::uintptr_t>(first) * element, static_cast<std::size_t>(n) * element);
    }
    std::uint32_t d = 1;
    while (d < map.rank && ++i[d] == map.box[d]) i[d++] = 0;
    if (d >= map.rank) return;
  }
}

Tiled tiled_of(const CUtensorMap* map, int rank) {
  Tiled tiled;
  std::memcpy(&tiled, map, sizeof tiled);
  if (reinterpret_cast<std::uintptr_t>(map) % 64 != 0 || tiled.magic != kMagic)
    stop("TMA by what is no tensor map");
  if (rank != static_cast<int>(tiled.rank))
    stop(fmt::format("TMA of {} dimensions by a map of {}", rank, tiled.rank));
  check_waited("TMA of global memory");
  return tiled;
}

/// Where a byte of a box is that begins there in shared memory.
std::uintptr_t place_of(const Tiled& map, std::uintptr_t box, std::size_t byte) {
  const std::uintptr_t plain = box + byte;
  return map.swizzled ? plain ^ ((plain >> 7 & 7) << 4) : plain;
}

void check_tensor(std::uintptr_t at, std::size_t n, const char* what) {
  const Arena& global = global_memory();
  for (std::size_t i = 0; i < n; ++i)
    if (!global.holds(at + i) || (global.states[global.granule(at + i)] >> (at + i) % kGranule & 1) == 0)
      stop(fmt::format("TMA {} {:#x}, out of bounds: {}", what, at + i, describe_global(at + i)));
}

/// To the block that is `worker` now.
void begin_to_load(const Tiled& tiled, std::uintptr_t target, std::uintptr_t barrier,
                   const std::array<int, 5>& place) {
  if (target % 128 != 0)
    stop(fmt::format("TMA to {}, which is not at a multiple of 128 bytes", name_of(target)));
  const auto found = worker->async.barriers.find(barrier);
  if (found == worker->async.barriers.end())
    stop(fmt::format("TMA to complete on {}, where no mbarrier was initialised", name_of(barrier)));
  AsyncBarrier& completes = found->second;
  if (!ordered(completes.initialised))
    stop("race: TMA to complete on an mbarrier whose initialisation may come later");
  if (!completes.published)
    stop("TMA to complete on an mbarrier whose initialisation was not fenced (fence.mbarrier_init)");
  const auto where = [tiled, target](std::size_t byte) { return place_of(tiled, target, byte); };
  std::size_t bytes = 0;
  for_each_16(tiled, place.data(), [&](std::size_t byte, std::uintptr_t from, std::size_t n) {
    check_tensor(from, n, "from");  // values that nobody wrote may be copied: they are not numbers
    check_asynchronous("TMA", where(byte), 16, Access::kWrite);
    for (std::size_t i = 0; i < 16; i += kGranule)
      worker->shared.states[worker->shared.granule(where(byte) + i)] |= kPending;
    bytes = byte + 16;
  });
  const auto key = found->first;
  worker->async.events.emplace_back([tiled, place, where, bytes, key] {
    AsyncBarrier& completing = worker->async.barriers.at(key);
    const Record writer{static_cast<std::uint64_t>(worker->block) << 32 |
                        static_cast<std::uint64_t>(completing.engine) << 22 |
                        static_cast<std::uint64_t>(completing.engine_clock) << 3};
    for_each_16(tiled, place.data(), [&](std::size_t byte, std::uintptr_t from, std::size_t n) {
      std::array<std::uint8_t, 16> chunk{};
      std::memcpy(chunk.data(), reinterpret_cast<const void*>(from), n);
      const Arena& global = global_memory();
      for (std::size_t i = 0; checks_are_on() && i < n; ++i)
        if ((global.states[global.granule(from + i)] >> (2 + (from + i) % kGranule) & 1) == 0)
          chunk[i] = 0xff;
      land(where(byte), chunk.data(), 16, writer);
    });
    completing.coming.seen.resize(static_cast<std::size_t>(worker->num_threads + kEngines));
    completing.coming.seen[static_cast<std::size_t>(completing.engine)] = completing.engine_clock++;
    completing.bytes -= static_cast<std::int64_t>(bytes);
    settle(completing);
  });
}

}  // namespace

void tma_load(void* to, const CUtensorMap* map, void* barrier, int rank, const int* at, unsigned blocks) {
  const Tiled tiled = tiled_of(map, rank);
  std::array<int, 5> place{};
  std::copy(at, at + rank, place.begin());
  const auto target = reinterpret_cast<std::uintptr_t>(to),
             of_barrier = reinterpret_cast<std::uintptr_t>(barrier);
  if (blocks == 0) return begin_to_load(tiled, target, of_barrier, place);
  if (blocks >> worker->cluster->blocks.size() != 0)
    stop(fmt::format("TMA to blocks {:#x} of a cluster of {}", blocks, worker->cluster->blocks.size()));
  const std::uintptr_t base = worker->shared.base;
  for (int other = 0; blocks >> other != 0; ++other) {
    if ((blocks >> other & 1) == 0) continue;
    if (other == worker->rank)
      begin_to_load(tiled, target, of_barrier, place);
    else
      in_block(other, [&] {
        begin_to_load(tiled, target - base + worker->shared.base, of_barrier - base + worker->shared.base,
                      place);
      });
  }
}

// --- Stores. A thread waits for its own, by groups: shared memory is read then, at the last moment, and
// until then nobody may write it; global memory has them when it waits for more than that, or when the block
// is over, and until then nobody may touch it.

void tma_store(const CUtensorMap* map, const void* from, int rank, const int* at) {
  const Tiled tiled = tiled_of(map, rank);
  const auto source = reinterpret_cast<std::uintptr_t>(from);
  if (source % 128 != 0)
    stop(fmt::format("TMA from {}, which is not at a multiple of 128 bytes", name_of(source)));
  PendingStore store;
  for_each_16(tiled, at, [&](std::size_t byte, std::uintptr_t to, std::size_t n) {
    const std::uintptr_t place = place_of(tiled, source, byte);
    check_asynchronous("TMA", place, 16, Access::kRead);
    if (n == 0) return;  // beyond the tensor nothing is written
    check_tensor(to, n, "to");
    check(to, n, Access::kWrite);
    store.pieces.push_back({place, to, n, {}});
  });
  const Arena &shared = worker->shared, &global = global_memory();
  for (const auto& piece : store.pieces)
    for (std::size_t i = 0; i < 16; i += kGranule) {
      shared.states[shared.granule(piece.from + i)] |= kLeaving;
      if (i < piece.n)
        __atomic_fetch_or(&global.states[global.granule(piece.to + i)], kPending, __ATOMIC_RELAXED);
    }
  if (current->stores.empty()) current->stores.emplace_back();
  current->stores.back().stores.push_back(std::move(store));
}

void commit_stores() {
  if (current->stores.empty()) current->stores.emplace_back();
  current->stores.emplace_back();
}

namespace {

void read_boxes(StoreGroup& group) {
  const Arena& shared = worker->shared;
  for (PendingStore& store : group.stores)
    for (auto& piece : store.pieces) {
      std::memcpy(piece.bytes.data(), reinterpret_cast<const void*>(piece.from), 16);
      for (std::size_t i = 0; i < 16; i += kGranule)
        shared.states[shared.granule(piece.from + i)] &= static_cast<std::uint8_t>(~kLeaving);
      check(piece.from, 16,
            Access::kRead);  // by this thread, now: others may write it after a barrier from here
    }
  group.was_read = true;
}

/// What was read comes to global memory (writer: whom others find there); what was not, of a block that was
/// stopped, is given up.
void write_boxes(const StoreGroup& group, Record writer) {
  const Arena& global = global_memory();
  for (const PendingStore& store : group.stores)
    for (const auto& piece : store.pieces) {
      if (group.was_read) std::memcpy(reinterpret_cast<void*>(piece.to), piece.bytes.data(), piece.n);
      for (std::size_t i = 0; i < piece.n; i += kGranule) {
        __atomic_fetch_and(&global.states[global.granule(piece.to + i)], static_cast<std::uint8_t>(~kPending),
                           __ATOMIC_RELAXED);
        global.cells[global.granule(piece.to + i)].writer.store(writer.bits, std::memory_order_relaxed);
      }
    }
}

Record writer_of(const Fiber& fiber) {
  return {static_cast<std::uint64_t>(worker->block) << 32 | static_cast<std::uint64_t>(fiber.index) << 22 |
          static_cast<std::uint64_t>(fiber.clock) << 3 | 3 << 1};
}

}  // namespace

void wait_stores(int groups, bool read) {
  auto& all = current->stores;
  // The last one is open: what was put there since the last commit is not waited for.
  const auto done = std::max<std::ptrdiff_t>(0, static_cast<std::ptrdiff_t>(all.size()) - 1 - groups);
  for (auto group = all.begin(); group != all.begin() + done; ++group) {
    if (!group->was_read) read_boxes(*group);
    if (!read) write_boxes(*group, writer_of(*current));
  }
  if (!read) all.erase(all.begin(), all.begin() + done);
}

void check_stores_were_read() {
  std::size_t left = 0;
  for (const StoreGroup& group : current->stores) left += group.was_read ? 0 : group.stores.size();
  if (left > 0) stop(fmt::format("exits with {} stores by TMA that have yet to read shared memory", left));
}

void land_stores(Fiber& fiber) {
  for (const StoreGroup& group : fiber.stores) write_boxes(group, writer_of(fiber));
  fiber.stores.clear();
}

}  // namespace cuda_emulation

using namespace cuda_emulation;

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* data,
                                const cuuint64_t* dims, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* element_strides, CUtensorMapInterleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  const auto element = static_cast<cuuint64_t>(size_of(type));
  if (map == nullptr || reinterpret_cast<std::uintptr_t>(map) % 64 != 0 || rank < 1 || rank > 5 ||
      element == 0 || data == nullptr || reinterpret_cast<std::uintptr_t>(data) % 16 != 0)
    return CUDA_ERROR_INVALID_VALUE;
  Tiled tiled{reinterpret_cast<std::uintptr_t>(data), kMagic, rank, {}, {}, {},
              swizzle == CU_TENSOR_MAP_SWIZZLE_128B};
  for (cuuint32_t d = 0; d < rank; ++d) {
    const cuuint64_t stride = d == 0 ? element : strides[d - 1];
    if (dims[d] == 0 || dims[d] > cuuint64_t{1} << 32 || box[d] == 0 || box[d] > 256 ||
        element_strides[d] != 1 || (d > 0 && (stride % 16 != 0 || stride >= cuuint64_t{1} << 40)))
      return CUDA_ERROR_INVALID_VALUE;
    tiled.dims[d] = dims[d];
    tiled.strides[d] = stride;
    tiled.box[d] = static_cast<std::uint16_t>(box[d]);
  }
  // the emulator swizzles rows of 128 bytes alone
  if (box[0] * element % 16 != 0 || (tiled.swizzled && box[0] * element != 128))
    return CUDA_ERROR_INVALID_VALUE;
  std::memset(map, 0, sizeof *map);
  std::memcpy(map, &tiled, sizeof tiled);
  return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned version,
                                             unsigned long long, cudaDriverEntryPointQueryResult* found) {
  const bool known = std::string_view(symbol) == "cuTensorMapEncodeTiled" && version >= 12000;
  *function = known ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled) : nullptr;
  if (found != nullptr) *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
