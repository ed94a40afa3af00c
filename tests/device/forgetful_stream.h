// A stream without its events: what they are there for goes wrong.
#pragma once

#include <memory>
#include <span>
#include <utility>

#include "device/stream.h"

namespace hone::device {

/// A stream whose user, or who waits for it, forgets to.
class Forgetful final : public Stream {
 public:
  struct Of {
    bool waits = false, records = false;
    bool active = false;  // from now on
  };
  Forgetful(Device device, const Of& of)
      : Stream(make_allocator(device), 1),
        inner_(make_stream(device, 1)),
        past_(make_stream(device, 1)->record()),
        of_(of) {}

  void upload(std::span<const std::byte> from, void* to) override { inner_->upload(from, to); }
  void upload(std::shared_ptr<Buffer> from, void* to) override { inner_->upload(std::move(from), to); }
  void download(const void* from, std::shared_ptr<Buffer> to) override {
    inner_->download(from, std::move(to));
  }
  void fill(void* to, std::uint8_t value, std::size_t bytes) override { inner_->fill(to, value, bytes); }
  void copy(const void* from, void* to, std::size_t bytes) override { inner_->copy(from, to, bytes); }
  std::shared_ptr<const Event> record() override {
    return of_.active && of_.records ? past_ : inner_->record();
  }
  void wait(const Event& event) override {
    if (!of_.active || !of_.waits) inner_->wait(event);
  }
  void synchronize() override { inner_->synchronize(); }
  std::shared_ptr<Buffer> host_memory(std::size_t bytes) override { return inner_->host_memory(bytes); }
  std::shared_ptr<Buffer> pinned_memory(std::size_t bytes, Purpose purpose) override {
    return inner_->pinned_memory(bytes, purpose);
  }
  bool shares_host_memory() const override { return false; }

 private:
  std::unique_ptr<Stream> inner_;
  std::shared_ptr<const Event> past_;
  const Of& of_;
};

}  // namespace hone::device
