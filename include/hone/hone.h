// hone as a library: Transformers' words in C++. A checkpoint directory in, training steps, a checkpoint
// directory out.
//
//   auto tokenizer = hone::AutoTokenizer::from_pretrained(dir);
//   auto model     = hone::AutoModelForCausalLM::from_pretrained(dir, {.dtype = "bf16"});
//   hone::AdamW optimizer(model, {.lr = 1e-5});
//   model.train();
//   auto output = model.forward(batch);   // output.loss
//   output.backward();
//   optimizer.step();
//   model.save_pretrained("out");
//
// Or a whole run, as `hone train` does it, with checkpoints, evaluations and a report: hone::Trainer.
//
// Every function throws std::runtime_error, whose what() is one line: what is wrong, where, and the fix.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hone {

/// Whose an error is that a function of this library threw: true where the caller can mend it (a file, an
/// argument, a full disk), false for a fault of hone's own.
bool is_user_error(const std::exception& error);

/// One message of a chat. For tool calls and other keys use the JSON forms below.
struct Message {
  std::string role;
  std::string content;
};

struct ChatTemplateOptions {
  bool add_generation_prompt = false;
  std::string tools_json = {};   // a JSON array, or empty
  std::string kwargs_json = {};  // a JSON object of further template variables (enable_thinking …), or empty
};

/// Token ids, and labels aligned with them: -100 where not learnt from (the model shifts them).
struct Example {
  std::vector<std::int32_t> input_ids;
  std::vector<std::int32_t> labels;
  std::vector<float> loss_weights = {};  // aligned with labels: what each counts in the loss, 0: not learnt
                                         // from; empty: all 1
};

/// tokenizer.json, its configuration and chat template. Cheap to copy.
class AutoTokenizer {
 public:
  static AutoTokenizer from_pretrained(const std::string& directory);

  /// As tokenizer(text) in Transformers.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens = true) const;
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens = false) const;
  /// The chat as text.
  std::string apply_chat_template(const std::vector<Message>& messages,
                                  const ChatTemplateOptions& options = {}) const;
  std::string apply_chat_template(const std::string& messages_json,
                                  const ChatTemplateOptions& options = {}) const;
  /// The chat as a training example: assistant turns are learnt from after their header through their
  /// end-of-turn token.
  Example encode_chat(const std::vector<Message>& messages) const;
  /// A row of a dataset, as `hone train` reads it: {"messages": …}, {"prompt", "completion"}, {"text"},
  /// {"input_ids", "labels"} ….
  Example encode_row(const std::string& row_json) const;

  std::int64_t vocab_size() const;
  std::vector<std::int32_t> eos_token_ids() const;

 private:
  friend class AutoModelForCausalLM;
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

/// Rows of a batch, of any lengths; no padding. Rows never see each other.
struct Batch {
  std::vector<Example> rows;
  /// Supervised labels that the loss is divided by; 0: this batch's own. Set it to the whole step's count
  /// when a step has several batches. The auxiliary loss counts by this batch's share of them, so that the
  /// batches of a step add up to one.
  std::int64_t num_items_in_batch = 0;
  /// The same where rows have weights: the sum of those of the whole step's supervised labels, which the
  /// weighted loss is divided by. 0: num_items_in_batch, or this batch's own.
  double loss_weight_in_batch = 0;
};

/// What a forward pass returns. In training mode it holds what its gradient needs until backward().
class ModelOutput {
 public:
  /// Loss with the auxiliary loss where the config asks for it; 0 for a batch without labels.
  float loss = 0;
  /// (rows * length, vocab) f32, row by row; empty for a batch with labels (all logits are never made then).
  std::vector<float> logits;
  std::int64_t vocab_size = 0;

  /// Adds this batch's gradients to the model's. Only for the output of a forward pass in training mode with
  /// labels, once. Such an output must not be dropped without it: the head's gradient is made together with
  /// the loss, and the next step() would throw.
  void backward();

 private:
  friend class AutoModelForCausalLM;
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

struct LoadOptions {
  std::string dtype = "auto";  // "f32", "bf16", "auto": the checkpoint's own
  std::string device = {};     // "cpu", "cuda", "cuda:N" (an NVIDIA card); "": HONE_DEVICE, else cpu
  int threads = 0;             // 0: one per core
  /// What save_pretrained() makes of weights that are quantised in the checkpoint (mxfp4, fp8): "dequantize":
  /// bf16, without quantization_config; "keep": their own format, those that were trained coded again.
  std::string quantized = "dequantize";
};

struct GenerateOptions {
  std::int64_t max_new_tokens = 256;
  double temperature = 0;  // 0: greedy
  std::int64_t top_k = 0;
  double top_p = 1;
  std::uint64_t seed = 0;
  std::vector<std::int32_t> eos_token_id = {};  // empty: generation_config.json's
};

/// A parameter, by its name in Transformers.
struct NamedParameter {
  std::string name;
  std::vector<std::int64_t> shape;
  std::string dtype;           // it is computed with: "f32" or "bf16"
  bool requires_grad = false;  // it is trained
};

/// A causal language model. A handle: copies are the same model.
class AutoModelForCausalLM {
 public:
  /// A directory, or a name of the Hugging Face hub that is in the local cache ("Qwen/Qwen3-0.6B",
  /// "…@REVISION"). Throws for a config.json or a checkpoint that hone cannot load, naming key, file and the
  /// fix.
  static AutoModelForCausalLM from_pretrained(const std::string& directory, const LoadOptions& options = {});

