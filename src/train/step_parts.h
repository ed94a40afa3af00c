// A step in three parts, for those who put the second together once and launch it as often as they like
// (step_graphs.h): to the device, on the device, and back.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "base/stopwatch.h"
#include "device/clock.h"
#include "kernels/profile.h"
#include "model/decoder.h"
#include "train/step.h"

namespace hone::train {

/// Times a step's phases, and tells the context's profile of them: on a card by its own clock, which is asked
/// when the step has ended. In a graph each launch is timed.
class PhaseClock {
 public:
  /// What comes from here on is of this phase.
  void begin(ops::Context& context, kernels::Phase phase);
  /// Of none.
  void end(ops::Context& context);
  /// Of each phase, in ms. Waits for all of it.
  std::array<double, kernels::kNumPhases> read() const;
  /// In a graph, the times of its last launch, which stay; else these.
  PhaseClock of_last_launch() const;

 private:
  struct Lap {
    kernels::Phase phase;
    std::shared_ptr<const device::TimedEvent> begin, end = {};
    double ms = 0;  // where the host's clock tells
  };
  std::vector<Lap> laps_;
  Stopwatch watch_;
  bool is_running_ = false;
};

/// What a step reads of its batches, on the device.
struct StepInputs {
  std::vector<model::Decoder::LossInputs> micro_batches;
  std::int64_t tokens = 0, supervised = 0;
  double loss_weight = 0;
};

/// What it leaves there.
struct StepOutputs {
  struct MicroBatch {
    Tensor loss, lm_loss, aux_loss;  // (1) f32; aux_loss undefined without one
    Tensor nll;                      // (supervised) f32
    std::vector<Tensor> expert_counts;
  };
  std::vector<MicroBatch> micro_batches;
  PhaseClock clock;
};

/// Throws as Decoder::upload does.
StepInputs upload_step(ops::Context& context, model::Decoder& decoder,
                       std::span<const model::TokenBatch> micro_batches);
/// The sums of the batches alone: nothing is uploaded.
StepInputs count_step(std::span<const model::TokenBatch> micro_batches);

/// Forward, backward and update, after Optimizer::begin_update: sends and reads nothing.
StepOutputs put_step(ops::Context& context, const model::Decoder& decoder, Optimizer& optimizer,
                     const StepInputs& inputs, const StepOptions& options, bool as_ready);
/// All that is told of a step that was put, until Optimizer::end_update: sends it to the host.
PendingStep start_reading(ops::Context& context, Optimizer& optimizer,
                          std::span<const model::TokenBatch> micro_batches, const StepInputs& inputs,
                          const StepOutputs& outputs, const StepOptions& options, bool as_ready);
/// The whole step, where its inputs are on the device.
PendingStep begin_step(ops::Context& context, model::Decoder& decoder, Optimizer& optimizer,
                       std::span<const model::TokenBatch> micro_batches, const StepInputs& inputs,
                       const StepOptions& options);
/// Of one without supervised tokens, which nothing is put for: a mean over no tokens is no loss.
PendingStep step_of_nothing(const StepInputs& inputs);

}  // namespace hone::train
