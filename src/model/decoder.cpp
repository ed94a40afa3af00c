#include "model/decoder.h"

#include <cmath>

#include "base/error.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"

namespace hone::model {

namespace {

const Tensor& value_of(const Parameter* parameter) {
  static const Tensor kNone;
  return parameter != nullptr ? parameter->value : kNone;
}

template <typename T>
Tensor on_device(ops::Context& context, const std::vector<T>& values) {
  return Tensor::from<T>(context.allocator(), values, Shape{static_cast<std::int64_t>(values.size())},
                         device::Purpose::kData);
}

void check_ids(const std::vector<std::int32_t>& ids, std::int64_t vocab, bool labels) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab) continue;
    if (labels && ids[i] == kIgnoredLabel) continue;
    fail("{} {} at token {} of the batch is outside the model's vocabulary of {}",
         labels ? "label" : "token id", ids[i], i, vocab);
  }
}

}  // namespace

Decoder::Decoder(DecoderSpec spec, ops::Context& context, DType dtype, bool untied_head)
    : spec_(std::move(spec)),
      dtype_(dtype),
      parameters_(context, list_parameters(spec_, untied_head), dtype),
      rotary_(spec_.rope) {
  resolve_parameters();
}

void Decoder::resolve_parameters() {
  embedding_ = parameters_.find("model.embed_tokens.weight");
  final_norm_ = parameters_.find("model.norm.weight");
  head_ = parameters_.find("lm_head.weight");
  if (head_ == nullptr) head_ = embedding_;
  std::int64_t attention_layers = 0;
  for (std::size_t i = 0; i < spec_.layers.size(); ++i) {
    const std::string at = "model.layers." + std::to_string(i) + ".";
    std::vector<weights::Branch> branches;
    for (const auto& branch : spec_.layers[i].branches)
      branches.push_back(resolve_branch(branch, at, attention_layers));
    layers_.push_back(std::move(branches));
  }
}

weights::Linear Decoder::find_linear(const std::string& name) const {
  return {parameters_.find(name + ".weight"), parameters_.find(name + ".bias")};
}

weights::Dense Decoder::find_dense(const std::string& at) const {
  return {find_linear(at + ".gate_proj"), find_linear(at + ".up_proj"), find_linear(at + ".down_proj")};
}

weights::Branch Decoder::resolve_branch(const BranchSpec& branch, const std::string& at,
                                        std::int64_t& attention_layers) const {
  const std::string prefix = at + branch.prefix;
  weights::Branch resolved{.norm = parameters_.find(at + branch.norm + ".weight"), .mixer = {}};
  if (const auto* a = std::get_if<AttentionSpec>(&branch.mixer)) {
    resolved.mixer = weights::Attention{.spec = *a,
                                        .q = find_linear(prefix + ".q_proj"),
                                        .k = find_linear(prefix + ".k_proj"),
                                        .v = find_linear(prefix + ".v_proj"),
                                        .o = find_linear(prefix + ".o_proj"),
                                        .q_norm = parameters_.find(prefix + ".q_norm.weight"),
                                        .k_norm = parameters_.find(prefix + ".k_norm.weight"),
                                        .cache_layer = attention_layers++};
  } else if (const auto* m = std::get_if<MoeSpec>(&branch.mixer)) {
    weights::Moe moe{.spec = *m,
                     .gate = parameters_.find(prefix + ".gate.weight"),
                     .gate_up = parameters_.find(prefix + ".experts.gate_up_proj"),
                     .down = parameters_.find(prefix + ".experts.down_proj"),
                     .shared = {},
                     .shared_gate = parameters_.find(prefix + ".shared_expert_gate.weight")};
    if (m->shared_ffn > 0) moe.shared = find_dense(prefix + ".shared_expert");
    resolved.mixer = moe;
  } else {
    resolved.mixer = find_dense(prefix);
  }
  return resolved;
}

Tensor Decoder::apply(ops::Context& context, const weights::Linear& linear, const Tensor& x) {
  return ops::linear(context, x, linear.weight->value, value_of(linear.bias));
}

