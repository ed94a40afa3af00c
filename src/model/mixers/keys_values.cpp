#include "model/mixers/keys_values.h"

#include "model/generation_state.h"

namespace hone::model {

namespace {

struct KeysValuesState : MixerState {
  Tensor keys, values;
};

}  // namespace

std::unique_ptr<MixerState> make_keys_values(ops::Context& context, DType dtype, std::int64_t rows,
                                             std::int64_t key_width, std::int64_t value_width) {
  auto state = std::make_unique<KeysValuesState>();
  state->keys = context.empty(Shape{rows, key_width}, dtype, device::Purpose::kCache);
  state->values = context.empty(Shape{rows, value_width}, dtype, device::Purpose::kCache);
  return state;
}

ops::SequenceLayout continue_keys_values(ops::Context& context, const Mixer& mixer, const Pass& pass,
                                         Tensor& k, Tensor& v) {
  if (pass.state == nullptr) return pass.layout;
  const auto& held = dynamic_cast<const KeysValuesState&>(pass.state->of(mixer));
  pass.state->append(context, k, held.keys);
  pass.state->append(context, v, held.values);
  k = held.keys;
  v = held.values;
  return pass.state->layout();
}

}  // namespace hone::model
