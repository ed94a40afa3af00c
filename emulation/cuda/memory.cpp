// The shadow of memory, and every check of an access.
#include <fmt/format.h>
#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#include "access.h"

namespace cuda_emulation {

namespace {

constexpr std::size_t kGlobalBytes = std::size_t{64} << 30;
constexpr std::size_t kRedZone = 512;

void* reserve(std::size_t size) {
  void* at =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  return at;
}

struct Heap {
  std::mutex mutex;
  Arena arena = make_arena(kGlobalBytes);
  std::uintptr_t next = arena.base + kRedZone;
  std::map<std::uintptr_t, std::size_t> blocks;     // what is allocated
  std::multimap<std::size_t, std::uintptr_t> kept;  // by the bytes they take
  std::size_t bytes = 0;
};
Heap& heap() {
  static Heap heap;
  return heap;
}

/// What an allocation takes, the red zone behind it too.
std::size_t taken(std::size_t size) {
  return (size + kRedZone + 511) / 512 * 512;
}

/// The whole pages among these bytes: what shares one with a neighbour stays.
void give_pages_back(std::uintptr_t begin, std::size_t size) {
  const std::uintptr_t first = (begin + 4095) / 4096 * 4096, end = (begin + size) / 4096 * 4096;
  ::madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
}

/// Constants of the program and its libraries: kernels may read them.
struct ReadOnly {
  std::vector<std::pair<std::uintptr_t, std::uintptr_t>> ranges;
  ReadOnly() {
    ::dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* self) {
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            const auto& header = info->dlpi_phdr[i];
            // of the relocated constants, too, which are in a segment that was writable
            if ((header.p_type != PT_LOAD || (header.p_flags & PF_W) != 0) && header.p_type != PT_GNU_RELRO)
              continue;
            const std::uintptr_t begin = info->dlpi_addr + header.p_vaddr;
            static_cast<ReadOnly*>(self)->ranges.emplace_back(begin, begin + header.p_memsz);
          }
          return 0;
        },
        this);
  }
  bool hold(std::uintptr_t address) const {
    return std::ranges::any_of(ranges, [&](auto& r) { return r.first <= address && address < r.second; });
  }
};

const char* verb(Access access) {
  return access == Access::kRead ? "read" : access == Access::kWrite ? "write" : "atomic";
}

std::string describe_shared(std::uintptr_t address) {
  std::string best = fmt::format("{} bytes of dynamic shared memory", worker->dynamic_bytes);
  std::uintptr_t end = worker->shared.base + worker->dynamic_bytes;
  for (const auto& site : worker->sites)
    if (site.at <= address && site.at + site.size > end) {
      end = site.at + site.size;
      best = fmt::format("shared memory {} of {} bytes", site.name, site.size);
    }
  return fmt::format("{} bytes beyond {}", address - end, best);
}

/// Whether an earlier access and this one may have happened the other way round.
bool races(Record before, bool shared, unsigned bytes, bool atomic) {
  if (before.bits == 0 || (before.bytes() & bytes) == 0 || (before.is_atomic() && atomic)) return false;
  if (before.block() == worker->block) return !ordered(before);
  return !shared && before.block() - worker->launch->first_block < (1U << 31);  // else of an earlier launch
}

[[noreturn]] void stop_race(std::uintptr_t address, std::size_t size, Access access, Record before,
                            bool wrote) {
  const auto& block = worker->launch->launch.block;
  const std::uint32_t t = before.thread();
  if (before.block() == worker->block && static_cast<int>(t) >= worker->num_threads)
    stop(fmt::format("race: {} of {} bytes at {}, which a TMA copy wrote, without waiting for its mbarrier",
                     verb(access), size, name_of(address)));
  const dim3 other(t % block.x, t / block.x % block.y, t / block.x / block.y);
  const std::string where =
      before.block() == worker->block
          ? std::string("of this block")
          : fmt::format("of block {} of the grid", before.block() - worker->launch->first_block);
  stop(fmt::format("race: {} of {} bytes at {}, which thread ({}, {}, {}) {} {} without a barrier between",
                   verb(access), size, name_of(address), other.x, other.y, other.z, where,
                   before.is_atomic() ? "changed atomically"
                   : wrote            ? "wrote"
                                      : "read"));
}

