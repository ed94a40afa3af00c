// Steps that repeat, each put together once and launched as one (device/graph.h): a step of a small model is
// some thousand calls of kernels, 2 to 5 us of the host's each.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "device/graph.h"
#include "train/step_parts.h"

namespace hone::train {

/// Runs the steps of one model and optimizer as begin_step does, the same bits. A step like one before, whose
/// kernels would be called with the same arguments, is captured; those that follow are launches of the graph.
/// What changes from step to step lies in device memory and is sent before: ids, labels, weights, positions,
/// where sequences begin, the learning rate, bias corrections, the norm to clip by, and the count of updates,
/// by which is rounded at random. What is in the calls makes two steps alike: the numbers of micro-batches,
/// tokens, supervised tokens and sequences, the longest sequence, the sum of loss weights, and StepOptions
/// but for the rate. A step of which none like it came before, lately, is run as begin_step does.
///
/// A graph's activations are nobody's between two launches; it holds its inputs and outputs, some bytes a
/// token. Where what another graph holds, or anything else that stays, comes to lie in its blocks, it is made
/// anew, a few times. What a step tells is on its way to the host when the next one is launched. Ends before
/// the context.
class StepGraphs {
 public:
  /// Why no step is ever captured: one line; "" where those that repeat are.
  static std::string why_none(const ops::Context& context, const Optimizer& optimizer);

  /// As begin_step.
  PendingStep begin(ops::Context& context, model::Decoder& decoder, Optimizer& optimizer,
                    std::span<const model::TokenBatch> micro_batches, const StepOptions& options);

  struct Counts {
    std::int64_t called = 0;    // steps that were run kernel by kernel
    std::int64_t launched = 0;  // steps that were launched
    std::int64_t captured = 0;  // graphs that were made
    std::size_t size = 0;       // of the last one: its kernels, copies and fills
  };
  const Counts& counts() const { return counts_; }
  /// "96 of 100 steps were one launch each, of 1,312 kernels, copies and fills", or why none was.
  std::string text() const;

 private:
  /// What makes two steps alike.
  struct Key {
    std::vector<model::Decoder::LossShape> micro_batches;
    double loss_weight, clip, aux_coefficient;
    bool recompute, as_ready, beside, makes_buffers;
    bool operator==(const Key&) const = default;
  };
  struct Entry {
    Key key;
    std::uint64_t last_seen = 0;
    int lost = 0;  // graphs whose memory others had
    // Of the graph; it ends first.
    StepInputs inputs = {};
    StepOutputs outputs = {};
    std::vector<const void*> gradients = {};
    std::uint64_t side_scratch = 0;  // Optimizer::scratch_generation() of then
    std::unique_ptr<device::Graph> graph = nullptr;
  };
  Entry& entry_of(Key key);
  void forget_old(device::Stream& stream);
  void retire(device::Stream& stream, Entry& entry);
  bool capture(ops::Context& context, model::Decoder& decoder, Optimizer& optimizer, Entry& entry,
               const StepOptions& options);

  /// A graph that is not launched again, and whose last launch may go on.
  struct Retired {
    std::shared_ptr<const device::Event> done;
    std::unique_ptr<device::Graph> graph;
  };
  std::vector<Entry> entries_;
  std::vector<Retired> retired_;
  std::uint64_t clock_ = 0;
  Counts counts_;
  std::string gave_up_;   // why: a capture failed for good; "": none has
  std::string why_none_;  // why_none() of the last step
};

}  // namespace hone::train
