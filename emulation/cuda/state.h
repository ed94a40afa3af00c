// What the emulator's files share: the thread of a kernel that runs, its block, and the shadow of memory.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cuda_emulation {

// --- Shadow memory ----------------------------------------------------------------------------------------
// Of every 2 bytes that a kernel may touch: a state, and who touched them last. Bytes apart are told by
// masks.

inline constexpr std::size_t kGranule = 2;
inline constexpr std::uint8_t kAllocated = 3;     // one bit a byte
inline constexpr std::uint8_t kWritten = 3 << 2;  // one bit a byte
inline constexpr std::uint8_t kPending = 1 << 4;  // an asynchronous copy is on its way here
inline constexpr std::uint8_t kLeaving = 1 << 5;  // a store by TMA has yet to read it

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
inline constexpr int kMostBlocks = 8;  // of a cluster
// A page more than a power of two, so that the stacks of a block do not all lie in the same sets of a cache.
inline constexpr std::size_t kStackBytes = std::size_t{68} << 10;
inline constexpr std::size_t kStaticSharedLimit = 48 << 10;  // and of a kernel that has not asked for more

struct PendingCopy {
  std::uintptr_t to, from;
  std::size_t size, from_size;
};

/// A box on its way from shared to global memory: 16 bytes of it at a time, of which the first n are within
/// the tensor.
struct PendingStore {
  struct Piece {
    std::uintptr_t from, to;
    std::size_t n;
    std::array<std::uint8_t, 16> bytes;  // once they were read
  };
  std::vector<Piece> pieces;
};
/// Boxes of a thread that are waited for together.
struct StoreGroup {
  std::vector<PendingStore> stores;
  bool was_read = false;
};

/// Happens-before across warps, of kernels whose warps meet otherwise than in __syncthreads. Of each thread
/// of the block, and behind them of each engine of asynchronous copies (one an mbarrier), the clock up to
/// which ...
struct Order {
  std::vector<std::uint32_t> seen;  // ... what it did came before
  std::vector<std::uint32_t>
      fenced;                 // ... what it wrote is there for the asynchronous proxy (wgmma, TMA), too
  std::vector<Order> others;  // of a cluster's other blocks, by their rank; of its own it is empty
  void merge(const Order& other);
};
inline constexpr int kEngines = 64;
/// to[i] = max(to[i], from[i])
void max_into(std::uint32_t* to, const std::uint32_t* from, std::size_t count);

/// A thread of the kernel: a fiber.
struct Fiber {
  void* stack_pointer = nullptr;
  std::uintptr_t stack = 0;  // where its local memory begins: kStackBytes
  Here here{};
  int index = 0;  // in the block
  bool exited = false;
  bool may_touch_global = true;  // false: launched early, and has not waited for the grids before
  // What it waits for: a collective of its warp, or of the block; null: nothing.
  const char* waits_in_warp = nullptr;
  const char* waits_in_block = nullptr;
  unsigned mask = 0;
  void* mine = nullptr;
  bool vote = false;
  // Happens-before: what it does now has this clock; what lane i did up to known[i] came before.
  std::uint32_t clock = 1;
  std::array<std::uint32_t, 32> known{};
  std::shared_ptr<const Order> order;  // null: nothing but by `known` and __syncthreads
  const std::function<std::string()>* waits_asynchronously = nullptr;  // for what; null: nothing
  std::vector<std::vector<PendingCopy>> copies;                        // groups; the last one is open
  std::vector<StoreGroup> stores;                                      // the same of TMA

  int warp() const { return index / 32; }
  int lane() const { return index % 32; }
};

struct LaunchState {
  Launch launch;
  std::shared_ptr<const void> arguments;
  std::size_t size = 0;  // of the arguments
  void (*run)(const void*) = nullptr;
  std::size_t shared_limit = 0;   // what static and dynamic memory may be together
  int cluster = 1;                // blocks of a cluster
  std::uint32_t first_block = 0;  // of this launch, among all blocks that ever ran
  std::uint64_t seed = 0;
  std::atomic<bool> failed{false};
};

