#include "model/mixers/attention.h"

#include <cmath>
#include <utility>

#include "base/error.h"
#include "model/mixers/keys_values.h"
#include "model/mixers/linear.h"
#include "model/parameters.h"
#include "ops/elementwise.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/slices.h"

namespace hone::model {

namespace {

class Attention final : public Mixer {
 public:
  Attention(const AttentionSpec& spec, const std::string& prefix, const ParameterSet& parameters,
            double norm_eps)
      : spec_(spec),
        scale_(static_cast<float>(spec.scale > 0 ? spec.scale
                                                 : 1.0 / std::sqrt(static_cast<double>(spec.head_dim)))),
        norm_eps_(static_cast<float>(norm_eps)),
        qkv_(Linear::find(parameters, prefix + ".qkv_proj")),
        q_(Linear::find(parameters, prefix + ".q_proj")),
        k_(Linear::find(parameters, prefix + ".k_proj")),
        v_(Linear::find(parameters, prefix + ".v_proj")),
        o_(Linear::find(parameters, prefix + ".o_proj")),
        q_norm_(parameters.find(prefix + ".q_norm.weight")),
        k_norm_(parameters.find(prefix + ".k_norm.weight")),
        sinks_(parameters.find(prefix + ".sinks")) {
    HONE_CHECK(spec.rope != AttentionSpec::kNoRope || spec.norm != AttentionSpec::Norm::kPerHead,
               "{}: a norm of every head goes with its rotation", prefix);
  }

  Tensor forward(ops::Context& context, const Tensor& h, const Tensor& residual, const Pass& pass,
                 std::vector<moe::RoutingStatistics>& /*statistics*/) const override {
    auto parts = split(context, h);
    const auto project = [&](std::size_t part, const Linear& linear) {
      return spec_.fused_qkv ? std::exchange(parts[part], Tensor()) : linear.apply(context, h);
    };
    const Tensor q = rotated(context, normed(context, project(0, q_), q_norm_), q_norm_, pass);
    Tensor k = rotated(context, normed(context, project(1, k_), k_norm_), k_norm_, pass);
    Tensor v = clipped(context, project(2, v_));
    const auto layout = continue_keys_values(context, *this, pass, k, v);
    ops::AttentionOptions options{.softcap = static_cast<float>(spec_.softcap)};
    if (spec_.sinks) options.sinks = sinks_->handle();
    const Tensor o = ops::attention(context, q, k, v, layout, spec_.head_dim, spec_.window, scale_, options);
    return o_.apply(context, o, residual);
  }

  std::unique_ptr<MixerState> make_state(ops::Context& context, DType dtype,
                                         std::int64_t rows) const override {
    const std::int64_t width = spec_.kv_heads * spec_.head_dim;
    return make_keys_values(context, dtype, rows, width, width);
  }

 private:
  /// Queries, keys and values of a fused projection; nothing where there is none.
  std::vector<Tensor> split(ops::Context& context, const Tensor& h) const {
    if (!spec_.fused_qkv) return {};
    const std::int64_t kv = spec_.kv_heads * spec_.head_dim;
    auto parts = ops::split_columns(context, qkv_.apply(context, h), {spec_.heads * spec_.head_dim, kv, kv});
    parts[2] =
        ops::concat_columns(context, {parts[2]});  // a view, kept for the gradient, would keep all three
    return parts;
  }
  bool norms_full_width() const { return spec_.norm == AttentionSpec::Norm::kFullWidth; }
  Tensor clipped(ops::Context& context, const Tensor& x) const {
    return spec_.clip > 0 ? ops::clamp(context, x, static_cast<float>(spec_.clip)) : x;
  }
  Tensor normed(ops::Context& context, const Tensor& x, const Parameter* norm) const {
    return clipped(context, norms_full_width()
                                ? ops::rms_norm(context, x, norm->handle(), norm_eps_, spec_.norm_unit_offset)
                                : x);
  }
  Tensor rotated(ops::Context& context, const Tensor& x, const Parameter* norm, const Pass& pass) const {
    if (spec_.rope == AttentionSpec::kNoRope) return x;
    const auto& rope = pass.ropes.at(static_cast<std::size_t>(spec_.rope));
    const ops::Weight weight = norm != nullptr && !norms_full_width() ? norm->handle() : ops::Weight();
    return ops::head_norm_rope(context, x, weight, rope.table, rope.positions, spec_.head_dim, norm_eps_,
                               {.unit_offset = spec_.norm_unit_offset});
  }

  AttentionSpec spec_;
  float scale_, norm_eps_;
  Linear qkv_, q_, k_, v_, o_;
  const Parameter* q_norm_;
  const Parameter* k_norm_;
  const Parameter* sinks_;
};

}  // namespace

void list_parameters(const AttentionSpec& spec, const std::string& prefix, ParameterList& list) {
  const std::int64_t q = spec.heads * spec.head_dim;
  const std::int64_t kv = spec.kv_heads * spec.head_dim;
  if (spec.sinks) list.add(prefix + ".sinks", Shape{spec.heads}, Role::kAttention);
  if (spec.fused_qkv) {
    list.linear(prefix + ".qkv_proj", q + 2 * kv, list.hidden(), spec.qkv_bias, Role::kAttention);
  } else {
    list.linear(prefix + ".q_proj", q, list.hidden(), spec.qkv_bias, Role::kAttention);
    list.linear(prefix + ".k_proj", kv, list.hidden(), spec.qkv_bias, Role::kAttention);
    list.linear(prefix + ".v_proj", kv, list.hidden(), spec.qkv_bias, Role::kAttention);
  }
  list.linear(prefix + ".o_proj", list.hidden(), q, spec.output_bias, Role::kAttention);
  if (spec.norm == AttentionSpec::Norm::kNone) return;
  const bool full = spec.norm == AttentionSpec::Norm::kFullWidth;
  list.add(prefix + ".q_norm.weight", Shape{full ? q : spec.head_dim}, Role::kNorm);
  list.add(prefix + ".k_norm.weight", Shape{full ? kv : spec.head_dim}, Role::kNorm);
}

std::unique_ptr<Mixer> make_mixer(const AttentionSpec& spec, const std::string& prefix,
                                  const ParameterSet& parameters, double norm_eps) {
  return std::make_unique<Attention>(spec, prefix, parameters, norm_eps);
}

}  // namespace hone::model
