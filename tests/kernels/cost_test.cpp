// Costs against counts, and the meta table that adds them up.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/kernels.h"

namespace hone::kernels {
namespace {

Matrix shape(std::int64_t rows, std::int64_t cols, DType dtype = DType::kF32) {
  return {nullptr, dtype, rows, cols, cols};
}

TEST(Cost, OfAProductCountsMultiplyAddsAndOperands) {
  MatmulArgs a{.a = shape(10, 20, DType::kBF16),
               .b = shape(30, 20, DType::kBF16),
               .c = shape(10, 30),
               .transpose_b = true,
               .residual = {}};
  EXPECT_EQ(cost(a).flops, 2 * 10 * 20 * 30);
  EXPECT_EQ(cost(a).bytes, 2 * (200 + 600) + 4 * 300);
  a.accumulate = true;
  EXPECT_EQ(cost(a).bytes, 2 * (200 + 600) + 8 * 300);
  const MatmulArgs transposed{
      .a = shape(7, 10), .b = shape(7, 5), .c = shape(10, 5), .transpose_a = true, .residual = {}};
  EXPECT_EQ(cost(transposed).flops, 2 * 7 * 10 * 5);
}

TEST(Cost, OfAttentionCountsTheScoresThatAreComputed) {
  for (const std::int64_t queries : {1, 8, 31})
    for (const std::int64_t earlier : {0, 5})
      for (const std::int64_t window : {0, 1, 3, 6, 30, 100}) {
        const std::int64_t sequences = 3, heads = 2, dim = 4, keys = queries + earlier;
        std::int64_t pairs = 0;  // counted one query after another
        for (std::int64_t i = 0; i < queries; ++i) {
          const std::int64_t sees = earlier + i + 1;
          pairs += window > 0 ? std::min(sees, window) : sees;
        }
        EXPECT_EQ(attended_pairs(queries, keys, window), pairs)
            << queries << " queries, " << earlier << " earlier keys, window " << window;
        AttentionArgs a;
        a.q = a.out = shape(sequences * queries, heads * dim);
        a.k = a.v = shape(sequences * keys, dim);
        a.sequences = sequences;
        a.heads = heads;
        a.kv_heads = 1;
        a.head_dim = dim;
        a.window = window;
        a.pairs = pairs * sequences;
        EXPECT_DOUBLE_EQ(cost(a).flops, static_cast<double>(pairs * sequences * heads * (4 * dim + 5)));
        a.v_head_dim = 3;
        EXPECT_DOUBLE_EQ(cost(a).flops,
                         static_cast<double>(pairs * sequences * heads * (2 * dim + 2 * 3 + 5)));
      }
}

TEST(Cost, OfExpertsCountsRoutedRowsNotExperts) {
  ExpertsArgs a;
  a.x = a.y = shape(100, 16);
  a.top_k = 2;
  a.ffn = 8;
  a.experts = 4;
  const double flops = cost(a).flops;
  EXPECT_EQ(flops, 100 * 2 * 3 * (2 * 16 * 8));
  a.experts = 64;
  EXPECT_EQ(cost(a).flops, flops);
  ExpertsGradArgs gradient{.forward = a,
                           .dy = a.x,
                           .dx = a.x,
                           .wants_dweights = true,
                           .wants_dgate_up = true,
                           .wants_ddown = true};
  EXPECT_EQ(cost(gradient).flops, 2 * flops);
  gradient.wants_dgate_up = gradient.wants_ddown =
      false;  // frozen: the activation's and the input's are left
  EXPECT_EQ(cost(gradient).flops, flops);
}

TEST(Cost, OfExpertsCountsWhatTheirFormHas) {
  ExpertsArgs a;
  a.x = a.y = shape(100, 128);
  a.top_k = 1;
  a.ffn = 256;
  a.experts = 4;
  const Cost gated = cost(a);
  a.gated = false;
  EXPECT_EQ(cost(a).flops * 3, gated.flops * 2);
  EXPECT_EQ(gated.bytes - cost(a).bytes, 4 * 4 * 256 * 128);
  a.gated = true;
  a.gate_up.kind = WeightKind::kMxfp4;  // 17 bytes for 32 numbers
  EXPECT_EQ(gated.bytes - cost(a).bytes, 4 * 2 * 256 * 128 * (4 - 17.0 / 32));
  a.gate_up.kind = WeightKind::kFp8Block;
  EXPECT_EQ(gated.bytes - cost(a).bytes, 4 * 2 * 256 * 128 * (3 - 4.0 / (128 * 128)));
  a.gate_up.kind = WeightKind::kDense;
  a.has_gate_up_bias = a.has_down_bias = true;
  EXPECT_EQ(cost(a).bytes - gated.bytes, 4 * 4 * (2 * 256 + 128));
  ExpertsGradArgs gradient{.forward = a, .dy = a.x, .dx = a.x, .wants_dweights = true};
  const double frozen = cost(gradient).bytes;
  gradient.wants_dgate_up_bias = gradient.wants_ddown_bias = true;
  EXPECT_EQ(cost(gradient).bytes - frozen, 4 * 4 * (2 * 256 + 128));
}

TEST(MetaKernels, RecordEachCostAndTouchNoMemory) {
  device::MetaStream stream(1);
  const KernelTable& meta = meta_kernels();
  const MatmulArgs product{
      .a = shape(4, 4, DType::kBF16), .b = shape(4, 4, DType::kBF16), .c = shape(4, 4), .residual = {}};
  const AdamWArgs update{.n = 1000};
  meta.matmul(product, stream);
  meta.adamw(update, stream);
  ASSERT_EQ(stream.costs().size(), 2U);
  EXPECT_EQ(stream.costs()[0].slot, "matmul");
  EXPECT_EQ(stream.costs()[0].cost.flops, cost(product).flops);
  EXPECT_EQ(stream.costs()[0].cost.dtype, DType::kBF16);
  EXPECT_EQ(stream.costs()[1].slot, "adamw");
  EXPECT_EQ(stream.costs()[1].cost.bytes, cost(update).bytes);
}

TEST(MetaKernels, FillEverySlot) {
  for_each_slot(meta_kernels(),
                [](std::string_view name, auto kernel) { EXPECT_NE(kernel, nullptr) << name; });
}

}  // namespace
}  // namespace hone::kernels
