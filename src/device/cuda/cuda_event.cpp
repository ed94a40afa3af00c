#include "device/cuda/cuda_event.h"

#include "base/error.h"
#include "device/cuda/check.h"

namespace hone::device {

using cuda::check;

namespace cuda {

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status{};
  check(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

OwnedEvent::OwnedEvent(unsigned flags) {
  check(cudaEventCreateWithFlags(&event_, flags), "cudaEventCreate");
}

bool OwnedEvent::is_done() const {
  const cudaError_t status = cudaEventQuery(event_);
  if (status == cudaErrorNotReady) return false;
  check(status, "cudaEventQuery");
  return true;
}

void OwnedEvent::wait() const {
  check(cudaEventSynchronize(event_), "cudaEventSynchronize");
}

}  // namespace cuda

CudaEvent::CudaEvent(cudaStream_t stream) : event_(cudaEventDisableTiming) {
  check(cudaEventRecord(event_.get(), stream), "cudaEventRecord");
}

void CudaEvent::hold_back(cudaStream_t stream) const {
  check(cudaStreamWaitEvent(stream, event_.get(), 0), "cudaStreamWaitEvent");
}

CudaTimedEvent::CudaTimedEvent(cudaStream_t stream)
    : event_(std::make_shared<cuda::OwnedEvent>(cudaEventDefault)) {
  check(
      cudaEventRecordWithFlags(event_->get(), stream,
                               cuda::is_capturing(stream) ? cudaEventRecordExternal : cudaEventRecordDefault),
      "cudaEventRecord");
}

double CudaTimedEvent::seconds_since(const TimedEvent& earlier) const {
  const auto* before = dynamic_cast<const CudaTimedEvent*>(&earlier);
  HONE_CHECK(before != nullptr, "a time of another device");
  before->wait();
  wait();
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, before->get(), get()), "cudaEventElapsedTime");
  return static_cast<double>(milliseconds) * 1e-3;
}

std::shared_ptr<const TimedEvent> CudaTimedEvent::of_last_launch() const {
  const std::shared_ptr<CudaTimedEvent> same(new CudaTimedEvent);
  same->event_ = event_;
  return same;
}

bool CudaTimedEvent::begin_launch() {
  if (event_.use_count() == 1) return false;
  event_ = std::make_shared<cuda::OwnedEvent>(cudaEventDefault);
  return true;
}

}  // namespace hone::device
