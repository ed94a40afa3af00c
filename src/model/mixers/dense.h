// Feed-forward: gated, as SwiGLU and GeGLU (Shazeer, arXiv:2002.05202), or down activation(up x).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "model/mixers/mixer.h"

namespace hone::model {

class ParameterList;
class ParameterSet;
enum class Role;

/// Keys: PREFIX.{gate,up,down}_proj.{weight,bias}; fused, PREFIX.gate_up_proj.{weight,bias} in place of the
/// first two; ungated, no gate.
struct DenseSpec {
  std::int64_t ffn = 0;
  bool bias = false;
  bool gated = true;
  bool fused_gate_up = false;  // gated, in one product; rows of its weight: gate, up
  kernels::Activation activation = kernels::Activation::kSilu;
};

/// role: what its parameters are (kDense, or kSharedExpert inside a mixture of experts).
void list_parameters(const DenseSpec& spec, const std::string& prefix, ParameterList& list, Role role);
void list_parameters(const DenseSpec& spec, const std::string& prefix, ParameterList& list);
std::unique_ptr<Mixer> make_mixer(const DenseSpec& spec, const std::string& prefix,
                                  const ParameterSet& parameters, double norm_eps);

}  // namespace hone::model
