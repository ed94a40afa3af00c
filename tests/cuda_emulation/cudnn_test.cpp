// What only the twin of cuDNN (emulation/cuda/cudnn*.cpp) can tell: when it was asked, and that it refuses
// what NVIDIA says that the library refuses.
#include <gmock/gmock.h>

#include "kernels/cuda/cudnn_graph.h"
#include "kernels/cuda/cuts.h"
#include "tests/cuda/cudnn_attention.h"

namespace hone::test {
namespace {

using kernels::cuda::why_not_cudnn;
using testing::HasSubstr;

/// A large one through the slot is the library's: it has written over the scratch memory. Its scratch memory
/// is what forecasts are told.
TEST_F(CudnnAttention, TakesLargeAttentionOfTheSlot) {
  Arena arena, expected;
  const AttentionArgs a = attention_of(arena, {1500, 600, 40}, 8, 1);
  EXPECT_TRUE(kernels::cuda::is_for_cudnn(a));
  EXPECT_EQ(why_not_cudnn(a, card()), "");
  card().release_workspaces();
  kernels::cuda_kernels().attention(a, card());
  EXPECT_EQ(card().allocator().ledger().current(device::Purpose::kWorkspace), kernels::cuda_scratch_bytes(a));
  const Outputs got = arena.outputs();
  const std::int64_t bytes = kernels::cuda_scratch_bytes(a), at = 6 * 256;
  auto* scratch = static_cast<unsigned char*>(card().shared_workspace(static_cast<std::size_t>(bytes)));
  auto seen = card().host_memory(16);
  card().download(scratch + at, seen);
  card().synchronize();
  EXPECT_EQ(static_cast<const unsigned char*>(seen->data())[0], 0xff);
  device::CpuStream host = make_stream(2);
  kernels::cpu_kernels(kernels::choose_cpu_isa())
      .attention(attention_of(expected, {1500, 600, 40}, 8, 1), host);
  expect_near(got, expected.outputs(), "2140 tokens");
}

TEST_F(CudnnAttention, SaysWhyNot) {
  EXPECT_THAT(kernels::cuda::describe_cudnn(), HasSubstr("9.19.0"));
  Arena arena;
  AttentionArgs a = attention_of(arena, {7}, 1, 1);
  EXPECT_THAT(why_not_cudnn(a, card()), HasSubstr("small"));
  EXPECT_FALSE(kernels::cuda::is_for_cudnn(a));
  a.pairs = std::int64_t{1} << 40;  // only the number is looked at
  EXPECT_EQ(why_not_cudnn(a, card()), "");
  EXPECT_TRUE(kernels::cuda::is_for_cudnn(a));
  const auto why = [&](const auto& change) {
    AttentionArgs other = a;
    change(other);
    return why_not_cudnn(other, card());
  };
  EXPECT_THAT(why([](auto& o) { o.q.dtype = DType::kF32; }), HasSubstr("bf16"));
  EXPECT_THAT(why([](auto& o) { o.has_sinks = true; }), HasSubstr("sinks"));
  EXPECT_THAT(why([](auto& o) { o.softcap = 1; }), HasSubstr("softcap"));
  EXPECT_THAT(why([](auto& o) { o.v_head_dim = 32; }), HasSubstr("values"));
  EXPECT_THAT(why([](auto& o) { o.head_dim = 60; }), HasSubstr("multiple of 8"));
  EXPECT_THAT(why([](auto& o) { o.head_dim = 264; }), HasSubstr("multiple of 8"));
  EXPECT_THAT(why([](auto& o) { o.are_square = false; }), HasSubstr("queries"));
  EXPECT_THAT(why([](auto& o) { o.k.stride += 4; }), HasSubstr("16 bytes"));
  EXPECT_THAT(why([](auto& o) { o.v.data = static_cast<char*>(o.v.data) + 2; }), HasSubstr("16 bytes"));
  ::setenv("HONE_CUDNN", "0", 1);
  EXPECT_EQ(why_not_cudnn(a, card()), "HONE_CUDNN=0");
  EXPECT_EQ(kernels::cuda::describe_cudnn(), "HONE_CUDNN=0");
  ::unsetenv("HONE_CUDNN");
}

TEST_F(CudnnAttention, TheTwinRefusesWhatTheLibraryRefuses) {
  using kernels::cuda::SdpaShape;
  cudnnHandle_t handle = nullptr;
  ASSERT_EQ(cudnnCreate(&handle), CUDNN_STATUS_SUCCESS);
  kernels::cuda::SdpaPlanner planner(kernels::cuda::cudnn_card_of(handle));
  const SdpaShape good{.sequences = 3,
                       .max_length = 256,
                       .heads = 4,
                       .kv_heads = 2,
                       .head_dim = 64,
                       .window = 0,
                       .q_stride = 256,
                       .k_stride = 128,
                       .v_stride = 128,
                       .out_stride = 256,
                       .wants_lse = true};
  const auto refusal = [&](const auto& change, std::int64_t workspace = 1 << 20) {
    SdpaShape s = good;
    change(s);
    return planner.plan(s, workspace).refusal;
  };
  EXPECT_EQ(refusal([](auto&) {}), "");
  EXPECT_EQ(planner.plan(good, 1 << 20).workspace, 17152);  // as the library says of it
  EXPECT_THAT(refusal([](auto&) {}, 100), HasSubstr("workspace"));
  EXPECT_THAT(refusal([](auto& s) { s.head_dim = 60; }), HasSubstr("multiple of 8"));
  EXPECT_THAT(refusal([](auto& s) { s.head_dim = 264; }), HasSubstr("256"));
  EXPECT_THAT(refusal([](auto& s) { s.q_stride = 260; }), HasSubstr("16 bytes"));
  EXPECT_THAT(refusal([](auto& s) { s.k_stride = 130; }), HasSubstr("16 bytes"));
  EXPECT_THAT(refusal([](auto& s) { s.kv_heads = 3; }), HasSubstr("multiple of the keys'"));
  EXPECT_THAT(refusal([](auto& s) { s.sequences = 0; }), HasSubstr("not above 0"));

  cudnnBackendDescriptor_t tensor = nullptr;
  ASSERT_EQ(cudnnBackendCreateDescriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, &tensor), CUDNN_STATUS_SUCCESS);
  const std::int64_t number = 1;
  EXPECT_EQ(cudnnBackendFinalize(tensor), CUDNN_STATUS_BAD_PARAM);  // nothing is set
  EXPECT_EQ(cudnnBackendSetAttribute(tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_DATA_TYPE, 1, &number),
            CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE);
  EXPECT_EQ(cudnnBackendSetAttribute(tensor, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &number),
            CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(cudnnBackendSetAttribute(tensor, CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &tensor),
            CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
  EXPECT_EQ(cudnnBackendDestroyDescriptor(tensor), CUDNN_STATUS_SUCCESS);
  EXPECT_EQ(cudnnBackendDestroyDescriptor(tensor), CUDNN_STATUS_BAD_PARAM);
  cudnnDestroy(handle);
}

}  // namespace
}  // namespace hone::test
