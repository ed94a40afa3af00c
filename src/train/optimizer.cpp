#include "train/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/suggest.h"
#include "kernels/moments.h"
#include "model/name_pattern.h"
#include "ops/launch.h"
#include "tensor/transfer.h"

namespace hone::train {

namespace {

constexpr std::string_view kOptimizer = "train.optimizer";
constexpr std::int64_t kLeastCoded = 4096;
constexpr auto kScalarsSize = static_cast<std::int64_t>(sizeof(kernels::StepScalars));

/// Of a tensor in the order of memory.
Tensor elements(const Tensor& tensor, std::int64_t begin, std::int64_t end) {
  return tensor.detach().reshape(Shape{tensor.numel()}).rows(begin, end);
}

/// Waits for them.
kernels::StepScalars value_of(const HostCopy& scalars) {
  kernels::StepScalars value;
  std::memcpy(&value, scalars.bytes().data(), sizeof value);
  return value;
}

}  // namespace

std::vector<std::int64_t> assign_groups(const model::ParameterSet& parameters,
                                        const std::vector<OptimizerOptions::Group>& groups) {
  std::vector<model::NamePattern> patterns;
  for (const auto& group : groups) patterns.emplace_back(group.match);
  std::vector<std::int64_t> result;
  std::vector<std::int64_t> matched(groups.size(), 0), taken(groups.size(), 0);
  for (const auto& p : parameters.all()) {
    std::int64_t mine = -1;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (!patterns[g].found_in(p.spec.name)) continue;
      ++matched[g];
      if (mine < 0) mine = static_cast<std::int64_t>(g);
    }
    if (mine >= 0 && p.trainable) ++taken[static_cast<std::size_t>(mine)];
    result.push_back(p.trainable ? mine : -1);
  }
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (taken[g] > 0) continue;
    if (matched[g] == 0)
      fail("pattern '{}' matches no parameter{}", groups[g].match,
           suggestion(groups[g].match, parameters.names()));
    fail("pattern '{}' takes no parameter: all {} that it matches are frozen or belong to groups before it",
         groups[g].match, matched[g]);
  }
  return result;
}

Optimizer::Optimizer(ops::Context& context, model::ParameterSet& parameters, const OptimizerOptions& options)
    : options_(options),
      scalars_(context.empty(Shape{kScalarsSize}, DType::kU8, device::Purpose::kOptimizer)),
      next_scalars_(context.empty(Shape{2 * kScalarsSize}, DType::kU8, device::Purpose::kOptimizer)) {
  const bool adamw = options.type == OptimizerOptions::Type::kAdamW;
  const auto groups = assign_groups(parameters, options.groups);
  if (options.offload == OptimizerOptions::Offload::kHost && HostStates::are_apart(context))
    host_ = std::make_unique<HostStates>(context, options.offload_piece_bytes);
  for (std::size_t i = 0; i < parameters.all().size(); ++i) {
    auto& p = parameters.all()[i];
    if (!p.trainable) continue;
    const auto zeros = [&](const Shape& shape, DType dtype) {
      return host_ ? host_->zeros(shape, dtype) : context.zeros(shape, dtype, device::Purpose::kOptimizer);
    };
    Slot slot{.parameter = &p};
    slot.weight_decay = static_cast<float>(p.spec.decays() ? options.weight_decay : 0.0);
    if (groups[i] >= 0) {
      const auto& group = options.groups[static_cast<std::size_t>(groups[i])];
      slot.rate_scale = static_cast<float>(group.rate_scale);
      if (group.weight_decay) slot.weight_decay = static_cast<float>(*group.weight_decay);
    }
    States& states = slot.states;
    if (p.value.dtype() != DType::kF32 && options.master == OptimizerOptions::Master::kF32)
      states.master = host_ ? host_->zeros(p.spec.shape, DType::kF32)
                            : context.empty(p.spec.shape, DType::kF32, device::Purpose::kOptimizer);
    slot.rounding_seed = mix_hash(hash_name(p.spec.name), options.seed);
    const std::int64_t n = p.spec.shape.numel();
    const bool coded = adamw && options.state == OptimizerOptions::State::k8Bit && n >= kLeastCoded;
    const DType dtype = coded ? DType::kU8 : DType::kF32;
    if (adamw || options.momentum != 0) states.first = zeros(p.spec.shape, dtype);
    if (adamw) states.second = zeros(p.spec.shape, dtype);
    if (coded) {
      const Shape blocks{(n + kernels::kMomentBlock - 1) / kernels::kMomentBlock};
      states.first_scales = zeros(blocks, DType::kF32);
      states.second_scales = zeros(blocks, DType::kF32);
    }
    if (host_ && (states.master.defined() || states.first.defined())) slot.in_host = host_->add(states, n);
    if (!states.master.defined()) states.master = p.value.detach();
    slots_.push_back(std::move(slot));
  }
  if (host_) host_->allocate();
}

