// Attention by cuDNN, on a card that it is asked on.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>

#include "device/cuda/cuda_stream.h"
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/register.h"
#include "tests/cuda/card_memory.h"
#include "tests/kernels/attention_shape.h"
#include "tests/tolerance.h"

namespace hone::test {

using kernels::AttentionArgs;

inline bool attention_taken = false;  // by the library

inline void attend_by_cudnn(const AttentionArgs& a, Stream& stream) {
  const std::int64_t bytes = kernels::cuda::cudnn_scratch_bytes(a);
  attention_taken =
      kernels::cuda::cudnn_attention(a, stream, stream.shared_workspace(static_cast<std::size_t>(bytes)));
}

class CudnnAttention : public CardMemory {
 protected:
  CudnnAttention() { table_.attention = attend_by_cudnn; }
  void SetUp() override {
    if (const int major = device::card_of(card()).major; major != 9 && major != 10)
      GTEST_SKIP() << "cuDNN is asked on Hopper and Blackwell";
    if (const auto library = kernels::cuda::describe_cudnn(); !library.starts_with("cuDNN"))
      GTEST_SKIP() << library;
  }
  /// Runs a case by the library; false where it does not take it.
  bool run(const Case& c) {
    attention_taken = false;
    const Outputs got = c.run(table_, card());
    EXPECT_FALSE(HasFailure()) << c.name;
    if (!attention_taken) return false;
    expect_near(got, c.run(kernels::cpu_kernels(kernels::CpuIsa::kReference), host_), c.name);
    return true;
  }
  /// Sequences of these lengths over `heads` heads of 64, with a key head each; inputs are normal numbers.
  static AttentionArgs attention_of(Arena& arena, const std::vector<std::int32_t>& lengths,
                                    std::int64_t heads, double size) {
    constexpr std::int64_t kDim = 64;
    std::vector<std::int32_t> offsets{0};
    AttentionArgs a;
    for (const auto n : lengths) {
      offsets.push_back(offsets.back() + n);
      a.pairs += kernels::attended_pairs(n, n, 0);
      a.max_queries = std::max<std::int64_t>(a.max_queries, n);
    }
    const std::int64_t tokens = offsets.back();
    a.q_offsets = arena.integers(offsets);
    a.key_begin = arena.integers({offsets.begin(), offsets.end() - 1});
    a.key_length = arena.integers(lengths);
    a.sequences = std::ssize(lengths);
    a.heads = a.kv_heads = heads;
    a.head_dim = kDim;
    a.are_square = true;
    a.scale = 0.125F;
    a.q = arena.input(tokens, heads * kDim, DType::kBF16, 0, size);
    a.k = arena.input(tokens, heads * kDim, DType::kBF16, 8, size);
    a.v = arena.input(tokens, heads * kDim, DType::kBF16, 16);
    a.out = arena.output("out", tokens, heads * kDim, DType::kBF16, false,
                         tolerance(DType::kBF16, a.max_queries));
    a.wants_lse = true;
    a.lse = static_cast<float*>(
        arena.output("lse", tokens, heads, DType::kF32, false, tolerance(DType::kF32, a.max_queries)).data);
    return a;
  }

  KernelTable table_{};
  device::CpuStream host_ = make_stream(1);
};

}  // namespace hone::test
