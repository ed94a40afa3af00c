#include "device/cuda/cuda_stream.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "device/cuda/check.h"
#include "device/cuda/cuda_event.h"

namespace hone::device {

using cuda::check;
using cuda::use_device;

namespace {

/// An upload goes by pieces of this size, so that copying into pinned memory and sending overlap.
constexpr std::size_t kUploadPiece = std::size_t{8} << 20;

}  // namespace

CudaStream::CudaStream(const CudaCard& card, int num_threads, int first_core)
    : CudaStream(card, num_threads, first_core, std::make_shared<CudaStreamHandle>(card.index)) {}

CudaStream::CudaStream(const CudaCard& card, int num_threads, int first_core,
                       std::shared_ptr<CudaStreamHandle> handle)
    : Stream(make_cuda_allocator({DeviceType::kCuda, card.index}, handle), num_threads, first_core),
      card_(card),
      handle_(std::move(handle)),
      pinned_(std::make_shared<PinnedPool>()) {}

CudaStream::~CudaStream() {
  // Host memory that the card still uses is let go of after that; what failed has been said.
  (void)cudaSetDevice(card_.index);
  (void)cudaStreamSynchronize(handle());
}

/// Of a verb that brings the host's memory in or out: what a graph does it must do without the host.
void CudaStream::check_not_captured(const char* verb) const {
  HONE_CHECK(!cuda::is_capturing(handle()), "[device.cuda] {} while a graph is captured", verb);
}

void CudaStream::upload(std::span<const std::byte> from, void* to) {
  use_device(card_.index);
  check_not_captured("an upload");
  for (std::size_t at = 0; at < from.size(); at += kUploadPiece) {
    const auto piece = from.subspan(at, std::min(kUploadPiece, from.size() - at));
    auto staged = host_memory(piece.size());
    std::memcpy(staged->data(), piece.data(), piece.size());
    check(cudaMemcpyAsync(static_cast<std::byte*>(to) + at, staged->data(), piece.size(),
                          cudaMemcpyHostToDevice, handle()),
          "upload");
    hold(std::move(staged));
  }
}

void CudaStream::upload(std::shared_ptr<Buffer> from, void* to) {
  if (from->size_bytes() == 0) return;
  use_device(card_.index);
  check_not_captured("an upload");
  check(cudaMemcpyAsync(to, from->data(), from->size_bytes(), cudaMemcpyHostToDevice, handle()), "upload");
  hold(std::move(from));
}

void CudaStream::download(const void* from, std::shared_ptr<Buffer> to) {
  if (to->size_bytes() == 0) return;
  use_device(card_.index);
  check_not_captured("a download");
  check(cudaMemcpyAsync(to->data(), from, to->size_bytes(), cudaMemcpyDeviceToHost, handle()), "download");
  hold(std::move(to));
}

void CudaStream::fill(void* to, std::uint8_t value, std::size_t size_bytes) {
  if (size_bytes == 0) return;
  use_device(card_.index);
  check(cudaMemsetAsync(to, value, size_bytes, handle()), "fill");
}

void CudaStream::copy(const void* from, void* to, std::size_t size_bytes) {
  if (size_bytes == 0) return;
  use_device(card_.index);
  check(cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyDeviceToDevice, handle()), "copy");
}

std::shared_ptr<const Event> CudaStream::record() {
  use_device(card_.index);
  return std::make_shared<CudaEvent>(handle());
}

void CudaStream::wait(const Event& event) {
  use_device(card_.index);
  if (const auto* ours = dynamic_cast<const CudaEvent*>(&event))
    ours->hold_back(handle());
  else
    event.wait();
}

void CudaStream::synchronize() {
  use_device(card_.index);
  check_not_captured("a wait for the stream");
  check(cudaStreamSynchronize(handle()), "synchronize");
  in_flight_.clear();
}

std::shared_ptr<Buffer> CudaStream::host_memory(std::size_t size_bytes) {
  use_device(card_.index);
  check_not_captured("host memory");
  return pinned_->take(size_bytes);
}

std::shared_ptr<Buffer> CudaStream::pinned_memory(std::size_t size_bytes, Purpose purpose) {
  use_device(card_.index);
  return counted(pin_memory(size_bytes, purpose, host_ledger()), purpose);
}

void CudaStream::begin_kernel() {
  use_device(card_.index);
}

void CudaStream::hold(std::shared_ptr<Buffer> memory) {
  while (!in_flight_.empty() && in_flight_.front().done->is_done()) in_flight_.pop_front();
  in_flight_.push_back({record(), std::move(memory)});
}

namespace {

const CudaStream& stream_of_card(const Stream& stream) {
  const auto* ours = dynamic_cast<const CudaStream*>(&stream);
  HONE_CHECK(ours != nullptr, "a kernel for cards was given a stream of {}", name_of(stream.device()));
  return *ours;
}

}  // namespace

cudaStream_t cuda_stream(const Stream& stream) {
  return stream_of_card(stream).handle();
}

const CudaCard& card_of(const Stream& stream) {
  return stream_of_card(stream).card();
}

LibraryStates& library_states(Stream& stream) {
  return const_cast<CudaStream&>(stream_of_card(stream)).library_states();
}

std::shared_ptr<const TimedEvent> record_cuda_time(Stream& stream) {
  use_device(card_of(stream).index);
  auto place = std::make_shared<CudaTimedEvent>(cuda_stream(stream));
  if (cuda::is_capturing(cuda_stream(stream)))
    dynamic_cast<CudaStream&>(stream).captured_times().push_back(place);
  return place;
}

std::unique_ptr<Stream> make_cuda_stream(Device device, int num_threads, int first_core) {
  return std::make_unique<CudaStream>(cuda::find_card(device.index), num_threads, first_core);
}

}  // namespace hone::device
