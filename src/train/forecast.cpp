#include "train/forecast.h"

namespace hone::train {

MicroBatchForecast forecast_micro_batch(const model::DecoderSpec& spec, DType dtype,
                                        const model::TokenBatch& batch, const ForecastOptions& options) {
  ops::Context context({device::DeviceType::kMeta, 0}, options.threads);
  model::Decoder decoder(spec, context, dtype);
  decoder.parameters().set_trainable(options.freeze, dtype);
  context.ledger().reset_peak();
  ops::Tape tape;
  {
    const ops::TapeScope recording(context, &tape);
    const auto loss =
        decoder.loss(context, batch,
                     {.lm_scale = 1, .aux_scale = options.aux_coefficient, .recompute = options.recompute});
    tape.backward(context, loss.total);
  }
  const auto& ledger = context.ledger();
  return {.flops = context.stream().cost().flops,
          .bytes = context.stream().cost().bytes,
          .activation_bytes = static_cast<double>(ledger.peak(device::Purpose::kActivations) +
                                                  ledger.peak(device::Purpose::kWorkspace))};
}

}  // namespace hone::train
