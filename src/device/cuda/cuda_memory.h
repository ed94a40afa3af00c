// Memory of NVIDIA cards, and of the host where cards reach it.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <mutex>
#include <vector>

#include "device/memory.h"

namespace hone::device {

/// A CUDA stream, which waits for no other. Ends with its last owner, after its work.
class CudaStreamHandle {
 public:
  explicit CudaStreamHandle(int index);
  ~CudaStreamHandle();
  CudaStreamHandle(const CudaStreamHandle&) = delete;
  CudaStreamHandle& operator=(const CudaStreamHandle&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  int index_;
  cudaStream_t stream_ = nullptr;
};

/// Memory in the order of one stream. Blocks are cudaMalloc's and kept (block_pool.h) until the card has no
/// more: a training step asks for the same sizes each time, and from its second on takes nothing of the
/// driver. Where HONE_GUARDED=1,
/// each buffer is cudaMallocAsync's own instead, so that compute-sanitizer and the emulator see who touches
/// what is not his.
std::shared_ptr<Allocator> make_cuda_allocator(Device device, std::shared_ptr<CudaStreamHandle> stream);

/// Pinned host memory of just this size. Throws OutOfMemory; `held`: what is pinned so by now.
std::shared_ptr<Buffer> pin_memory(std::size_t size_bytes, Purpose purpose, const MemoryLedger& held);

/// Pinned host memory, kept for the next user: pinning takes the driver some 0.3 ms a MiB and stops the card.
class PinnedPool : public std::enable_shared_from_this<PinnedPool> {
 public:
  ~PinnedPool();
  /// Uninitialised. The buffer may outlive all but the CUDA runtime.
  std::shared_ptr<Buffer> take(std::size_t size_bytes);

 private:
  struct Memory;
  void put_back(void* data, std::size_t size_class) noexcept;
  std::mutex mutex_;
  std::vector<std::vector<void*>> kept_;  // by the power of two that they hold
};

}  // namespace hone::device
