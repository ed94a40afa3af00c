#include "model/decoder.h"

#include "base/error.h"
#include "ops/elementwise.h"
#include "ops/rms_norm.h"
#include "ops/rows.h"
#include "tensor/transfer.h"

namespace hone::model {

namespace {

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
      ropes_(spec_.ropes.begin(), spec_.ropes.end()) {
  resolve_parameters();
}

void Decoder::resolve_parameters() {
  embedding_ = parameters_.find("model.embed_tokens.weight");
  final_norm_ = parameters_.find("model.norm.weight");
  head_ = parameters_.find("lm_head.weight");
  if (head_ == nullptr) head_ = embedding_;
  for (std::size_t i = 0; i < spec_.layers.size(); ++i) {
    const std::string at = layer_prefix(i);
    const auto find_norm = [&](const std::string& key) {
      return key.empty() ? nullptr : parameters_.find(at + key + ".weight");
    };
    std::vector<Branch> branches;
    for (const auto& branch : spec_.layers[i].branches)
      branches.push_back({.norm = find_norm(branch.norm),
                          .post_norm = find_norm(branch.post_norm),
                          .mixer = std::visit(
                              [&](const auto& mixer) {
                                return make_mixer(mixer, at + branch.prefix, parameters_, spec_.norm_eps);
                              },
                              branch.mixer)});
    layers_.push_back(std::move(branches));
  }
}

Tensor Decoder::norm(ops::Context& context, const Tensor& x, const Parameter& weight,
                     const Tensor& residual) const {
  return ops::rms_norm(context, x, weight.handle(), static_cast<float>(spec_.norm_eps),
                       spec_.norm_unit_offset, residual);
}

void Decoder::run_layer(ops::Context& context, std::size_t layer, const Pass& pass, States& states) const {
  Tensor& stream = states.residual;
  const auto scale = static_cast<float>(spec_.residual_multiplier);
  for (const Branch& branch : layers_[layer]) {
    const Tensor h =
        branch.norm != nullptr ? norm(context, stream, *branch.norm) : ops::cast(context, stream, dtype_);
    if (branch.post_norm == nullptr && scale == 1) {  // the mixer's last product adds to the stream
      stream = branch.mixer->forward(context, h, stream, pass, states.routings);
      continue;
    }
    const Tensor y = branch.mixer->forward(context, h, {}, pass, states.routings);
    if (branch.post_norm != nullptr && scale == 1)
      stream = norm(context, y, *branch.post_norm, stream);
    else
      stream = ops::add(context, stream, branch.post_norm ? norm(context, y, *branch.post_norm) : y, scale);
  }
}

Pass Decoder::begin_pass(ops::Context& context, const TokenBatch& batch, GenerationState* state,
                         const std::vector<std::int32_t>& live) {
  check_ids(batch.ids, spec_.vocab, false);
  Pass pass{.ropes = {}, .layout = {}, .state = state};
  std::vector<std::int32_t> first;  // empty: every document begins here
  if (state != nullptr) {
    for (const auto s : live) first.push_back(state->lengths().at(static_cast<std::size_t>(s)));
    state->begin(context, live, batch.lengths);
  } else {
    pass.layout = ops::SequenceLayout::make(context, batch.lengths);
  }
  for (auto& rope : ropes_) pass.ropes.push_back(rope.prepare(context, batch.lengths, first));
  return pass;
}

Tensor Decoder::embed(ops::Context& context, const Tensor& ids) const {
  const Tensor x = ops::embedding(context, embedding_->handle(), ids, spec_.padding_id);
  const auto factor = static_cast<float>(spec_.embedding_multiplier);
  return ops::scale(context, x,
                    spec_.rounds_embedding_multiplier && dtype_ == DType::kBF16
                        ? static_cast<float>(BFloat16(factor))
                        : factor);
}

Decoder::States Decoder::run_layers(ops::Context& context, const Pass& pass, const Tensor& residual,
                                    std::size_t begin, std::size_t end, bool recompute) const {
  States states{.residual = residual, .routings = {}};
  for (std::size_t i = begin; i < end; ++i) {
    if (!recompute) {
      run_layer(context, i, pass, states);
      continue;
    }
    const auto outputs = ops::checkpoint(
        context, {states.residual}, [this, i, pass](ops::Context& c, const std::vector<Tensor>& in) {
          States layer{.residual = in[0], .routings = {}};
          run_layer(c, i, pass, layer);
          std::vector<Tensor> all{layer.residual};
          for (const auto& routing : layer.routings)
            all.insert(all.end(), {routing.counts, routing.probability_sums});
          return all;
        });
    states.residual = outputs[0];
    for (std::size_t j = 1; j < outputs.size(); j += 2)
      states.routings.push_back({.counts = outputs[j], .probability_sums = outputs[j + 1]});
  }
  return states;
}

Decoder::States Decoder::forward(ops::Context& context, const TokenBatch& batch, bool recompute,
                                 GenerationState* state, const std::vector<std::int32_t>& live) {
  const Pass pass = begin_pass(context, batch, state, live);
  States states = run_layers(context, pass, embed(context, batch), 0, layers_.size(), recompute);
  if (state != nullptr) state->commit();
  return states;
}

GenerationState Decoder::begin_generation(ops::Context& context, std::vector<std::int32_t> capacities) const {
  std::vector<const Mixer*> mixers;
  for (const auto& layer : layers_)
    for (const auto& branch : layer) mixers.push_back(branch.mixer.get());
  return {context, mixers, dtype_, std::move(capacities)};
}

ops::LogitOptions Decoder::logit_options() const {
  return {.scale = static_cast<float>(spec_.logits_multiplier),
          .softcap = static_cast<float>(spec_.logits_softcap)};
}

Tensor Decoder::logits(ops::Context& context, const Tensor& residual, const Tensor& rows) {
  const Tensor chosen = rows.defined() ? ops::take_rows(context, residual, rows) : residual;
  const Tensor h = norm(context, chosen, *final_norm_);
  return ops::head_logits(context, h, head_weight(), logit_options());
}

Decoder::LossInputs Decoder::upload(ops::Context& context, const TokenBatch& batch) {
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
  return {.pass = begin_pass(context, batch),
          .ids = context.upload(batch.ids),
          .rows = context.upload(rows),
          .targets = context.upload(targets),
          .weights = batch.weights.empty() ? Tensor() : context.upload(weights)};
}

Decoder::LossShape Decoder::LossInputs::shape() const {
  LossShape shape{.tokens = tokens(),
                  .supervised = rows.numel(),
                  .sequences = pass.layout.size(),
                  .max_queries = pass.layout.max_queries(),
                  .is_square = pass.layout.is_square(),
                  .is_weighted = weights.defined(),
                  .tables = {}};
  for (const auto& rope : pass.ropes) shape.tables.push_back(rope.table.cos.data());
  return shape;
}

void Decoder::LossInputs::take(ops::Context& context, const LossInputs& other) const {
  const auto copy = [&](const Tensor& from, const Tensor& to) {
    if (from.defined()) copy_bytes(context.stream(), from, to);
  };
  copy(other.ids, ids);
  copy(other.rows, rows);
  copy(other.targets, targets);
  copy(other.weights, weights);
  copy(other.pass.layout.q_offsets, pass.layout.q_offsets);
  copy(other.pass.layout.key_begin, pass.layout.key_begin);
  copy(other.pass.layout.key_length, pass.layout.key_length);
  for (std::size_t i = 0; i < pass.ropes.size(); ++i)
    copy(other.pass.ropes[i].positions, pass.ropes[i].positions);
}

Decoder::Loss Decoder::loss(ops::Context& context, const LossInputs& inputs,
                            const LossOptions& options) const {
  States states =
      run_layers(context, inputs.pass, embed(context, inputs.ids), 0, layers_.size(), options.recompute);
  const Tensor chosen = ops::take_rows(context, states.residual, inputs.rows);
  const Tensor h = norm(context, chosen, *final_norm_);
  const auto cross_entropy =
      ops::linear_cross_entropy(context, h, head_weight(), inputs.targets,
                                static_cast<float>(options.lm_scale), inputs.weights, logit_options());
  Loss loss{.total = cross_entropy.loss,
            .lm = cross_entropy.loss,
            .aux = {},
            .nll = cross_entropy.nll,
            .routings = {}};
  if (options.aux_scale != 0 && !states.routings.empty()) {
    loss.aux = moe::load_balancing_loss(context, states.routings, inputs.tokens(),
                                        static_cast<float>(options.aux_scale));
    loss.total = ops::add(context, loss.lm, loss.aux);
  }
  loss.routings = std::move(states.routings);
  return loss;
}

}  // namespace hone::model
