#include "train/step_graphs.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/console.h"
#include "base/log.h"

namespace hone::train {

namespace {

constexpr std::size_t kMostGraphs = 4, kMostKeys = 16;
/// Of one key: then its steps are called, for what others hold changes as often as it comes.
constexpr int kMostLost = 3;

/// Where parameters' gradients lie; null where none has arrived.
std::vector<const void*> gradients_of(const model::Decoder& decoder) {
  std::vector<const void*> places;
  for (const auto& p : decoder.parameters().all()) {
    const Tensor grad = p.grad_slot ? p.grad_slot->grad() : Tensor();
    places.push_back(grad.defined() ? grad.data() : nullptr);
  }
  return places;
}

/// Whether all memory that a graph left in use is of the outputs.
bool holds(const StepOutputs& outputs, const device::Graph& graph) {
  std::vector<const void*> ours;
  const auto add = [&](const Tensor& tensor) {
    if (tensor.defined()) ours.push_back(tensor.data());
  };
  for (const auto& micro : outputs.micro_batches) {
    for (const Tensor* tensor : {&micro.loss, &micro.lm_loss, &micro.aux_loss, &micro.nll}) add(*tensor);
    for (const Tensor& counts : micro.expert_counts) add(counts);
  }
  return std::ranges::all_of(graph.held(), [&](std::span<const std::byte> block) {
    return std::ranges::any_of(ours, [&](const void* data) {
      const auto* byte = static_cast<const std::byte*>(data);
      return byte >= block.data() && byte < block.data() + block.size();
    });
  });
}

}  // namespace

std::string StepGraphs::why_none(const ops::Context& context, const Optimizer& optimizer) {
  if (auto why = device::why_no_graph(context.stream()); !why.empty()) return why;
  if (optimizer.has_host_states()) return "the optimizer's states pass through the card piece by piece";
  return context.profile() != nullptr ? "each kernel is timed by itself" : "";
}

StepGraphs::Entry& StepGraphs::entry_of(Key key) {
  const auto found = std::ranges::find(entries_, key, &Entry::key);
  if (found != entries_.end()) return *found;
  return entries_.emplace_back(Entry{.key = std::move(key)});
}

/// Lets go of the entry's graph when the card has.
void StepGraphs::retire(device::Stream& stream, Entry& entry) {
  std::erase_if(retired_, [](const Retired& old) { return old.done->is_done(); });
  if (entry.graph != nullptr) retired_.push_back({stream.record(), std::move(entry.graph)});
  entry.outputs = {};
}

/// Of graphs, and of keys, those that were not seen for longest.
void StepGraphs::forget_old(device::Stream& stream) {
  const auto has_graph = [](const Entry& entry) { return entry.graph != nullptr; };
  std::ranges::sort(entries_, {}, &Entry::last_seen);
  auto too_many = std::ranges::count_if(entries_, has_graph) - static_cast<std::ptrdiff_t>(kMostGraphs);
  for (auto it = entries_.begin(); it != entries_.end() && too_many > 0;) {
    if (!has_graph(*it)) {
      ++it;
      continue;
    }
    retire(stream, *it);
    it = entries_.erase(it);
    --too_many;
  }
  if (entries_.size() <= kMostKeys) return;
  const auto end = entries_.end() - static_cast<std::ptrdiff_t>(kMostKeys);
  for (auto it = entries_.begin(); it != end; ++it) retire(stream, *it);
  entries_.erase(entries_.begin(), end);
}

/// False where there is none of it, for good.
bool StepGraphs::capture(ops::Context& context, model::Decoder& decoder, Optimizer& optimizer, Entry& entry,
                         const StepOptions& options) {
  auto captured = device::capture(context.stream(), [&] {
    decoder.parameters().reset_grads();
    entry.outputs = {};
    entry.outputs = put_step(context, decoder, optimizer, entry.inputs, options, entry.key.as_ready);
  });
  if (captured.graph != nullptr && !holds(entry.outputs, *captured.graph)) {
    captured.graph = nullptr;
    captured.why_none = "memory that a step takes outlives it";
  }
  if (captured.graph == nullptr) {
    decoder.parameters().reset_grads();  // nothing was computed
    entry.outputs = {};
    gave_up_ = captured.why_none;
    log_warning("steps are launched kernel by kernel: {}", gave_up_);
    return false;
  }
  entry.gradients = gradients_of(decoder);
  entry.side_scratch = optimizer.scratch_generation();
  entry.graph = std::move(captured.graph);
  ++counts_.captured;
  counts_.size = entry.graph->size();
  return true;
}

PendingStep StepGraphs::begin(ops::Context& context, model::Decoder& decoder, Optimizer& optimizer,
                              std::span<const model::TokenBatch> micro_batches, const StepOptions& options) {
  const bool clips = options.clip > 0;
  const double clip_norm =
      options.update_as_ready && clips && optimizer.last_norm() ? *optimizer.last_norm() : 0;
  // A first norm is of gradients that are made twice; one that is not finite has the update wait for all.
  const bool is_odd =
      options.update_as_ready && clips && (!optimizer.last_norm() || !std::isfinite(clip_norm));
  why_none_ = why_none(context, optimizer);
  if (is_odd || !gave_up_.empty() || !why_none_.empty() || count_step(micro_batches).supervised == 0) {
    ++counts_.called;
    return begin_step(context, decoder, optimizer, micro_batches, options);
  }
  StepInputs inputs = upload_step(context, decoder, micro_batches);
  Key key{.micro_batches = {},
          .loss_weight = inputs.loss_weight,
          .clip = options.clip,
          .aux_coefficient = options.aux_coefficient,
          .recompute = options.recompute,
          .as_ready = options.update_as_ready,
          .beside = options.weight_gradients_beside,
          .makes_buffers = optimizer.is_at_first_buffers()};
  for (const auto& batch : inputs.micro_batches) key.micro_batches.push_back(batch.shape());
  Entry& entry = entry_of(std::move(key));
  const bool was_seen = entry.last_seen != 0;
  entry.last_seen = ++clock_;
  const auto call = [&](const StepInputs& its) {
    forget_old(context.stream());
    ++counts_.called;
    return begin_step(context, decoder, optimizer, micro_batches, its, options);
  };
  if (!was_seen || entry.lost == kMostLost) return call(inputs);

  const bool is_new = entry.graph == nullptr;
  if (is_new) {
    entry.inputs = std::move(inputs);
  } else {
    for (std::size_t i = 0; i < inputs.micro_batches.size(); ++i)
      entry.inputs.micro_batches[i].take(context, inputs.micro_batches[i]);
    inputs = {};  // memory of which the graph may make use
  }
  if (is_new && !capture(context, decoder, optimizer, entry, options)) {
    inputs = std::exchange(entry.inputs, {});
    return call(inputs);
  }
  const bool is_as_it_was = is_new || (gradients_of(decoder) == entry.gradients &&
                                       optimizer.scratch_generation() == entry.side_scratch);
  if (!is_as_it_was || !entry.graph->is_ready()) {
    retire(context.stream(), entry);  // others hold its memory: the next step like it makes another
    ++entry.lost;
    inputs = std::exchange(entry.inputs, {});
    return call(inputs);
  }
  optimizer.begin_update(context, options.learning_rate, clip_norm);
  entry.graph->launch();
  ++counts_.launched;
  PendingStep pending = start_reading(context, optimizer, micro_batches, entry.inputs, entry.outputs, options,
                                      entry.key.as_ready);
  forget_old(context.stream());
  return pending;
}

std::string StepGraphs::text() const {
  const std::int64_t steps = counts_.called + counts_.launched;
  if (counts_.launched > 0)
    return fmt::format("{} of {} steps were one launch each, of {} kernels, copies and fills",
                       with_commas(counts_.launched), with_commas(steps),
                       with_commas(static_cast<std::int64_t>(counts_.size)));
  const std::string& why = gave_up_.empty() ? why_none_ : gave_up_;
  return "steps were launched kernel by kernel: " +
         (why.empty() ? std::string("none came again with the same sizes") : why);
}

}  // namespace hone::train