Tensor Decoder::apply_residual(ops::Context& context, const weights::Linear& linear, const Tensor& x,
                               const Tensor& residual) {
  return ops::linear(context, x, linear.weight->value, value_of(linear.bias), residual, DType::kF32);
}

Tensor Decoder::run(ops::Context& context, const weights::Attention& a, const Tensor& h,
                    const Tensor& residual, const Pass& pass, std::vector<Tensor>& /*statistics*/) const {
  const auto eps = static_cast<float>(spec_.norm_eps);
  const bool full_norm = a.spec.norm == AttentionSpec::Norm::kFullWidth;
  const auto project = [&](const weights::Linear& linear, const Parameter* norm) {
    Tensor y = apply(context, linear, h);
    if (full_norm && norm != nullptr) y = ops::rms_norm(context, y, norm->value, eps);
    return a.spec.clip > 0 ? ops::clamp(context, y, static_cast<float>(a.spec.clip)) : y;
  };
  const auto rotate = [&](const Tensor& x, const Parameter* norm) {
    return ops::head_norm_rope(context, x, full_norm ? Tensor() : value_of(norm), pass.rotary.table,
                               pass.rotary.positions, a.spec.head_dim, eps);
  };
  const Tensor q = rotate(project(a.q, a.q_norm), a.q_norm);
  const Tensor k = rotate(project(a.k, a.k_norm), a.k_norm);
  const Tensor v = project(a.v, nullptr);
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(a.spec.head_dim)));
  KvCache::Held keys{k, v, pass.layout};
  if (pass.cache != nullptr) keys = pass.cache->append(context, a.cache_layer, k, v);
  const Tensor o =
      ops::attention(context, q, keys.k, keys.v, keys.layout, a.spec.head_dim, a.spec.window, scale);
  return apply_residual(context, a.o, o, residual);
}

Tensor Decoder::run(ops::Context& context, const weights::Dense& d, const Tensor& h, const Tensor& residual,
                    const Pass& /*pass*/, std::vector<Tensor>& /*statistics*/) const {
  const Tensor activation = ops::silu_mul(context, apply(context, d.gate, h), apply(context, d.up, h));
  return apply_residual(context, d.down, activation, residual);
}

Tensor Decoder::run(ops::Context& context, const weights::Moe& m, const Tensor& h, const Tensor& residual,
                    const Pass& /*pass*/, std::vector<Tensor>& statistics) const {
  const Tensor router_logits = ops::linear(context, h, m.gate->value, {}, {}, DType::kF32);
  const moe::Routing routing = moe::route(context, router_logits, m.spec.top_k, m.spec.normalize);
  statistics.push_back(routing.counts);
  statistics.push_back(routing.probability_sums);
  const Tensor y = moe::experts(context, h, m.gate_up->value, m.down->value, routing, residual);
  if (!m.shared) return y;
  const Tensor activation =
      ops::silu_mul(context, apply(context, m.shared->gate, h), apply(context, m.shared->up, h));
  const Tensor gate = ops::linear(context, h, m.shared_gate->value, {}, {}, DType::kF32);
  return ops::row_gate(context, apply(context, m.shared->down, activation), gate, y);
}

std::vector<Tensor> Decoder::run_layer(ops::Context& context, std::size_t layer, const Tensor& x,
                                       const Pass& pass) const {
  Tensor stream = x;
  std::vector<Tensor> statistics;
  for (const weights::Branch& branch : layers_[layer]) {
    const Tensor h = ops::rms_norm(context, stream, branch.norm->value, static_cast<float>(spec_.norm_eps));
    stream = std::visit([&](const auto& mixer) { return run(context, mixer, h, stream, pass, statistics); },
                        branch.mixer);
  }
  std::vector<Tensor> outputs{stream};
  outputs.insert(outputs.end(), statistics.begin(), statistics.end());
  return outputs;
}