Optimizer::Optimizer(ops::Context& context, model::CausalLM& model, const OptimizerOptions& options)
    : Optimizer(context, model.decoder().parameters(), options) {
  std::vector<const Slot*> from_values;
  for (const auto& slot : slots_) {
    const Tensor master = separate_master(*slot.parameter);
    if (master.defined() && !model.load_stored(context, *slot.parameter, master))
      from_values.push_back(&slot);
  }
  if (host_) host_->begin_round();
  for (const Slot* slot : from_values)
    with_states(context, *slot, [&](std::int64_t begin, std::int64_t end, const States& states) {
      ops::copy(context, kOptimizer, elements(slot->parameter->value, begin, end),
                elements(states.master, 0, end - begin));
    });
}

void Optimizer::with_states(const ops::Context& context, const Slot& slot,
                            const HostStates::Work& work) const {
  if (!slot.in_host) return work(0, slot.parameter->value.numel(), slot.states);
  host_->update(*slot.in_host, context.stream(),
                [&](std::int64_t begin, std::int64_t end, const States& states) {
                  States all = states;
                  if (!all.master.defined()) all.master = elements(slot.states.master, begin, end);
                  work(begin, end, all);
                });
}

kernels::StepScalars Optimizer::scalars_of(std::int64_t updates, double learning_rate,
                                           double clip_norm) const {
  const auto t = static_cast<double>(updates + 1);
  return {.learning_rate = static_cast<float>(learning_rate),
          .bias_correction1 = static_cast<float>(1 - std::pow(options_.beta1, t)),
          .bias_correction2 = static_cast<float>(1 - std::pow(options_.beta2, t)),
          .step = static_cast<std::int32_t>(updates),
          .clip_norm = static_cast<float>(clip_norm)};
}

void Optimizer::begin_update(ops::Context& context, double learning_rate, double clip_norm) {
  HONE_CHECK(may_begin_unread(), "an update is begun, and {} before it were not read", unread_);
  if (unread_ == 0) {
    const std::array now{scalars_of(updates_, learning_rate, clip_norm)};
    return upload_bytes(context.stream(), std::as_bytes(std::span(now)), scalars_);
  }
  const std::array next{scalars_of(updates_ + 1, learning_rate, clip_norm),
                        scalars_of(updates_, learning_rate, clip_norm)};
  upload_bytes(context.stream(), std::as_bytes(std::span(next)), next_scalars_);
  ops::launch(context, kOptimizer, context.kernels().next_step,
              {.next = static_cast<const kernels::StepScalars*>(next_scalars_.data()), .scalars = scalars()});
}

void Optimizer::add_square(ops::Context& context, const Slot& slot, const Tensor& grad,
                           const Tensor& squares) const {
  ops::launch(context, kOptimizer, context.kernels().sum_of_squares,
              {.x = grad.data(),
               .n = grad.numel(),
               .dtype = grad.dtype(),
               .parts = squares.defined() ? squares.as<double>() : nullptr,
               .num_parts = squares.defined() ? squares.numel() : 0,
               .has_parts = squares.defined(),
               .index = static_cast<std::int32_t>(&slot - slots_.data()),
               .scalars = scalars()});
}

UpdateResult Optimizer::step(ops::Context& context, double learning_rate, double clip, const Tensor& loss) {
  begin_update(context, learning_rate);
  put_update(context, clip, loss);
  return end_update(start_reading(context));
}

void Optimizer::finish_gradients(const std::function<void()>& backward, ops::Context& context) {
  const auto ask = [&](bool asked) {
    for (const auto& slot : slots_) slot.parameter->grad_slot->ask_for_squares(asked);
  };
  struct Asking {  // however backward ends
    const std::function<void(bool)> ask;
    ~Asking() { ask(false); }
  } const asking{ask};
  ask(HostStates::are_apart(context));
  backward();
}

