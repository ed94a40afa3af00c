// Attention by NVIDIA's cuDNN, which is loaded when the first attention wants it. Who has no such library
// loses speed only: on an H200, head_dim 128, causal, 4,096 tokens NVIDIA measures 591 TFLOP/s forward.
//
// Forward only. A gradient that is the same each time costs cuDNN 9.19 a workspace of sequences * heads *
// length^2 * 2 bytes on Hopper (1.2 GB for 4 of 2,048 tokens and 32 heads, as its plans say;
// cudnn-frontend#398), and the order that needs none of it is an engine of 9.25; so attention_grad is our
// own, from the lse kept here.
#pragma once

#include <string>

#include "kernels/kernels.h"

namespace hone::kernels::cuda {

/// What it takes of scratch memory: where each sequence begins in each tensor, and its workspace.
std::int64_t cudnn_scratch_bytes(const AttentionArgs& a);

/// Puts attention into the stream, by the library; false, where it does not take it (why_not_cudnn), however
/// large. scratch: cudnn_scratch_bytes(a), 256-byte aligned.
bool cudnn_attention(const AttentionArgs& a, Stream& stream, void* scratch);

/// Why our own kernel takes attention and not the library; "" where it does.
std::string why_not_cudnn(const AttentionArgs& a, Stream& stream);

/// Why there is no library, and where it was looked for; "" where there is one.
std::string why_no_cudnn();
/// "cuDNN 9.19.0 (PATH)", or why there is none and where it was looked for. HONE_CUDNN=0: there is none.
std::string describe_cudnn();

/// Where sequences begin, in numbers of each tensor, and how long each is (sequence_offsets.cu).
struct SequenceOffsets {
  std::int64_t *q, *k, *v, *out, *lse;  // sequences + 1 each
  std::int32_t* lengths;                // sequences
};
void write_sequence_offsets(const AttentionArgs& a, const SequenceOffsets& to, Stream& stream);

}  // namespace hone::kernels::cuda