Decoder::Pass Decoder::prepare(ops::Context& context, const TokenBatch& batch, KvCache* cache,
                               const std::vector<std::int32_t>& live) {
  Pass pass{.rotary = {}, .layout = {}, .cache = cache};
  if (cache != nullptr) {
    std::vector<std::int32_t> first;
    for (const auto s : live) first.push_back(cache->lengths().at(static_cast<std::size_t>(s)));
    cache->begin(context, live, batch.lengths);
    pass.rotary = rotary_.prepare(context, batch.lengths, first);
    return pass;
  }
  std::vector<std::int32_t> offsets{0};
  for (const auto length : batch.lengths) offsets.push_back(offsets.back() + length);
  const std::vector<std::int32_t> begins(offsets.begin(), offsets.end() - 1);
  pass.layout = {on_device(context, offsets), on_device(context, begins), on_device(context, batch.lengths)};
  pass.rotary = rotary_.prepare(context, batch.lengths);
  return pass;
}

Decoder::States Decoder::forward(ops::Context& context, const TokenBatch& batch, bool recompute,
                                 KvCache* cache, const std::vector<std::int32_t>& live) {
  check_ids(batch.ids, spec_.vocab, false);
  const Pass pass = prepare(context, batch, cache, live);
  Tensor x = ops::embedding(context, embedding_->value, on_device(context, batch.ids), spec_.padding_id);
  States states;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    std::vector<Tensor> outputs;
    if (recompute) {
      outputs =
          ops::checkpoint(context, {x}, [this, i, pass](ops::Context& c, const std::vector<Tensor>& in) {
            return run_layer(c, i, in[0], pass);
          });
    } else {
      outputs = run_layer(context, i, x, pass);
    }
    x = outputs[0];
    for (std::size_t j = 1; j + 1 < outputs.size(); j += 2) {
      moe::Routing routing;
      routing.counts = outputs[j];
      routing.probability_sums = outputs[j + 1];
      states.routings.push_back(std::move(routing));
    }
  }
  if (cache != nullptr) cache->commit();
  states.residual = std::move(x);
  return states;
}

Tensor Decoder::logits(ops::Context& context, const Tensor& residual, const Tensor& rows) {
  const Tensor chosen = rows.defined() ? ops::take_rows(context, residual, rows) : residual;
  const Tensor h = ops::rms_norm(context, chosen, final_norm_->value, static_cast<float>(spec_.norm_eps));
  return ops::linear(context, h, head_weight(), {}, {}, DType::kF32);
}

Decoder::Loss Decoder::loss(ops::Context& context, const TokenBatch& batch, const LossOptions& options) {
  HONE_CHECK(batch.labels.size() == batch.ids.size(), "a loss needs labels");
  check_ids(batch.labels, spec_.vocab, true);
  std::vector<std::int32_t> rows;
  std::vector<std::int32_t> targets;
  std::vector<float> weights;
  batch.for_each_supervised([&](std::size_t i) {  // the token before predicts it
    rows.push_back(static_cast<std::int32_t>(i) - 1);
    targets.push_back(batch.labels[i]);
    if (!batch.weights.empty()) weights.push_back(batch.weights[i]);
  });
  States states = forward(context, batch, options.recompute);
  const Tensor chosen = ops::take_rows(context, states.residual, on_device(context, rows));
  const Tensor h = ops::rms_norm(context, chosen, final_norm_->value, static_cast<float>(spec_.norm_eps));
  const auto cross_entropy = ops::linear_cross_entropy(
      context, h, head_weight(), on_device(context, targets), static_cast<float>(options.lm_scale),
      batch.weights.empty() ? Tensor() : on_device(context, weights));
  Loss loss{.total = cross_entropy.loss,
            .lm = cross_entropy.loss,
            .aux = {},
            .nll = cross_entropy.nll,
            .routings = {}};
  if (options.aux_scale != 0 && !states.routings.empty()) {
    loss.aux = moe::load_balancing_loss(context, states.routings, batch.tokens(),
                                        static_cast<float>(options.aux_scale));
    loss.total = ops::add(context, loss.lm, loss.aux);
  }
  loss.routings = std::move(states.routings);
  return loss;
}

}  // namespace hone::model