void check_granule(const Arena& arena, bool shared, std::uintptr_t address, std::size_t size, Access access,
                   std::size_t granule, unsigned bytes) {
  std::uint8_t& state = arena.states[granule];
  const std::uint8_t now = __atomic_load_n(&state, __ATOMIC_RELAXED);
  if ((now & bytes) != bytes) {
    const std::uintptr_t at = std::max(address, arena.base + granule * kGranule);
    stop(fmt::format("{} of {} bytes at {:#x}, out of bounds: {}", verb(access), size, address,
                     shared ? describe_shared(at) : describe_global(at)));
  }
  if ((now & kPending) != 0)
    stop(fmt::format("{} of {} bytes at {} while an asynchronous copy is on its way there", verb(access),
                     size, name_of(address)));
  if (access != Access::kRead && (now & kLeaving) != 0)
    stop(fmt::format("{} of {} bytes at {}, which a store by TMA on its way still reads", verb(access), size,
                     name_of(address)));
  if (access != Access::kWrite && (now >> 2 & bytes) != bytes)
    stop(fmt::format("{} of {} bytes at {}, which is uninitialised", verb(access), size, name_of(address)));
  Cell& cell = arena.cells[granule];
  const bool atomic = access == Access::kAtomic;
  const Record writer{cell.writer.load(std::memory_order_relaxed)};
  Record mine = record_of(*current, *worker, bytes, atomic);
  if (races(writer, shared, bytes, atomic)) stop_race(address, size, access, writer, true);
  if (access == Access::kRead) {
    const Record reader{cell.reader.load(std::memory_order_relaxed)};
    if (reader.bits == mine.bits) return;
    if (reader.block() == mine.block() && reader.thread() / 32 != mine.thread() / 32)
      cell.other_reader.store(reader.bits, std::memory_order_relaxed);
    if (reader.block() == mine.block() && reader.thread() == mine.thread() && reader.clock() == mine.clock())
      mine.bits |= reader.bytes() << 1;
    cell.reader.store(mine.bits, std::memory_order_relaxed);
    return;
  }
  for (const auto* slot : {&cell.reader, &cell.other_reader}) {
    const Record reader{slot->load(std::memory_order_relaxed)};
    if (races(reader, shared, bytes, atomic)) stop_race(address, size, access, reader, false);
  }
  if ((now >> 2 & bytes) != bytes)
    __atomic_fetch_or(&state, static_cast<std::uint8_t>(bytes << 2), __ATOMIC_RELAXED);
  if (writer.block() == mine.block() && writer.thread() == mine.thread() && writer.clock() == mine.clock() &&
      writer.is_atomic() == atomic)
    mine.bits |= writer.bytes() << 1;
  cell.writer.store(mine.bits, std::memory_order_relaxed);
}

}  // namespace

std::string name_of(std::uintptr_t address) {
  if (!worker->shared.holds(address)) return fmt::format("global memory {:#x}", address);
  for (const auto& site : worker->sites)
    if (address - site.at < site.size)
      return fmt::format("shared memory {}, byte {}", site.name, address - site.at);
  return fmt::format("dynamic shared memory, byte {}", address - worker->shared.base);
}

bool ordered(Record before) {
  const auto thread = static_cast<int>(before.thread());
  if (thread == current->index) return true;
  const Order* order = current->order.get();
  if (order != nullptr && before.clock() <= order->seen[static_cast<std::size_t>(thread)]) return true;
  if (thread >= worker->num_threads) return false;  // an engine, whose clock is its own
  if (before.clock() < worker->barrier_clock) return true;
  return thread / 32 == current->warp() &&
         before.clock() <= current->known[static_cast<std::size_t>(thread % 32)];
}

void check_asynchronous(const char* what, std::uintptr_t address, std::size_t size, Access access) {
  const Arena& arena = worker->shared;
  if (!arena.holds(address) || !arena.holds(address + size - 1))
    stop(fmt::format("{} at {:#x}, which is not shared memory", what, address));
  for (std::uintptr_t at = address; checks_are_on() && at < address + size; at += kGranule) {
    if ((arena.states[arena.granule(at)] & kPending) != 0) break;  // which is told below
    const Record writer{arena.cells[arena.granule(at)].writer.load(std::memory_order_relaxed)};
    if (writer.bits == 0 || writer.block() != worker->block ||
        static_cast<int>(writer.thread()) >= worker->num_threads)
      continue;
    const Order* order = current->order.get();
    if (order == nullptr || writer.clock() > order->fenced[writer.thread()])
      stop(fmt::format("{} at {}, which thread {} wrote without a fence.proxy.async between", what,
                       name_of(at), writer.thread()));
  }
  check(address, size, access);
}

