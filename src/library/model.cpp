// hone::AutoModelForCausalLM, hone::ModelOutput and hone::AdamW over the rooms model and train.
#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/suggest.h"
#include "data/weights.h"
#include "hub/hub_cache.h"
#include "library/impl.h"
#include "model/generate.h"
#include "tensor/transfer.h"

namespace hone {

namespace {

std::vector<float> floats_of(const ops::Context& context, const Tensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.numel()));
  convert(tensor.dtype(), HostView(context.stream(), tensor).data(), DType::kF32, values.data(),
          values.size());
  return values;
}

}  // namespace

bool is_user_error(const std::exception& error) {
  const auto* own = dynamic_cast<const Error*>(&error);
  return own != nullptr && own->kind() == ErrorKind::kUser;
}

AutoModelForCausalLM::Impl::Impl(const LoadOptions& options)
    : context(options.device.empty() ? device::default_device() : device::parse_device(options.device),
              options.threads) {}

void AutoModelForCausalLM::Impl::make_trainable() {
  if (is_trainable) return;
  // A user's loop may add up several batches before a step, so gradients are f32.
  model->decoder().parameters().set_trainable(freeze_patterns, DType::kF32);
  is_trainable = true;
}

AutoModelForCausalLM AutoModelForCausalLM::from_pretrained(const std::string& name,
                                                           const LoadOptions& options) {
  const std::filesystem::path directory = hub::resolve_model(name);
  model::LoadOptions load;
  if (options.dtype != "auto") {
    load.dtype = parse_dtype(options.dtype);
    if (load.dtype != DType::kF32 && load.dtype != DType::kBF16)
      fail("dtype is '{}'; known: f32, bf16, auto", options.dtype);
  }
  if (options.quantized != "dequantize" && options.quantized != "keep")
    fail("quantized is '{}'; known: dequantize, keep", options.quantized);
  if (options.quantized == "keep") load.quantized = model::QuantizedStorage::kKeep;
  AutoModelForCausalLM model;
  model.impl_ = std::make_shared<Impl>(options);
  model.impl_->model = model::CausalLM::from_pretrained(model.impl_->context, directory, load);
  if (std::filesystem::exists(directory / "tokenizer.json"))
    model.impl_->eos_ids = text::PretrainedTokenizer::from_pretrained(directory).eos_token_ids();
  return model;
}

void AutoModelForCausalLM::train(bool mode) {
  if (mode) impl_->make_trainable();
  impl_->training_mode = mode;
}

void AutoModelForCausalLM::freeze(const std::vector<std::string>& patterns) {
  if (impl_->is_trainable)
    fail("freeze() comes after train() or an optimizer; call it right after from_pretrained()");
  impl_->freeze_patterns = patterns;
}

ModelOutput AutoModelForCausalLM::forward(const Batch& batch) {
  if (batch.rows.empty()) fail("a batch without rows");
  model::TokenBatch tokens;
  const bool has_labels = !batch.rows.front().labels.empty();
  for (std::size_t i = 0; i < batch.rows.size(); ++i) {
    const Example& row = batch.rows[i];
    if (row.input_ids.empty()) fail("row {} of the batch has no input_ids", i);
    model::check_context(impl_->model->spec(), static_cast<std::int64_t>(row.input_ids.size()),
                         fmt::format("row {} of the batch: {} tokens", i, row.input_ids.size()));
    if (row.labels.size() != (has_labels ? row.input_ids.size() : 0))
      fail("row {} of the batch has {} labels for {} input_ids", i, row.labels.size(), row.input_ids.size());
    if (!row.loss_weights.empty() && row.loss_weights.size() != row.labels.size())
      fail("row {} of the batch has {} loss_weights for {} labels", i, row.loss_weights.size(),
           row.labels.size());
    for (std::size_t j = 0; j < row.loss_weights.size(); ++j)
      data::check_weight(static_cast<double>(row.loss_weights[j]),
                         fmt::format("row {} of the batch: loss_weights[{}]", i, j));
    tokens.add(row.input_ids, row.labels, row.loss_weights);
  }
  auto& decoder = impl_->model->decoder();
  const auto& spec = decoder.spec();
  ModelOutput output;
  output.vocab_size = spec.vocab;
  if (!has_labels) {
    const ops::TapeScope no_gradients(impl_->context, nullptr);
    const HostCopy logits(impl_->context.stream(),
                          decoder.logits(impl_->context, decoder.forward(impl_->context, tokens).residual));
    output.logits.assign(logits.values<float>().begin(), logits.values<float>().end());
    return output;
  }
  const double own = tokens.loss_weight();
  const double items = batch.loss_weight_in_batch > 0 ? batch.loss_weight_in_batch
                       : batch.num_items_in_batch > 0 ? static_cast<double>(batch.num_items_in_batch)
                                                      : own;
  if (items == 0) fail("no label of the batch is supervised: there is no loss");
  auto impl = std::make_shared<ModelOutput::Impl>();
  impl->model = impl_;
  const ops::TapeScope recording(impl_->context, impl_->training_mode ? &impl->tape : nullptr);
  const double share = own / items;
  const auto computed = decoder.loss(
      impl_->context, tokens,
      {.lm_scale = 1.0 / items, .aux_scale = spec.output_router_logits ? spec.aux_coefficient * share : 0.0});
  output.loss = HostCopy(impl_->context.stream(), computed.total).values<float>().front();
  if (impl_->training_mode) {
    impl->loss = computed.total;
    output.impl_ = std::move(impl);
  }
  return output;
}

