#include "model/causal_lm.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "base/error.h"
#include "base/message.h"
#include "json/node.h"
#include "model/families/family.h"
#include "tensor/transfer.h"

namespace hone::model {

namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

std::vector<hub::WantedParameter> wanted_parameters(const DecoderSpec& spec, bool untied_head) {
  std::vector<hub::WantedParameter> wanted;
  for (auto& p : list_parameters(spec, untied_head))
    wanted.push_back({std::move(p.name), std::move(p.shape), p.is_buffer});
  return wanted;
}

/// The dtype to compute in when nobody said.
DType own_dtype(const ModelDescription& description, const hub::Checkpoint& checkpoint) {
  std::optional<DType> dtype = description.config.dtype();
  if (!dtype && description.config.quantization()) dtype = DType::kBF16;
  for (const auto& tensor : checkpoint.tensors()) {
    if (dtype) break;
    const auto stored = tensor.type().dtype;
    if (stored && is_floating(*stored)) dtype = stored;
  }
  return dtype == DType::kBF16 ? DType::kBF16 : DType::kF32;
}

/// config.json with another dtype, under the key that it uses (Transformers 4: torch_dtype), for weights that
/// are not quantised.
std::string with_dtype(const hub::OtherFiles& files, DType dtype) {
  auto config = parse_json(files.content("config.json"), (files.directory() / "config.json").string());
  const bool old = config.contains("torch_dtype");
  const char* name = dtype == DType::kF32 ? "float32" : dtype == DType::kBF16 ? "bfloat16" : "float16";
  if (old) config["torch_dtype"] = name;
  if (!old || config.contains("dtype")) config["dtype"] = name;
  config.erase("quantization_config");
  config.erase("compression_config");
  return config.dump(2) + "\n";
}

}  // namespace

ModelDescription describe(const std::filesystem::path& directory) {
  auto config = hub::ModelConfig::read(directory);
  std::vector<std::string> refusals;
  if (const auto nested = config.nested_models(); !nested.empty())
    refusals.push_back(fmt::format(
        "{}: {}: model_type {} nests its language model in a larger one; only plain text models are run",
        config.file(), nested.front(), shown(config.model_type())));
  if (const auto quantised = config.quantization(); quantised && !quantised->unsupported.empty())
    refusals.push_back(fmt::format(
        "{}: {}: the weights are quantised ({}), which hone does not read (mxfp4 and fp8 it does); "
        "take the unquantised checkpoint",
        config.file(), quantised->key, quantised->unsupported));
  if (auto text = config.text_config(); text && find_family(text->model_type()) != nullptr)
    config = *std::move(text);

  DecoderSpec spec;
  if (const Family* family = find_family(config.model_type())) {
    spec = family->spec(config);
  } else {
    spec.model_type = config.model_type();
    std::vector<std::string> known;
    for (const auto& f : families()) known.push_back(f.model_type);
    spec.refusals.push_back(fmt::format("{}: model_type is {}, which hone does not know; known: {}",
                                        config.file(), shown(spec.model_type), fmt::join(known, ", ")));
  }
  spec.refusals.insert(spec.refusals.begin(), refusals.begin(), refusals.end());
  auto unknown = spec.layers.empty() ? std::vector<std::string>() : config.unread_keys();
  return {std::move(config), std::move(spec), std::move(unknown)};
}

void check_runs(const DecoderSpec& spec) {
  if (!spec.refusals.empty()) fail("{}", spec.refusals.front());
}

bool has_untied_head(const DecoderSpec& spec, const hub::Checkpoint& checkpoint) {
  return spec.tied && hub::tie_state(checkpoint, kHead, kEmbedding) == hub::TieState::kDifferent;
}

CausalLM CausalLM::open(ops::Context& context, const std::filesystem::path& directory,
                        std::optional<DType> dtype, QuantizedStorage quantized) {
  ModelDescription description = describe(directory);
  const DecoderSpec& spec = description.spec;
  check_runs(spec);
  const hub::Checkpoint checkpoint = hub::Checkpoint::open(directory);
  hub::WeightRules rules = find_family(spec.model_type)->rules(spec);
  const bool untied_head = has_untied_head(spec, checkpoint);
  if (spec.tied && !untied_head) rules.tie(kHead, kEmbedding);
  if (const auto q = description.config.quantization(); q && q->block_rows > 0)
    rules.fp8_block(q->block_rows, q->block_cols);
  hub::WeightPlan plan = rules.plan(checkpoint, wanted_parameters(spec, untied_head));
  Decoder decoder(spec, context, dtype.value_or(own_dtype(description, checkpoint)), untied_head);
  CausalLM model(std::move(description), hub::OtherFiles::list(directory), std::move(plan),
                 std::move(decoder));
  model.from_checkpoint_ = true;
  if (quantized == QuantizedStorage::kDequantize && model.plan_.has_quantized())
    model.store_quantized_as(DType::kBF16);
  return model;
}

