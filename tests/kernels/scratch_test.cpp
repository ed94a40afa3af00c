// On the meta device a kernel takes the scratch memory that it would take: what a forecast counts.
#include <gtest/gtest.h>

#include <numeric>
#include <string>

#include "tests/kernels/arena.h"

namespace hone::test {
namespace {

using device::Purpose;
using kernels::AttentionGradArgs;
using kernels::ExpertsGradArgs;
using kernels::LinearCrossEntropyArgs;
using kernels::MatmulArgs;

const kernels::KernelTable& fastest() {
  return kernels::cpu_kernels(kernels::choose_cpu_isa());
}
std::int64_t scratch_of(device::Stream& stream) {
  return static_cast<std::int64_t>(stream.allocator().ledger().peak(Purpose::kWorkspace));
}
void forget(Matrix& m) {
  m.data = nullptr;
}

TEST(Scratch, OfAProductIsCountedOnMeta) {
  device::CpuStream real = make_stream(2);
  device::MetaStream meta(2);
  Arena arena;
  MatmulArgs a;
  a.a = arena.input(5000, 300, DType::kF32);
  a.b = arena.input(5000, 200, DType::kF32);
  a.c = arena.output("c", 300, 200, DType::kF32, false, 1);
  a.transpose_a = true;
  fastest().matmul(a, real);
  for (Matrix* m : {&a.a, &a.b, &a.c}) forget(*m);
  kernels::meta_kernels().matmul(a, meta);
  EXPECT_GT(scratch_of(real), 0);
  EXPECT_EQ(scratch_of(meta), scratch_of(real));
}

/// With which gradients: of a head that is frozen, alone is trained, or neither.
void check_scratch_of_head(DType dtype, bool dhidden, bool dweight) {
  SCOPED_TRACE(std::string(name_of(dtype)) + (dhidden ? ", dhidden" : "") + (dweight ? ", dweight" : ""));
  device::CpuStream real = make_stream(2);
  device::MetaStream meta(2);
  Arena arena;
  LinearCrossEntropyArgs a;
  a.head.hidden = arena.input(700, 16, dtype);
  a.head.weight = arena.input(60000, 16, dtype, 0, 0.1);
  a.targets = arena.integers(arena.random_indices(700, 60000, false));
  a.nll = static_cast<float*>(arena.output("nll", 1, 700, DType::kF32, false, 1).data);
  if (dhidden) a.gradients.dhidden = arena.output("dhidden", 700, 16, dtype, false, 1);
  if (dweight) a.gradients.dweight = arena.output("dweight", 60000, 16, dtype, false, 1).data;
  a.gradients.dweight_dtype = dtype;
  a.gradients.wants_dweight = dweight;
  a.loss = static_cast<float*>(arena.output("loss", 1, 1, DType::kF32, false, 1).data);
  fastest().linear_cross_entropy(a, real);
  for (Matrix* m : {&a.head.hidden, &a.head.weight, &a.gradients.dhidden}) forget(*m);
  a.targets = nullptr;
  a.nll = a.loss = nullptr;
  a.gradients.dweight = nullptr;
  kernels::meta_kernels().linear_cross_entropy(a, meta);
  EXPECT_GT(scratch_of(real), 0);
  // The last, smaller chunk may cut its products otherwise: some KiB.
  EXPECT_NEAR(static_cast<double>(scratch_of(meta)), static_cast<double>(scratch_of(real)),
              1e-3 * static_cast<double>(scratch_of(real)));
}

TEST(Scratch, OfTheHeadIsCountedOnMeta) {
  // Sums of a bf16 gradient over several chunks take vocab x hidden floats.
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const bool dhidden : {false, true})
      for (const bool dweight : {false, true}) check_scratch_of_head(dtype, dhidden, dweight);
}

// 640 MiB, some bytes a row, and what the products of every thread pack.
TEST(Scratch, OfTheHeadDoesNotGrowWithTheVocabulary) {
  constexpr std::int64_t kRows = 4096, kHidden = 2048, kMost = (std::int64_t{640} << 20) + kRows * 64;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const auto hidden = [&](std::int64_t rows) { return Matrix{nullptr, dtype, rows, kHidden, kHidden}; };
    std::int64_t largest = 0;
    for (const std::int64_t words : {300'000, 3'000'000}) {
      LinearCrossEntropyArgs a{
          .head = {.hidden = hidden(kRows), .weight = hidden(words)},
          .gradients = {.dhidden = hidden(kRows), .wants_dweight = true, .dweight_dtype = dtype}};
      kernels::HeadGradArgs g;
      g.forward = {.head = a.head};
      g.gradients = a.gradients;
      for (const std::int64_t bytes : {kernels::scratch_bytes(a, 2), kernels::scratch_bytes(g.forward, 2),
                                       kernels::scratch_bytes(g, 2)}) {
        EXPECT_LT(bytes, kMost + (std::int64_t{64} << 20)) << name_of(dtype) << " " << words;
        largest = std::max(largest, bytes);
      }
    }
    EXPECT_GT(largest, std::int64_t{16} << 20);
  }
}

TEST(Scratch, OfAttentionIsCountedOnMeta) {
  device::CpuStream real = make_stream(2);
  device::MetaStream meta(2);
  Arena arena;
  AttentionGradArgs g;
  kernels::AttentionArgs& a = g.forward;
  a.q = arena.input(600, 64, DType::kF32);
  a.k = arena.input(600, 32, DType::kF32);
  a.v = arena.input(600, 32, DType::kF32);
  a.out = arena.output("out", 600, 64, DType::kF32, false, 1);
  a.wants_lse = true;
  a.lse = static_cast<float*>(arena.output("lse", 600, 4, DType::kF32, false, 1).data);
  a.q_offsets = arena.integers({0, 300, 600});
  a.key_begin = arena.integers({0, 300});
  a.key_length = arena.integers({300, 300});
  a.sequences = 2;
  a.heads = 4;
  a.kv_heads = 2;
  a.head_dim = 16;
  g.dout = arena.input(600, 64, DType::kF32);
  g.dq = arena.output("dq", 600, 64, DType::kF32, false, 1);
  g.dk = arena.output("dk", 600, 32, DType::kF32, false, 1);
  g.dv = arena.output("dv", 600, 32, DType::kF32, false, 1);
  fastest().attention(a, real);
  fastest().attention_grad(g, real);
  for (Matrix* m : {&a.q, &a.k, &a.v, &a.out, &g.dout, &g.dq, &g.dk, &g.dv}) forget(*m);
  a.lse = nullptr;
  a.q_offsets = a.key_begin = a.key_length = nullptr;
  kernels::meta_kernels().attention(a, meta);
  kernels::meta_kernels().attention_grad(g, meta);
  EXPECT_GT(scratch_of(real), 0);
  EXPECT_EQ(scratch_of(meta), scratch_of(real));
}

TEST(Scratch, OfEvenlyUsedExpertsIsCountedOnMeta) {
  device::CpuStream real = make_stream(2);
  device::MetaStream meta(2);
  Arena arena;
  constexpr std::int64_t kTokens = 512, kHidden = 48, kFfn = 32, kExperts = 4;
  std::vector<std::int32_t> rows(kTokens), offsets;
  std::iota(rows.begin(), rows.end(), 0);
  for (std::int32_t e = 0; e <= kExperts; e++) offsets.push_back(e * kTokens / kExperts);
  ExpertsGradArgs g;
  kernels::ExpertsArgs& a = g.forward;
  a.x = arena.input(kTokens, kHidden, DType::kF32);
  a.gate_up.data = arena.input(kExperts * 2 * kFfn, kHidden, DType::kF32).data;
  a.down.data = arena.input(kExperts * kHidden, kFfn, DType::kF32).data;
  a.weights = arena.floats(std::vector<double>(kTokens, 0.5));
  a.offsets = arena.integers(offsets);
  a.permutation = a.inverse = arena.integers(rows);
  a.wants_pre_activation = true;
  a.pre_activation = arena.output("pre", kTokens, 2 * kFfn, DType::kF32, false, 1).data;
  a.y = arena.output("y", kTokens, kHidden, DType::kF32, false, 1);
  a.experts = kExperts;
  a.top_k = 1;
  a.ffn = kFfn;
  g.dy = arena.input(kTokens, kHidden, DType::kF32);
  g.dx = arena.output("dx", kTokens, kHidden, DType::kF32, false, 1);
  g.wants_dgate_up = g.wants_ddown = true;
  g.dgate_up = arena.output("dgate_up", kExperts * 2 * kFfn, kHidden, DType::kF32, false, 1).data;
  g.ddown = arena.output("ddown", kExperts * kHidden, kFfn, DType::kF32, false, 1).data;
  fastest().experts(a, real);
  fastest().experts_grad(g, real);
  for (Matrix* m : {&a.x, &a.y, &g.dy, &g.dx}) forget(*m);
  a.gate_up.data = a.down.data = a.pre_activation = g.dgate_up = g.ddown = nullptr;
  a.weights = nullptr;
  a.offsets = a.permutation = a.inverse = nullptr;
  kernels::meta_kernels().experts(a, meta);
  kernels::meta_kernels().experts_grad(g, meta);
  EXPECT_GT(scratch_of(real), 0);
  EXPECT_EQ(scratch_of(meta), scratch_of(real));
}

}  // namespace
}  // namespace hone::test