void ModelOutput::backward() {
  if (!impl_ || !impl_->loss.defined())
    fail("backward() needs the output of a forward pass with labels in training mode (model.train()), once");
  const Tensor differentiated = std::exchange(impl_->loss, Tensor());
  impl_->tape.backward(impl_->model->context, differentiated);
}

std::vector<std::int32_t> AutoModelForCausalLM::generate(const std::vector<std::int32_t>& input_ids,
                                                         const GenerateOptions& options) {
  return model::generate(impl_->context, impl_->model->decoder(), {input_ids},
                         {.max_new_tokens = options.max_new_tokens,
                          .temperature = options.temperature,
                          .top_k = options.top_k,
                          .top_p = options.top_p,
                          .seed = options.seed,
                          .stop_ids = options.eos_token_id.empty() ? impl_->eos_ids : options.eos_token_id})
      .at(0);
}

void AutoModelForCausalLM::save_pretrained(const std::string& directory) const {
  ops::Context& context = impl_->context;
  impl_->model->save_pretrained(context, directory, [&](const model::Parameter& p) {
    Tensor value = impl_->optimizer != nullptr ? impl_->optimizer->master_of(p) : Tensor();
    if (!value.defined() && impl_->overwritten.contains(p.spec.name)) value = p.value;
    return model::source_of(context, value);
  });
}

std::int64_t AutoModelForCausalLM::num_parameters(bool only_trainable) const {
  return impl_->model->decoder().parameters().num_elements(only_trainable);
}

const model::Parameter& AutoModelForCausalLM::Impl::parameter(const std::string& name) const {
  const auto& parameters = model->decoder().parameters();
  const auto* found = parameters.find(name);
  if (found == nullptr) fail("the model has no parameter '{}'{}", name, suggestion(name, parameters.names()));
  return *found;
}

std::vector<NamedParameter> AutoModelForCausalLM::named_parameters() const {
  std::vector<NamedParameter> result;
  for (const auto& p : impl_->model->decoder().parameters().all())
    result.push_back({p.spec.name,
                      {p.spec.shape.dims().begin(), p.spec.shape.dims().end()},
                      std::string(name_of(p.value.dtype())),
                      p.trainable});
  return result;
}

std::vector<float> AutoModelForCausalLM::get_parameter(const std::string& name) const {
  const auto& p = impl_->parameter(name);
  const Tensor master = impl_->optimizer != nullptr ? impl_->optimizer->master_of(p) : Tensor();
  return floats_of(impl_->context, master.defined() ? master : p.value);
}

std::vector<float> AutoModelForCausalLM::get_gradient(const std::string& name) const {
  const auto& p = impl_->parameter(name);
  const Tensor grad = p.grad_slot ? p.grad_slot->grad() : Tensor();
  return grad.defined() ? floats_of(impl_->context, grad) : std::vector<float>();
}

void AutoModelForCausalLM::set_parameter(const std::string& name, std::span<const float> values) {
  const auto& p = impl_->parameter(name);
  if (static_cast<std::int64_t>(values.size()) != p.value.numel())
    fail("set_parameter: {} has {} elements, not {}", name, p.value.numel(), values.size());
  Staging staging(impl_->context.stream(), p.value);
  convert(DType::kF32, values.data(), p.value.dtype(), staging.data(), values.size());
  staging.send();
  impl_->overwritten.insert(name);
  if (impl_->optimizer == nullptr) return;
  if (const Tensor master = impl_->optimizer->separate_master(p); master.defined()) {
    Staging whole(impl_->context.stream(), master);
    std::memcpy(whole.data(), values.data(), values.size_bytes());
    whole.send();
  }
}

AdamW::AdamW(AutoModelForCausalLM& model, const AdamWOptions& options) {
  model.impl_->make_trainable();
  train::OptimizerOptions adamw{.beta1 = options.beta1,
                                .beta2 = options.beta2,
                                .eps = options.eps,
                                .weight_decay = options.weight_decay};
  for (const auto& group : options.groups)
    adamw.groups.push_back(
        {.match = group.match, .rate_scale = group.lr_scale, .weight_decay = group.weight_decay});
  impl_ = std::shared_ptr<Impl>(
      new Impl{model.impl_, options, train::Optimizer(model.impl_->context, *model.impl_->model, adamw)});
  model.impl_->optimizer = &impl_->optimizer;
}

double AdamW::step() {
  auto& model = *impl_->model;
  auto& parameters = model.model->decoder().parameters();
  if (std::exchange(model.dropped_output, false)) {
    parameters.reset_grads();
    fail(
        "the output of a forward pass in training mode was dropped without backward(): its gradients are "
        "incomplete; "
        "call model.eval() for passes that are not learnt from");
  }
  const auto result = impl_->optimizer.step(model.context, impl_->options.lr, impl_->options.max_grad_norm);
  parameters.reset_grads();
  return result.grad_norm;
}

void AdamW::set_lr(double lr) {
  impl_->options.lr = lr;
}

}  // namespace hone
