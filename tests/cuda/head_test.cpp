// The language-model head with limits so small that every case is cut into chunks of rows and ranges of
// words.
#include <gtest/gtest.h>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/head.h"
#include "kernels/cuda/register.h"
#include "tests/cuda/card_memory.h"
#include "tests/kernels/cases.h"

namespace hone::test {
namespace {

using kernels::cuda::HeadLimits;

/// The kernels of the head with these limits, each taking the scratch memory that it says.
template <HeadLimits kLimits>
KernelTable limited() {
  KernelTable table;
  const auto set = []<typename Args>(kernels::Kernel<Args>& kernel) {
    kernel = [](const Args& a, Stream& stream) {
      stream.release_workspaces();
      if constexpr (std::is_same_v<Args, kernels::LinearCrossEntropyArgs>)
        kernels::cuda::linear_cross_entropy(a, stream, kLimits);
      else if constexpr (std::is_same_v<Args, kernels::HeadStatisticsArgs>)
        kernels::cuda::head_statistics(a, stream, kLimits);
      else
        kernels::cuda::head_grad(a, stream, kLimits);
      EXPECT_EQ(static_cast<std::int64_t>(stream.allocator().ledger().current(device::Purpose::kWorkspace)),
                kernels::cuda::scratch_bytes_of(a, kLimits));
    };
  };
  set(table.linear_cross_entropy);
  set(table.head_statistics);
  set(table.head_grad);
  return table;
}

class CudaHead : public CardMemory {
 protected:
  void expect_all_cases_agree(const KernelTable& table) {
    const KernelTable& reference = kernels::cpu_kernels(kernels::CpuIsa::kReference);
    device::CpuStream host = make_stream(2);
    int cases = 0;
    for (const Case& c : matrix_cases()) {
      if (c.slot != "linear_cross_entropy" && !c.slot.starts_with("head_")) continue;
      if (++cases % 3 != 0) continue;  // options come in twos and fours: of each some
      const Outputs got = c.run(table, card());
      ASSERT_FALSE(HasFailure()) << c.name;
      expect_near(got, c.run(reference, host), c.name);
    }
    EXPECT_GT(cases, 0);
  }
};

constexpr HeadLimits chunks_of_rows(std::int64_t summed_bytes) {
  return {.gradient_bytes = 80'000,
          .statistics_bytes = 30'000,
          .least_rows = 1,
          .kept_bytes = 0,
          .summed_bytes = summed_bytes,
          .statistics_rows = 64,
          .least_words = 8};
}

// 40 rows of 500 words, 17 of 1,111: whole rows, in several chunks, to whose sum a bf16 gradient of the
// weight is not rounded, as logits are made again.
TEST_F(CudaHead, AgreesWithTheReferenceInChunksOfRows) {
  expect_all_cases_agree(limited<chunks_of_rows(0)>());
}

// The same, as chunks of 300 rows' 1,111 words add to a sum in f32.
TEST_F(CudaHead, AgreesWithTheReferenceWhereTheWeightsGradientIsSummedUp) {
  expect_all_cases_agree(limited<chunks_of_rows(1 << 20)>());
}

// The same, as their gradients are kept: made in chunks of 9 and 4 rows.
TEST_F(CudaHead, AgreesWithTheReferenceWhereGradientsAreKept) {
  expect_all_cases_agree(limited<HeadLimits{.gradient_bytes = 60'000,
                                            .statistics_bytes = 30'000,
                                            .least_rows = 1,
                                            .kept_bytes = 1 << 20,
                                            .beside_kept_bytes = 20'000,
                                            .statistics_rows = 64,
                                            .least_words = 8}>());
}

// No case's rows fit, but those of three words.
TEST_F(CudaHead, AgreesWithTheReferenceInRangesOfWords) {
  expect_all_cases_agree(limited<HeadLimits{.gradient_bytes = 60'000,
                                            .statistics_bytes = 20'000,
                                            .least_rows = 1'000'000,
                                            .kept_bytes = 1 << 20,
                                            .statistics_rows = 128,
                                            .least_words = 8}>());
}

// A word that is no row's target gets scale / words of each row: 1 of the first, and of the others so little
// that what two of them add to 1 in bf16 is rounded away. Together they are 9 % of it.
template <std::int64_t kKeptBytes, std::int64_t kSummedBytes>
void expect_no_rounding_between_chunks(Stream& card) {
  constexpr std::int64_t kRows = 64, kWords = 32, kHidden = 16;
  constexpr HeadLimits kTwoRows{.gradient_bytes = 2 * 4 * kWords,
                                .statistics_bytes = 2 * 4 * kWords,
                                .least_rows = 1,
                                .kept_bytes = kKeptBytes,
                                .summed_bytes = kSummedBytes,
                                .beside_kept_bytes = 2 * 4 * kWords,
                                .statistics_rows = 2,
                                .least_words = 8};
  constexpr float kLittle = 0.75F * 0x1p-9F;
  Arena arena;
  kernels::LinearCrossEntropyArgs a;
  a.head.hidden = arena.inout("hidden", kRows, kHidden, DType::kBF16, 0);
  a.head.weight = arena.input(kWords, kHidden, DType::kBF16, 0, 0);
  auto* hidden = static_cast<BFloat16*>(a.head.hidden.data);
  for (std::int64_t i = 0; i < kRows * kHidden; ++i) hidden[i] = BFloat16(i < kHidden ? 1.0F : kLittle);
  a.targets = arena.integers(std::vector<std::int32_t>(kRows, 0));
  a.scale = kWords;
  a.nll = static_cast<float*>(arena.output("nll", 1, kRows, DType::kF32, false, 0).data);
  a.loss = static_cast<float*>(arena.output("loss", 1, 1, DType::kF32, false, 0).data);
  a.gradients.wants_dweight = true;
  a.gradients.dweight_dtype = DType::kBF16;
  a.gradients.dweight = arena.output("dweight", kWords, kHidden, DType::kBF16, false, 0).data;
  limited<kTwoRows>().linear_cross_entropy(a, card);
  const Outputs got = arena.outputs();
  const std::vector<double>& dweight = got.back().values;
  ASSERT_EQ(dweight.size(), kWords * kHidden);
  for (std::size_t i = kHidden; i < dweight.size(); ++i)  // word 0 is the target
    ASSERT_NEAR(dweight[i], 1 + (kRows - 1) * kLittle, 0x1p-8) << i;
}
TEST_F(CudaHead, DoesNotRoundAWeightsGradientAtEachChunkOfRows) {
  {
    SCOPED_TRACE("kept");
    expect_no_rounding_between_chunks<1 << 20, 0>(card());
  }
  {
    SCOPED_TRACE("summed up");
    expect_no_rounding_between_chunks<0, 1 << 20>(card());
  }
  SCOPED_TRACE("made again");
  expect_no_rounding_between_chunks<0, 0>(card());
}

// Beside a gradient of the weight in bf16: of 4,096 rows of Qwen 3's words gradients are kept, of 8,192 the
// weight's is summed up in f32, unless that is too much memory, or more than what would be kept. Those of so
// many words that a chunk has no full tiles are neither. The rest is as beside one in f32.
TEST(CudaHeadCut, KeepsGradientsOrSumsUpToALimit) {
  const auto cut = [](std::int64_t rows, std::int64_t words, DType dweight, std::int64_t hidden = 2048) {
    const kernels::HeadOperands head{.hidden = {nullptr, DType::kBF16, rows, hidden, hidden},
                                     .weight = {nullptr, DType::kBF16, words, hidden, hidden}};
    const kernels::HeadGradients to{.dhidden = {}, .wants_dweight = true, .dweight_dtype = dweight};
    return kernels::cuda::HeadCut(head, to, {});
  };
  const auto qwen = cut(4096, 151'936, DType::kBF16);
  EXPECT_TRUE(qwen.keeps && !qwen.sums_dweight && !qwen.again);
  EXPECT_EQ(qwen.chunk_rows, 512);
  for (const auto& [rows, words] : {std::pair{8192, 151'936}, {8192, 262'144}, {4500, 150'000}}) {
    const auto summed = cut(rows, words, DType::kBF16);
    EXPECT_TRUE(!summed.keeps && summed.sums_dweight && !summed.again) << words;
    EXPECT_EQ(summed.chunk_rows, cut(rows, words, DType::kF32).chunk_rows);
  }
  const auto expect_again = [&](std::int64_t rows, std::int64_t words, std::int64_t hidden) {
    const auto other = cut(rows, words, DType::kBF16, hidden);
    EXPECT_TRUE(!other.keeps && !other.sums_dweight && other.again) << words;
    EXPECT_EQ(other.chunk_rows, cut(rows, words, DType::kF32).chunk_rows);
  };
  expect_again(8192, 262'144, 2304);  // sums of 2.25 GiB
  expect_again(8000, 151'936, 4096);  // more than 8,000 rows' gradients
  expect_again(800, 700'000, 256);    // a chunk of fewer rows than products want
  const auto f32 = cut(8192, 151'936, DType::kF32);
  EXPECT_TRUE(!f32.keeps && !f32.sums_dweight) << "f32 is not rounded";
  const auto one = cut(1024, 151'936, DType::kBF16);
  EXPECT_TRUE(!one.keeps && !one.sums_dweight) << "one chunk";
}

// As Scratch.OfTheHeadDoesNotGrowWithTheVocabulary, of the table's limits: 640 MiB, or gradients that are
// kept and logits beside them; a product's, the rows' states, and the sums of dhidden.
TEST(CudaHeadScratch, DoesNotGrowWithTheVocabulary) {
  constexpr std::int64_t kRows = 4096, kHidden = 2048, kKept = std::int64_t{1600} << 20;
  constexpr std::int64_t kMost =
      (std::int64_t{640} << 20) + kernels::cuda::kVendorScratchBytes + kRows * (16 + kHidden * 4) + 1024;
  const auto hidden = [&](std::int64_t rows) {
    return Matrix{nullptr, DType::kBF16, rows, kHidden, kHidden};
  };
  std::int64_t largest = 0, kept = 0;
  for (const std::int64_t words : {1'000, 151'936, 300'000, 3'000'000}) {
    kernels::LinearCrossEntropyArgs a{.head = {.hidden = hidden(kRows), .weight = hidden(words)},
                                      .gradients = {.dhidden = hidden(kRows), .wants_dweight = true}};
    for (const DType dtype : kBothDtypes) {
      a.gradients.dweight_dtype = dtype;
      kernels::HeadGradArgs g;
      g.forward.head = a.head;
      g.gradients = a.gradients;
      for (const std::int64_t bytes : {kernels::cuda_scratch_bytes(a), kernels::cuda_scratch_bytes(g.forward),
                                       kernels::cuda_scratch_bytes(g)}) {
        if (words == 151'936 && dtype == DType::kBF16) {
          EXPECT_LE(bytes, kMost - (std::int64_t{640} << 20) + kKept);
          kept = std::max(kept, bytes);
          continue;
        }
        EXPECT_LE(bytes, kMost) << words;
        largest = std::max(largest, bytes);
      }
    }
  }
  EXPECT_GT(largest, std::int64_t{500} << 20);
  EXPECT_GT(kept, std::int64_t{1400} << 20);
}

}  // namespace
}  // namespace hone::test
