// The pool of blocks over a source that counts.
#include "device/block_pool.h"

#include <gtest/gtest.h>

#include <vector>

namespace hone::device {
namespace {

constexpr std::size_t kOneMiB = std::size_t{1} << 20;

/// Addresses without memory, up to `capacity` bytes of them.
class Counted final : public BlockSource {
 public:
  Counted(std::size_t capacity, bool is_shared) : left_(capacity), is_shared_(is_shared) {}
  void* map(std::size_t size) override {
    if (size > left_) return nullptr;
    left_ -= size;
    ++maps;
    return reinterpret_cast<void*>(next_ += std::uintptr_t{1} << 40);
  }
  void unmap(void*, std::size_t size) noexcept override {
    left_ += size;
    ++unmaps;
  }
  bool is_shared() const override { return is_shared_; }

  int maps = 0, unmaps = 0;

 private:
  std::size_t left_;
  bool is_shared_;
  std::uintptr_t next_ = 0;
};

struct Pool {
  Pool(std::size_t capacity, bool is_shared)
      : source(new Counted(capacity, is_shared)), pool(std::unique_ptr<BlockSource>(source)) {}
  /// Blocks that are in use together, and then are not; false where there was no more.
  bool phase(int count, std::size_t size) {
    std::vector<BlockPool::Block> blocks;
    bool all = true;
    for (int i = 0; i < count && all; ++i) {
      blocks.push_back(pool.take(size));
      all = blocks.back().data != nullptr;
      if (!all) blocks.pop_back();
    }
    for (const auto& block : blocks) pool.put_back(block);
    return all;
  }

  Counted* source;
  BlockPool pool;
};

// Phases of a step that have different sizes: 160 MiB at most at once, 260 in all.
TEST(BlockPool, AStepOverMemoryOfItsOwnTakesAndGivesNothing) {
  Pool own(1024 * kOneMiB, false);
  for (int step = 0; step < 3; ++step) {
    ASSERT_TRUE(own.phase(10, 10 * kOneMiB));
    ASSERT_TRUE(own.phase(10, 16 * kOneMiB));
    EXPECT_EQ(own.source->maps, 20) << step;
    EXPECT_EQ(own.source->unmaps, 0) << step;
  }
  EXPECT_EQ(own.pool.held_bytes(), 260 * kOneMiB);
}

TEST(BlockPool, SharedMemoryGoesBack) {
  Pool shared(1024 * kOneMiB, true);
  for (int step = 0; step < 3; ++step) {
    ASSERT_TRUE(shared.phase(10, 10 * kOneMiB));
    ASSERT_TRUE(shared.phase(10, 16 * kOneMiB));
    EXPECT_LE(shared.pool.held_bytes(), (160 + 160 / 32 + 8) * kOneMiB);
  }
  EXPECT_GT(shared.source->unmaps, 0);
}

// 200 MiB hold either phase and a part of the other: as much goes back as is needed, the oldest first.
TEST(BlockPool, GivesBackNoMoreThanIsNeeded) {
  Pool own(200 * kOneMiB, false);
  ASSERT_TRUE(own.phase(10, 10 * kOneMiB));
  ASSERT_TRUE(own.phase(6, 16 * kOneMiB));
  EXPECT_EQ(own.source->unmaps, 0);
  ASSERT_TRUE(own.phase(7, 16 * kOneMiB));
  EXPECT_EQ(own.source->unmaps, 2);
  ASSERT_TRUE(own.phase(7, 16 * kOneMiB));
  EXPECT_EQ(own.source->maps, 17);
  EXPECT_FALSE(own.phase(13, 16 * kOneMiB));
  EXPECT_TRUE(own.phase(12, 16 * kOneMiB));  // which is all
}

}  // namespace
}  // namespace hone::device
