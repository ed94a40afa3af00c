// Mixture of experts with a softmax router, and maybe a gated shared expert.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "model/mixers/mixer.h"
#include "moe/experts.h"

namespace hone::model {

class ParameterList;
class ParameterSet;

/// Keys: PREFIX.ROUTER.{weight,bias}, PREFIX.experts.{gate_up,down}_proj, the same with _bias behind and,
/// with a shared expert, PREFIX.shared_expert.{gate,up,down}_proj.weight, PREFIX.shared_expert_gate.weight.
struct MoeSpec {
  std::int64_t experts = 0, top_k = 0, ffn = 0;
  moe::RouterRule rule;
  std::int64_t shared_ffn = 0;  // 0: no shared expert
  std::string router = "gate";
  bool router_bias = false, expert_bias = false;
  moe::ExpertFunction function = {};  // gated
};

void list_parameters(const MoeSpec& spec, const std::string& prefix, ParameterList& list);
std::unique_ptr<Mixer> make_mixer(const MoeSpec& spec, const std::string& prefix,
                                  const ParameterSet& parameters, double norm_eps);

}  // namespace hone::model