void Optimizer::put_update(ops::Context& context, double clip, const Tensor& loss) {
  if (host_) host_->begin_round();
  for (const auto& slot : slots_) {
    const Tensor grad = slot.parameter->grad_slot->grad(),
                 squares = slot.parameter->grad_slot->take_squares();
    if (grad.defined()) add_square(context, slot, grad, squares);
  }
  ops::launch(context, kOptimizer, context.kernels().finish_norm,
              {.scalars = scalars(),
               .max_norm = static_cast<float>(clip),
               .loss = loss.defined() ? loss.as<float>() : nullptr,
               .has_loss = loss.defined()});
  for (const auto& slot : slots_)
    if (const Tensor grad = slot.parameter->grad_slot->grad(); grad.defined()) update(context, slot, grad);
}

void Optimizer::take_gradients(const std::function<void()>& backward, ops::Context& context,
                               const std::function<void(const Slot&, const Tensor&, const Tensor&)>& take) {
  struct Hooks {  // which end however backward does
    std::vector<Slot>& slots;
    ~Hooks() {
      for (const auto& slot : slots) slot.parameter->grad_slot->set_hook(nullptr);
    }
  } const hooks{slots_};
  for (const auto& slot : slots_)
    slot.parameter->grad_slot->set_hook([&] {
      ops::GradSlot& gradient = *slot.parameter->grad_slot;
      const Tensor squares = gradient.take_squares();
      take(slot, gradient.take_grad(), squares);
    });
  finish_gradients(backward, context);
}

ops::SideStream* Optimizer::side_stream(ops::Context& context) {
  if (!side_stream_ && HostStates::are_apart(context)) {
    std::size_t largest = 0;
    for (const auto& slot : slots_)
      largest = std::max(largest, static_cast<std::size_t>(slot.parameter->value.numel()) *
                                      size_of(slot.parameter->grad_slot->grad_dtype()));
    side_stream_ = std::make_unique<ops::SideStream>(context, largest);
  }
  return side_stream_.get();
}

UpdateResult Optimizer::step_during(const std::function<void()>& backward, ops::Context& context,
                                    double learning_rate, double clip, double clip_norm, const Tensor& loss) {
  begin_update(context, learning_rate, clip_norm);
  put_update_during(backward, context, clip, loss);
  return end_update(start_reading(context));
}

void Optimizer::put_update_during(const std::function<void()>& backward, ops::Context& context, double clip,
                                  const Tensor& loss) {
  if (host_) host_->begin_round();
  ops::SideStream* const beside = side_stream(context);
  const auto take = [&](const Slot& slot, const Tensor& grad, const Tensor& squares) {
    const auto work = [&](ops::Context& where) {
      add_square(where, slot, grad, squares);
      ops::launch(where, kOptimizer, where.kernels().finish_norm,
                  {.scalars = scalars(),
                   .max_norm = static_cast<float>(clip),
                   .by_clip_norm = true,
                   .loss = loss.defined() ? loss.as<float>() : nullptr,
                   .has_loss = loss.defined()});
      update(where, slot, grad);
    };
    beside != nullptr ? beside->put({grad, squares}, {}, work) : work(context);
  };
  try {
    take_gradients(backward, context, take);
  } catch (...) {  // nobody is to read a weight before its update
    if (beside != nullptr) beside->join();
    throw;
  }
  if (beside != nullptr) beside->join();
}

double Optimizer::norm_during(const std::function<void()>& backward, ops::Context& context) {
  begin_update(context, 0);
  take_gradients(backward, context, [&](const Slot& slot, const Tensor& grad, const Tensor& squares) {
    add_square(context, slot, grad, squares);
  });
  return std::sqrt(value_of(HostCopy(context.stream(), scalars_)).sum_of_squares);
}

HostCopy Optimizer::start_reading(ops::Context& context) {
  ++unread_;
  return {context.stream(), scalars_};
}

UpdateResult Optimizer::end_update(const HostCopy& scalars) {
  const kernels::StepScalars after = value_of(scalars);
  --unread_;
  if (after.skip != 0)
    return {.grad_norm = after.grad_norm,
            .skipped = true,
            .nonfinite = after.nonfinite == 0
                             ? ""
                             : slots_.at(static_cast<std::size_t>(after.nonfinite - 1)).parameter->spec.name};
  ++updates_;
  last_norm_ = after.grad_norm;
  return {.grad_norm = after.grad_norm, .nonfinite = {}};
}

