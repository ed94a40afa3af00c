// attention_grad: what each row's softmax takes back, the sinks' gradients; dk, dv and dq are made in files
// of their own.
#include "kernels/cuda/attention_grad.cuh"
#include "kernels/cuda/cuts.h"
#include "kernels/cuda/hopper_path.h"
#include "kernels/cuda/register.h"

namespace hone::kernels::cuda {
namespace {

/// delta = the sum of out * dout of each row of each head. Block (x, y): token x, warp after warp a head.
template <typename T>
__global__ void output_dots(AttentionShape shape, Rows<const T> out, Rows<const T> dout, float* delta,
                            bool vectors) {
  begin_kernel();
  const int head = static_cast<int>(blockIdx.y * (blockDim.x / 32) + threadIdx.x / 32);
  const int token = static_cast<int>(blockIdx.x), dim = shape.v_dim;
  if (head >= shape.heads) return;
  if (token < shape.q_offsets[0] || token >= shape.q_offsets[shape.sequences]) return;  // of no sequence
  const Index first = static_cast<Index>(head) * dim;
  float sum = 0, o[kPack], d[kPack];
  for (int col = static_cast<int>(threadIdx.x) % 32 * kPack; col < dim; col += 32 * kPack) {
    load(out.at(token, first + col), dim - col, vectors, o);
    load(dout.at(token, first + col), dim - col, vectors, d);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum = fmaf(o[i], d[i], sum);
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, lanes);
  if (threadIdx.x % 32 == 0) delta[static_cast<Index>(token) * shape.heads + head] = sum;
}

/// dsinks[h] = [itself +] - the sum over all queries of the sink's probability * delta: a block for each
/// head.
template <typename T, typename Out>
__global__ void sink_grad(AttentionShape shape, const T* sinks, const float* lse, const float* delta,
                          Out* dsinks, bool accumulate) {
  begin_kernel();
  const int head = static_cast<int>(blockIdx.x);
  const float sink = to_float(sinks[head]);
  float sum = 0;
  for (Index token = shape.q_offsets[0] + static_cast<Index>(threadIdx.x);
       token < shape.q_offsets[shape.sequences]; token += blockDim.x) {
    const Index at = token * shape.heads + head;
    sum = fmaf(exp2f((sink - lse[at]) * kLog2E), delta[at], sum);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) put(dsinks[head], (accumulate ? to_float(dsinks[head]) : 0.0F) - sum);
}

/// Of delta, in whole 256 bytes: more lies behind it.
Index delta_bytes(const AttentionGradArgs& g) {
  return ceil_div(g.forward.q.rows * g.forward.heads * static_cast<Index>(sizeof(float)), 256) * 256;
}

}  // namespace

std::int64_t scratch_bytes_of(const AttentionGradArgs& g) {
  return delta_bytes(g) + key_grad_part_bytes(g.forward);
}
void attention_grad(const AttentionGradArgs& g, Stream& stream) {
  const AttentionArgs& a = g.forward;
  float *delta = nullptr, *of_keys = nullptr;
  if (const std::int64_t bytes = scratch_bytes_of(g); bytes > 0) {
    delta = static_cast<float*>(stream.shared_workspace(static_cast<std::size_t>(bytes)));
    of_keys = delta + delta_bytes(g) / static_cast<Index>(sizeof(float));
  }
  if (a.q.rows > 0) {
    constexpr Index kWarps = 4;
    with_dtype(a.q.dtype, [&](auto t) {
      using T = TypeOf<decltype(t)>;
      HONE_LAUNCH(output_dots<T>,
                  dim3(static_cast<unsigned>(a.q.rows), static_cast<unsigned>(ceil_div(a.heads, kWarps))),
                  32 * kWarps, 0, cuda_stream(stream), shape_of(a), rows_of<const T>(a.out),
                  rows_of<const T>(g.dout), delta,
                  has_head_vectors(a.out, a.value_dim()) && has_head_vectors(g.dout, a.value_dim()));
    });
  }
  if (g.wants_dsinks)
    with_dtype(a.q.dtype, [&](auto t) {
      with_dtype(g.dsinks_dtype, [&](auto out) {
        using T = TypeOf<decltype(t)>;
        using Out = TypeOf<decltype(out)>;
        HONE_LAUNCH((sink_grad<T, Out>), static_cast<unsigned>(a.heads), kThreads, 0, cuda_stream(stream),
                    shape_of(a), static_cast<const T*>(a.sinks), a.lse, delta, static_cast<Out*>(g.dsinks),
                    g.accumulate_dsinks);
      });
    });
  if (a.sequences == 0) return;
  const bool hopper = why_not_hopper(g, device::card_of(stream)).empty();
  if (a.k.rows > 0) attention_grad_of_keys(g, delta, of_keys, hopper, stream);
  if (a.q.rows > 0) attention_grad_of_queries(g, delta, hopper, stream);
}

}  // namespace hone::kernels::cuda
