// attention — causal grouped-query attention over sequences of different lengths, which never see each other.
#pragma once

#include "ops/autograd.h"
#include "ops/weight.h"

namespace hone::ops {

/// Where sequences begin and end (kernels::AttentionArgs says how). For training, every row of keys is of one
/// sequence; there may be more of them than of queries.
struct SequenceLayout {
  Tensor q_offsets;   // (sequences + 1) i32
  Tensor key_begin;   // (sequences) i32
  Tensor key_length;  // (sequences) i32
  // The same on the host, where costs are counted.
  std::vector<std::int32_t> num_queries = {}, num_keys = {};

  /// Of queries end to end, num_queries[s] of sequence s, whose keys are num_keys[s] rows from key_begin[s]
  /// on.
  static SequenceLayout make(Context& context, std::vector<std::int32_t> num_queries,
                             const std::vector<std::int32_t>& key_begin, std::vector<std::int32_t> num_keys);
  /// Of sequences end to end, each query with its key.
  static SequenceLayout make(Context& context, const std::vector<std::int32_t>& lengths);
  std::int64_t size() const { return static_cast<std::int64_t>(num_queries.size()); }
  /// kernels::AttentionArgs::pairs.
  std::int64_t pairs(std::int64_t window) const;
  /// kernels::AttentionArgs::max_queries and are_square.
  std::int64_t max_queries() const;
  bool is_square() const;
};

/// What not every family's attention has.
struct AttentionOptions {
  std::int64_t v_head_dim = 0;  // of v and of the result; 0: head_dim
  float softcap = 0;            // scores are softcap * tanh(scale * q k / softcap); 0: scale * q k
  Weight sinks = {};            // (heads) T: a score more for every query, of a key without a value
  Tensor* lse = nullptr;        // set to (tokens, heads) f32: log of the sum of exp(score); has no gradient
};

/// q: (tokens, heads * head_dim) T. k: (key tokens, kv_heads * head_dim) T. v: (key tokens, kv_heads *
/// v_head_dim) T. Result: (tokens, heads * v_head_dim) T. window: keys a query sees, itself included; 0: all.
/// Gradients of q, k, v and the sinks. Keeps q, k, v (Saved), the result and lse (tokens, heads) f32. (Dao,
/// arXiv:2307.08691, for the gradient from lse.)
Tensor attention(Context& context, const Tensor& q, const Tensor& k, const Tensor& v,
                 const SequenceLayout& layout, std::int64_t head_dim, std::int64_t window, float scale,
                 const AttentionOptions& options = {});

}  // namespace hone::ops