  /// Training mode records for backward(); evaluation mode, in which a model starts as in Transformers, does
  /// not.
  void train(bool mode = true);
  void eval() { train(false); }

  /// With labels: the loss. Without: the logits.
  ModelOutput forward(const Batch& batch);
  /// The new tokens.
  std::vector<std::int32_t> generate(const std::vector<std::int32_t>& input_ids,
                                     const GenerateOptions& options = {});
  /// A Hugging Face directory, whole or not at all; tensors under the keys, layout, dtypes and shards they
  /// were read from.
  void save_pretrained(const std::string& directory) const;
  std::int64_t num_parameters(bool only_trainable = false) const;

  /// In Transformers' order; a tied lm_head has none of its own.
  std::vector<NamedParameter> named_parameters() const;
  /// A copy of a parameter's values, row-major: the f32 master where an optimizer keeps one. Throws for a
  /// name that is none.
  std::vector<float> get_parameter(const std::string& name) const;
  /// A copy of the gradient gathered since the last step(); empty where none has arrived.
  std::vector<float> get_gradient(const std::string& name) const;
  /// Overwrites a parameter's values, and its master's; save_pretrained() then writes them, also where it is
  /// not trained. Throws where there are not as many.
  void set_parameter(const std::string& name, std::span<const float> values);
  /// Leaves parameters out of training whose names match (regular expressions). Call before an optimizer is
  /// made.
  void freeze(const std::vector<std::string>& patterns);

 private:
  friend class AdamW;
  friend class ModelOutput;
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// Parameters with a learning rate or a decay of their own, as in torch's parameter groups.
struct ParameterGroup {
  std::string
      match;  // a regular expression that is found in their names; the first group that matches counts
  double lr_scale = 1;                                // of the optimizer's lr
  std::optional<double> weight_decay = std::nullopt;  // nullopt: the optimizer's
};

struct AdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double weight_decay = 0.01;  // of everything but norms and biases
  double max_grad_norm = 1.0;  // clipping in step(); 0: none
  std::vector<ParameterGroup> groups = {};
};

/// torch.optim.AdamW with clipping and f32 master weights.
class AdamW {
 public:
  AdamW(AutoModelForCausalLM& model, const AdamWOptions& options = {});
  /// One update from the gathered gradients, which it then forgets. Returns their norm before clipping. A
  /// gradient that is not finite changes nothing and returns a number that is not finite.
  double step();
  void set_lr(double lr);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// What a Trainer says of a step.
struct TrainerStep {
  std::int64_t step = 0, steps = 0;  // done, and of the whole run; 0: what was evaluated before the first
  double epoch = 0;
  double loss = 0, learning_rate = 0, grad_norm = 0;  // 0 at step 0
  double tokens_per_second = 0;
  std::optional<double> eval_loss;  // where the step was evaluated: of the first evaluation set
};

/// How Trainer::train() ended.
struct TrainOutput {
  std::int64_t steps = 0;
  bool finished = false;                  // false: stopped, with a checkpoint
  std::string model;                      // the trained Hugging Face directory; "" where not finished
  std::optional<std::int64_t> best_step;  // with the least evaluation loss
  std::optional<double> best_eval_loss;
};

/// A run of `hone train`: its data, steps, evaluations, checkpoints and report, by the keys of its recipe.
class Trainer {
 public:
  /// `settings`: "train.steps=100", "model.path=base" …, as on the command line (`hone train --help` lists
  /// them); they win over the `recipe`, a YAML file, or "" for none. Nothing is printed unless they ask for
  /// it (train.report_to=[console, metrics, report]). Throws for a recipe that is not valid.
  explicit Trainer(const std::vector<std::string>& settings, const std::string& recipe = "");

  /// Trains to the end: from the start, or from the newest checkpoint of the output, which an earlier call or
  /// a process that was killed has left, with the same bits as if nothing had happened. `each` sees every
  /// step when it is complete; where it returns false the run stops there with a checkpoint. (On a card the
  /// next step is therefore not begun before; without `each` it is.) Signals are left to the caller.
  TrainOutput train(const std::function<bool(const TrainerStep&)>& each = nullptr);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace hone
