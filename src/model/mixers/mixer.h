// Mixer: what stands in a residual branch of a layer. Each has a spec (plain data, of which DecoderSpec is
// made), a list of parameters, a forward pass, and what it remembers of earlier tokens while generating.
#pragma once

#include <memory>
#include <vector>

#include "model/rope.h"
#include "moe/moe.h"
#include "ops/attention.h"

namespace hone::model {

class GenerationState;

/// What every layer of one pass needs to know.
struct Pass {
  std::vector<RotaryTables::Prepared> ropes;  // as DecoderSpec::ropes
  ops::SequenceLayout layout;                 // of the documents; undefined where they continue a `state`
  GenerationState* state = nullptr;           // that the documents continue; null: they begin here
};

/// What one mixer remembers of the sequences that are generated.
struct MixerState {
  virtual ~MixerState() = default;
};

class Mixer {
 public:
  virtual ~Mixer() = default;
  /// h: (tokens, hidden) T. residual: (tokens, hidden) f32, or undefined. Result, (tokens, hidden): residual
  /// + mixer(h) in f32; without a residual mixer(h), in T or f32. A router appends
  /// to `statistics`.
  virtual Tensor forward(ops::Context& context, const Tensor& h, const Tensor& residual, const Pass& pass,
                         std::vector<moe::RoutingStatistics>& statistics) const = 0;
  /// Room for `rows` tokens of all sequences together (Purpose::kCache); null for a mixer that remembers
  /// nothing.
  virtual std::unique_ptr<MixerState> make_state(ops::Context& /*context*/, DType /*dtype*/,
                                                 std::int64_t /*rows*/) const {
    return nullptr;
  }
};

}  // namespace hone::model
