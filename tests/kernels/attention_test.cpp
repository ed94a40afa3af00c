// The fast attention beyond agreement with the reference: what it promises about memory, packing and extreme
// scores.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/kernels/against_reference.h"

namespace hone::test {
namespace {

using kernels::AttentionArgs;
using kernels::AttentionGradArgs;

struct Heads {
  std::int64_t heads, kv_heads, dim;
};

/// Sequences without a cache, one after another from row 0 on, over the rows of a.q.
void lay_out(Arena& arena, AttentionArgs& a, const std::vector<std::int32_t>& lengths, const Heads& heads) {
  std::vector<std::int32_t> offsets{0};
  for (const auto n : lengths) offsets.push_back(offsets.back() + n);
  a.q_offsets = arena.integers(offsets);
  a.key_begin = arena.integers({offsets.begin(), offsets.end() - 1});
  a.key_length = arena.integers(lengths);
  a.sequences = static_cast<std::int64_t>(lengths.size());
  a.heads = heads.heads;
  a.kv_heads = heads.kv_heads;
  a.head_dim = heads.dim;
  a.scale = 1 / std::sqrt(static_cast<float>(heads.dim));
}

Matrix rows(const Matrix& m, std::int64_t begin, std::int64_t count) {
  Matrix part = m;
  part.data = static_cast<char*>(m.data) + begin * m.stride * (m.dtype == DType::kF32 ? 4 : 2);
  part.rows = count;
  return part;
}

/// Runs forward and backward and returns all results.
Outputs train(const KernelTable& table, const std::vector<std::int32_t>& lengths, std::int64_t first,
              std::int64_t total, const Heads& heads, DType dtype) {
  Arena inputs(3), arena(4);
  AttentionGradArgs g;
  AttentionArgs& a = g.forward;
  const std::int64_t cols = heads.heads * heads.dim, kv_cols = heads.kv_heads * heads.dim;
  lay_out(inputs, a, lengths, heads);
  const std::int64_t count = a.q_offsets[a.sequences];
  a.q = rows(inputs.input(total, cols, dtype), first, count);
  a.k = rows(inputs.input(total, kv_cols, dtype), first, count);
  a.v = rows(inputs.input(total, kv_cols, dtype), first, count);
  g.dout = rows(inputs.input(total, cols, dtype), first, count);
  a.out = arena.output("out", count, cols, dtype, false, 0);
  a.wants_lse = true;
  a.lse = static_cast<float*>(arena.output("lse", count, heads.heads, DType::kF32, false, 0).data);
  g.dq = arena.output("dq", count, cols, dtype, false, 0);
  g.dk = arena.output("dk", count, kv_cols, dtype, false, 0);
  g.dv = arena.output("dv", count, kv_cols, dtype, false, 0);
  device::CpuStream stream = make_stream(2);
  table.attention(a, stream);
  table.attention_grad(g, stream);
  return arena.outputs();
}

TEST(CpuAttention, GivesASequenceTheSameBitsAloneAndAmongOthers) {
  const std::vector<std::int32_t> lengths{90, 3, 700, 64, 130};
  const Heads heads{4, 2, 16};
  for (const auto& [isa, table] : fast_tables())
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      std::int64_t total = 0, first = 0;
      for (const auto n : lengths) total += n;
      const Outputs packed = train(table, lengths, 0, total, heads, dtype);
      for (const auto n : lengths) {
        const Outputs alone = train(table, {n}, first, total, heads, dtype);
        ASSERT_EQ(alone.size(), packed.size());
        for (std::size_t i = 0; i < alone.size(); ++i) {
          const std::size_t row_bytes = packed[i].bytes.size() / static_cast<std::size_t>(total);
          const auto* want = packed[i].bytes.data() + static_cast<std::size_t>(first) * row_bytes;
          EXPECT_EQ(alone[i].bytes.size(), static_cast<std::size_t>(n) * row_bytes);
          EXPECT_EQ(std::memcmp(alone[i].bytes.data(), want, alone[i].bytes.size()), 0)
              << isa << " " << name_of(dtype) << ": " << alone[i].name << " of the sequence of " << n;
        }
        first += n;
      }
    }
}

/// One head of `dim`; key j is (large * j / keys, 0 …), so the last key that a query sees wins by far.
TEST(CpuAttention, FollowsTheLargestScoreHoweverLarge) {
  constexpr std::int64_t kTokens = 600, kDim = 16;
  for (const auto& [isa, table] : fast_tables())
    for (const float large : {1e4F, -1e4F, 3e18F, -3e18F}) {
      Arena arena;
      AttentionArgs a;
      lay_out(arena, a, {kTokens}, {1, 1, kDim});
      a.q = arena.input(kTokens, kDim, DType::kF32);
      a.k = arena.input(kTokens, kDim, DType::kF32);
      a.v = arena.input(kTokens, kDim, DType::kF32);
      for (std::int64_t i = 0; i < kTokens; ++i)
        for (std::int64_t d = 0; d < kDim; ++d) {
          set(a.q, i, d, d == 0 ? 1e3 : 0);
          set(a.k, i, d, d == 0 ? large * static_cast<double>(i + 1) : 0);
        }
      a.out = arena.output("out", kTokens, kDim, DType::kF32, false, 0);
      a.wants_lse = true;
      a.lse = static_cast<float*>(arena.output("lse", kTokens, 1, DType::kF32, false, 0).data);
      device::CpuStream stream = make_stream(1);
      table.attention(a, stream);
      for (std::int64_t i = 0; i < kTokens; ++i) {
        const std::int64_t winner = large > 0 ? i : 0;
        for (std::int64_t d = 0; d < kDim; ++d)
          ASSERT_EQ(get(a.out, i, d), get(a.v, winner, d))
              << isa << " row " << i << " scores up to " << large;
        ASSERT_TRUE(std::isfinite(a.lse[i])) << isa << " row " << i;
      }
    }
}

TEST(CpuAttention, GivesZeroGradientsToAQueryThatSeesOneKey) {
  for (const auto& [isa, table] : fast_tables())
    for (const DType dtype : {DType::kF32, DType::kBF16})
      for (const Output& o : train(table, {1, 1, 1}, 0, 3, {4, 2, 80}, dtype)) {
        if (o.name != "dq" && o.name != "dk") continue;
        for (const double x : o.values) EXPECT_EQ(x, 0) << isa << " " << name_of(dtype) << " " << o.name;
      }
}

/// Scratch memory of one thread for forward and backward of one sequence.
std::int64_t scratch_bytes(const KernelTable& table, std::int32_t tokens, std::int64_t window) {
  const Heads heads{4, 1, 64};
  Arena arena;
  AttentionGradArgs g;
  AttentionArgs& a = g.forward;
  lay_out(arena, a, {tokens}, heads);
  a.window = window;
  a.q = arena.input(tokens, 256, DType::kBF16);
  a.k = arena.input(tokens, 64, DType::kBF16);
  a.v = arena.input(tokens, 64, DType::kBF16);
  g.dout = arena.input(tokens, 256, DType::kBF16);
  a.out = arena.output("out", tokens, 256, DType::kBF16, false, 0);
  a.wants_lse = true;
  a.lse = static_cast<float*>(arena.output("lse", tokens, 4, DType::kF32, false, 0).data);
  g.dq = arena.output("dq", tokens, 256, DType::kBF16, false, 0);
  g.dk = arena.output("dk", tokens, 64, DType::kBF16, false, 0);
  g.dv = arena.output("dv", tokens, 64, DType::kBF16, false, 0);
  device::CpuStream stream = make_stream(1);
  table.attention(a, stream);
  table.attention_grad(g, stream);
  for (const Output& o : arena.outputs())
    for (const double x : o.values)
      if (!std::isfinite(x)) ADD_FAILURE() << o.name << " is not finite";
  return stream.allocator().ledger().peak(device::Purpose::kWorkspace);
}

TEST(CpuAttention, NeedsNoMoreScratchMemoryForAnEndlessSequence) {
  for (const auto& [isa, table] : fast_tables()) {
    EXPECT_LE(scratch_bytes(table, 1000, 0), 4 << 20) << isa;
    EXPECT_LE(scratch_bytes(table, 6000, 40), 12 << 20) << isa;
    EXPECT_LE(scratch_bytes(table, 12000, 40), 12 << 20) << isa;
  }
}

}  // namespace
}  // namespace hone::test
