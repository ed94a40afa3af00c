// What is kept of earlier tokens, so that generation computes each token once.
#pragma once

#include <unordered_map>
#include <vector>

#include "model/mixers/mixer.h"

namespace hone::model {

/// Several sequences that grow side by side, and what every mixer remembers of them. A forward pass takes for
/// every live sequence its next tokens.
class GenerationState {
 public:
  /// Sequence s may hold up to capacities[s] tokens; each mixer makes room for all of them, in dtype. The
  /// mixers must outlive this.
  GenerationState(ops::Context& context, const std::vector<const Mixer*>& mixers, DType dtype,
                  std::vector<std::int32_t> capacities);

  const std::vector<std::int32_t>& capacities() const { return capacities_; }
  /// Tokens held of every sequence.
  const std::vector<std::int32_t>& lengths() const { return lengths_; }
  /// What a mixer remembers. Throws Error(kInternal) where that is nothing.
  MixerState& of(const Mixer& mixer) const;

  /// Begins a forward pass in which sequence live[i] gets new_tokens[i] more tokens. Throws Error(kInternal)
  /// beyond the capacity.
  void begin(ops::Context& context, const std::vector<std::int32_t>& live,
             const std::vector<std::int32_t>& new_tokens);
  /// Forgets what is held of a sequence: it begins anew.
  void forget(std::int32_t sequence) { lengths_.at(static_cast<std::size_t>(sequence)) = 0; }
  /// The pass's queries, and where the rows of their sequences lie in what is held.
  const ops::SequenceLayout& layout() const { return layout_; }
  /// Copies the pass's rows x (new tokens, n) behind the earlier ones of their sequences in `held` (sum of
  /// capacities, n).
  void append(ops::Context& context, const Tensor& x, const Tensor& held) const;
  /// Ends the pass: the new tokens count as held.
  void commit();

 private:
  std::vector<std::int32_t> capacities_;
  std::vector<std::int32_t> begins_;  // first row of each sequence
  std::vector<std::int32_t> lengths_;
  std::unordered_map<const Mixer*, std::unique_ptr<MixerState>> states_;
  std::vector<std::int32_t> live_, new_tokens_;
  ops::SequenceLayout layout_;
};

}  // namespace hone::model
