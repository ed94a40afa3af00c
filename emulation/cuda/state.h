// What the emulator's files share: the thread of a kernel that runs, its block, and the shadow of memory.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace cuda_emulation {

// --- Shadow memory ----------------------------------------------------------------------------------------
// Of every 2 bytes that a kernel may touch: a state, and who touched them last. Bytes apart are told by
// masks.

inline constexpr std::size_t kGranule = 2;
inline constexpr std::uint8_t kAllocated = 3;     // one bit a byte
inline constexpr std::uint8_t kWritten = 3 << 2;  // one bit a byte
inline constexpr std::uint8_t kPending = 1 << 4;  // an asynchronous copy is on its way here

/// An access, in 64 bits: block (of all launches) 32 | thread 10 | clock 19 | bytes 2 | atomic 1. 0: none.
struct Record {
  std::uint64_t bits = 0;
  std::uint32_t block() const { return static_cast<std::uint32_t>(bits >> 32); }
  std::uint32_t thread() const { return static_cast<std::uint32_t>(bits >> 22) & 1023; }
  std::uint32_t clock() const { return static_cast<std::uint32_t>(bits >> 3) & kMaxClock; }
  std::uint32_t bytes() const { return static_cast<std::uint32_t>(bits >> 1) & 3; }
  bool is_atomic() const { return (bits & 1) != 0; }
  static constexpr std::uint32_t kMaxClock = (1U << 19) - 1;
};
struct Cell {
  std::atomic<std::uint64_t> writer{0};
  // The last reader, and the last one of another warp than that.
  std::atomic<std::uint64_t> reader{0}, other_reader{0};
};

/// Memory with a shadow. Zero pages are a valid shadow: nothing is allocated, nobody was there.
struct Arena {
  std::uintptr_t base = 0;
  std::size_t size = 0;
  std::uint8_t* states = nullptr;
  Cell* cells = nullptr;
  bool holds(std::uintptr_t address) const { return address - base < size; }
  std::size_t granule(std::uintptr_t address) const { return (address - base) / kGranule; }
};
/// Reserves address space; throws std::bad_alloc.
Arena make_arena(std::size_t size);
void release(const Arena& arena);
/// Sets the allocated and the written bits of bytes.
void mark(const Arena& arena, const void* from, std::size_t size, bool allocated, bool written);

/// Device, managed and pinned memory.
const Arena& global_memory();
void* allocate(std::size_t size, bool host_reaches_it);
/// False where `pointer` is nothing that allocate gave.
bool release(void* pointer);
std::size_t allocated_bytes();
/// "16 bytes beyond an allocation of 64 bytes".
std::string describe_global(std::uintptr_t address);
/// Whether all of it was allocated.
bool is_allocated(const void* from, std::size_t size);
void copy_written(const void* from, void* to, std::size_t size);

// --- A block that runs
// --------------------------------------------------------------------------------------

inline constexpr int kMaxThreads = 1024, kMaxWarps = 32;
inline constexpr std::size_t kStackBytes = std::size_t{64} << 10;
inline constexpr std::size_t kStaticSharedLimit = 48 << 10;  // and of a kernel that has not asked for more

struct PendingCopy {
  std::uintptr_t to, from;
  std::size_t size, from_size;
};

/// A thread of the kernel: a fiber.
struct Fiber {
  void* stack_pointer = nullptr;
  Here here{};
  int index = 0;  // in the block
  bool exited = false;
  // What it waits for: a collective of its warp, or of the block; null: nothing.
  const char* waits_in_warp = nullptr;
  const char* waits_in_block = nullptr;
  unsigned mask = 0;
  void* mine = nullptr;
  bool vote = false;
  // Happens-before: what it does now has this clock; what lane i did up to known[i] came before.
  std::uint32_t clock = 1;
  std::array<std::uint32_t, 32> known{};
  std::vector<std::vector<PendingCopy>> copies;  // groups; the last one is open

  int warp() const { return index / 32; }
  int lane() const { return index % 32; }
};

struct LaunchState {
  Launch launch;
  std::shared_ptr<const void> arguments;
  std::size_t size = 0;  // of the arguments
  void (*run)(const void*) = nullptr;
  std::size_t shared_limit = 0;   // what static and dynamic memory may be together
  std::uint32_t first_block = 0;  // of this launch, among all blocks that ever ran
  std::uint64_t seed = 0;
  std::atomic<bool> failed{false};
};

/// A host thread that runs blocks, one at a time.
struct Worker {
  LaunchState* launch = nullptr;
  std::uint32_t block = 0;  // among all that ever ran
  int num_threads = 0;
  std::vector<Fiber> fibers;
  std::vector<std::uint16_t> runnable;
  void* scheduler = nullptr;  // its stack pointer
  std::uint64_t random = 1;
  char* stacks = nullptr;
  int exited = 0, waiting_in_block = 0;
  // Of each warp: the lanes that wait in a collective of it, and those that have exited or never were.
  std::array<unsigned, kMaxWarps> waiting{}, absent{};
  int vote_result = 0;
  std::uint32_t barrier_clock = 0;  // what has a lower clock came before the block's last barrier
  Arena shared;
  std::size_t dynamic_bytes = 0, static_end = 0;
  struct Site {
    const void* site;
    const char* name;
    std::uintptr_t at;
    std::size_t size;
  };
  std::vector<Site> sites;
  std::string failure;

  std::uint64_t draw() {
    random ^= random << 13;
    random ^= random >> 7;
    return random ^= random << 17;
  }
};

/// The thread that runs here; null outside of kernels.
extern thread_local Fiber* current;
extern thread_local Worker* worker;

/// Runs a block of a launch on this host thread; false, with what to report, where it was stopped.
bool run_block(LaunchState& launch, std::uint32_t index, std::string& failure);
/// Stops the block that runs here.
[[noreturn]] void stop(const std::string& what);
void check(std::uintptr_t address, std::size_t size, Access access);
/// Performs the copies of a group.
void finish(const std::vector<PendingCopy>& group);
bool checks_are_on();
std::uint64_t seed();

}  // namespace cuda_emulation
