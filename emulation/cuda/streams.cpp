// Streams and events: what is put into a stream runs late, at the latest when somebody waits for it.
#include "streams.h"

#include <cstdlib>

namespace cuda_emulation {

Runtime& runtime() {
  static Runtime* kept = new Runtime;  // streams may outlive static objects
  return *kept;
}

thread_local int current_card = 0;

bool run_one(CUstream_st& stream) {
  if (stream.queue.empty()) return false;
  Operation operation = std::move(stream.queue.front());
  stream.queue.pop_front();
  if (operation.waits_for != nullptr)
    while (operation.waits_for->done < operation.until && run_one(*operation.waits_for)) {
    }
  if (operation.run && runtime().sticky == cudaSuccess) operation.run();
  ++stream.done;
  return true;
}

void run_all(CUstream_st& stream) {
  while (run_one(stream)) {
  }
}

void run_everything() {
  for (auto& stream : runtime().streams) run_all(*stream);
  run_all(runtime().legacy);
}

/// Some work at a random moment.
void perhaps_run_some() {
  Runtime& r = runtime();
  if (r.streams.empty() || r.random() % 4 != 0) return;
  for (auto left = r.random() % 4; left > 0; --left) run_one(*r.streams[r.random() % r.streams.size()]);
}

cudaError_t put(cudaStream_t stream, Operation operation) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (r.sticky != cudaSuccess) return r.sticky;
  if (stream != nullptr && stream->capture != nullptr) return put_captured(*stream, std::move(operation));
  if (stream == nullptr) {  // the legacy stream waits for all others, and they for it
    run_everything();
    ++r.legacy.put;
    r.legacy.queue.push_back(std::move(operation));
    run_all(r.legacy);
    return cudaSuccess;  // what goes wrong meanwhile is told by the next call
  }
  ++stream->put;
  stream->queue.push_back(std::move(operation));
  perhaps_run_some();
  return cudaSuccess;
}

cudaError_t note(cudaError_t status) {
  if (status != cudaSuccess) runtime().last = status;
  return status;
}

}  // namespace cuda_emulation

using namespace cuda_emulation;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const std::lock_guard lock(runtime().mutex);
  *stream = runtime().streams.emplace_back(std::make_unique<CUstream_st>()).get();
  (*stream)->card = current_card;
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr || stream->destroyed) return note(cudaErrorInvalidValue);
  stream->destroyed = true;
  return cudaSuccess;  // what is in it still runs
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  if (const cudaError_t refused = refuse_query(stream); refused != cudaSuccess) return refused;
  if (stream == nullptr)
    run_everything();
  else
    run_all(*stream);
  return runtime().sticky;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  if (const cudaError_t refused = refuse_query(stream); refused != cudaSuccess) return refused;
  perhaps_run_some();
  if (runtime().sticky != cudaSuccess) return runtime().sticky;
  return stream == nullptr || stream->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const std::lock_guard lock(runtime().mutex);
  if (event->capture != nullptr && stream == nullptr) return note(cudaErrorStreamCaptureImplicit);
  if (event->capture != nullptr || (stream != nullptr && stream->capture != nullptr))
    return wait_captured(*stream, *event);
  if (event->stream == nullptr || event->stream == stream) return cudaSuccess;
  return put(stream, {nullptr, event->stream, event->place});
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st{.card = current_card};
  (*event)->keeps_time = (flags & cudaEventDisableTiming) == 0;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, 0);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  const std::lock_guard lock(runtime().mutex);
  if (event->card != (stream != nullptr ? stream->card : current_card))
    return note(cudaErrorInvalidResourceHandle);
  if (stream != nullptr && stream->capture != nullptr) return record_captured(*event, *stream, flags);
  if ((flags & cudaEventRecordExternal) != 0) return note(cudaErrorInvalidValue);  // of captures alone
  if (stream == nullptr) run_everything();
  event->capture = nullptr;
  event->within = 0;
  event->stream = stream != nullptr ? stream : &runtime().legacy;
  event->place = event->stream->put;
  return runtime().sticky;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(runtime().mutex);
  if (event->capture != nullptr) return note(cudaErrorCapturedEvent);
  if (const cudaError_t refused = refuse_unsafe(); refused != cudaSuccess) return refused;
  perhaps_run_some();
  if (runtime().sticky != cudaSuccess) return runtime().sticky;
  return event->stream == nullptr || event->stream->done >= event->place ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const std::lock_guard lock(runtime().mutex);
  if (event->capture != nullptr) return note(cudaErrorCapturedEvent);
  if (const cudaError_t refused = refuse_unsafe(); refused != cudaSuccess) return refused;
  while (event->stream != nullptr && event->stream->done < event->place && run_one(*event->stream)) {
  }
  return runtime().sticky;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t stop) {
  if (!start->keeps_time || !stop->keeps_time || start->stream == nullptr || stop->stream == nullptr)
    return note(cudaErrorInvalidValue);
  if (cudaEventQuery(start) != cudaSuccess || cudaEventQuery(stop) != cudaSuccess) return cudaErrorNotReady;
  const bool has_clock = std::getenv("HONE_CUDA_EMULATED_CLOCK") != nullptr;
  *milliseconds = has_clock ? static_cast<float>(static_cast<double>(stop->place + stop->within) -
                                                 static_cast<double>(start->place + start->within))
                            : 0;
  return cudaSuccess;
}
