// How attention is cut into pieces, which threads then take one after another, the longest first.
#pragma once

#include <vector>

#include "kernels/cpu/attention_code.h"

namespace hone::kernels::cpu {

struct ForwardPlan {
  std::vector<AttentionPiece> blocks;  // for AttentionCode::forward
  std::vector<AttentionPiece> few;     // for AttentionCode::few
  struct Join {
    AttentionPiece first;  // of the pieces to be joined
    Index count;
  };
  std::vector<Join> joins;
  Index partials = 0;      // how many partial results there are
  Index most_queries = 0;  // of a piece in blocks
};

/// The cut never changes a result: the forward's depends on the shape alone where it would, and elsewhere
/// every sum has the same blocks in the same order however it is cut.
ForwardPlan plan_forward(const AttentionArgs& a, int threads);
std::vector<AttentionPiece> plan_backward(const AttentionArgs& a, int threads);

}  // namespace hone::kernels::cpu
