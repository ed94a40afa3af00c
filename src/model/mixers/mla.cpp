#include "model/mixers/mla.h"

#include "model/mixers/keys_values.h"
#include "model/mixers/linear.h"
#include "model/parameters.h"
#include "ops/mla.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/slices.h"

namespace hone::model {

namespace {

/// Of the two norms in it, whatever rms_norm_eps says (Transformers builds them without it).
constexpr float kLatentEps = 1e-6F;

class Mla final : public Mixer {
 public:
  Mla(const MlaSpec& spec, const std::string& prefix, const ParameterSet& parameters)
      : spec_(spec),
        q_(Linear::find(parameters, prefix + ".q_proj")),
        q_a_(Linear::find(parameters, prefix + ".q_a_proj")),
        q_b_(Linear::find(parameters, prefix + ".q_b_proj")),
        kv_a_(Linear::find(parameters, prefix + ".kv_a_proj_with_mqa")),
        kv_b_(Linear::find(parameters, prefix + ".kv_b_proj")),
        o_(Linear::find(parameters, prefix + ".o_proj")),
        q_a_norm_(parameters.find(prefix + ".q_a_layernorm.weight")),
        kv_a_norm_(parameters.find(prefix + ".kv_a_layernorm.weight")) {}

  Tensor forward(ops::Context& context, const Tensor& h, const Tensor& residual, const Pass& pass,
                 std::vector<moe::RoutingStatistics>& /*statistics*/) const override {
    const std::int64_t head_dim = spec_.nope_dim + spec_.rope_dim;
    const Tensor q = rotated(context, queries(context, h), head_dim, spec_.nope_dim, pass);
    auto [k, v] = keys_values(context, h, pass);
    const auto layout = continue_keys_values(context, *this, pass, k, v);
    const Tensor o = ops::attention(context, q, k, v, layout, head_dim, 0, static_cast<float>(spec_.scale),
                                    {.v_head_dim = spec_.v_dim});
    return o_.apply(context, o, residual);
  }

  std::unique_ptr<MixerState> make_state(ops::Context& context, DType dtype,
                                         std::int64_t rows) const override {
    return make_keys_values(context, dtype, rows, spec_.heads * (spec_.nope_dim + spec_.rope_dim),
                            spec_.heads * spec_.v_dim);
  }

 private:
  Tensor queries(ops::Context& context, const Tensor& h) const {
    if (spec_.q_lora_rank == 0) return q_.apply(context, h);
    return q_b_.apply(context,
                      ops::rms_norm(context, q_a_.apply(context, h), q_a_norm_->handle(), kLatentEps));
  }
  ops::KeysValues keys_values(ops::Context& context, const Tensor& h, const Pass& pass) const {
    const auto parts =
        ops::split_columns(context, kv_a_.apply(context, h), {spec_.kv_lora_rank, spec_.rope_dim});
    const Tensor latent = ops::rms_norm(context, parts[0], kv_a_norm_->handle(), kLatentEps);
    const Tensor k_pe = rotated(context, parts[1], spec_.rope_dim, 0, pass);
    return ops::mla_keys_values(context, kv_b_.apply(context, latent), k_pe, spec_.heads, spec_.nope_dim);
  }
  Tensor rotated(ops::Context& context, const Tensor& x, std::int64_t head_dim, std::int64_t begin,
                 const Pass& pass) const {
    const auto& rope = pass.ropes.front();
    return ops::head_norm_rope(context, x, {}, rope.table, rope.positions, head_dim, 0,
                               {.rotary_begin = begin, .interleaved = spec_.interleaved});
  }

  MlaSpec spec_;
  Linear q_, q_a_, q_b_, kv_a_, kv_b_, o_;
  const Parameter* q_a_norm_;
  const Parameter* kv_a_norm_;
};

}  // namespace

void list_parameters(const MlaSpec& spec, const std::string& prefix, ParameterList& list) {
  const std::int64_t q = spec.heads * (spec.nope_dim + spec.rope_dim);
  if (spec.q_lora_rank == 0) {
    list.linear(prefix + ".q_proj", q, list.hidden(), false, Role::kAttention);
  } else {
    list.linear(prefix + ".q_a_proj", spec.q_lora_rank, list.hidden(), spec.bias, Role::kAttention);
    list.add(prefix + ".q_a_layernorm.weight", Shape{spec.q_lora_rank}, Role::kNorm);
    list.linear(prefix + ".q_b_proj", q, spec.q_lora_rank, false, Role::kAttention);
  }
  list.linear(prefix + ".kv_a_proj_with_mqa", spec.kv_lora_rank + spec.rope_dim, list.hidden(), spec.bias,
              Role::kAttention);
  list.add(prefix + ".kv_a_layernorm.weight", Shape{spec.kv_lora_rank}, Role::kNorm);
  list.linear(prefix + ".kv_b_proj", spec.heads * (spec.nope_dim + spec.v_dim), spec.kv_lora_rank, false,
              Role::kAttention);
  list.linear(prefix + ".o_proj", list.hidden(), spec.heads * spec.v_dim, spec.bias, Role::kAttention);
}

std::unique_ptr<Mixer> make_mixer(const MlaSpec& spec, const std::string& prefix,
                                  const ParameterSet& parameters, double /*norm_eps*/) {
  return std::make_unique<Mla>(spec, prefix, parameters);
}

}  // namespace hone::model
