// Which kernels multiply experts' rows, and what is said where it is not those of compute capability 9.0.
#include <gtest/gtest.h>

#include "kernels/cuda/hopper_path.h"
#include "tests/cuda/card_memory.h"

namespace hone::test {
namespace {

using kernels::cuda::why_not_hopper;

class ExpertsPath : public CardMemory {
 protected:
  ExpertsPath() {
    args_.x = arena_.input(16, 64, DType::kBF16);
    args_.gate_up.data = arena_.input(2 * 2 * 32, 64, DType::kBF16).data;
    args_.down.data = arena_.input(2 * 64, 32, DType::kBF16).data;
    args_.experts = 2;
    args_.top_k = 1;
    args_.ffn = 32;
    hopper_.major = 9;
  }

  Arena arena_;
  kernels::ExpertsArgs args_;
  device::CudaCard hopper_;
};

TEST_F(ExpertsPath, TakesBf16AndSaysWhyNot) {
  EXPECT_EQ(why_not_hopper(args_, hopper_), "");
  const auto because = [&](auto change) {
    kernels::ExpertsArgs other = args_;
    change(other);
    return why_not_hopper(other, hopper_);
  };
  EXPECT_EQ(because([](auto& a) { a.fp8 = true; }), "");
  EXPECT_EQ(because([](auto& a) { a.x.dtype = DType::kF32; }), "the rows are f32");
  EXPECT_EQ(because([](auto& a) { a.down.kind = kernels::WeightKind::kMxfp4; }), "the weights are quantised");
  EXPECT_EQ(because([](auto& a) { a.x.cols = 60; }), "the hidden size, 60, is no multiple of 8");
  EXPECT_EQ(because([](auto& a) { a.ffn = 28; }), "the experts' width, 28, is no multiple of 8");
  EXPECT_EQ(because([](auto& a) { a.x.stride = 68; }), "rows do not begin at multiples of 16 bytes");
  EXPECT_EQ(because([](auto& a) { a.down.data = static_cast<const char*>(a.down.data) + 2; }),
            "weights do not begin at multiples of 16 bytes");
  EXPECT_EQ(because([](auto& a) { a.experts = 1025; }), "1025 experts are more than 1024");
  kernels::ExpertsGradArgs gradient;
  gradient.forward = args_;
  gradient.dy = args_.x;
  EXPECT_EQ(why_not_hopper(gradient, hopper_), "");
  gradient.dy.stride = 68;
  EXPECT_EQ(why_not_hopper(gradient, hopper_), "rows of dy do not begin at multiples of 16 bytes");
  gradient.dy.dtype = DType::kF32;
  gradient.dy.stride = 65;
  EXPECT_EQ(why_not_hopper(gradient, hopper_), "");
}

TEST_F(ExpertsPath, IsOfCompute90AndCanBeRefused) {
  device::CudaCard other = hopper_;
  other.major = 8;
  EXPECT_EQ(why_not_hopper(other), "the card has compute capability 8.0");
  other.major = 10;
  EXPECT_EQ(why_not_hopper(args_, other), "the card has compute capability 10.0");
  ::setenv("HONE_CUDA_PATHS", "portable", 1);
  EXPECT_EQ(why_not_hopper(hopper_), "HONE_CUDA_PATHS=portable");
  ::unsetenv("HONE_CUDA_PATHS");
  EXPECT_EQ(why_not_hopper(hopper_), "");
}

}  // namespace
}  // namespace hone::test
