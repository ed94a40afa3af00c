#include "train/forecast.h"

namespace hone::train {

MicroBatchForecast forecast_micro_batch(const model::DecoderSpec& spec, DType dtype,
                                        const model::TokenBatch& batch, bool recompute,
                                        double aux_coefficient) {
  ops::Context context({device::DeviceType::kMeta, 0}, 1);
  model::Decoder decoder(spec, context, dtype);
  decoder.parameters().set_trainable({}, dtype);
  context.ledger().reset_peak();
  ops::Tape tape;
  {
    const ops::TapeScope recording(context, &tape);
    const auto loss =
        decoder.loss(context, batch, {.lm_scale = 1, .aux_scale = aux_coefficient, .recompute = recompute});
    tape.backward(context, loss.total);
  }
  const auto& ledger = context.ledger();
  return {.flops = context.stream().cost().flops,
          .bytes = context.stream().cost().bytes,
          .activation_bytes = static_cast<double>(ledger.peak(device::Purpose::kActivations) +
                                                  ledger.peak(device::Purpose::kWorkspace))};
}

}  // namespace hone::train
