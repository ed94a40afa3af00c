#include "model/parameters.h"

#include <algorithm>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/rng.h"
#include "base/suggest.h"
#include "base/team.h"
#include "model/name_pattern.h"
#include "tensor/transfer.h"

namespace hone::model {

namespace {

/// Writes value(i) to every element.
template <typename Value>
void fill(ops::Context& context, const Tensor& t, const Value& value) {
  Staging staging(context.stream(), t);
  const std::int64_t n = staging.bytes().empty() ? 0 : t.numel();
  const auto write = [&]<typename T>(T* to) {
    Team& team = context.stream().team();
    team.parallel_ranges(n > 1 << 14 ? team.num_threads() : 1, n,
                         [&](std::int64_t begin, std::int64_t end, int) {
                           for (std::int64_t i = begin; i < end; ++i) to[i] = T(value(i));
                         });
  };
  if (t.dtype() == DType::kF32)
    write(reinterpret_cast<float*>(staging.data()));
  else
    write(reinterpret_cast<BFloat16*>(staging.data()));
  staging.send();
}

/// Normal numbers to the first `drawn` elements, which all others repeat.
void fill_normal(ops::Context& context, const Tensor& t, const CounterRng& rng, float deviation,
                 std::int64_t drawn) {
  const Tensor whole = t.detach().reshape(Shape{t.numel()});
  const std::int64_t n = whole.numel();
  drawn = std::min(drawn, n);
  fill(context, whole.rows(0, drawn), [&](std::int64_t i) {
    return static_cast<float>(rng.normal(static_cast<std::uint64_t>(i))) * deviation;
  });
  for (std::int64_t there = drawn; there < n; there += std::min(there, n - there)) {
    const std::int64_t next = std::min(there, n - there);
    copy_bytes(context.stream(), whole.rows(0, next), whole.rows(there, there + next));
  }
}

}  // namespace

std::string layer_prefix(std::size_t layer) {
  return "model.layers." + std::to_string(layer) + ".";
}

bool ParameterSpec::may_be_in_fp8() const {
  const bool is_linear = role == Role::kAttention || role == Role::kDense || role == Role::kExpert ||
                         role == Role::kSharedExpert;
  // A matrix of one row is a gate (Qwen2-MoE's shared_expert_gate): one number for each token.
  return is_linear && !is_bias && !is_buffer && shape.rank() >= 2 && shape[shape.rank() - 2] > 1;
}

std::string_view name_of(Role role) {
  switch (role) {
    case Role::kEmbedding:
      return "embedding";
    case Role::kNorm:
      return "norms";
    case Role::kAttention:
      return "attention";
    case Role::kRouter:
      return "router";
    case Role::kExpert:
      return "experts";
    case Role::kSharedExpert:
      return "shared expert";
    case Role::kDense:
      return "dense mlp";
    case Role::kHead:
      return "lm_head";
  }
  return "";
}

ParameterCounts count_parameters(const DecoderSpec& spec, bool untied_head) {
  ParameterCounts counts;
  for (const auto& p : list_parameters(spec, untied_head)) {
    if (p.is_buffer) continue;
    const std::int64_t n = p.shape.numel();
    counts.total += n;
    counts.by_role[p.role] += n;
    counts.active += n;
    if (p.role != Role::kExpert) continue;
    for (const auto& branch : spec.layers[static_cast<std::size_t>(p.layer)].branches)
      if (const auto* moe = std::get_if<MoeSpec>(&branch.mixer))
        counts.active -= n / moe->experts * (moe->experts - moe->top_k);
  }
  return counts;
}

void ParameterList::add(const std::string& name, Shape shape, Role role) {
  list_.push_back({.name = name,
                   .shape = std::move(shape),
                   .role = role,
                   .layer = layer_,
                   .is_bias = name.find("bias") != std::string::npos});
}

void ParameterList::add_buffer(const std::string& name, Shape shape, Role role) {
  add(name, std::move(shape), role);
  list_.back().is_buffer = true;
}

void ParameterList::linear(const std::string& name, std::int64_t out, std::int64_t in, bool bias, Role role) {
  add(name + ".weight", Shape{out, in}, role);
  if (bias) add(name + ".bias", Shape{out}, role);
}

std::vector<ParameterSpec> list_parameters(const DecoderSpec& spec, bool untied_head) {
  ParameterList list(spec.hidden);
  list.add("model.embed_tokens.weight", Shape{spec.vocab, spec.hidden}, Role::kEmbedding);
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    list.set_layer(static_cast<int>(i));
    const std::string at = layer_prefix(i);
    for (const auto& branch : spec.layers[i].branches)
      std::visit([&](const auto& mixer) { list_parameters(mixer, at + branch.prefix, list); }, branch.mixer);
    for (const auto& branch : spec.layers[i].branches)
      for (const auto& norm : {branch.norm, branch.post_norm})
        if (!norm.empty()) list.add(at + norm + ".weight", Shape{spec.hidden}, Role::kNorm);
  }
  list.set_layer(-1);
  list.add("model.norm.weight", Shape{spec.hidden}, Role::kNorm);
  if (!spec.tied || untied_head) list.add("lm_head.weight", Shape{spec.vocab, spec.hidden}, Role::kHead);
  return list.take();
}