void Optimizer::update(ops::Context& context, const Slot& slot, const Tensor& grad) const {
  with_states(context, slot, [&](std::int64_t begin, std::int64_t end, const States& states) {
    update_elements(context, slot, elements(grad, begin, end), begin, end, states);
  });
}

void Optimizer::update_elements(ops::Context& context, const Slot& slot, const Tensor& grad,
                                std::int64_t begin, std::int64_t end, const States& states) const {
  const bool has_weight = has_separate_master(slot);
  void* copy = has_weight ? elements(slot.parameter->value, begin, end).data() : nullptr;
  const bool coded = states.first_scales.defined();
  if (options_.type == OptimizerOptions::Type::kAdamW) {
    ops::launch(context, kOptimizer, context.kernels().adamw,
                {.master = states.master.data(),
                 .master_dtype = states.master.dtype(),
                 .weight = copy,
                 .has_weight = has_weight,
                 .grad = grad.data(),
                 .exp_avg = states.first.data(),
                 .exp_avg_sq = states.second.data(),
                 .moments = coded ? kernels::MomentKind::kDynamic8 : kernels::MomentKind::kF32,
                 .exp_avg_scales = coded ? states.first_scales.as<float>() : nullptr,
                 .exp_avg_sq_scales = coded ? states.second_scales.as<float>() : nullptr,
                 .n = grad.numel(),
                 .grad_dtype = grad.dtype(),
                 .rounding_seed = slot.rounding_seed,
                 .first_index = begin,
                 .beta1 = static_cast<float>(options_.beta1),
                 .beta2 = static_cast<float>(options_.beta2),
                 .eps = static_cast<float>(options_.eps),
                 .weight_decay = slot.weight_decay,
                 .rate_scale = slot.rate_scale,
                 .scalars = scalars()});
    return;
  }
  ops::launch(context, kOptimizer, context.kernels().sgd,
              {.master = states.master.data(),
               .master_dtype = states.master.dtype(),
               .weight = copy,
               .has_weight = has_weight,
               .grad = grad.data(),
               .momentum_buffer = states.first.defined() ? states.first.as<float>() : nullptr,
               .n = grad.numel(),
               .grad_dtype = grad.dtype(),
               .momentum = static_cast<float>(options_.momentum),
               .weight_decay = slot.weight_decay,
               .rate_scale = slot.rate_scale,
               .first = updates_ == 0,
               .rounding_seed = slot.rounding_seed,
               .first_index = begin,
               .scalars = scalars()});
}

std::vector<Optimizer::NamedTensor> Optimizer::state() const {
  if (host_) host_->wait();
  const bool adamw = options_.type == OptimizerOptions::Type::kAdamW;
  std::vector<NamedTensor> tensors;
  for (const auto& slot : slots_) {
    const States& states = slot.states;
    const std::string& name = slot.parameter->spec.name;
    tensors.push_back({"master." + name, states.master});
    if (states.first.defined()) tensors.push_back({(adamw ? "exp_avg." : "momentum.") + name, states.first});
    if (states.second.defined()) tensors.push_back({"exp_avg_sq." + name, states.second});
    if (!states.first_scales.defined()) continue;
    tensors.push_back({"exp_avg.scales." + name, states.first_scales});
    tensors.push_back({"exp_avg_sq.scales." + name, states.second_scales});
  }
  return tensors;
}

void Optimizer::masters_changed(ops::Context& context) {
  if (host_) host_->begin_round();
  for (const auto& slot : slots_)
    if (has_separate_master(slot))
      with_states(context, slot, [&](std::int64_t begin, std::int64_t end, const States& states) {
        ops::copy(context, kOptimizer, elements(states.master, 0, end - begin),
                  elements(slot.parameter->value, begin, end));
      });
}

Tensor Optimizer::separate_master(const model::Parameter& parameter) const {
  const Tensor master = master_of(parameter);
  return master.defined() && master.dtype() != parameter.value.dtype() ? master : Tensor();
}

Tensor Optimizer::master_of(const model::Parameter& parameter) const {
  if (host_) host_->wait();
  for (const auto& slot : slots_)
    if (slot.parameter == &parameter) return slot.states.master;
  return {};
}

}  // namespace hone::train
