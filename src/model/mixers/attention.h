// Grouped-query attention.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "model/mixers/mixer.h"

namespace hone::model {

class ParameterList;
class ParameterSet;

/// Keys: PREFIX.sinks, PREFIX.{q,k,v,o}_proj.{weight,bias}, PREFIX.{q,k}_norm.weight; or, fused,
/// PREFIX.qkv_proj.{weight,bias} in place of the first three.
struct AttentionSpec {
  enum class Norm { kNone, kPerHead, kFullWidth };
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  bool fused_qkv = false;  // one product; rows of its weight: queries, keys, values
  bool qkv_bias = false, output_bias = false;
  Norm norm = Norm::kNone;        // of queries and keys, before rotation
  bool norm_unit_offset = false;  // it multiplies by 1 + weight
  double clip = 0;  // queries, keys and values are clamped to [-clip, clip]; 0: not (OLMoE's clip_qkv)
  std::int64_t window = 0;  // keys that a query sees, itself included; 0: all
  int rope = 0;             // which of DecoderSpec::ropes; kNoRope: positions are not told
  bool sinks = false;       // a score more for every query, learnt for each head
  double scale = 0;         // of the scores; 0: 1 / sqrt(head_dim)
  double softcap = 0;       // scores are softcap * tanh(score / softcap); 0: not
  static constexpr int kNoRope = -1;
};

void list_parameters(const AttentionSpec& spec, const std::string& prefix, ParameterList& list);
std::unique_ptr<Mixer> make_mixer(const AttentionSpec& spec, const std::string& prefix,
                                  const ParameterSet& parameters, double norm_eps);

}  // namespace hone::model