ParameterSet::ParameterSet(ops::Context& context, const std::vector<ParameterSpec>& specs, DType dtype) {
  for (const auto& spec : specs) {
    index_.emplace(spec.name, parameters_.size());
    parameters_.push_back(
        {.spec = spec,
         .value = context.empty(spec.shape, spec.is_buffer ? DType::kF32 : dtype, device::Purpose::kWeights),
         .trainable = false,
         .grad_slot = nullptr});
  }
}

const Parameter* ParameterSet::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &parameters_[found->second];
}

const Tensor& ParameterSet::value(std::string_view name) const {
  const Parameter* p = find(name);
  HONE_CHECK(p != nullptr, "no parameter {}", name);
  return p->value;
}

std::vector<std::int64_t> ParameterSet::set_trainable(const std::vector<std::string>& freeze_patterns,
                                                      DType grad_dtype) {
  const std::vector<NamePattern> patterns(freeze_patterns.begin(), freeze_patterns.end());
  std::vector<std::int64_t> frozen(patterns.size(), 0);
  for (auto& p : parameters_) {
    p.trainable = !p.spec.is_buffer;
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      if (!patterns[i].found_in(p.spec.name)) continue;
      p.trainable = false;
      ++frozen[i];
    }
    p.grad_slot = p.trainable ? ops::require_grad(p.value, grad_dtype) : nullptr;
    if (!p.trainable) p.value.set_grad_slot(nullptr);
  }
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    if (frozen[i] > 0) continue;
    fail("pattern '{}' matches no parameter{}", freeze_patterns[i], suggestion(freeze_patterns[i], names()));
  }
  return frozen;
}

void ParameterSet::multiply_in_fp8(bool on) {
  for (auto& p : parameters_) p.in_fp8 = on && p.spec.may_be_in_fp8();
}

std::vector<std::string> ParameterSet::names() const {
  std::vector<std::string> names;
  for (const auto& p : parameters_) names.push_back(p.spec.name);
  return names;
}

void ParameterSet::reset_grads() {
  for (auto& p : parameters_)
    if (p.grad_slot) p.grad_slot->reset();
}

std::int64_t ParameterSet::num_elements(bool trainable_only) const {
  std::int64_t n = 0;
  for (const auto& p : parameters_)
    if (!p.spec.is_buffer && (p.trainable || !trainable_only)) n += p.value.numel();
  return n;
}

void ParameterSet::initialize(ops::Context& context, const DecoderSpec& spec, std::uint64_t seed,
                              std::optional<std::int64_t> drawn) {
  const auto constant = [](float value) { return [value](std::int64_t) { return value; }; };
  for (const auto& p : parameters_) {
    if (p.spec.is_bias || p.spec.is_buffer) {
      fill(context, p.value, constant(0));
    } else if (p.spec.role == Role::kNorm) {
      fill(context, p.value, constant(spec.norm_unit_offset ? 0 : 1));
    } else {
      fill_normal(context, p.value, CounterRng(seed, RngPurpose::kInit, hash_name(p.spec.name)),
                  static_cast<float>(spec.initializer_range), drawn.value_or(p.value.numel()));
      if (p.spec.role == Role::kEmbedding && spec.padding_id >= 0)
        fill(context, p.value.detach().rows(spec.padding_id, spec.padding_id + 1), constant(0));
    }
  }
}

}  // namespace hone::model
