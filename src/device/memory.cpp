#include "device/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
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

/// Rounds a size up to one of eight steps per power of two: at most 12.5 % is lost and freed blocks find new
/// users.
std::size_t block_size(std::size_t bytes) {
  constexpr std::size_t kSmallest = 256;
  if (bytes <= kSmallest) return kSmallest;
  const std::size_t step = std::max<std::size_t>(64, std::bit_floor(bytes - 1) / 8);
  return (bytes + step - 1) / step * step;
}

/// What outlives the allocator while buffers are alive: the ledger and the kept blocks.
class CpuPool {
 public:
  ~CpuPool() { trim(); }

  void* take(std::size_t size) {
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = kept_.find(size); found != kept_.end() && !found->second.empty()) {
        void* block = found->second.back();
        found->second.pop_back();
        kept_bytes_ -= size;
        return block;
      }
    }
    if (void* block = fresh(size)) return block;
    trim();
    return fresh(size);
  }

  /// Keeps a freed block for the next user, as long as the blocks kept idle stay below a quarter of the most
  /// that was ever in use: ragged batches ask for ever new sizes, and without a limit the pool would grow
  /// with every one of them.
  void put_back(void* block, std::size_t size) {
    {
      const std::lock_guard lock(mutex_);
      const auto limit = static_cast<std::size_t>(ledger.peak_total()) / 4 + (std::size_t{64} << 20);
      if (kept_bytes_ + size <= limit) {
        kept_[size].push_back(block);
        kept_bytes_ += size;
        return;
      }
    }
    std::free(block);
  }

  void trim() {
    const std::lock_guard lock(mutex_);
    for (auto& [size, blocks] : kept_)
      for (void* block : blocks) std::free(block);
    kept_.clear();
    kept_bytes_ = 0;
  }

  MemoryLedger ledger;

 private:
  static void* fresh(std::size_t size) {
    const bool large = size >= 2 * kHugePage;
    const std::size_t alignment = large ? kHugePage : 64;
    void* block = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (block != nullptr && large)
      ::madvise(block, size, MADV_HUGEPAGE);  // 2 MiB pages: fewer faults and TLB misses
    return block;
  }

  std::mutex mutex_;
  std::map<std::size_t, std::vector<void*>> kept_;
  std::size_t kept_bytes_ = 0;
};

class CpuBuffer final : public Buffer {
 public:
  CpuBuffer(std::shared_ptr<CpuPool> pool, void* data, std::size_t size_bytes, std::size_t block,
            Purpose purpose)
      : Buffer(Device{DeviceType::kCpu, 0}, data, size_bytes),
        pool_(std::move(pool)),
        block_(block),
        purpose_(purpose) {
    pool_->ledger.add(purpose_, static_cast<std::int64_t>(size_bytes_));
  }
  ~CpuBuffer() override {
    pool_->ledger.subtract(purpose_, static_cast<std::int64_t>(size_bytes_));
    pool_->put_back(data_, block_);
  }

 private:
  std::shared_ptr<CpuPool> pool_;
  std::size_t block_;
  Purpose purpose_;
};

class CpuAllocator final : public Allocator {
 public:
  std::shared_ptr<Buffer> allocate(std::size_t size_bytes, Purpose purpose) override {
    const std::size_t block = block_size(size_bytes);
    void* data = pool_->take(block);
    if (data == nullptr) {
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
    return std::make_shared<CpuBuffer>(pool_, data, size_bytes, block, purpose);
  }
  void trim() override { pool_->trim(); }
  MemoryLedger& ledger() override { return pool_->ledger; }
  Device device() const override { return {DeviceType::kCpu, 0}; }

 private:
  std::shared_ptr<CpuPool> pool_ = std::make_shared<CpuPool>();
};

class MetaBuffer final : public Buffer {
 public:
  MetaBuffer(std::shared_ptr<MemoryLedger> ledger, std::size_t size_bytes, Purpose purpose)
      : Buffer(Device{DeviceType::kMeta, 0}, nullptr, size_bytes),
        ledger_(std::move(ledger)),
        purpose_(purpose) {
    ledger_->add(purpose_, static_cast<std::int64_t>(size_bytes_));
  }
  ~MetaBuffer() override { ledger_->subtract(purpose_, static_cast<std::int64_t>(size_bytes_)); }

 private:
  std::shared_ptr<MemoryLedger> ledger_;
  Purpose purpose_;
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
  if (device.type == DeviceType::kMeta) return std::make_shared<MetaAllocator>();
  return std::make_shared<CpuAllocator>();
}

}  // namespace hone::device
