// Attention on the stream's threads, over the code of any instruction set.
#pragma once

#include "kernels/cpu/attention_code.h"

namespace hone::kernels::cpu {

/// AttentionCode of one instruction set.
struct AttentionFunctions {
  void (*forward)(const AttentionArgs& a, const AttentionPiece& piece, float* scratch);
  Index (*forward_scratch)(const AttentionArgs& a, Index queries);
  void (*few)(const AttentionArgs& a, const AttentionPiece& piece, float* partials, float* scratch);
  void (*join_few)(const AttentionArgs& a, const AttentionPiece& piece, Index count, float* partials);
  Index (*few_partial)(const AttentionArgs& a);
  Index (*few_scratch)(const AttentionArgs& a);
  void (*backward)(const AttentionGradArgs& g, const AttentionPiece& piece, float* scratch);
  Index (*backward_scratch)(const AttentionGradArgs& g, const AttentionPiece& piece);
  void (*sink_sums)(const AttentionGradArgs& g, Index begin, Index end, double* sums, float* scratch);
};

void attention(const AttentionFunctions& code, const AttentionArgs& a, Stream& stream);
void attention_grad(const AttentionFunctions& code, const AttentionGradArgs& g, Stream& stream);

}  // namespace hone::kernels::cpu
