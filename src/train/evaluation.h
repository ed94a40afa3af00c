// Evaluation: the loss on held-out data, and a few sample generations.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "model/generate.h"
#include "text/pretrained_tokenizer.h"
#include "train/step.h"

namespace hone::train {

struct EvalSummary {
  double loss = 0;  // mean over supervised tokens, weighted as a step's
  double perplexity = 0;
  std::int64_t examples = 0, tokens = 0, supervised = 0;
  double loss_weight = 0;  // the sum of the supervised tokens' weights: their count, where none has one
  double seconds = 0;
};

/// The batch that an evaluation computes at once from `example` on, which moves behind it: examples of up to
/// `tokens_at_once` tokens, at least one.
model::TokenBatch next_evaluation_batch(const data::Dataset& dataset, std::int64_t& example,
                                        std::int64_t tokens_at_once);

using EvalProgress = std::function<void(std::int64_t done, std::int64_t of)>;

/// The language-model loss over all examples, about `tokens_at_once` tokens at a time.
EvalSummary evaluate_dataset(ops::Context& context, model::Decoder& decoder, const data::Dataset& dataset,
                             std::int64_t tokens_at_once, const EvalProgress& progress = nullptr);

/// What the model is asked and what it should answer: an example cut before its last supervised run of
/// tokens.
struct Question {
  std::vector<std::int32_t> prompt;  // empty where the example is supervised from its start
  std::vector<std::int32_t> answer;  // the supervised run
};
Question question_of(const data::Example& example);

/// A prompt, what the model answered (greedily), and what the data says.
struct Sample {
  std::string prompt, answer, reference;
};
std::vector<Sample> sample_answers(ops::Context& context, model::Decoder& decoder,
                                   const data::Dataset& dataset, const text::PretrainedTokenizer& tokenizer,
                                   std::int64_t count);

/// The share of examples whose greedy answer is the reference token by token, through its end-of-turn token.
struct ExactMatch {
  std::int64_t matched = 0, asked = 0;
};
ExactMatch exact_match(ops::Context& context, model::Decoder& decoder, const data::Dataset& dataset,
                       const EvalProgress& progress = nullptr);

}  // namespace hone::train
