#include "device/block_pool.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "device/out_of_memory.h"

namespace hone::device {

namespace {

/// Rounds a size up so that freed blocks find new users: small ones to one of eight steps per power of two,
/// mapped ones to 64 KiB.
std::size_t block_size(std::size_t bytes) {
  constexpr std::size_t kSmallest = 256;
  if (bytes <= kSmallest) return kSmallest;
  const std::size_t step =
      bytes >= kMapped ? std::size_t{64} << 10 : std::max<std::size_t>(64, std::bit_floor(bytes - 1) / 8);
  return (bytes + step - 1) / step * step;
}

class PoolBuffer final : public Buffer {
 public:
  PoolBuffer(Device device, const std::shared_ptr<BlockPool>& pool, BlockPool::Block block,
             std::size_t size_bytes, Purpose purpose)
      : Buffer(device, block.data, size_bytes),
        memory_{pool, block},
        entry_({pool, &pool->ledger}, purpose, size_bytes) {}

 private:
  struct Memory {
    std::shared_ptr<BlockPool> pool;
    BlockPool::Block block;
    ~Memory() { pool->put_back(block); }
  };
  Memory memory_;
  LedgerEntry entry_;  // ends before the memory is another's
};

}  // namespace

BlockPool::Block BlockPool::take(std::size_t size) {
  {
    const std::lock_guard lock(mutex_);
    asked_ += size;
    most_asked_ = std::max(most_asked_, asked_);
    const auto found = kept_.lower_bound(size);
    if (found != kept_.end() && found->first <= size + size / 4 &&
        in_use_ + found->first - asked_ <= reserve()) {
      const Block block{found->second.back().data, found->first, size};
      found->second.pop_back();
      if (found->second.empty()) kept_.erase(found);
      kept_bytes_ -= block.size;
      in_use_ += block.size;
      if (recording_) recording_->used.emplace(block.data, block.size);
      return block;
    }
    if (recording_) {
      if (recording_->missed == 0) recording_->missed = size;
      asked_ -= size;
      return {nullptr, size, size};
    }
    in_use_ += size;
    if (source_->is_shared())
      while (kept_bytes_ > 0 && in_use_ + kept_bytes_ > most_asked_ + reserve()) give_back_oldest();
  }
  do
    if (void* data = source_->map(size)) return {data, size, size};
  while (give_back(size));
  forget_use(size);
  return {nullptr, size, size};
}

void BlockPool::put_back(Block block) {
  const std::lock_guard lock(mutex_);
  in_use_ -= block.size;
  asked_ -= block.asked;
  kept_[block.size].push_back({block.data, ++freed_});
  kept_bytes_ += block.size;
  if (recording_) recording_->used.emplace(block.data, block.size);
}

void BlockPool::trim() {
  const std::lock_guard lock(mutex_);
  while (kept_bytes_ > 0) give_back_oldest();
}

void BlockPool::begin_capture() {
  const std::lock_guard lock(mutex_);
  HONE_CHECK(!recording_, "a capture within another");
  recording_.emplace();
}

BlockPool::Capture BlockPool::end_capture() {
  const std::lock_guard lock(mutex_);
  HONE_CHECK(recording_.has_value(), "the end of no capture");
  Capture capture{.missed = recording_->missed};
  const auto kept = sorted_kept();
  for (const auto& [data, size] : recording_->used)
    (std::ranges::binary_search(kept, std::pair(data, size)) ? capture.kept : capture.in_use)
        .push_back({data, size, size});
  recording_.reset();
  return capture;
}

bool BlockPool::keep_another(std::size_t size) {
  void* data = source_->map(size);
  if (data == nullptr) return false;
  const std::lock_guard lock(mutex_);
  kept_[size].push_back({data, ++freed_});
  kept_bytes_ += size;
  return true;
}

bool BlockPool::are_kept(const std::vector<Block>& blocks) {
  const std::lock_guard lock(mutex_);
  const auto kept = sorted_kept();
  return std::ranges::all_of(blocks, [&](const Block& block) {
    return std::ranges::binary_search(kept, std::pair(block.data, block.size));
  });
}

bool BlockPool::is_capturing() {
  const std::lock_guard lock(mutex_);
  return recording_.has_value();
}

/// By address. A step has some hundreds.
std::vector<std::pair<void*, std::size_t>> BlockPool::sorted_kept() const {
  std::vector<std::pair<void*, std::size_t>> all;
  for (const auto& [size, blocks] : kept_)
    for (const Kept& block : blocks) all.emplace_back(block.data, size);
  std::ranges::sort(all);
  return all;
}

std::size_t BlockPool::held_bytes() {
  const std::lock_guard lock(mutex_);
  return in_use_ + kept_bytes_;
}

/// What may be held beyond the most that was ever asked for, kept or lost in blocks that are larger than what
/// they serve: ragged batches ask for ever new sizes, and whoever planned for the largest batch must not need
/// more for the mixture of all. (Until 2026-11 a quarter could be kept, 3.7 GiB where 2.7 were planned, and a
/// quarter lost, 906 MiB for 850.)
std::size_t BlockPool::reserve() const {
  return static_cast<std::size_t>(Allocator::reserve_bytes(static_cast<std::int64_t>(most_asked_)));
}

void BlockPool::forget_use(std::size_t size) {
  const std::lock_guard lock(mutex_);
  in_use_ -= size;
  asked_ -= size;
}

/// Of kept blocks the oldest, that are so large together, or all; false where there are none.
bool BlockPool::give_back(std::size_t size) {
  const std::lock_guard lock(mutex_);
  const std::size_t before = kept_bytes_;
  while (kept_bytes_ > 0 && before - kept_bytes_ < size) give_back_oldest();
  return before > 0;
}

void BlockPool::give_back_oldest() {
  auto oldest = kept_.begin();
  for (auto it = kept_.begin(); it != kept_.end(); ++it)
    if (it->second.front().freed < oldest->second.front().freed) oldest = it;
  source_->unmap(oldest->second.front().data, oldest->first);
  kept_bytes_ -= oldest->first;
  oldest->second.pop_front();
  if (oldest->second.empty()) kept_.erase(oldest);
}

std::shared_ptr<Buffer> PoolAllocator::allocate(std::size_t size_bytes, Purpose purpose) {
  const BlockPool::Block block = pool_->take(block_size(size_bytes));
  if (block.data == nullptr && pool_->is_capturing())
    throw Error(ErrorKind::kInternal, fmt::format("no kept block of {} bytes", size_bytes));
  if (block.data == nullptr)
    throw OutOfMemory({.device = device_,
                       .purpose = purpose,
                       .asked = static_cast<std::int64_t>(size_bytes),
                       .held = held_by_purpose(pool_->ledger),
                       .taken = held_bytes(),
                       .memory = pool_->source().memory()});
  return std::make_shared<PoolBuffer>(device_, pool_, block, size_bytes, purpose);
}

}  // namespace hone::device
