// mla_keys_values — the keys and values of multi-head latent attention (DeepSeek-V2,
// arXiv:2405.04434, 2.1.3).
#pragma once

#include "ops/autograd.h"

namespace hone::ops {

struct KeysValues {
  Tensor k, v;
};

/// Head h's key is the first nope_dim elements of its part of kv, then k_pe, which all heads share; its value
/// is the rest of its part. kv: (tokens, heads * (nope_dim + v_dim)) T. k_pe: (tokens, rope_dim) T, turned by
/// its position. Result: k (tokens, heads * (nope_dim + rope_dim)) T, v (tokens, heads * v_dim) T. Keeps
/// nothing.
KeysValues mla_keys_values(Context& context, const Tensor& kv, const Tensor& k_pe, std::int64_t heads,
                           std::int64_t nope_dim);

}  // namespace hone::ops
