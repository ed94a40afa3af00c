#include "device/cuda/cuda_memory.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "device/block_pool.h"
#include "device/cuda/check.h"
#include "device/guarded_stream.h"
#include "device/out_of_memory.h"

namespace hone::device {

using cuda::check;
using cuda::use_device;

namespace {

constexpr std::size_t kLeftToDriver = std::size_t{256} << 20;

class CardMemory final : public BlockSource {
 public:
  explicit CardMemory(int index) : index_(index) {}

  void* map(std::size_t size) override {
    use_device(index_);
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    // The rest is the driver's, which brings kernels to the card when they are first launched.
    if (free < size + std::min(kLeftToDriver, total / 64)) return nullptr;
    void* block = nullptr;
    const cudaError_t status = cudaMalloc(&block, size);
    if (status == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      return nullptr;
    }
    check(status, "cudaMalloc");
    return block;
  }
  void unmap(void* block, std::size_t) noexcept override {
    // Waits for the card. What failed before has been said, or will be by the next call.
    (void)cudaFree(block);
  }
  /// cudaFree waits for all that the card does, and cudaMalloc takes up to a millisecond: a step whose batch
  /// has another length than the last would do both for most of its tensors.
  bool is_shared() const override { return false; }
  DeviceMemory memory() const override { return memory_of({DeviceType::kCuda, index_}); }

 private:
  int index_;
};

/// Of cudaMallocAsync, one by one.
class SingleBuffer final : public Buffer {
 public:
  SingleBuffer(Device device, void* data, std::size_t size_bytes, std::shared_ptr<CudaStreamHandle> stream,
               std::shared_ptr<MemoryLedger> ledger, Purpose purpose)
      : Buffer(device, data, size_bytes),
        stream_(std::move(stream)),
        entry_(std::move(ledger), purpose, size_bytes) {}
  ~SingleBuffer() override {
    if (cudaSetDevice(device_.index) == cudaSuccess) (void)cudaFreeAsync(data_, stream_->get());
  }

 private:
  std::shared_ptr<CudaStreamHandle> stream_;
  LedgerEntry entry_;
};

class SingleAllocator final : public Allocator {
 public:
  SingleAllocator(Device device, std::shared_ptr<CudaStreamHandle> stream)
      : device_(device), stream_(std::move(stream)) {}

  std::shared_ptr<Buffer> allocate(std::size_t size_bytes, Purpose purpose) override {
    use_device(device_.index);
    void* data = nullptr;
    const cudaError_t status = cudaMallocAsync(&data, std::max<std::size_t>(size_bytes, 1), stream_->get());
    if (status == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      throw OutOfMemory({.device = device_,
                         .purpose = purpose,
                         .asked = static_cast<std::int64_t>(size_bytes),
                         .held = held_by_purpose(*ledger_),
                         .taken = ledger_->current_total(),
                         .memory = memory_of(device_)});
    }
    check(status, "cudaMallocAsync");
    return std::make_shared<SingleBuffer>(device_, data, size_bytes, stream_, ledger_, purpose);
  }
  MemoryLedger& ledger() override { return *ledger_; }
  Device device() const override { return device_; }

 private:
  Device device_;
  std::shared_ptr<CudaStreamHandle> stream_;
  std::shared_ptr<MemoryLedger> ledger_ = std::make_shared<MemoryLedger>();
};

}  // namespace

CudaStreamHandle::CudaStreamHandle(int index) : index_(index) {
  use_device(index_);
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
}

CudaStreamHandle::~CudaStreamHandle() {
  // What failed before has been said; here nothing can be thrown.
  (void)cudaSetDevice(index_);
  (void)cudaStreamSynchronize(stream_);
  (void)cudaStreamDestroy(stream_);
}

std::shared_ptr<Allocator> make_cuda_allocator(Device device, std::shared_ptr<CudaStreamHandle> stream) {
  if (guard_is_asked_for()) return std::make_shared<SingleAllocator>(device, std::move(stream));
  return std::make_shared<PoolAllocator>(device, std::make_unique<CardMemory>(device.index));
}

std::shared_ptr<Allocator> make_cuda_allocator(Device device) {
  (void)cuda::find_card(device.index);
  return make_cuda_allocator(device, std::make_shared<CudaStreamHandle>(device.index));
}

namespace {

/// Throws OutOfMemory.
void* pin(std::size_t size_bytes, Purpose purpose, const MemoryLedger& held) {
  void* data = nullptr;
  const cudaError_t status = cudaMallocHost(&data, std::max<std::size_t>(size_bytes, 1));
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    throw OutOfMemory({.pinned = true,
                       .purpose = purpose,
                       .asked = static_cast<std::int64_t>(size_bytes),
                       .held = held_by_purpose(held),
                       .taken = held.current_total(),
                       .memory = memory_of({})});
  }
  check(status, "cudaMallocHost");
  return data;
}

}  // namespace

std::shared_ptr<Buffer> pin_memory(std::size_t size_bytes, Purpose purpose, const MemoryLedger& held) {
  void* data = pin(size_bytes, purpose, held);
  const std::shared_ptr<void> owner(data, [](void* pinned) { (void)cudaFreeHost(pinned); });
  return Buffer::wrap({DeviceType::kCpu, 0}, data, size_bytes, owner);
}

struct PinnedPool::Memory {
  std::shared_ptr<PinnedPool> pool;
  void* data;
  std::size_t size_class;
  ~Memory() { pool->put_back(data, size_class); }
};

PinnedPool::~PinnedPool() {
  for (const auto& of_size : kept_)
    for (void* data : of_size) (void)cudaFreeHost(data);
}

std::shared_ptr<Buffer> PinnedPool::take(std::size_t size_bytes) {
  constexpr std::size_t kLeast = 4096;
  const std::size_t size = std::bit_ceil(std::max(size_bytes, kLeast));
  const auto size_class = static_cast<std::size_t>(std::countr_zero(size));
  void* data = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (kept_.size() <= size_class) kept_.resize(size_class + 1);
    if (auto& kept = kept_[size_class]; !kept.empty()) {
      data = kept.back();
      kept.pop_back();
    }
  }
  if (data == nullptr) data = pin(size, Purpose::kData, MemoryLedger());
  auto memory = std::make_shared<Memory>(shared_from_this(), data, size_class);
  return Buffer::wrap({DeviceType::kCpu, 0}, data, size_bytes, std::move(memory));
}

void PinnedPool::put_back(void* data, std::size_t size_class) noexcept {
  const std::lock_guard lock(mutex_);
  kept_[size_class].push_back(data);
}

}  // namespace hone::device
