// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): keys and values come of a latent of a few
// hundred elements; their positions are told to a part of the key that all heads share.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "model/mixers/mixer.h"

namespace hone::model {

class ParameterList;
class ParameterSet;

/// Keys: PREFIX.q_a_proj.{weight,bias}, PREFIX.q_a_layernorm.weight, PREFIX.q_b_proj.weight, or with
/// q_lora_rank 0 PREFIX.q_proj.weight in place of the three; PREFIX.kv_a_proj_with_mqa.{weight,bias},
/// PREFIX.kv_a_layernorm.weight, PREFIX.kv_b_proj.weight, PREFIX.o_proj.{weight,bias}.
struct MlaSpec {
  std::int64_t heads = 0;
  std::int64_t q_lora_rank = 0;  // 0: queries come of the hidden state itself
  std::int64_t kv_lora_rank = 0;
  std::int64_t nope_dim = 0,
               rope_dim = 0;  // of the key and query of a head: told no positions, and told them
  std::int64_t v_dim = 0;
  bool bias = false;         // of q_a_proj, kv_a_proj_with_mqa and o_proj
  bool interleaved = false;  // neighbours are turned together; else the halves of rope_dim are
  double scale = 0;          // of the scores
};

void list_parameters(const MlaSpec& spec, const std::string& prefix, ParameterList& list);
std::unique_ptr<Mixer> make_mixer(const MlaSpec& spec, const std::string& prefix,
                                  const ParameterSet& parameters, double norm_eps);

}  // namespace hone::model