std::optional<hub::Source> source_of(const ops::Context& context, const Tensor& value) {
  if (!value.defined()) return std::nullopt;
  auto view = std::make_shared<HostView>(context.stream(), value);
  return hub::Source{.data = view->data(), .dtype = value.dtype(), .owner = view};
}

void CausalLM::load(ops::Context& context, const LoadOptions& options) {
  const auto parameter = [&](std::size_t i) -> const Parameter& {
    return *decoder_.parameters().find(plan_.parameters()[i].name);
  };
  const auto all = static_cast<double>(decoder_.parameters().num_elements());
  double read = 0;
  struct Arriving {
    Staging value;
    std::optional<Staging> master;
  };
  std::unordered_map<std::size_t, Arriving> arriving;
  plan_.load(
      context.stream().team(),
      [&](std::size_t i) {
        const Parameter& p = parameter(i);
        const Tensor master = options.master ? options.master(p) : Tensor();
        Arriving& to =
            arriving.try_emplace(i, Arriving{Staging(context.stream(), p.value), {}}).first->second;
        if (master.defined()) to.master.emplace(context.stream(), master);
        return hub::Destination{.data = to.value.data(),
                                .dtype = p.value.dtype(),
                                .master = to.master ? reinterpret_cast<float*>(to.master->data()) : nullptr};
      },
      [&](std::size_t i) {
        Arriving& arrived = arriving.at(i);
        arrived.value.send();
        if (arrived.master) arrived.master->send();
        arriving.erase(i);
        const Parameter& p = parameter(i);
        if (!p.spec.is_buffer) read += static_cast<double>(p.value.numel());
        if (options.progress) options.progress(read / all);
      });
}

CausalLM CausalLM::from_pretrained(ops::Context& context, const std::filesystem::path& directory,
                                   const LoadOptions& options) {
  CausalLM model = open(context, directory, options.dtype, options.quantized);
  model.load(context, options);
  return model;
}

CausalLM CausalLM::from_config(ops::Context& context, const std::filesystem::path& directory, DType dtype,
                               std::uint64_t seed, std::optional<std::int64_t> drawn) {
  ModelDescription description = describe(directory);
  const DecoderSpec& spec = description.spec;
  check_runs(spec);
  hub::WeightPlan plan =
      find_family(spec.model_type)->rules(spec).fresh_plan(wanted_parameters(spec, false), dtype);
  Decoder decoder(spec, context, dtype);
  decoder.parameters().initialize(context, spec, seed, drawn);
  auto others = std::filesystem::is_directory(directory) ? hub::OtherFiles::list(directory)
                                                         : hub::OtherFiles::of_config(directory);
  return {std::move(description), std::move(others), std::move(plan), std::move(decoder)};
}

CausalLM::SaveReport CausalLM::save_pretrained(const ops::Context& context,
                                               const std::filesystem::path& target,
                                               const Values& values) const {
  hub::CheckpointWriter writer = plan_.writer(target, hub::IfExists::kMerge);
  SaveReport report;
  if (stored_as_) writer.add_file("config.json", with_dtype(other_files_, *stored_as_));
  report.kept = writer.add_files(other_files_);
  const auto own = writer.own_files();
  std::copy_if(other_files_.left_out().begin(), other_files_.left_out().end(),
               std::back_inserter(report.left_out),
               [&](const std::string& name) { return !own.contains(name); });
  auto saved = plan_.save(context.stream().team(), writer, [&](std::size_t i) -> std::optional<hub::Source> {
    const Parameter* p = decoder_.parameters().find(plan_.parameters()[i].name);
    if (values)
      if (auto given = values(*p)) return given;
    if (from_checkpoint_ && !p->trainable) return std::nullopt;
    return source_of(context, p->value);
  });
  report.overflowed = std::move(saved.overflowed);
  report.coding = std::move(saved.coding);
  writer.publish();
  return report;
}

void CausalLM::store_as(DType dtype) {
  plan_.store_as(dtype);
  stored_as_ = dtype;
}

void CausalLM::store_quantized_as(DType dtype) {
  plan_.dequantize(dtype);
  stored_as_ = dtype;
}

bool CausalLM::load_stored(ops::Context& context, const Parameter& parameter, const Tensor& target) const {
  if (!from_checkpoint_) return false;
  const std::size_t index = plan_.index_of(parameter.spec.name);
  const auto& pieces = plan_.parameters()[index].pieces;
  const bool is_exact = std::all_of(pieces.begin(), pieces.end(), [&](const hub::WeightPiece& piece) {
    return piece.source->type().dtype == parameter.value.dtype();
  });
  if (is_exact) return false;  // a bf16 checkpoint in bf16: nothing was rounded, and no byte is read twice
  Staging staging(context.stream(), target);
  plan_.load_parameter(context.stream().team(), index, {staging.data(), DType::kF32});
  staging.send();
  return true;
}

}  // namespace hone::model