/// An mbarrier.
struct AsyncBarrier {
  int count = 0, pending = 0;  // arrivals of a phase, and those that it still wants
  std::int64_t bytes = 0;      // of copies that it still wants
  std::uint32_t phase = 0;
  bool published = false;  // its initialisation was fenced: copies may complete on it
  Record initialised;
  int engine = 0;
  std::uint32_t engine_clock = 1;
  Order coming;                          // of all arrivals
  std::shared_ptr<const Order> settled;  // of the last whole phase
  // Threads bring and take the same orders, again and again: the one that last went into `coming`, and what
  // `settled` and the order of a thread that waited were together.
  std::shared_ptr<const Order> last_come, waited, waited_knew, learnt;
  std::vector<std::uint16_t> waiting;
};
struct NamedBarrier {
  int threads = 0, arrived = 0;
  Order order;
  std::shared_ptr<const Order> last_come;  // as of an mbarrier
  std::vector<std::uint16_t> waiting;
};
/// A wgmma of one warp, which is 16 of its 64 rows, from its issue until its warp has waited for it.
struct WarpProduct {
  std::uint64_t a, b;  // descriptors
  int n;
  bool accumulate, a_transposed, b_transposed;
  int group;                      // 0: not committed
  std::size_t accumulators;       // which of the warp's
  std::uintptr_t from[2], to[2];  // what it reads of shared memory lies between
  bool e4m3 = false;              // 32 of k in a byte each, not 16 of bf16
  // a where it is in registers of each lane, and what was there when it was issued; null: it is not
  std::array<const std::uint32_t*, 32> registers{};
  std::array<std::array<std::uint32_t, 4>, 32> held{};
  bool of_registers() const { return registers[0] != nullptr; }
};
/// Registers that products of a warp are written to: they hold NaN until it waits.
struct Accumulators {
  std::array<float*, 32> registers{};
  std::array<std::vector<float>, 32> values;
  int products = 0;  // that are on their way
};
struct WarpProducts {
  std::vector<WarpProduct> products;
  std::vector<Accumulators> accumulators;
  int committed = 0;         // groups
  bool fenced = false;       // wgmma.fence since registers were last handed back
  bool fenced_a = false;     // wgmma.fence since the last group: registers of a may have been written between
  std::uint64_t issued = 0;  // of all time
};
/// What the four warps of a warpgroup must do alike: the descriptors of its last products.
struct ProductLog {
  std::vector<std::array<std::uint64_t, 3>> issued;
};

/// What is asynchronous in a block.
struct Asynchronous {
  std::vector<std::function<void()>> events;  // copies on their way; they come in any order
  std::map<std::uintptr_t, AsyncBarrier> barriers;
  std::array<NamedBarrier, 16> named;
  std::array<WarpProducts, kMaxWarps> warps;
  std::array<ProductLog, kMaxWarps / 4> warpgroups;
  int products = 0;  // of all warps, on their way
  std::array<int, kMaxWarps> registers{};
  int register_limit = 0;
  std::vector<std::uint16_t> waiting_for_registers;
};

struct Worker;
/// Blocks that run together: most of them alone.
struct Cluster {
  std::vector<Worker*> blocks;  // by their rank
  void* scheduler = nullptr;    // its stack pointer
  std::string failure;
  // barrier.cluster: what the threads know that have come, by block, and who waits
  std::vector<Order> coming;
  std::vector<std::pair<Worker*, std::uint16_t>> waiting;
};

