// Blocks of memory that are kept for the next user: what the allocators of the CPU and of NVIDIA cards share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "device/memory.h"
#include "device/memory_of.h"

namespace hone::device {

/// Where a pool's blocks come from. May be called from several threads.
class BlockSource {
 public:
  virtual ~BlockSource() = default;
  /// Memory of the system; null where there is no more.
  virtual void* map(std::size_t size_bytes) = 0;
  /// Waits for whatever still uses the block.
  virtual void unmap(void* block, std::size_t size_bytes) noexcept = 0;
  /// Whether blocks that are kept beyond what was ever asked for at once are to go back, for others have use
  /// for them. Else they go when there is no more.
  virtual bool is_shared() const { return true; }
  /// What there is of memory, for who finds none.
  virtual DeviceMemory memory() const { return {}; }
};

/// What outlives an allocator while buffers are alive: the ledger and the kept blocks. Safe to use from
/// several threads.
class BlockPool {
 public:
  explicit BlockPool(std::unique_ptr<BlockSource> source) : source_(std::move(source)) {}
  ~BlockPool() { trim(); }
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  struct Block {
    void* data = nullptr;
    std::size_t size = 0, asked = 0;  // bytes, and what they were taken for
  };
  /// A block of at least `size` bytes: a kept one up to a quarter larger, or a new one. Data is null where
  /// there is no more.
  Block take(std::size_t size);
  /// Keeps a freed block for the next user.
  void put_back(Block block);
  /// Gives the kept blocks back.
  void trim();

  // Of work that is captured to be done again at the same addresses (device/graph.h).

  struct Capture {
    std::vector<Block> kept = {};    // taken meanwhile, or before, and put back
    std::vector<Block> in_use = {};  // taken meanwhile, and not yet put back
    std::size_t missed = 0;          // bytes of the first block that was asked for and not there; 0: all were
  };
  /// From here on only kept blocks are given out.
  void begin_capture();
  Capture end_capture();
  /// Takes one more block from the system to be kept, however many there are; false where there is no more.
  bool keep_another(std::size_t size);
  /// Whether all of these blocks are kept now, so that whoever has their addresses may use them until the
  /// next one is taken.
  bool are_kept(const std::vector<Block>& blocks);
  bool is_capturing();

  /// In use and kept.
  std::size_t held_bytes();
  const BlockSource& source() const { return *source_; }

  MemoryLedger ledger;

 private:
  struct Kept {
    void* data;
    std::uint64_t freed;  // when
  };
  std::size_t reserve() const;
  std::vector<std::pair<void*, std::size_t>> sorted_kept() const;
  void forget_use(std::size_t size);
  void give_back_oldest();
  bool give_back(std::size_t size);

  std::unique_ptr<BlockSource> source_;
  std::mutex mutex_;
  std::map<std::size_t, std::deque<Kept>> kept_;  // by size; none is empty
  std::size_t kept_bytes_ = 0, in_use_ = 0, asked_ = 0, most_asked_ = 0;
  std::uint64_t freed_ = 0;
  struct Recording {
    std::set<std::pair<void*, std::size_t>> used;
    std::size_t missed = 0;
  };
  std::optional<Recording> recording_;  // of a capture
};

/// An allocator over a pool: rounds sizes up so that freed blocks find new users.
class PoolAllocator final : public Allocator {
 public:
  PoolAllocator(Device device, std::unique_ptr<BlockSource> source)
      : device_(device), pool_(std::make_shared<BlockPool>(std::move(source))) {}

  std::shared_ptr<Buffer> allocate(std::size_t size_bytes, Purpose purpose) override;
  void trim() override { pool_->trim(); }
  std::int64_t held_bytes() const override { return static_cast<std::int64_t>(pool_->held_bytes()); }
  MemoryLedger& ledger() override { return pool_->ledger; }
  BlockPool& pool() const { return *pool_; }
  Device device() const override { return device_; }

 private:
  Device device_;
  std::shared_ptr<BlockPool> pool_;
};

/// Blocks from here on are mapped one by one where the system has a heap for smaller ones.
inline constexpr std::size_t kMapped = std::size_t{1} << 20;

}  // namespace hone::device
