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
  return rope.type == "dynamic" ? std::int64_t{1} << 31 : max_positions;
}

}  // namespace hone::model
