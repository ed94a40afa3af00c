// What steps cost and what a run holds, found by running the same program on the meta device.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/decoder.h"
#include "train/optimizer.h"

namespace hone::train {

/// Bytes by what they are for.
struct MemoryForecast {
  std::int64_t weights = 0, optimizer = 0;  // held throughout
  std::int64_t gradients = 0;               // of all that is trained: held from the first step on
  /// What a step or an evaluation needs beyond all of these at its worst moment: activations, their
  /// gradients, scratch.
  std::int64_t activations = 0;
  std::int64_t reserve = 0;  // what the allocator may keep beyond all of these
  std::int64_t program = 0;  // what is resident besides: the program, tokenizer and data; known by measuring
  std::int64_t pinned = 0;   // of the host's memory beside a card's: in no total
  std::int64_t total() const { return weights + optimizer + gradients + activations + reserve + program; }
};

/// Weights, optimizer and, where they stay, gradients of a model that set_trainable was called for, in a
/// context that holds nothing else: bytes, or on the meta device what they would be.
MemoryForecast held_memory(const ops::Context& context, const model::ParameterSet& parameters,
                           bool gradients_stay);

struct StepForecast {
  std::int64_t parameters = 0;              // elements of all
  std::int64_t tokens = 0;                  // of the first step
  std::vector<device::KernelCost> kernels;  // of its forward and backward
  std::vector<device::KernelCost> update;   // of its update
  double flops = 0;                         // of `kernels`
  MemoryForecast memory;                    // of all
};

struct ForecastOptions {
  bool recompute = false;
  bool fp8 = false;  // as ParameterSet::multiply_in_fp8
  double aux_coefficient = 0;
  std::vector<std::string> freeze = {};  // as ParameterSet::set_trainable: what is frozen costs no gradient
  bool untied_head = false;              // as Decoder
  DType gradient_dtype = DType::kF32;    // f32, or the weights' dtype
  OptimizerOptions optimizer = {};
  bool update_as_ready = false, weight_gradients_beside = false;
  int threads = 1;             // of the CPU; each has scratch memory of its own
  device::Device device = {};  // whose kernels' scratch memory is counted
  std::span<const model::TokenBatch> evaluation_batches =
      {};                               // what evaluations between steps compute at once
  kernels::Profile* profile = nullptr;  // is given the kernels of the first step
};

/// Runs steps of one micro-batch each, and evaluations after them, for a model of this spec without bytes.
/// Costs milliseconds a step.
StepForecast forecast_steps(const model::DecoderSpec& spec, DType dtype,
                            std::span<const model::TokenBatch> batches, const ForecastOptions& options);

}  // namespace hone::train
