// What the handles of hone.h hold.
#pragma once

#include <hone/hone.h>

#include <optional>
#include <set>
#include <string>

#include "model/causal_lm.h"
#include "ops/autograd.h"
#include "text/pretrained_tokenizer.h"
#include "train/optimizer.h"

namespace hone {

struct [[gnu::visibility("hidden")]] AutoTokenizer::Impl {
  text::PretrainedTokenizer tokenizer;
};

struct [[gnu::visibility("hidden")]] AutoModelForCausalLM::Impl {
  explicit Impl(const LoadOptions& options);
  /// Makes the parameters trainable that no freeze pattern names.
  void make_trainable();

  ops::Context context;
  std::optional<model::CausalLM> model;
  std::vector<std::int32_t> eos_ids;
  std::vector<std::string> freeze_patterns;
  bool is_trainable = false;  // make_trainable() was called
  bool training_mode = false;
  bool dropped_output = false;            // an output recorded for training was never differentiated
  train::Optimizer* optimizer = nullptr;  // whose masters are saved; owned by AdamW
  std::set<std::string> overwritten;      // parameters that set_parameter() changed

  const model::Parameter& parameter(const std::string& name) const;
};

struct [[gnu::visibility("hidden")]] ModelOutput::Impl {
  std::shared_ptr<AutoModelForCausalLM::Impl> model;
  ops::Tape tape;
  Tensor loss;  // undefined once differentiated, and without a tape
  ~Impl() {
    if (loss.defined()) model->dropped_output = true;
  }
};

struct [[gnu::visibility("hidden")]] AdamW::Impl {
  std::shared_ptr<AutoModelForCausalLM::Impl> model;
  AdamWOptions options;
  train::Optimizer optimizer;
  ~Impl() {
    if (model->optimizer == &optimizer) model->optimizer = nullptr;
  }
};

}  // namespace hone