void land(std::uintptr_t to, const void* from, std::size_t size, Record writer) {
  const Arena& arena = worker->shared;
  std::memcpy(reinterpret_cast<void*>(to), from, size);
  for (std::uintptr_t at = to; at < to + size; at += kGranule) {
    std::uint8_t& state = arena.states[arena.granule(at)];
    state = static_cast<std::uint8_t>((state & ~kPending) | kWritten);
    Cell& cell = arena.cells[arena.granule(at)];
    cell.writer.store(writer.bits | 3 << 1, std::memory_order_relaxed);
    cell.reader.store(0, std::memory_order_relaxed);
    cell.other_reader.store(0, std::memory_order_relaxed);
  }
}

Arena make_arena(std::size_t size) {
  Arena arena;
  arena.size = size;
  arena.base = reinterpret_cast<std::uintptr_t>(reserve(size));
  arena.states = static_cast<std::uint8_t*>(reserve(size / kGranule));
  arena.cells = static_cast<Cell*>(reserve(size / kGranule * sizeof(Cell)));
  return arena;
}

void mark(const Arena& arena, const void* from, std::size_t size, bool allocated, bool written) {
  const auto begin = reinterpret_cast<std::uintptr_t>(from), end = begin + size;
  const auto bits = static_cast<std::uint8_t>((allocated ? 1 : 0) | (written ? 1 << 2 : 0));
  for (std::uintptr_t at = begin; at < end;) {
    std::uint8_t& state = arena.states[arena.granule(at)];
    if (at % kGranule == 0 && end - at >= kGranule) {
      const std::size_t whole = (end - at) / kGranule;
      std::memset(&state, bits * 3, whole);
      at += whole * kGranule;
    } else {
      const unsigned byte = at % kGranule;
      state = static_cast<std::uint8_t>((state & ~(5U << byte)) | static_cast<unsigned>(bits) << byte);
      ++at;
    }
  }
}

void release(const Arena& arena) {
  ::munmap(reinterpret_cast<void*>(arena.base), arena.size);
  ::munmap(arena.states, arena.size / kGranule);
  ::munmap(arena.cells, arena.size / kGranule * sizeof(Cell));
}

const Arena& global_memory() {
  return heap().arena;
}

void* allocate(std::size_t size, bool host_reaches_it) {
  Heap& h = heap();
  const std::lock_guard lock(h.mutex);
  const std::size_t take = taken(size);
  std::uintptr_t at = h.next;
  if (const auto found = h.kept.find(take); found != h.kept.end()) {
    at = found->second;
    h.kept.erase(found);
  } else {
    if (h.next + take > h.arena.base + h.arena.size) return nullptr;
    h.next += take;
  }
  h.blocks[at] = size;
  h.bytes += size;
  auto* memory = reinterpret_cast<void*>(at);
  if (!host_reaches_it) std::memset(memory, 0xff, size);  // not a number: whoever trusts it shall see
  mark(h.arena, memory, size, true, host_reaches_it);
  return memory;
}

bool release(void* pointer) {
  Heap& h = heap();
  const std::lock_guard lock(h.mutex);
  const auto found = h.blocks.find(reinterpret_cast<std::uintptr_t>(pointer));
  if (found == h.blocks.end()) return false;
  const std::size_t take = taken(found->second);
  mark(h.arena, pointer, take, false, false);
  if (take > (std::size_t{1} << 20)) {  // pages go back: the shadow is many times the memory
    give_pages_back(found->first, take);
    give_pages_back(reinterpret_cast<std::uintptr_t>(h.arena.cells + h.arena.granule(found->first)),
                    take / kGranule * sizeof(Cell));
  }
  h.kept.emplace(take, found->first);
  h.bytes -= found->second;
  h.blocks.erase(found);
  return true;
}

std::size_t allocated_bytes() {
  return heap().bytes;
}

