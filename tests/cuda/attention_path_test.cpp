// Which kernels make attention's gradient, and what is said where it is not those of compute capability 9.0.
#include <gtest/gtest.h>

#include "kernels/cuda/hopper_path.h"
#include "tests/cuda/card_memory.h"

namespace hone::test {
namespace {

using kernels::cuda::why_not_hopper;

class AttentionPath : public CardMemory {
 protected:
  AttentionPath() {
    kernels::AttentionArgs& a = args_.forward;
    a.heads = 2;
    a.kv_heads = 1;
    a.head_dim = 64;
    a.q = args_.dq = a.out = args_.dout = arena_.input(3, 128, DType::kBF16);
    a.k = a.v = args_.dk = args_.dv = arena_.input(3, 64, DType::kBF16);
    hopper_.major = 9;
  }

  Arena arena_;
  kernels::AttentionGradArgs args_;
  device::CudaCard hopper_;
};

TEST_F(AttentionPath, TakesBf16AndSaysWhyNot) {
  EXPECT_EQ(why_not_hopper(args_, hopper_), "");
  const auto because = [&](auto change) {
    kernels::AttentionGradArgs other = args_;
    change(other);
    return why_not_hopper(other, hopper_);
  };
  const auto heads_of = [&](std::int64_t dim) { return because([&](auto& g) { g.forward.head_dim = dim; }); };
  EXPECT_EQ(heads_of(8), "");
  EXPECT_EQ(heads_of(128), "");
  EXPECT_EQ(heads_of(136), "heads of 136 are no multiple of 8 up to 128");
  EXPECT_EQ(heads_of(60), "heads of 60 are no multiple of 8 up to 128");
  EXPECT_EQ(because([](auto& g) { g.forward.q.dtype = DType::kF32; }), "it is not in bf16");
  EXPECT_EQ(because([](auto& g) { g.forward.v_head_dim = 32; }),
            "its values are of another size than its keys");
  EXPECT_EQ(because([](auto& g) { g.forward.scale = -1; }), "its scale is not above 0");
  const std::string rows = "rows do not begin at multiples of 16 bytes";
  EXPECT_EQ(because([](auto& g) { g.forward.q.stride = 132; }), rows);
  EXPECT_EQ(because([](auto& g) { g.dv.stride = 68; }), rows);
  EXPECT_EQ(because([](auto& g) { g.dout.data = static_cast<char*>(g.dout.data) + 2; }), rows);
}

TEST_F(AttentionPath, IsOfCompute90AndCanBeRefused) {
  device::CudaCard other = hopper_;
  other.major = 8;
  EXPECT_EQ(why_not_hopper(args_, other), "the card has compute capability 8.0");
  ::setenv("HONE_CUDA_PATHS", "portable", 1);
  EXPECT_EQ(why_not_hopper(args_, hopper_), "HONE_CUDA_PATHS=portable");
  ::unsetenv("HONE_CUDA_PATHS");
}

}  // namespace
}  // namespace hone::test
