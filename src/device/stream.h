// A stream: the order in which a device's work runs, how bytes get there and back, and the scratch memory
// that kernels may use meanwhile.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/team.h"
#include "device/memory.h"

namespace hone::device {

/// What one kernel does.
struct Cost {
  double flops = 0;           // floating-point operations, a multiply-add being two
  double bytes = 0;           // moved to and from memory
  DType dtype = DType::kF32;  // what its products multiply: which peak of the machine bounds them
};

/// A kernel that was called on the meta device.
struct KernelCost {
  std::string_view slot;  // in the kernel table
  Cost cost;
};

/// A place in a stream's order: what was put there before it.
class Event {
 public:
  virtual ~Event() = default;
  /// Whether all of it is done. Does not wait.
  virtual bool is_done() const = 0;
  /// Returns when it is.
  virtual void wait() const = 0;
};

/// In-order work queue of one device. Kernels and verbs put work there and may return before it is done; each
/// sees what was put there before it. One thread at a time may put work into a stream.
///
/// Only kernels and verbs touch device memory: an address of it means nothing to anyone else.
class Stream {
 public:
  virtual ~Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// The host's threads that run a kernel, and what the host does for this stream. None is started before the
  /// first loop that takes two; they end with the stream.
  Team& team() const { return *team_; }
  int num_threads() const { return team_->num_threads(); }
  /// Memory of the device, in this stream's order.
  Allocator& allocator() const { return *allocator_; }
  Device device() const { return allocator_->device(); }
  /// Whether nothing is computed here: a kernel takes the scratch memory that it would need, so that it is
  /// counted, and returns; a verb does nothing, and what is downloaded is 0.
  bool is_meta() const { return device().type == DeviceType::kMeta; }
  /// What is held of pinned_memory().
  MemoryLedger& host_ledger() const { return *host_ledger_; }

  // The verbs. Device memory is of this stream's device; its addresses are null on the meta device.

  /// Host to device. `from` is the caller's again on return.
  virtual void upload(std::span<const std::byte> from, void* to) = 0;
  /// The same without a stop on the way: all of `from`, which is of host_memory() or pinned_memory(), and
  /// stays as it is until an Event recorded afterwards is done. The stream holds it as long as it needs it.
  virtual void upload(std::shared_ptr<Buffer> from, void* to) = 0;
  /// Device to host, into all of `to`, which is of host_memory() or pinned_memory() and holds nothing yet
  /// until an Event recorded afterwards is done. The stream holds it as long as it needs it.
  virtual void download(const void* from, std::shared_ptr<Buffer> to) = 0;
  /// Sets every byte.
  virtual void fill(void* to, std::uint8_t value, std::size_t size_bytes) = 0;
  /// Device to device; from and to do not overlap.
  virtual void copy(const void* from, void* to, std::size_t size_bytes) = 0;

  /// Marks this place of the order.
  virtual std::shared_ptr<const Event> record() = 0;
  /// What is put here from now on runs after `event`, of a stream of this device or of the host's.
  virtual void wait(const Event& event) = 0;
  /// Returns when all that was put here is done.
  virtual void synchronize() = 0;

  /// Host memory that the device reaches without a stop on the way (pinned, where there is such a thing),
  /// uninitialised. Not counted by the ledger.
  virtual std::shared_ptr<Buffer> host_memory(std::size_t size_bytes) = 0;
  /// The same to be held for long: of just this size, and counted by host_ledger(). Null on the meta device.
  /// Throws Error(kUser) where the machine gives no more.
  virtual std::shared_ptr<Buffer> pinned_memory(std::size_t size_bytes, Purpose purpose) = 0;
  /// Whether device memory is host memory, so that a host that has waited for the stream may read and write
  /// it in place. For tensor/transfer.h, which saves a copy then; nobody else asks.
  virtual bool shares_host_memory() const = 0;

  /// Around each kernel that is called with this stream (ops::launch).
  virtual void begin_kernel() {}
  virtual void end_kernel() noexcept {}

