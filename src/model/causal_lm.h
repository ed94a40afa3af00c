// CausalLM: a Decoder together with the Hugging Face directory it came from and goes back to.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "hub/config.h"
#include "hub/other_files.h"
#include "hub/weight_rules.h"
#include "model/decoder.h"

namespace hone::model {

/// What becomes of weights that are quantised in the checkpoint. They are computed in as values either way.
enum class QuantizedStorage {
  kDequantize,  // they are saved in bf16, and config.json has no quantization_config any more
  kKeep         // they are saved in their format: trained ones are coded again (hub/block_format.h)
};

struct LoadOptions {
  /// Compute dtype, f32 or bf16; nullopt: the checkpoint's own (config.json's dtype, else that of its first
  /// floating tensor; f16 is computed in f32).
  std::optional<DType> dtype = std::nullopt;
  /// Called after each parameter with the share of all elements that has been read, 0 to 1; or null.
  std::function<void(double share)> progress = nullptr;
  /// Where a parameter's values are to go once more, unrounded (f32, of its shape), in the same pass; null,
  /// or an undefined tensor for a parameter: nowhere.
  std::function<Tensor(const Parameter&)> master = nullptr;
  QuantizedStorage quantized = QuantizedStorage::kDequantize;  // from_pretrained()'s
};

/// What a config.json says, before any weight is opened.
struct ModelDescription {
  hub::ModelConfig config;                // of a multimodal model: its text_config, where hone knows that
  DecoderSpec spec;                       // without layers where hone does not know the family
  std::vector<std::string> unknown_keys;  // of config.json: nobody asked for them
};
/// Reads DIR/config.json (or the file itself): any, so that a model can be inspected and its memory be
/// forecast though hone does not run it; why not is in spec.refusals. Throws Error(kUser) as the families do
/// for what is missing, of the wrong type or impossible.
ModelDescription describe(const std::filesystem::path& directory);
/// Throws Error(kUser), the first of spec.refusals, where there is one. Whoever loads a model calls it.
void check_runs(const DecoderSpec& spec);

/// Whether a checkpoint holds an lm_head of its own although its config.json ties it to the embedding: such a
/// model stays untied, as in Transformers.
bool has_untied_head(const DecoderSpec& spec, const hub::Checkpoint& checkpoint);

/// A tensor's values for a save, which keeps them as long as it needs them; nullopt where it is undefined.
std::optional<hub::Source> source_of(const ops::Context& context, const Tensor& value);

class CausalLM {
 public:
  /// Opens a checkpoint directory: everything is known and allocated, and the weights not read yet; load()
  /// does that, once. Throws Error(kUser) for whatever config.json or the checkpoint's headers have wrong;
  /// tensors that hone does not compute with pass through and are in plan().passed_through().
  static CausalLM open(ops::Context& context, const std::filesystem::path& directory,
                       std::optional<DType> dtype = std::nullopt,
                       QuantizedStorage quantized = QuantizedStorage::kDequantize);
  /// Reads the weights (options.dtype and quantized are open()'s), streaming: host memory stays below the
  /// weights plus WeightPlan::kWindow. Throws Error(kUser) as WeightPlan::load.
  void load(ops::Context& context, const LoadOptions& options = {});
  /// open() and load().
  static CausalLM from_pretrained(ops::Context& context, const std::filesystem::path& directory,
                                  const LoadOptions& options = {});
  /// Random weights by config.json's initializer_range; a function of the seed alone (and of `drawn`, as in
  /// ParameterSet::initialize). Saved in the hub's layout, in `dtype`.
  static CausalLM from_config(ops::Context& context, const std::filesystem::path& directory, DType dtype,
                              std::uint64_t seed, std::optional<std::int64_t> drawn = std::nullopt);

  Decoder& decoder() { return decoder_; }
  const Decoder& decoder() const { return decoder_; }
  const DecoderSpec& spec() const { return decoder_.spec(); }
  const ModelDescription& description() const { return description_; }
  const hub::WeightPlan& plan() const { return plan_; }
  /// What lay beside the weights when the model was read.
  const hub::OtherFiles& other_files() const { return other_files_; }

  /// Where a parameter's values are taken from when saving; nullopt: Decoder's own value if it is trainable,
  /// else unchanged since it was read. The optimizer's f32 master weights come in here.
  using Values = std::function<std::optional<hub::Source>(const Parameter&)>;
  struct SaveReport {
    /// Files of the source directory that were not copied: weights in other formats.
    std::vector<std::string> left_out;
    /// Files at the target that were not replaced by the source's of that name, because they are not the
    /// model's.
    std::vector<std::string> kept;
    std::vector<std::string> overflowed;  // hub::SaveReport
    hub::SaveReport::Coding coding;
  };
  /// Writes a Hugging Face directory: every tensor under the key, layout, dtype and shard it was read from
  /// (quantised ones: see QuantizedStorage),
  /// and the other files byte for byte, as they were when the model was read: its directory may have moved or
  /// gone, or be `target` itself. An existing `target` is merged into as by Transformers' save_pretrained:
  /// files of the model are replaced, weights that they supersede removed, anything else left alone; all in
  /// one instant, so that it never holds parts of two models. Throws Error(kUser) (disk full, no permission,
  /// a tensor to copy that was rewritten since) with nothing changed.
  SaveReport save_pretrained(const ops::Context& context, const std::filesystem::path& target,
                             const Values& values = nullptr) const;

  /// From now on save_pretrained() stores every parameter as `dtype` (f32, bf16, f16), quantised ones too,
  /// and says so in config.json; tensors that hone does not compute with stay as they are.
  void store_as(DType dtype);

  /// The stored values of a parameter as f32, read into `target`, of its shape (an f32 master starts from
  /// them, not from rounded compute weights). False, and nothing read, where its value is exactly what
  /// is stored already, or there is no checkpoint.
  bool load_stored(ops::Context& context, const Parameter& parameter, const Tensor& target) const;

 private:
  CausalLM(ModelDescription description, hub::OtherFiles other_files, hub::WeightPlan plan, Decoder decoder)
      : description_(std::move(description)),
        other_files_(std::move(other_files)),
        plan_(std::move(plan)),
        decoder_(std::move(decoder)) {}

  void store_quantized_as(DType dtype);

  ModelDescription description_;
  hub::OtherFiles other_files_;
  hub::WeightPlan plan_;
  Decoder decoder_;
  bool from_checkpoint_ = false;
  std::optional<DType> stored_as_;
};

}  // namespace hone::model
