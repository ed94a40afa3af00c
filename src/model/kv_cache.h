// The keys and values of earlier tokens, kept so that generation computes each token once.
#pragma once

#include <vector>

#include "model/spec.h"
#include "ops/attention.h"

namespace hone::model {

/// Caches of several sequences that grow side by side. A forward pass with a cache takes for every live
/// sequence its next tokens.
class KvCache {
 public:
  /// Sequence s may hold up to capacities[s] tokens. Allocates layers * sum of capacities * 2 * kv_heads *
  /// head_dim elements of dtype (Purpose::kCache).
  KvCache(ops::Context& context, const DecoderSpec& spec, DType dtype, std::vector<std::int32_t> capacities);

  const std::vector<std::int32_t>& capacities() const { return capacities_; }
  /// Tokens held of every sequence.
  const std::vector<std::int32_t>& lengths() const { return lengths_; }

  /// Begins a forward pass in which sequence live[i] gets new_tokens[i] more tokens. Throws Error(kInternal)
  /// beyond the capacity.
  void begin(ops::Context& context, const std::vector<std::int32_t>& live,
             const std::vector<std::int32_t>& new_tokens);
  /// Appends the pass's keys and values of one attention layer; returns all keys and values held, and how
  /// attention finds them.
  struct Held {
    Tensor k, v;
    ops::SequenceLayout layout;
  };
  Held append(ops::Context& context, std::int64_t attention_layer, const Tensor& k, const Tensor& v);
  /// Ends the pass: the new tokens count as held.
  void commit();

 private:
  std::vector<std::int32_t> capacities_;
  std::vector<std::int32_t> begins_;  // first row of each sequence
  std::vector<std::int32_t> lengths_;
  std::vector<Tensor> keys_, values_;  // per attention layer: (sum of capacities, kv_heads * head_dim)
  std::vector<std::int32_t> live_, new_tokens_;
  ops::SequenceLayout layout_;
};

}  // namespace hone::model
