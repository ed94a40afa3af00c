// A CPU that is as strict as a device of its own: what finds a host that touches device memory, and one that
// reads what has not arrived. For tests and for whoever writes above device/: HONE_GUARDED=1 in the
// environment makes it the CPU of any program.
#pragma once

#include "device/stream.h"

namespace hone::device {

/// Whether the environment variable HONE_GUARDED is 1.
bool guard_is_asked_for();

/// Computes as CpuStream does, the same bits. But its memory can be read and written only while a kernel or a
/// verb runs: any other access ends the program with a line that says so (SIGSEGV). Memory that was handed
/// out or let go of holds NaN, and so does host memory, until what it waits for has arrived: a download, as
/// soon as somebody waits. Every kernel costs two calls of mprotect.
class GuardedStream final : public CpuStream {
 public:
  explicit GuardedStream(int num_threads, int first_core = 0);

  void upload(std::span<const std::byte> from, void* to) override;
  void upload(std::shared_ptr<Buffer> from, void* to) override;
  void download(const void* from, std::shared_ptr<Buffer> to) override;
  void fill(void* to, std::uint8_t value, std::size_t size_bytes) override;
  void copy(const void* from, void* to, std::size_t size_bytes) override;
  std::shared_ptr<const Event> record() override;
  void synchronize() override;
  std::shared_ptr<Buffer> host_memory(std::size_t size_bytes) override;
  bool shares_host_memory() const override { return false; }
  void begin_kernel() override;
  void end_kernel() noexcept override;

 private:
  class Downloads;
  std::shared_ptr<Downloads> downloads_;
};

}  // namespace hone::device
