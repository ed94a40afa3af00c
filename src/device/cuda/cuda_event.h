// Places in streams of an NVIDIA card. For device/cuda.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "device/clock.h"

namespace hone::device {

namespace cuda {

bool is_capturing(cudaStream_t stream);

/// A cudaEvent_t.
class OwnedEvent {
 public:
  /// flags: those of cudaEventCreateWithFlags.
  explicit OwnedEvent(unsigned flags);
  ~OwnedEvent() { (void)cudaEventDestroy(event_); }
  OwnedEvent(const OwnedEvent&) = delete;
  OwnedEvent& operator=(const OwnedEvent&) = delete;

  cudaEvent_t get() const { return event_; }
  bool is_done() const;
  void wait() const;

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace cuda

/// A place in a CUDA stream. In a capture it orders the captured work.
class CudaEvent final : public Event {
 public:
  explicit CudaEvent(cudaStream_t stream);

  bool is_done() const override { return event_.is_done(); }
  void wait() const override { event_.wait(); }
  void hold_back(cudaStream_t stream) const;

 private:
  cuda::OwnedEvent event_;
};

/// A place in a CUDA stream whose time the card keeps. In a capture, one that each launch of the graph comes
/// by: the graph tells it before (begin_launch).
class CudaTimedEvent final : public TimedEvent {
 public:
  explicit CudaTimedEvent(cudaStream_t stream);

  bool is_done() const override { return event_->is_done(); }
  void wait() const override { event_->wait(); }
  double seconds_since(const TimedEvent& earlier) const override;
  std::shared_ptr<const TimedEvent> of_last_launch() const override;

  cudaEvent_t get() const { return event_->get(); }
  /// Takes an event that keeps no other launch's time for anybody. Whether it is another than before.
  bool begin_launch();

 private:
  CudaTimedEvent() = default;
  std::shared_ptr<cuda::OwnedEvent> event_;
};

}  // namespace hone::device
