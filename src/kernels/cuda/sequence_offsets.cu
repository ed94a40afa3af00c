// Where the sequences of attention begin, as cuDNN wants to be told it.
#include "device/cuda/cuda_stream.h"
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/launch.cuh"

namespace hone::kernels::cuda {
namespace {

struct Strides {
  std::int64_t q, k, v, out, lse;
};

/// A thread for each sequence, and one for the end of the last.
__global__ void sequence_offsets(const std::int32_t* q_offsets, const std::int32_t* key_begin,
                                 std::int64_t sequences, Strides strides, SequenceOffsets to) {
  begin_kernel();
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i > sequences) return;
  const std::int64_t query = q_offsets[i];
  // as many keys as queries
  const std::int64_t key = i < sequences ? key_begin[i] : key_begin[i - 1] + query - q_offsets[i - 1];
  to.q[i] = query * strides.q;
  to.k[i] = key * strides.k;
  to.v[i] = key * strides.v;
  to.out[i] = query * strides.out;
  to.lse[i] = query * strides.lse;
  if (i < sequences) to.lengths[i] = q_offsets[i + 1] - static_cast<std::int32_t>(query);
}

}  // namespace

void write_sequence_offsets(const AttentionArgs& a, const SequenceOffsets& to, Stream& stream) {
  constexpr unsigned kBlock = 256;
  HONE_LAUNCH(sequence_offsets, static_cast<unsigned>((a.sequences + kBlock) / kBlock), kBlock, 0,
              device::cuda_stream(stream), a.q_offsets, a.key_begin, a.sequences,
              Strides{a.q.stride, a.k.stride, a.v.stride, a.out.stride, a.heads}, to);
}

}  // namespace hone::kernels::cuda