/// A block, run by a host thread.
struct Worker {
  Cluster* cluster = nullptr;
  int rank = 0;  // in the cluster
  LaunchState* launch = nullptr;
  std::uint32_t block = 0;  // among all that ever ran
  int num_threads = 0;
  std::vector<Fiber> fibers;
  std::vector<std::uint16_t> runnable;
  std::uint64_t random = 1;
  char* stacks = nullptr;
  int guarded = 0;  // stacks below which nothing may be touched
  int exited = 0, waiting_in_block = 0;
  bool waited_for_grids = false;  // a thread of it
  // Of each warp: the lanes that wait in a collective of it, and those that have exited or never were.
  std::array<unsigned, kMaxWarps> waiting{}, absent{};
  int vote_result = 0;
  std::uint32_t barrier_clock = 0;  // what has a lower clock came before the block's last barrier
  Arena shared, global;             // global_memory()
  bool checks = true;               // checks_are_on()
  std::size_t dynamic_bytes = 0, static_end = 0;
  struct Site {
    const void* site;
    const char* name;
    std::uintptr_t at;
    std::size_t size;
  };
  std::vector<Site> sites;
  Asynchronous async;

  std::uint64_t draw() {
    random ^= random << 13;
    random ^= random >> 7;
    return random ^= random << 17;
  }
};

/// The thread that runs here; null outside of kernels.
extern constinit thread_local Fiber* current;
extern constinit thread_local Worker* worker;
/// The block is given up: nothing more is checked.
extern constinit thread_local bool stopping;

/// Runs the blocks of a cluster of a launch on this host thread, from this one on; false, with what to
/// report, where they were stopped.
bool run_cluster(LaunchState& launch, std::uint32_t first, std::string& failure);
/// Stops the block that runs here.
[[noreturn]] void stop(std::string_view what);
void check(std::uintptr_t address, std::size_t size, Access access);
/// Stops where the thread that runs here was launched early and has not waited.
void check_waited(std::string_view what);
/// Performs the copies of a group.
void finish(const std::vector<PendingCopy>& group);
/// Stops where the running thread, which exits, has stores by TMA that it has not waited for.
void check_stores_were_read();
/// The block is over, or stopped: what the thread's stores by TMA have read comes to global memory.
void land_stores(Fiber& fiber);

/// orders_memory: what each lane did before comes before what all do then.
void meet_warp(const char* what, unsigned mask, void* mine, Meet meet, bool orders_memory);
/// The running thread waits until somebody wakes it; what() says what for, where nobody does.
void suspend(const std::function<std::string()>& what);
void wake(Fiber& fiber);
/// What it does from here on has a later clock.
void tick(Fiber& fiber);
/// What the running thread knows of, itself included.
Order order_of_here();
/// The same as threads of other blocks may be told.
Order order_for_others();
/// f() as done to another block of the cluster by what the running thread knows of it: `worker` is that block
/// then.
void in_block(int rank, const std::function<void()>& f);
/// What the running thread knows of, itself included, merged into `to`; `last` is what was before.
void add_order_of_here(Order& to, std::shared_ptr<const Order>& last);
/// All of what any of these knew, known to all of them.
void share_orders(std::span<Fiber* const> fibers);
/// Whether what has the record came before what the running thread does now.
bool ordered(Record before);
/// What an instruction of the asynchronous proxy does to shared memory, which the running thread has issued:
/// checked as if it did it, and that generic writes there were fenced.
void check_asynchronous(const char* what, std::uintptr_t address, std::size_t size, Access access);
/// Bytes that are written at once, by an engine: no longer on their way.
void land(std::uintptr_t to, const void* from, std::size_t size, Record writer);
/// Stops where a product on its way reads these bytes.
void check_products(const char* what, std::uintptr_t address, std::size_t size);
/// Ends the phase of an mbarrier when all have arrived and all bytes have come.
void settle(AsyncBarrier& barrier);
std::string name_of(std::uintptr_t address);
float decode_e4m3(std::uint8_t code);
void start_asynchronous();
/// What is left when all threads have exited; "": nothing.
std::string left_asynchronous();
bool checks_are_on();
std::uint64_t seed();

}  // namespace cuda_emulation
