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

TEST(BlockPool, ACaptureTakesKeptBlocksAloneAndTellsThem) {
  Pool own(1024 * kOneMiB, false);
  ASSERT_TRUE(own.phase(3, 4 * kOneMiB));
  own.pool.begin_capture();
  EXPECT_TRUE(own.pool.is_capturing());
  const auto first = own.pool.take(4 * kOneMiB), second = own.pool.take(4 * kOneMiB);
  own.pool.put_back(first);
  EXPECT_EQ(own.pool.take(64 * kOneMiB).data, nullptr);
  EXPECT_EQ(own.pool.take(65 * kOneMiB).data, nullptr);
  EXPECT_EQ(own.pool.take(4 * kOneMiB).data, first.data);
  own.pool.put_back(first);
  const auto capture = own.pool.end_capture();
  EXPECT_FALSE(own.pool.is_capturing());
  EXPECT_EQ(own.source->maps, 3);
  EXPECT_EQ(capture.missed, 64 * kOneMiB);
  ASSERT_EQ(capture.kept.size(), 1U);
  EXPECT_EQ(capture.kept[0].data, first.data);
  ASSERT_EQ(capture.in_use.size(), 1U);
  EXPECT_EQ(capture.in_use[0].data, second.data);
  // What others use, or what has gone back to the system, is not there for the captured work.
  EXPECT_TRUE(own.pool.are_kept(capture.kept));
  EXPECT_FALSE(own.pool.are_kept(capture.in_use));
  std::vector<BlockPool::Block> others;
  for (int i = 0; i < 2; ++i) others.push_back(own.pool.take(4 * kOneMiB));
  EXPECT_FALSE(own.pool.are_kept(capture.kept));
  for (const auto& block : others) own.pool.put_back(block);
  EXPECT_TRUE(own.pool.are_kept(capture.kept));
  own.pool.put_back(second);
  own.pool.trim();
  EXPECT_FALSE(own.pool.are_kept(capture.kept));
  // One more is kept, though none is in use.
  EXPECT_TRUE(own.pool.keep_another(4 * kOneMiB));
  EXPECT_TRUE(own.pool.keep_another(4 * kOneMiB));
  EXPECT_EQ(own.pool.held_bytes(), 8 * kOneMiB);
  EXPECT_FALSE(own.pool.keep_another(2048 * kOneMiB));
  // Memory is the system's again, as much as there is.
  EXPECT_TRUE(own.phase(1, 1000 * kOneMiB));
}

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
