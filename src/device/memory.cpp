#include "device/memory.h"

#include <sys/mman.h>

#include <cstdlib>

#include "base/error.h"
#include "device/block_pool.h"
#include "device/cuda_device.h"

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

/// Memory from the system; null where there is none.
/// What is freed of kMapped and more goes back to the system, where malloc would keep it in the heap.
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

class CpuMemory final : public BlockSource {
 public:
  void* map(std::size_t size) override { return map_block(size); }
  void unmap(void* block, std::size_t size) noexcept override { unmap_block(block, size); }
  DeviceMemory memory() const override { return memory_of({}); }
};

class MetaBuffer final : public Buffer {
 public:
  MetaBuffer(Device device, std::shared_ptr<MemoryLedger> ledger, std::size_t size_bytes, Purpose purpose)
      : Buffer(device, nullptr, size_bytes), entry_(std::move(ledger), purpose, size_bytes) {}

 private:
  LedgerEntry entry_;
};

class MetaAllocator final : public Allocator {
 public:
  explicit MetaAllocator(Device device) : device_(device) {}
  std::shared_ptr<Buffer> allocate(std::size_t size_bytes, Purpose purpose) override {
    return std::make_shared<MetaBuffer>(device_, ledger_, size_bytes, purpose);
  }
  MemoryLedger& ledger() override { return *ledger_; }
  Device device() const override { return device_; }

 private:
  Device device_;
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
      return std::make_shared<PoolAllocator>(device, std::make_unique<CpuMemory>());
    case DeviceType::kCuda:
      return make_cuda_allocator(device);
    case DeviceType::kMeta:
      return std::make_shared<MetaAllocator>(device);
  }
  HONE_CHECK(false, "no device of type {}", static_cast<int>(device.type));
}

}  // namespace hone::device
