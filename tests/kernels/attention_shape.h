// A shape of attention, and the cases of it.
#pragma once

#include <algorithm>

#include "tests/kernels/cases.h"

namespace hone::test {

struct AttentionShape {
  std::vector<std::int32_t> queries;  // of each sequence
  std::vector<std::int32_t> earlier;  // keys before the first query; empty: none
  std::int64_t heads, kv_heads, head_dim, window;
  std::int64_t v_head_dim = 0;
  float softcap = 0;
  bool sinks = false;
  bool aligned = false;  // no gaps between rows, or of 16 bytes' multiples
  double sink_scale = 3;

  std::int64_t value_dim() const { return v_head_dim > 0 ? v_head_dim : head_dim; }
  std::int64_t widest() const { return std::max(head_dim, value_dim()); }
  /// The gap between rows where it may be odd.
  std::int64_t pad(std::int64_t odd) const { return aligned ? odd / 2 * 8 : odd; }
};

/// attention with and without lse, and attention_grad, each in both dtypes.
std::vector<Case> attention_cases_of(const AttentionShape& shape);

}  // namespace hone::test
