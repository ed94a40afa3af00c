#include "model/spec.h"

#include <algorithm>

namespace hone::model {

std::int64_t DecoderSpec::num_moe_layers() const {
  return std::count_if(layers.begin(), layers.end(), [](const LayerSpec& layer) {
    return std::any_of(layer.branches.begin(), layer.branches.end(),
                       [](const BranchSpec& b) { return std::holds_alternative<MoeSpec>(b.mixer); });
  });
}

std::int64_t DecoderSpec::context_length() const {
  if (rope.type != "dynamic") return max_positions;
  return static_cast<std::int64_t>(static_cast<double>(max_positions) * std::max(1.0, rope.factor));
}

}  // namespace hone::model
