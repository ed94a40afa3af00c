#include "device/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <vector>

#include "base/error.h"

namespace hone::device {

namespace {

void raise_to(std::atomic<std::int64_t>& peak, std::int64_t value) {
  std::int64_t seen = peak.load();
  while (seen < value && !peak.compare_exchange_weak(seen, value)) {
  }
}

class ForeignBuffer final : public Buffer {
 public:
  ForeignBuffer(Device device, void* data, std::size_t size_bytes, std::shared_ptr<const void> owner)
      : Buffer(device, data, size_bytes), owner_(std::move(owner)) {}

 private:
  std::shared_ptr<const void> owner_;
};

constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// Blocks from here on are mapped one by one: what is freed goes back to the system, where malloc would keep
/// it in the heap.
constexpr std::size_t kMapped = std::size_t{1} << 20;

/// Rounds a size up so that freed blocks find new users: small ones to one of eight steps per power of two,
/// mapped ones to 64 KiB.
std::size_t block_size(std::size_t bytes) {
  constexpr std::size_t kSmallest = 256;
  if (bytes <= kSmallest) return kSmallest;
  const std::size_t step =
      bytes >= kMapped ? std::size_t{64} << 10 : std::max<std::size_t>(64, std::bit_floor(bytes - 1) / 8);
  return (bytes + step - 1) / step * step;
}

/// Memory from the system; null where there is none.
void* map_block(std::size_t size) {
  if (size < kMapped) return std::aligned_alloc(64, size);
  const std::size_t alignment = size >= 2 * kHugePage ? kHugePage : 0;
  void* mapped =
      ::mmap(nullptr, size + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  if (alignment == 0) return mapped;
  auto* begin = static_cast<char*>(mapped);
  const std::size_t before = (alignment - reinterpret_cast<std::uintptr_t>(begin) % alignment) % alignment;
  if (before > 0) ::munmap(begin, before);
  if (alignment > before) ::munmap(begin + before + size, alignment - before);
  ::madvise(begin + before, size, MADV_HUGEPAGE);  // 2 MiB pages: fewer faults and TLB misses
  return begin + before;
}

void unmap_block(void* block, std::size_t size) {
  if (size < kMapped)
    std::free(block);
  else
    ::munmap(block, size);
}

/// What outlives the allocator while buffers are alive: the ledger and the kept blocks.
class CpuPool {
 public:
  ~CpuPool() { trim(); }

  struct Block {
    void* data = nullptr;
    std::size_t size = 0, asked = 0;  // bytes, and what they were taken for
  };

  /// A block of at least `size` bytes: a kept one up to a quarter larger, or a new one. Data is null where
  /// the machine has no more.
  Block take(std::size_t size) {
    {
      const std::lock_guard lock(mutex_);
      asked_ += size;
      most_asked_ = std::max(most_asked_, asked_);
      const auto found = kept_.lower_bound(size);
      if (found != kept_.end() && found->first <= size + size / 4 &&
          in_use_ + found->first - asked_ <= reserve()) {
        const Block block{found->second.back().data, found->first, size};
        found->second.pop_back();
        if (found->second.empty()) kept_.erase(found);
        kept_bytes_ -= block.size;
        in_use_ += block.size;
        return block;
      }
      in_use_ += size;
      while (kept_bytes_ > 0 && in_use_ + kept_bytes_ > most_asked_ + reserve()) give_back_oldest();
    }
    if (void* data = map_block(size)) return {data, size, size};
    trim();
    void* data = map_block(size);
    if (data == nullptr) forget_use(size);
    return {data, size, size};
  }

  /// Keeps a freed block for the next user.
  void put_back(Block block) {
    const std::lock_guard lock(mutex_);
    in_use_ -= block.size;
    asked_ -= block.asked;
    kept_[block.size].push_back({block.data, ++freed_});
    kept_bytes_ += block.size;
  }

  void trim() {
    const std::lock_guard lock(mutex_);
    while (kept_bytes_ > 0) give_back_oldest();
  }

  std::size_t held_bytes() {
    const std::lock_guard lock(mutex_);
    return in_use_ + kept_bytes_;
  }

  MemoryLedger ledger;

 private:
  /// What may be held beyond the most that was ever asked for, kept or lost in blocks that are larger than
  /// what they serve: ragged batches ask for ever new sizes, and whoever planned for the largest batch must
  /// not need more for the mixture of all. (Until 2026-11 a quarter could be kept, 3.7 GiB where 2.7 were
  /// planned, and a quarter lost, 906 MiB for 850.)
  std::size_t reserve() const {
    return static_cast<std::size_t>(Allocator::reserve_bytes(static_cast<std::int64_t>(most_asked_)));
  }

  struct Kept {
    void* data;
    std::uint64_t freed;  // when
  };

  void forget_use(std::size_t size) {
    const std::lock_guard lock(mutex_);
    in_use_ -= size;
    asked_ -= size;
  }
  void give_back_oldest() {
    auto oldest = kept_.begin();
    for (auto it = kept_.begin(); it != kept_.end(); ++it)
      if (it->second.front().freed < oldest->second.front().freed) oldest = it;
    unmap_block(oldest->second.front().data, oldest->first);
    kept_bytes_ -= oldest->first;
    oldest->second.pop_front();
    if (oldest->second.empty()) kept_.erase(oldest);
  }

  std::mutex mutex_;
  std::map<std::size_t, std::deque<Kept>> kept_;  // by size; none is empty
  std::size_t kept_bytes_ = 0, in_use_ = 0, asked_ = 0, most_asked_ = 0;
  std::uint64_t freed_ = 0;
};

class CpuBuffer final : public Buffer {
 public:
  CpuBuffer(const std::shared_ptr<CpuPool>& pool, CpuPool::Block block, std::size_t size_bytes,
            Purpose purpose)
      : Buffer(Device{DeviceType::kCpu, 0}, block.data, size_bytes),
        memory_{pool, block},
        entry_({pool, &pool->ledger}, purpose, size_bytes) {}

 private:
  struct Memory {
    std::shared_ptr<CpuPool> pool;
    CpuPool::Block block;
    ~Memory() { pool->put_back(block); }
  };
  Memory memory_;
  LedgerEntry entry_;  // ends before the memory is another's
};

class CpuAllocator final : public Allocator {
 public:
  std::shared_ptr<Buffer> allocate(std::size_t size_bytes, Purpose purpose) override {
    const CpuPool::Block block = pool_->take(block_size(size_bytes));
    if (block.data == nullptr) {
      std::string held;
      for (std::size_t i = 0; i < kNumPurposes; ++i) {
        const auto p = static_cast<Purpose>(i);
        held += fmt::format("{}{} {:.1f}", i > 0 ? ", " : "", name_of(p),
                            static_cast<double>(ledger().current(p)) / 0x1p20);
      }
      fail(
          "out of memory: {:.1f} MiB more for {} were refused (held, MiB: {}); use a smaller micro_batch or "
          "seq_len",
          static_cast<double>(size_bytes) / 0x1p20, name_of(purpose), held);
    }
    return std::make_shared<CpuBuffer>(pool_, block, size_bytes, purpose);
  }
  void trim() override { pool_->trim(); }
  std::int64_t held_bytes() const override { return static_cast<std::int64_t>(pool_->held_bytes()); }
  MemoryLedger& ledger() override { return pool_->ledger; }
  Device device() const override { return {DeviceType::kCpu, 0}; }

 private:
  std::shared_ptr<CpuPool> pool_ = std::make_shared<CpuPool>();
};

class MetaBuffer final : public Buffer {
 public:
  MetaBuffer(std::shared_ptr<MemoryLedger> ledger, std::size_t size_bytes, Purpose purpose)
      : Buffer(Device{DeviceType::kMeta, 0}, nullptr, size_bytes),
        entry_(std::move(ledger), purpose, size_bytes) {}

 private:
  LedgerEntry entry_;
};

class MetaAllocator final : public Allocator {
 public:
  std::shared_ptr<Buffer> allocate(std::size_t size_bytes, Purpose purpose) override {
    return std::make_shared<MetaBuffer>(ledger_, size_bytes, purpose);
  }
  MemoryLedger& ledger() override { return *ledger_; }
  Device device() const override { return {DeviceType::kMeta, 0}; }

 private:
  std::shared_ptr<MemoryLedger> ledger_ = std::make_shared<MemoryLedger>();
};

}  // namespace

std::string_view name_of(Purpose purpose) {
  constexpr std::array<std::string_view, kNumPurposes> kNames{
      "weights", "gradients", "optimizer", "activations", "workspace", "cache", "data"};
  return kNames.at(static_cast<std::size_t>(purpose));
}

void MemoryLedger::add(Purpose purpose, std::int64_t bytes) {
  const auto i = static_cast<std::size_t>(purpose);
  raise_to(peak_[i], current_[i].fetch_add(bytes) + bytes);
  raise_to(total_peak_, total_.fetch_add(bytes) + bytes);
}

void MemoryLedger::subtract(Purpose purpose, std::int64_t bytes) {
  current_[static_cast<std::size_t>(purpose)].fetch_sub(bytes);
  total_.fetch_sub(bytes);
}

std::int64_t MemoryLedger::current(Purpose purpose) const {
  return current_[static_cast<std::size_t>(purpose)].load();
}
std::int64_t MemoryLedger::peak(Purpose purpose) const {
  return peak_[static_cast<std::size_t>(purpose)].load();
}

void MemoryLedger::reset_peak() {
  for (std::size_t i = 0; i < kNumPurposes; ++i) peak_[i] = current_[i].load();
  total_peak_ = total_.load();
}

std::shared_ptr<Buffer> Buffer::wrap(Device device, void* data, std::size_t size_bytes,
                                     std::shared_ptr<const void> owner) {
  return std::make_shared<ForeignBuffer>(device, data, size_bytes, std::move(owner));
}

std::shared_ptr<Allocator> make_allocator(Device device) {
  switch (device.type) {
    case DeviceType::kCpu:
      return std::make_shared<CpuAllocator>();
    case DeviceType::kMeta:
      return std::make_shared<MetaAllocator>();
  }
  HONE_CHECK(false, "no device of type {}", static_cast<int>(device.type));
}

}  // namespace hone::device
