// Mixture of experts, and maybe a shared expert that every token goes to.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "model/mixers/mixer.h"
#include "moe/experts.h"

namespace hone::model {

class ParameterList;
class ParameterSet;

/// Keys: PREFIX.ROUTER.{weight,bias,e_score_correction_bias}, PREFIX.experts.{gate_up,down}_proj (ungated
/// {up,down}_proj, as Nemotron-H's), the same with _bias behind and, with a shared expert, those of its
/// DenseSpec behind PREFIX.SHARED, and PREFIX.SHARED_gate.weight.
struct MoeSpec {
  std::int64_t experts = 0, top_k = 0, ffn = 0;
  moe::RouterRule rule;
  bool has_correction_bias = false;  // f32 whatever the rest is; Transformers never trains it
  std::string router = "gate";
  bool router_bias = false, expert_bias = false;
  moe::ExpertFunction function = {};  // a shared expert has its activation and its gate, too
  std::int64_t shared_ffn = 0;        // 0: no shared expert
  std::string shared = "shared_expert";
  bool shared_is_gated = true;  // times the sigmoid of a product of its own
  bool shared_bias = false;
};

void list_parameters(const MoeSpec& spec, const std::string& prefix, ParameterList& list);
std::unique_ptr<Mixer> make_mixer(const MoeSpec& spec, const std::string& prefix,
                                  const ParameterSet& parameters, double norm_eps);

}  // namespace hone::model
