// The attention of cards beyond agreement with the reference: extreme scores, and sinks that are none.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/cuda/register.h"
#include "tests/cuda/card_memory.h"
#include "tests/kernels/cases.h"

namespace hone::test {
namespace {

using kernels::AttentionArgs;

class CudaAttention : public CardMemory {
 protected:
  void run(const AttentionArgs& a) {
    kernels::cuda_kernels().attention(a, card());
    arena_memory.settle();
  }
  /// One sequence over one head of 16; inputs are normal numbers.
  AttentionArgs attention_of(Arena& arena, std::int64_t queries, std::int64_t keys, DType dtype) {
    constexpr std::int64_t kDim = 16;
    AttentionArgs a;
    a.q_offsets = arena.integers({0, static_cast<std::int32_t>(queries)});
    a.key_begin = arena.integers({0});
    a.key_length = arena.integers({static_cast<std::int32_t>(keys)});
    a.sequences = a.heads = a.kv_heads = 1;
    a.head_dim = kDim;
    a.scale = 0.25F;
    a.pairs = kernels::attended_pairs(queries, keys, 0);
    a.q = arena.input(queries, kDim, dtype);
    a.k = arena.input(keys, kDim, dtype);
    a.v = arena.input(keys, kDim, dtype);
    a.out = arena.output("out", queries, kDim, dtype, false, 0);
    a.wants_lse = true;
    a.lse = static_cast<float*>(arena.output("lse", queries, 1, DType::kF32, false, 0).data);
    return a;
  }
};

/// Key j is (large * j, 0 …), so that the last key that a query sees wins by far, or the first. In one part
/// and (one query) in many.
TEST_F(CudaAttention, FollowsTheLargestScoreHoweverLarge) {
  for (const DType dtype : kBothDtypes)
    for (const float large : {1e4F, -1e4F, 3e18F, -3e18F})
      for (const std::int64_t queries : {1, 200}) {
        const std::int64_t keys = queries == 1 ? 1200 : queries;
        Arena arena;
        const AttentionArgs a = attention_of(arena, queries, keys, dtype);
        for (std::int64_t i = 0; i < queries; ++i)
          for (std::int64_t d = 0; d < a.head_dim; ++d) set(a.q, i, d, d == 0 ? 1e3 : 0);
        for (std::int64_t i = 0; i < keys; ++i)
          for (std::int64_t d = 0; d < a.head_dim; ++d)
            set(a.k, i, d, d == 0 ? large * static_cast<double>(i + 1) : 0);
        run(a);
        for (std::int64_t i = 0; i < queries; ++i) {
          const std::int64_t last = keys - queries + i;
          // of keys that are equal in bf16 all win
          std::int64_t first = large > 0 ? last : 0, end = first + 1;
          while (first > 0 && get(a.k, first - 1, 0) == get(a.k, last, 0)) --first;
          while (large < 0 && end <= last && get(a.k, end, 0) == get(a.k, 0, 0)) ++end;
          for (std::int64_t d = 0; d < a.head_dim; ++d) {
            double mean = 0;
            for (std::int64_t j = first; j < end; ++j)
              mean += get(a.v, j, d) / static_cast<double>(end - first);
            ASSERT_NEAR(get(a.out, i, d), mean, dtype == DType::kF32 ? 1e-6 : 0.01)
                << name_of(dtype) << " row " << i << " of " << queries << ", scores up to " << large;
          }
          ASSERT_TRUE(std::isfinite(a.lse[i]));
        }
      }
}

TEST_F(CudaAttention, OfEqualScoresIsTheMean) {
  for (const std::int64_t queries : {1, 130}) {
    const std::int64_t keys = queries == 1 ? 1500 : queries;
    Arena arena;
    const AttentionArgs a = attention_of(arena, queries, keys, DType::kF32);
    for (std::int64_t i = 0; i < queries; ++i)
      for (std::int64_t d = 0; d < a.head_dim; ++d) set(a.q, i, d, 0);
    run(a);
    for (std::int64_t i = 0; i < queries; ++i) {
      const std::int64_t seen = keys - queries + i + 1;
      for (std::int64_t d = 0; d < a.head_dim; ++d) {
        double mean = 0;
        for (std::int64_t j = 0; j < seen; ++j) mean += get(a.v, j, d) / static_cast<double>(seen);
        ASSERT_NEAR(get(a.out, i, d), mean, 1e-6) << "row " << i;
      }
      ASSERT_NEAR(a.lse[i], std::log(static_cast<double>(seen)), 1e-6);
    }
  }
}

/// A sink of -infinity is none, one that is far above all scores takes everything.
TEST_F(CudaAttention, TakesSinksOfAnySize) {
  for (const std::int64_t queries : {1, 70}) {
    const std::int64_t keys = queries == 1 ? 1500 : queries;
    const auto with = [&](double sink) {
      Arena arena;
      AttentionArgs a = attention_of(arena, queries, keys, DType::kF32);
      a.has_sinks = !std::isnan(sink);
      if (a.has_sinks) a.sinks = arena.floats({sink});
      run(a);
      return arena.outputs();
    };
    const Outputs none = with(std::numeric_limits<double>::quiet_NaN());
    const Outputs infinite = with(-std::numeric_limits<double>::infinity());
    for (std::size_t i = 0; i < none.size(); ++i) EXPECT_EQ(none[i].bytes, infinite[i].bytes) << none[i].name;
    const Outputs all = with(1e30);
    for (const double x : all[0].values) ASSERT_EQ(x, 0);
    for (const double x : all[1].values) ASSERT_NEAR(x, 1e30, 1e24);
  }
}

TEST_F(CudaAttention, RefusesHeadsThatAreTooLong) {
  Arena arena;
  AttentionArgs a = attention_of(arena, 3, 3, DType::kF32);
  a.head_dim = 257;
  EXPECT_THROW(kernels::cuda_kernels().attention(a, card()), Error);
}

}  // namespace
}  // namespace hone::test
