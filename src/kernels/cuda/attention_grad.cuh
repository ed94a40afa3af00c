// What the kernels of attention's gradient share: operands, and the sums of parts of the rows.
//
// Two passes, each of which makes the probabilities again: a block with a tile of keys goes over the packed
// rows that see it, for dk and dv, a block with a tile of packed rows over its keys, for dq. So nothing is
// added to by two blocks, and the results are the same each time. There are kernels for all cards
// (attention_grad_keys.cu, attention_grad_queries.cu), and others for bf16 on compute capability 9.0
// (attention_grad_hopper.cuh).
#pragma once

#include "kernels/cuda/attention.cuh"

namespace hone::kernels::cuda {

/// The gradients' operands; `delta` (tokens, heads) is the sum of out * dout of each row.
template <typename T>
struct AttentionGradOperands {
  AttentionShape shape;
  Rows<const T> q, k, v, dout;
  Rows<T> dq, dk, dv;
  const float *lse, *delta;
  bool vectors;
};
template <typename T>
AttentionGradOperands<T> grad_operands(const AttentionGradArgs& g, const float* delta) {
  const AttentionArgs& a = g.forward;
  return {shape_of(a),
          rows_of<const T>(a.q),
          rows_of<const T>(a.k),
          rows_of<const T>(a.v),
          rows_of<const T>(g.dout),
          rows_of<T>(g.dq),
          rows_of<T>(g.dk),
          rows_of<T>(g.dv),
          a.lse,
          delta,
          has_head_vectors(a.q, a.head_dim) && has_head_vectors(a.k, a.head_dim) &&
              has_head_vectors(a.v, a.value_dim()) && has_head_vectors(g.dout, a.value_dim()) &&
              has_head_vectors(g.dq, a.head_dim) && has_head_vectors(g.dk, a.head_dim) &&
              has_head_vectors(g.dv, a.value_dim())};
}
/// Where there are few tiles of keys, the packed rows that see each are cut into parts (key_grad_parts,
/// cuts.h) of blocks of their own: the sums of each, (parts, key tokens, kv_heads, head_dim) and as much for
/// the values.
struct RowParts {
  int count;  // 1: there are none
  float *dk, *dv;
  Index keys;
  int kv_heads;
  __device__ __forceinline__ float* in(float* sums, int part, Index key, int kv_head, int dim) const {
    return sums + ((part * keys + key) * kv_heads + kv_head) * dim;
  }
};
/// The steps of part `part` among all `steps`.
struct StepRange {
  int begin, end;
};
__device__ __forceinline__ StepRange steps_of_part(const RowParts& parts, int part, int steps) {
  const int of_part = (steps + parts.count - 1) / parts.count;
  const int begin = part * of_part;
  return {begin, min(steps, begin + of_part)};
}

/// dk and dv; dq. The first takes scratch memory (key_grad_part_bytes, cuts.h). hopper: by the kernels of
/// compute capability 9.0 (hopper_path.h).
void attention_grad_of_keys(const AttentionGradArgs& g, const float* delta, float* scratch, bool hopper,
                            Stream& stream);
void attention_grad_of_queries(const AttentionGradArgs& g, const float* delta, bool hopper, Stream& stream);

/// On compute capability 9.0, where why_not_hopper has nothing against it: dk and dv, or of more than one
/// part the sums of each; dq.
void launch_key_grad_hopper(const AttentionGradArgs& g, const float* delta, const RowParts& parts,
                            cudaStream_t stream);
void launch_query_grad_hopper(const AttentionGradArgs& g, const float* delta, cudaStream_t stream);

}  // namespace hone::kernels::cuda
