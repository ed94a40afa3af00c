// A stream of an NVIDIA card. For kernels/cuda: cuda_stream, card_of, library_states.
#pragma once

#include <cuda_runtime_api.h>

#include <deque>
#include <memory>
#include <vector>

#include "device/cuda/cuda_event.h"
#include "device/cuda/cuda_memory.h"
#include "device/cuda_device.h"
#include "device/stream.h"

namespace hone::device {

/// Handles and plans of the vendor's libraries, as long as a stream lives: the kernels' to fill.
struct LibraryStates {
  std::shared_ptr<void> cublaslt, cudnn;
};

/// Work of one card in order. Verbs and kernels return when their work has been put there.
class CudaStream final : public Stream {
 public:
  /// num_threads and first_core: of the host's team. Throws Error(kUser) where the card cannot be used.
  CudaStream(const CudaCard& card, int num_threads, int first_core);
  ~CudaStream() override;

  void upload(std::span<const std::byte> from, void* to) override;
  void upload(std::shared_ptr<Buffer> from, void* to) override;
  void download(const void* from, std::shared_ptr<Buffer> to) override;
  void fill(void* to, std::uint8_t value, std::size_t size_bytes) override;
  void copy(const void* from, void* to, std::size_t size_bytes) override;
  std::shared_ptr<const Event> record() override;
  void wait(const Event& event) override;
  void synchronize() override;
  std::shared_ptr<Buffer> host_memory(std::size_t size_bytes) override;
  std::shared_ptr<Buffer> pinned_memory(std::size_t size_bytes, Purpose purpose) override;
  bool shares_host_memory() const override { return false; }
  void begin_kernel() override;

  cudaStream_t handle() const { return handle_->get(); }
  const CudaCard& card() const { return card_; }
  LibraryStates& library_states() { return library_states_; }
  /// Places that keep the time, of a capture that goes on: the graph's to take.
  std::vector<std::shared_ptr<CudaTimedEvent>>& captured_times() { return captured_times_; }

 private:
  struct InFlight {  // host memory that the card still reads or writes
    std::shared_ptr<const Event> done;
    std::shared_ptr<Buffer> memory;
  };
  CudaStream(const CudaCard& card, int num_threads, int first_core, std::shared_ptr<CudaStreamHandle> handle);
  void hold(std::shared_ptr<Buffer> memory);
  void check_not_captured(const char* verb) const;

  CudaCard card_;
  std::shared_ptr<CudaStreamHandle> handle_;
  std::shared_ptr<PinnedPool> pinned_;
  std::deque<InFlight> in_flight_;
  LibraryStates library_states_;
  std::vector<std::shared_ptr<CudaTimedEvent>> captured_times_;
};

/// The CUDA stream of a stream of a card, which must be one.
cudaStream_t cuda_stream(const Stream& stream);
/// The card of it.
const CudaCard& card_of(const Stream& stream);
/// The handles and plans of it.
LibraryStates& library_states(Stream& stream);

}  // namespace hone::device
