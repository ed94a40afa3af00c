#include "device/stream.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace hone::device {

namespace {

/// Of streams whose work is done when it has been put there.
class PastEvent final : public Event {
 public:
  bool is_done() const override { return true; }
  void wait() const override {}
};

std::shared_ptr<Buffer> pageable_memory(std::size_t size_bytes) {
  const std::shared_ptr<void> memory(std::aligned_alloc(64, (size_bytes + 63) / 64 * 64 + 64), std::free);
  HONE_CHECK(memory != nullptr, "no host memory of {} bytes", size_bytes);
  return Buffer::wrap({DeviceType::kCpu, 0}, memory.get(), size_bytes, memory);
}

}  // namespace

Stream::Stream(std::shared_ptr<Allocator> allocator, int num_threads, int first_core)
    : allocator_(std::move(allocator)),
      team_(std::make_unique<Team>(num_threads, first_core)),
      workspaces_(static_cast<std::size_t>(team_->num_threads())) {}

void* Stream::grow(std::shared_ptr<Buffer>& buffer, std::size_t size_bytes) {
  if (!buffer || buffer->size_bytes() < size_bytes) {
    ++scratch_generation_;
    buffer.reset();  // free the old one first: the two need never exist at once
    buffer = allocator_->allocate(size_bytes, Purpose::kWorkspace);
  }
  return buffer->data();
}

void* Stream::workspace(int thread, std::size_t size_bytes) {
  HONE_CHECK(thread >= 0 && thread < num_threads(), "workspace of thread {} of {}", thread, num_threads());
  return grow(workspaces_[static_cast<std::size_t>(thread)], size_bytes);
}

void* Stream::shared_workspace(std::size_t size_bytes) {
  return grow(shared_workspace_, size_bytes);
}

std::shared_ptr<Buffer> Stream::counted(std::shared_ptr<Buffer> memory, Purpose purpose) const {
  struct Counted {
    std::shared_ptr<Buffer> memory;
    LedgerEntry entry;
  };
  const std::shared_ptr<const void> owner(
      new Counted{memory, LedgerEntry(host_ledger_, purpose, memory->size_bytes())});
  return Buffer::wrap(memory->device(), memory->data(), memory->size_bytes(), owner);
}

void Stream::release_workspaces() {
  ++scratch_generation_;
  for (auto& w : workspaces_) w.reset();
  shared_workspace_.reset();
}

CpuStream::CpuStream(std::shared_ptr<Allocator> allocator, int num_threads, int first_core)
    : Stream(std::move(allocator), num_threads, first_core) {
  HONE_CHECK(device().type == DeviceType::kCpu, "a stream of the CPU with memory of {}", name_of(device()));
}

void CpuStream::upload(std::span<const std::byte> from, void* to) {
  if (!from.empty()) std::memcpy(to, from.data(), from.size());
}

void CpuStream::upload(std::shared_ptr<Buffer> from, void* to) {
  if (from->size_bytes() > 0) std::memcpy(to, from->data(), from->size_bytes());
}

void CpuStream::download(const void* from, std::shared_ptr<Buffer> to) {
  if (to->size_bytes() > 0) std::memcpy(to->data(), from, to->size_bytes());
}

void CpuStream::fill(void* to, std::uint8_t value, std::size_t size_bytes) {
  if (size_bytes > 0) std::memset(to, value, size_bytes);
}

void CpuStream::copy(const void* from, void* to, std::size_t size_bytes) {
  if (size_bytes > 0) std::memcpy(to, from, size_bytes);
}

std::shared_ptr<const Event> CpuStream::record() {
  static const auto kPast = std::make_shared<PastEvent>();
  return kPast;
}

void CpuStream::wait(const Event& event) {
  event.wait();
}

std::shared_ptr<Buffer> CpuStream::host_memory(std::size_t size_bytes) {
  return pageable_memory(size_bytes);
}

std::shared_ptr<Buffer> CpuStream::pinned_memory(std::size_t size_bytes, Purpose purpose) {
  return counted(host_memory(size_bytes), purpose);
}

MetaStream::MetaStream(int num_threads, DeviceType stands_for)
    : Stream(make_allocator({DeviceType::kMeta, 0, stands_for}), num_threads) {}

void MetaStream::download(const void*, std::shared_ptr<Buffer> to) {
  if (to->data() != nullptr) std::memset(to->data(), 0, to->size_bytes());  // pinned_memory() has no bytes
}

std::shared_ptr<const Event> MetaStream::record() {
  static const auto kPast = std::make_shared<PastEvent>();
  return kPast;
}

std::shared_ptr<Buffer> MetaStream::host_memory(std::size_t size_bytes) {
  return pageable_memory(size_bytes);
}

std::shared_ptr<Buffer> MetaStream::pinned_memory(std::size_t size_bytes, Purpose purpose) {
  return counted(Buffer::wrap(device(), nullptr, size_bytes, nullptr), purpose);
}

}  // namespace hone::device