std::string describe_global(std::uintptr_t address) {
  Heap& h = heap();
  const std::lock_guard lock(h.mutex);
  auto after = h.blocks.upper_bound(address);
  if (after != h.blocks.begin()) {
    const auto& [at, size] = *std::prev(after);
    if (address < at + size)
      return fmt::format("byte {} of an allocation of {} is forbidden", address - at, size);
    if (address < at + taken(size))
      return fmt::format("{} bytes beyond an allocation of {}", address - at - size, size);
  }
  if (after != h.blocks.end() && after->first - address < kRedZone)
    return fmt::format("{} bytes before an allocation of {}", after->first - address, after->second);
  return "it was freed, or never allocated";
}

bool is_allocated(const void* from, std::size_t size) {
  const Arena& arena = global_memory();
  const auto begin = reinterpret_cast<std::uintptr_t>(from);
  if (size == 0) return true;
  if (!arena.holds(begin) || !arena.holds(begin + size - 1)) return false;
  for (std::uintptr_t at = begin; at < begin + size; ++at)
    if ((arena.states[arena.granule(at)] >> at % kGranule & 1) == 0) return false;
  return true;
}

void copy_written(const void* from, void* to, std::size_t size) {
  const Arena& arena = global_memory();
  for (std::size_t i = 0; i < size; ++i) {
    const auto source = reinterpret_cast<std::uintptr_t>(from) + i,
               target = reinterpret_cast<std::uintptr_t>(to) + i;
    const unsigned bit = arena.states[arena.granule(source)] >> (2 + source % kGranule) & 1;
    std::uint8_t& state = arena.states[arena.granule(target)];
    state = static_cast<std::uint8_t>((state & ~(4U << target % kGranule)) | bit << (2 + target % kGranule));
  }
}

void forbid(const void* from, std::size_t size) {
  mark(global_memory(), from, size, false, false);
}

void forget(const void* from, std::size_t size) {
  mark(global_memory(), from, size, true, false);
}

bool checks_are_on() {
  static const bool on = [] {
    const char* value = std::getenv("HONE_CUDA_CHECK");
    return value == nullptr || std::string_view(value) != "0";
  }();
  return on;
}

/// current is not null.
void check(std::uintptr_t address, std::size_t size, Access access) {
  const auto stacks = reinterpret_cast<std::uintptr_t>(worker->stacks);
  if (address - stacks < kStackBytes * kMaxThreads) {
    if (static_cast<int>((address - stacks) / kStackBytes) != current->index)
      stop(fmt::format("{} of {} bytes in another thread's local memory", verb(access), size));
    return;
  }
  const bool shared = worker->shared.holds(address);
  if (!shared && !global_memory().holds(address)) {
    static const ReadOnly kConstants;
    const auto fibers = reinterpret_cast<std::uintptr_t>(worker->fibers.data());
    const auto arguments = reinterpret_cast<std::uintptr_t>(worker->launch->arguments.get());
    if (access == Access::kRead &&
        (address - arguments < worker->launch->size ||
         address - fibers < worker->fibers.size() * sizeof(Fiber) || kConstants.hold(address)))
      return;
    stop(fmt::format("{} of {} bytes at {:#x}, which is not device memory", verb(access), size, address));
  }
  if (!shared && !current->may_touch_global)
    check_waited(fmt::format("{} of {} bytes at {}", verb(access), size, name_of(address)));
  if (!checks_are_on()) return;
  if (shared && access != Access::kRead) check_products(verb(access), address, size);
  const Arena& arena = shared ? worker->shared : global_memory();
  if (access != Access::kAtomic && pass_quickly(arena, *worker, *current, shared, address, size, access))
    return;
  const std::uintptr_t end = address + size;
  for (std::uintptr_t at = address; at < end;) {
    const unsigned first = at % kGranule;
    const std::size_t here = std::min<std::size_t>(kGranule - first, end - at);
    check_granule(arena, shared, address, size, access, arena.granule(at), ((1U << here) - 1) << first);
    at += here;
  }
}

void touch(const void* address, std::size_t size, Access access) {
  if (current == nullptr) return;
  if (size <= 16 && reinterpret_cast<std::uintptr_t>(address) % size != 0)
    stop(fmt::format("misaligned {} of {} bytes at {}", verb(access), size, fmt::ptr(address)));
  check(reinterpret_cast<std::uintptr_t>(address), size, access);
}

}  // namespace cuda_emulation
