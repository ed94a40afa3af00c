#include "device/stream.h"

#include <algorithm>

#include "base/error.h"
#include "device/threads.h"

namespace hone::device {

Stream::Stream(std::shared_ptr<Allocator> allocator, int num_threads)
    : allocator_(std::move(allocator)),
      num_threads_(num_threads > 0 ? num_threads : available_cores()),
      workspaces_(static_cast<std::size_t>(num_threads_)) {}

bool Stream::is_meta() const {
  return allocator_->device().type == DeviceType::kMeta;
}

void* Stream::grow(std::shared_ptr<Buffer>& buffer, std::size_t size_bytes) {
  if (!buffer || buffer->size_bytes() < size_bytes) {
    buffer.reset();  // free the old one first: the two need never exist at once
    buffer = allocator_->allocate(size_bytes, Purpose::kWorkspace);
  }
  return buffer->data();
}

void* Stream::workspace(int thread, std::size_t size_bytes) {
  HONE_CHECK(thread >= 0 && thread < num_threads_, "workspace of thread {} of {}", thread, num_threads_);
  return grow(workspaces_[static_cast<std::size_t>(thread)], size_bytes);
}

void* Stream::shared_workspace(std::size_t size_bytes) {
  return grow(shared_workspace_, size_bytes);
}

void Stream::release_workspaces() {
  for (auto& w : workspaces_) w.reset();
  shared_workspace_.reset();
}

int available_cores() {
  return std::max(1, static_cast<int>(allowed_cores().size()));
}

}  // namespace hone::device
