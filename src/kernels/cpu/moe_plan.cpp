// The plan of a mixture of experts: a stable counting sort of (token, slot) pairs by expert.
#include <algorithm>

#include "kernels/cpu/row_kernels.h"

namespace hone::kernels::cpu {

void moe_plan(const MoePlanArgs& a, Stream& stream) {
  // Every chunk of pairs counts its own; where a chunk's pairs of an expert begin follows from the counts of
  // the chunks before it. The result is the same for any number of chunks.
  const Index pairs = a.tokens * a.top_k;
  const int threads = pairs < 32768 ? 1 : stream.num_threads();
  const Index chunks = std::min(threads, 64);
  auto* next = static_cast<std::int32_t*>(
      stream.shared_workspace(static_cast<std::size_t>(chunks * a.experts) * sizeof(std::int32_t)));
  if (stream.is_meta()) return;
  std::fill_n(next, chunks * a.experts, 0);
  stream.team().parallel_for(threads, chunks, [&](Index c, int) {
    for (Index i = pairs * c / chunks; i < pairs * (c + 1) / chunks; i++)
      if (a.experts_of[i] >= 0) next[c * a.experts + a.experts_of[i]]++;
  });
  std::int32_t row = 0;
  for (Index e = 0; e < a.experts; e++) {
    a.offsets[e] = row;
    for (Index c = 0; c < chunks; c++) {
      const std::int32_t count = next[c * a.experts + e];
      next[c * a.experts + e] = row;
      row += count;
    }
    a.counts[e] = row - a.offsets[e];
  }
  a.offsets[a.experts] = row;
  stream.team().parallel_for(threads, chunks, [&](Index c, int) {
    for (Index i = pairs * c / chunks; i < pairs * (c + 1) / chunks; i++) {
      a.inverse[i] = -1;
      if (a.experts_of[i] < 0) continue;
      const std::int32_t at = next[c * a.experts + a.experts_of[i]]++;
      a.permutation[at] = static_cast<std::int32_t>(i);
      a.inverse[i] = at;
    }
  });
}

}  // namespace hone::kernels::cpu
