// head_norm_rope — an optional RMS norm of every head, then rotary position embedding (Su et al.,
// arXiv:2104.09864).
#pragma once

#include "ops/autograd.h"
#include "ops/weight.h"

namespace hone::ops {

/// cos and sin of every position, (max_position, rotary_dim / 2) f32 each, already multiplied by the
/// attention scaling.
struct RotaryTable {
  Tensor cos, sin;
};

/// What not every family's heads have.
struct HeadNormRopeOptions {
  std::int64_t rotary_begin = 0;  // first of the elements that the table rotates
  bool interleaved = false;       // elements 2i and 2i + 1 are turned together; else the halves are
  bool unit_offset = false;       // the norm multiplies by 1 + weight (Gemma)
};

/// x: (tokens, heads * head_dim) T. weight: (head_dim) T, or undefined for no norm. positions: (tokens) i32.
/// Result: as x. Keeps x if there is a weight, and positions.
Tensor head_norm_rope(Context& context, const Tensor& x, const Weight& weight, const RotaryTable& table,
                      const Tensor& positions, std::int64_t head_dim, float eps,
                      const HeadNormRopeOptions& options = {});

}  // namespace hone::ops
