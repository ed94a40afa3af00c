// Memory and who holds it: buffers, the allocator that hands them out, and the ledger that counts them by
// purpose.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "device/device.h"

namespace hone::device {

/// What a buffer is for. The ledger counts bytes by purpose; the memory forecast and the start card print
/// them so.
enum class Purpose { kWeights, kGradients, kOptimizer, kActivations, kWorkspace, kCache, kData };
inline constexpr std::size_t kNumPurposes = 7;
std::string_view name_of(Purpose purpose);

/// Bytes held now and at most, by purpose and in all. Counts what was asked for, not what the allocator keeps
/// in reserve. Safe to use from several threads.
class MemoryLedger {
 public:
  void add(Purpose purpose, std::int64_t bytes);
  void subtract(Purpose purpose, std::int64_t bytes);
  std::int64_t current(Purpose purpose) const;
  /// The most bytes this purpose held at once since the last reset_peak().
  std::int64_t peak(Purpose purpose) const;
  std::int64_t current_total() const { return total_.load(); }
  std::int64_t peak_total() const { return total_peak_.load(); }
  void reset_peak();

 private:
  std::array<std::atomic<std::int64_t>, kNumPurposes> current_{};
  std::array<std::atomic<std::int64_t>, kNumPurposes> peak_{};
  std::atomic<std::int64_t> total_{0};
  std::atomic<std::int64_t> total_peak_{0};
};

/// Bytes that a ledger counts as long as this lives.
class LedgerEntry {
 public:
  LedgerEntry(std::shared_ptr<MemoryLedger> ledger, Purpose purpose, std::size_t bytes)
      : ledger_(std::move(ledger)), purpose_(purpose), bytes_(static_cast<std::int64_t>(bytes)) {
    ledger_->add(purpose_, bytes_);
  }
  ~LedgerEntry() { ledger_->subtract(purpose_, bytes_); }
  LedgerEntry(const LedgerEntry&) = delete;
  LedgerEntry& operator=(const LedgerEntry&) = delete;

 private:
  std::shared_ptr<MemoryLedger> ledger_;
  Purpose purpose_;
  std::int64_t bytes_;
};

/// A piece of device memory with one owner: an allocator, a memory map or somebody else. Shared by the
/// tensors that view it.
class Buffer {
 public:
  /// Memory owned elsewhere; `owner` is held as long as the buffer lives. Not counted by any ledger.
  static std::shared_ptr<Buffer> wrap(Device device, void* data, std::size_t size_bytes,
                                      std::shared_ptr<const void> owner);
  virtual ~Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  /// An address of the device, for kernels and the verbs of Stream. Null on the meta device.
  void* data() const { return data_; }
  std::size_t size_bytes() const { return size_bytes_; }
  Device device() const { return device_; }

 protected:
  Buffer(Device device, void* data, std::size_t size_bytes)
      : device_(device), data_(data), size_bytes_(size_bytes) {}
  Device device_;
  void* data_;
  std::size_t size_bytes_;
};

/// Hands out buffers of one device and counts them. Freed blocks are kept and used again, because a training
/// step asks for nearly the same sizes every time and fresh pages cost a page fault per 4 KiB. Safe to use
/// from several threads.
///
/// Memory is in the order of a stream (Stream::allocator()): it may be used by what is put there from now on,
/// and a buffer may be let go of as soon as its last use has been put there, though not yet run: what is
/// handed out next is used after that. Another stream that uses it waits for an Event of this one first, and
/// this one for an event of that one before the buffer is let go of.
class Allocator {
 public:
  virtual ~Allocator() = default;
  /// Uninitialised memory, aligned to 64 bytes (2 MiB for large blocks). The buffer may outlive the
  /// allocator. Throws Error(kUser) with the sizes held by purpose when the machine has no more memory.
  virtual std::shared_ptr<Buffer> allocate(std::size_t size_bytes, Purpose purpose) = 0;
  /// Returns the kept blocks to the system.
  virtual void trim() {}
  /// Bytes taken from the system: in use and kept. They stay below the most ever asked for at once and
  /// reserve_bytes() of it; a card's below what the card has. 0 where nothing is taken (meta).
  virtual std::int64_t held_bytes() const { return 0; }
  /// What may be kept, and lost where a block is larger than what was asked for, beyond `most` bytes.
  static std::int64_t reserve_bytes(std::int64_t most) { return most / 32 + (std::int64_t{8} << 20); }
  virtual MemoryLedger& ledger() = 0;
  virtual Device device() const = 0;
};

/// The allocator for a device.
std::shared_ptr<Allocator> make_allocator(Device device);

}  // namespace hone::device
