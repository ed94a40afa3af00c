// Generation: prompts in, continuations out, with a key-value cache.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/decoder.h"

namespace hone::model {

struct GenerationOptions {
  std::int64_t max_new_tokens = 256;
  double temperature = 0;  // 0: greedy
  std::int64_t top_k = 0;  // sample among the k likeliest; 0: all
  double top_p = 1;        // among the fewest whose probabilities sum to at least this
  std::uint64_t seed = 0;
  std::vector<std::int32_t> stop_ids = {};  // end a sequence; kept as its last token
};

/// The token that follows `logits` (vocab). Draw number `step` of sequence `sequence`: a function of the
/// seed, sequence and step alone. Temperature, then top_k, then top_p, as Transformers' processors; equal
/// logits go to the lower id.
std::int32_t choose_token(std::span<const float> logits, const GenerationOptions& options,
                          std::uint64_t sequence, std::uint64_t step);

/// Called for every new token; return false to end that sequence.
using OnToken = std::function<bool(std::size_t sequence, std::int32_t id)>;

/// Continues every prompt until a stop id, max_new_tokens, or the model's context is full; returns the new
/// tokens. Prompts run side by side, and what one yields does not depend on the others. Throws Error(kUser)
/// for an empty prompt or one that fills the context.
std::vector<std::vector<std::int32_t>> generate(ops::Context& context, Decoder& decoder,
                                                const std::vector<std::vector<std::int32_t>>& prompts,
                                                const GenerationOptions& options,
                                                const OnToken& on_token = nullptr);

}  // namespace hone::model
