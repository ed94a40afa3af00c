#include "train/recipe_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "train/recipe_value.h"

namespace hone::train {

namespace {

/// A word with its value, and all else that is given.
struct Word {
  const YAML::Node& value;
  const Given& given;

  std::string text() const { return RecipeValue(value, "", "").text(); }
  std::string scalar() const { return value.IsScalar() ? value.Scalar() : ""; }
  std::optional<double> number() const {
    return value.IsScalar() ? decimal_number(YAML::Node(value.Scalar()))
                            : std::nullopt;  // "5e-5" in quotes as well
  }
  bool is_true() const {
    return scalar() == "true" || scalar() == "True" || scalar() == "yes" || scalar() == "on";
  }
  bool is_false() const {
    return value.IsNull() || scalar() == "false" || scalar() == "False" || scalar() == "no" ||
           scalar() == "off";
  }
  /// The first of `words` that is given as a number.
  std::optional<double> first_number(std::initializer_list<const char*> words) const {
    for (const char* word : words)
      if (const auto node = given(word))
        if (const auto number = Word{*node, given}.number()) return number;
    return std::nullopt;
  }
  double micro_batch() const {
    return first_number({"train.micro_batch", "per_device_train_batch_size", "micro_batch_size",
                         "local_batch_size", "train_micro_batch_size_per_gpu"})
        .value_or(1);
  }
  std::optional<double> accumulation() const {
    return first_number({"gradient_accumulation_steps", "grad_accum", "accumulate_grad_batches"});
  }
  std::optional<double> steps() const {
    const auto steps = first_number({"train.steps", "max_steps", "train_steps"});
    return steps && *steps > 0 ? steps : std::nullopt;
  }
};

using Meaning = std::function<std::string(const Word&)>;

/// The same value under hone's key.
Meaning same(const std::string& key) {
  return [=](const Word& w) { return key + ": " + (w.value.IsScalar() ? w.scalar() : w.text()); };
}

/// A number, also out of quotes; what is none ("auto") is shown as it stands.
Meaning number(const std::string& key) {
  return [=](const Word& w) { return w.number() ? fmt::format("{}: {}", key, *w.number()) : key + ": …"; };
}

Meaning advice(const std::string& text) {
  return [=](const Word&) { return text; };
}

/// true or false to one of two texts.
Meaning choice(const std::string& if_true, const std::string& if_false) {
  return [=](const Word& w) { return w.is_false() ? if_false : if_true; };
}

std::string micro_batch(const Word& w) {
  const auto micro = w.number();
  if (!micro) return "train.micro_batch: …, and train.global_batch for the packs of a whole step";
  const auto accumulated = w.accumulation();
  if (!accumulated && w.first_number({"train.global_batch", "global_batch_size", "train_batch_size"}))
    return fmt::format("train.micro_batch: {}", *micro);
  return fmt::format("train.micro_batch: {}, train.global_batch: {}", *micro,
                     *micro * accumulated.value_or(1));
}

std::string accumulation(const Word& w) {
  const auto steps = w.number();
  if (!steps) return "train.global_batch: …, the packs of a whole step";
  const double micro = w.micro_batch();
  return fmt::format(
      "train.global_batch: {} ({} accumulated x {} of a micro-batch; it counts packs, rows without packing)",
      *steps * micro, *steps, micro);
}

std::string warmup_ratio(const Word& w) {
  const auto ratio = w.number();
  if (!ratio) return "train.schedule.warmup: …, steps or a share of them below 1";
  const auto steps = w.steps();
  if (!steps) return fmt::format("train.schedule.warmup: {} (a share of all steps)", *ratio);
  return fmt::format("train.schedule.warmup: {} ({} of {} steps)", std::ceil(*ratio * *steps), *ratio,
                     *steps);
}

std::string min_lr(const Word& w) {
  const auto least = w.number();
  const auto full = w.first_number({"train.optimizer.lr", "learning_rate", "lr"});
  if (!least || !full || *full <= 0) return "train.schedule.min_lr_ratio: …, a share of lr";
  return fmt::format("train.schedule.min_lr_ratio: {:.6g} ({} of lr {})", *least / *full, *least, *full);
}

std::string schedule(const Word& w) {
  static const std::map<std::string, std::string> kTypes{{"linear", "linear"},
                                                         {"cosine", "cosine"},
                                                         {"cosine_with_min_lr", "cosine, with min_lr_ratio"},
                                                         {"constant", "constant"},
                                                         {"constant_with_warmup", "constant, with warmup"},
                                                         {"warmup_stable_decay", "wsd"},
                                                         {"wsd", "wsd"}};
  const auto found = kTypes.find(w.scalar());
  return found == kTypes.end() ? "train.schedule.type: constant, linear, cosine or wsd"
                               : "train.schedule.type: " + found->second;
}

std::string dtype(const Word& w) {
  const std::string name = w.scalar().substr(w.scalar().rfind('.') + 1);  // torch.bfloat16
  if (name == "bfloat16" || name == "bf16") return "model.dtype: bf16";
  if (name == "float32" || name == "fp32") return "model.dtype: f32";
  if (name == "float16" || name == "fp16" || name == "half")
    return "model.dtype: bf16 or f32 (f16 is read and written, not computed in)";
  return "model.dtype: auto, f32 or bf16";
}

std::string optimizer(const Word& w) {
  const std::string name = w.scalar();
  const bool paged = name.starts_with("paged") || name == "CPUOffloadOptimizer";  // bitsandbytes, torchao
  if (name.find("8bit") != std::string::npos)
    return paged ? "train.optimizer: {type: adamw, state: 8bit, offload: host}"
                 : "train.optimizer: {type: adamw, state: 8bit}";
  if (paged) return "train.optimizer: {type: adamw, offload: host}";
  if (name.starts_with("adamw")) return "train.optimizer.type: adamw";
  if (name == "sgd") return "train.optimizer.type: sgd";
  return "train.optimizer.type: adamw or sgd";
}

/// true, "cpu", or DeepSpeed's {device: cpu}.
std::string offload(const Word& w) {
  const bool is_map = w.value.IsMap() && w.value["device"];
  const std::string device = is_map && w.value["device"].IsScalar() ? w.value["device"].Scalar() : w.scalar();
  if (device == "none" || (!w.value.IsMap() && w.is_false())) return "train.optimizer.offload: none";
  if (device == "nvme") return "train.optimizer.offload: host (memory; hone offloads to no disk)";
  return "train.optimizer.offload: host";
}

std::string clip(const Word& w) {
  const auto norm = w.number();
  return w.is_false() || (norm && *norm <= 0) ? "train.clip: null" : number("train.clip")(w);
}

std::string steps(const Word& w) {
  const auto number = w.number();
  if (number && *number <= 0) return "train.epochs: … (leave train.steps out)";
  return same("train.steps")(w);
}

/// save_steps: 500 of Transformers, or a share of all steps.
Meaning every(const std::string& key) {
  return [=](const Word& w) {
    const auto number = w.number();
    if (!number || *number <= 0) return key + ": …, in steps";
    if (*number >= 1) return fmt::format("{}: {}", key, *number);
    const auto all = w.steps();
    return all ? fmt::format("{}: {} ({} of {} steps)", key, std::ceil(*number * *all), *number, *all)
               : key + ": …, in steps";
  };
}

Meaning strategy(const std::string& key, const std::string& if_no) {
  return [=](const Word& w) {
    if (w.is_false()) return if_no;
    if (w.scalar() == "epoch") return key + ": the steps of an epoch (the start card says how many)";
    return key + ": …, in steps";
  };
}

/// A path, or axolotl's list of {path, type}.
std::string data(const Word& w) {
  if (w.value.IsScalar()) return "data.train: " + w.text();
  if (w.value.IsSequence() && w.value.size() > 0) {
    const auto first = *w.value.begin();
    if (first.IsScalar()) return "data.train: " + first.Scalar();
    if (first.IsMap())
      for (const char* key : {"path", "data_files", "name"})
        if (first[key] && first[key].IsScalar()) return "data.train: " + first[key].Scalar();
  }
  if (w.value.IsMap())
    for (const char* key : {"path_or_dataset", "path_or_dataset_id", "path", "data_files"})
      if (w.value[key] && w.value[key].IsScalar()) return "data.train: " + w.value[key].Scalar();
  return "data.train: a file of rows, a glob or a directory";
}

std::string held_out(const Word& w) {
  const auto share = w.number();
  if (share && *share > 0 && *share < 1) return fmt::format("data.eval: {:.6g}%", 100 * *share);
  return "data.eval: a file of rows";
}

std::string betas(const Word& w) {
  const double first = w.first_number({"adam_beta1", "beta1"}).value_or(0.9);
  const double second = w.first_number({"adam_beta2", "beta2"}).value_or(0.999);
  return fmt::format("train.optimizer.betas: [{}, {}]", first, second);
}

std::string patience(const Word& w) {
  return w.number() ? fmt::format("train.early_stopping: {{patience: {}}}", *w.number())
                    : "train.early_stopping";
}

std::string half(const Word& w) {
  return w.is_false() ? "model.dtype: auto (or leave it out)"
                      : "model.dtype: bf16 or f32 (f16 is read and written, not computed in)";
}

/// true, or a tool's own word for the scaling: Transformer Engine's, torchao's, accelerate's. hone has blocks
/// alone.
std::string fp8(const Word& w) {
  if (w.is_false() || w.scalar() == "none" || w.scalar() == "null")
    return "train.fp8: none (or leave it out)";
  const bool other = w.value.IsScalar() && w.scalar() != "block" && w.scalar() != "blockwise" && !w.is_true();
  return other ? "train.fp8: block (scales of blocks of 128; hone has no other)" : "train.fp8: block";
}

/// accelerate's and Lightning's word.
std::string precision(const Word& w) {
  const std::string name = w.scalar();
  if (name == "fp8" || name == "transformer-engine") return "model.dtype: bf16, train.fp8: block";
  if (name == "no" || name == "32" || name == "32-true" || name == "fp32") return "model.dtype: f32";
  if (name.starts_with("bf16")) return "model.dtype: bf16";
  return "model.dtype: bf16 or f32 (f16 is read and written, not computed in)";
}

std::string finetuning(const Word& w) {
  return w.scalar() == "full" ? "method.type: full (or leave it out)"
                              : "method.type: full; hone has no adapters yet";
}

const std::map<std::string, Meaning>& words() {
  const Meaning nothing = advice("nothing to set: leave it out");
  const Meaning no_adapters = advice("nothing yet: hone has no adapters; method.type is full");
  const Meaning own_template = advice("nothing to set: the model's own chat template is used");
  const Meaning masked = advice("nothing to set: what the assistant wrote is learnt from, prompts are not");
  const Meaning recompute = choice("train.recompute: block", "train.recompute: none");
  static const std::map<std::string, Meaning> kWords{
      // model
      {"model_name_or_path", same("model.path")},
      {"model_name", same("model.path")},
      {"base_model", same("model.path")},
      {"model_id", same("model.path")},
      {"pretrained_model_name_or_path", same("model.path")},
      {"torch_dtype", dtype},
      {"bf16", choice("model.dtype: bf16", "model.dtype: auto (or leave it out)")},
      {"pure_bf16", choice("model.dtype: bf16", "model.dtype: auto (or leave it out)")},
      {"fp16", half},
      {"mixed_precision", precision},
      {"fp8", fp8},
      {"fp8_recipe", fp8},
      {"fp8_format", fp8},
      {"fp8_config", fp8},
      {"te_fp8", fp8},
      {"enable_fp8", fp8},
      {"use_cpu", choice("device: cpu", "device: cuda")},
      {"no_cuda", choice("device: cpu", "device: cuda")},
      {"device_map", advice("device: cpu, cuda or cuda:N")},
      {"tf32", nothing},
      {"attn_implementation", nothing},
      {"flash_attention", nothing},
      {"flash_attn", nothing},
      {"trust_remote_code", nothing},
      {"load_in_4bit", advice("nothing yet: hone quantises no weights")},
      {"load_in_8bit", advice("nothing yet: hone quantises no weights")},
      // data
      {"max_length", same("data.seq_len")},
      {"max_seq_length", same("data.seq_len")},
      {"max_seq_len", same("data.seq_len")},
      {"seq_length", same("data.seq_len")},
      {"sequence_len", same("data.seq_len")},
      {"sequence_length", same("data.seq_len")},
      {"cutoff_len", same("data.seq_len")},
      {"block_size", same("data.seq_len")},
      {"packed_sequence_size", same("data.seq_len")},
      {"model_max_length", same("data.seq_len")},
      {"sample_packing", same("data.packing")},
      {"neat_packing", same("data.packing")},
      {"pad_to_sequence_len", nothing},
      {"dataset", data},
      {"datasets", data},
      {"dataset_name", data},
      {"dataset_path", data},
      {"data_path", data},
      {"data_files", data},
      {"train_file", data},
      {"train_data", data},
      {"validation_file", same("data.eval")},
      {"eval_dataset", same("data.eval")},
      {"test_datasets", advice("data.eval: a file of rows")},
      {"val_set_size", held_out},
      {"val_size", held_out},
      {"template", own_template},
      {"chat_template", own_template},
      {"train_on_inputs", masked},
      {"completion_only_loss", masked},
      {"assistant_only_loss", masked},
      {"mask_prompt", masked},
      {"dataloader_num_workers", nothing},
      {"preprocessing_num_workers", nothing},
      {"dataset_num_proc", nothing},
      {"remove_unused_columns", nothing},
      {"group_by_length", advice("data.packing: true (what packing saves, grouping cannot)")},
      // lengths and batches
      {"num_train_epochs", number("train.epochs")},
      {"num_epochs", number("train.epochs")},
      {"max_epochs", number("train.epochs")},
      {"max_steps", steps},
      {"train_steps", steps},
      {"per_device_train_batch_size", micro_batch},
      {"train_micro_batch_size_per_gpu", micro_batch},
      {"micro_batch_size", micro_batch},
      {"local_batch_size", micro_batch},
      {"batch_size", number("train.global_batch")},
      {"global_batch_size", number("train.global_batch")},
      {"train_batch_size", number("train.global_batch")},
      {"gradient_accumulation_steps", accumulation},
      {"accumulate_grad_batches", accumulation},
      {"grad_accum", accumulation},
      {"per_device_eval_batch_size",
       advice("nothing to set: evaluation takes seq_len x micro_batch tokens at once")},
      {"eval_batch_size", advice("nothing to set: evaluation takes seq_len x micro_batch tokens at once")},
      // optimizer and schedule
      {"learning_rate", number("train.optimizer.lr")},
      {"lr", number("train.optimizer.lr")},
      {"optim", optimizer},
      {"optimizer", optimizer},
      {"offload_optimizer", offload},
      {"offload_optimizer_device", offload},
      {"optimizer_cpu_offload", offload},
      {"cpu_offload", offload},
      {"adam_offload", offload},
      {"fsdp_offload_params", offload},
      {"fsdp_cpu_offload", offload},
      {"offload_params", offload},
      {"offload_param", advice("nothing yet: weights stay on the card; train.optimizer.offload: host")},
      {"weight_decay", number("train.optimizer.weight_decay")},
      {"adam_beta1", betas},
      {"adam_beta2", betas},
      {"beta1", betas},
      {"beta2", betas},
      {"adam_epsilon", number("train.optimizer.eps")},
      {"epsilon", number("train.optimizer.eps")},
      {"lr_scheduler_type", schedule},
      {"lr_scheduler", schedule},
      {"lr_decay_style", schedule},
      {"scheduler", schedule},
      {"warmup_steps", number("train.schedule.warmup")},
      {"lr_warmup_steps", number("train.schedule.warmup")},
      {"num_warmup_steps", number("train.schedule.warmup")},
      {"warmup_ratio", warmup_ratio},
      {"warmup_fraction", warmup_ratio},
      {"min_lr", min_lr},
      {"min_lr_rate", number("train.schedule.min_lr_ratio")},
      {"cosine_min_lr_ratio", number("train.schedule.min_lr_ratio")},
      {"max_grad_norm", clip},
      {"clip_grad_norm", clip},
      {"clip_grad", clip},
      {"gradient_clipping", clip},
      {"max_norm", clip},
      {"gradient_checkpointing", recompute},
      {"activation_checkpointing", recompute},
      {"disable_gradient_checkpointing", choice("train.recompute: none", "train.recompute: block")},
      {"router_aux_loss_coef", number("train.aux_coef")},
      {"data_seed", number("train.seed")},
      // saving, evaluating, watching
      {"save_steps", every("train.checkpoint_every")},
      {"ckpt_every_steps", every("train.checkpoint_every")},
      {"save_every_n_steps", every("train.checkpoint_every")},
      {"save_strategy", strategy("train.checkpoint_every", "train.checkpoint_every: 0")},
      {"saves_per_epoch", advice("train.checkpoint_every: …, in steps")},
      {"save_total_limit", number("train.keep_last")},
      {"eval_steps", every("train.eval_every")},
      {"val_every_steps", every("train.eval_every")},
      {"evals_per_epoch", advice("train.eval_every: …, in steps")},
      {"eval_strategy", strategy("train.eval_every", "train.eval_every: 0, or no data.eval")},
      {"evaluation_strategy", strategy("train.eval_every", "train.eval_every: 0, or no data.eval")},
      {"load_best_model_at_end", choice("train.load_best: true", "train.load_best: false")},
      {"early_stopping_patience", patience},
      {"logging_steps", advice("nothing to set: every step is logged")},
      {"log_every_n_steps", advice("nothing to set: every step is logged")},
      {"logging_strategy", advice("nothing to set: every step is logged")},
      {"logging_dir", advice("output: the run's directory, where the logs go too")},
      {"output_dir", same("output")},
      {"checkpoint_dir", same("output")},
      {"save_dir", same("output")},
      {"overwrite_output_dir",
       advice("nothing to set: the same command continues a run, another output begins one")},
      {"resume_from_checkpoint", advice("nothing to set: the same command continues a run")},
      {"auto_resume_from_checkpoints", advice("nothing to set: the same command continues a run")},
      // methods and machines
      {"finetuning_type", finetuning},
      {"stage", nothing},
      {"do_train", nothing},
      {"do_eval", nothing},
      {"adapter", no_adapters},
      {"use_peft", no_adapters},
      {"peft", no_adapters},
      {"lora_r", no_adapters},
      {"lora_rank", no_adapters},
      {"lora_alpha", no_adapters},
      {"lora_dropout", no_adapters},
      {"lora_target", no_adapters},
      {"lora_target_modules", no_adapters},
      {"deepspeed", advice("nothing yet: one process on one device")},
      {"fsdp", advice("nothing yet: one process on one device")},
      {"distributed", advice("nothing yet: one process on one device")},
      {"ddp_timeout", advice("nothing yet: one process on one device")},
      {"nproc_per_node", advice("nothing yet: one process; train.threads")},
      {"num_threads", number("train.threads")},
      {"_target_", nothing},
  };
  return kWords;
}

}  // namespace

std::string meaning_of(const std::string& word, const YAML::Node& value, const Given& given) {
  std::string name = word;
  std::replace(name.begin(), name.end(), '-', '_');
  const auto found = words().find(name);
  if (!value.IsMap() || name == "dataset") return found == words().end() ? "" : found->second({value, given});
  std::string text;
  int count = 0;
  for (const auto& entry : value) {
    const std::string part =
        entry.first.IsScalar() && !entry.second.IsMap() && entry.first.Scalar() != "_target_"
            ? meaning_of(entry.first.Scalar(), entry.second, given)
            : "";
    if (part.empty() || ++count > 4) continue;
    text += (text.empty() ? "" : ", ") + part;
  }
  return text.empty() && found != words().end() ? found->second({value, given}) : text;
}

}  // namespace hone::train