  /// Scratch memory of thread `thread` (0 … num_threads-1), 64-byte aligned, uninitialised, at least
  /// size_bytes. It is valid until the next call with the same thread; grows and is kept. Different threads
  /// may call at the same time. Null on the meta device.
  void* workspace(int thread, std::size_t size_bytes);
  /// The scratch memory that all threads of one kernel share; as above, called outside parallel regions.
  void* shared_workspace(std::size_t size_bytes);
  /// Frees all scratch memory.
  void release_workspaces();
  /// Another number whenever scratch memory was taken or freed: until then it lies where it lay.
  std::uint64_t scratch_generation() const { return scratch_generation_.load(); }

  /// On the meta device: what the kernels called so far cost, in order.
  std::vector<KernelCost>& costs() { return costs_; }
  const std::vector<KernelCost>& costs() const { return costs_; }

 protected:
  /// The last two are the Team's.
  Stream(std::shared_ptr<Allocator> allocator, int num_threads, int first_core = 0);
  /// Memory of the host as pinned_memory() gives it: held, and counted, as long as the buffer lives.
  std::shared_ptr<Buffer> counted(std::shared_ptr<Buffer> memory, Purpose purpose) const;

 private:
  void* grow(std::shared_ptr<Buffer>& buffer, std::size_t size_bytes);
  std::shared_ptr<Allocator> allocator_;
  std::shared_ptr<MemoryLedger> host_ledger_ = std::make_shared<MemoryLedger>();
  std::unique_ptr<Team> team_;
  std::vector<std::shared_ptr<Buffer>> workspaces_;
  std::shared_ptr<Buffer> shared_workspace_;
  std::atomic<std::uint64_t> scratch_generation_{0};
  std::vector<KernelCost> costs_;
};

/// The processor's own memory and threads: work runs at once and is done on return.
class CpuStream : public Stream {
 public:
  CpuStream(std::shared_ptr<Allocator> allocator, int num_threads, int first_core = 0);

  void upload(std::span<const std::byte> from, void* to) override;
  void upload(std::shared_ptr<Buffer> from, void* to) override;
  void download(const void* from, std::shared_ptr<Buffer> to) override;
  void fill(void* to, std::uint8_t value, std::size_t size_bytes) override;
  void copy(const void* from, void* to, std::size_t size_bytes) override;
  std::shared_ptr<const Event> record() override;
  void wait(const Event& event) override;
  void synchronize() override {}
  std::shared_ptr<Buffer> host_memory(std::size_t size_bytes) override;
  std::shared_ptr<Buffer> pinned_memory(std::size_t size_bytes, Purpose purpose) override;
  bool shares_host_memory() const override { return true; }
};

/// Counts memory and work without doing any.
class MetaStream final : public Stream {
 public:
  explicit MetaStream(int num_threads, DeviceType stands_for = DeviceType::kCpu);

  void upload(std::span<const std::byte>, void*) override {}
  void upload(std::shared_ptr<Buffer>, void*) override {}
  void download(const void* from, std::shared_ptr<Buffer> to) override;
  void fill(void*, std::uint8_t, std::size_t) override {}
  void copy(const void*, void*, std::size_t) override {}
  std::shared_ptr<const Event> record() override;
  void wait(const Event&) override {}
  void synchronize() override {}
  std::shared_ptr<Buffer> host_memory(std::size_t size_bytes) override;
  std::shared_ptr<Buffer> pinned_memory(std::size_t size_bytes, Purpose purpose) override;
  bool shares_host_memory() const override { return false; }
};

/// A stream of a device, with an allocator and a team of its own. num_threads 0: one per core that this
/// process may use; streams that work at the same time are given different first cores (base/team.h). Throws
/// Error(kUser) where the device cannot be used.
std::unique_ptr<Stream> make_stream(Device device, int num_threads = 0, int first_core = 0);

/// Tells a stream of a kernel that runs while this lives.
class KernelScope {
 public:
  explicit KernelScope(Stream& stream) : stream_(stream) { stream_.begin_kernel(); }
  ~KernelScope() { stream_.end_kernel(); }
  KernelScope(const KernelScope&) = delete;
  KernelScope& operator=(const KernelScope&) = delete;

 private:
  Stream& stream_;
};

}  // namespace hone::device
