#include "train/evaluation.h"

#include <algorithm>
#include <cmath>

#include "base/stopwatch.h"

namespace hone::train {

namespace {

/// Tokens that end an answer: the model's own, and the one that ends the reference (a template's end of
/// turn).
std::vector<std::int32_t> stop_ids(const text::PretrainedTokenizer& tokenizer, const Question& question) {
  std::vector<std::int32_t> ids = tokenizer.eos_token_ids();
  if (!question.answer.empty()) ids.push_back(question.answer.back());
  return ids;
}

}  // namespace

model::TokenBatch next_evaluation_batch(const data::Dataset& dataset, std::int64_t& example,
                                        std::int64_t tokens_at_once) {
  model::TokenBatch batch;
  for (; example < dataset.num_examples(); ++example) {
    if (batch.tokens() > 0 && batch.tokens() + dataset.length(example) > tokens_at_once) break;
    const auto next = dataset.example(example);
    batch.add(next.ids, next.labels, next.weights);
  }
  return batch;
}

EvalSummary evaluate_dataset(ops::Context& context, model::Decoder& decoder, const data::Dataset& dataset,
                             std::int64_t tokens_at_once, const EvalProgress& progress) {
  const Stopwatch watch;
  EvalSummary summary{.examples = dataset.num_examples()};
  double sum = 0;
  for (std::int64_t i = 0; i < dataset.num_examples();) {
    const auto batch = next_evaluation_batch(dataset, i, tokens_at_once);
    const EvalResult result = evaluate(context, decoder, batch);
    sum += result.loss;
    summary.loss_weight += result.loss_weight;
    summary.tokens += result.tokens;
    summary.supervised += result.supervised;
    if (progress) progress(i, dataset.num_examples());
  }
  summary.loss = summary.loss_weight > 0 ? sum / summary.loss_weight : 0.0;
  summary.perplexity = std::exp(summary.loss);
  summary.seconds = watch.seconds();
  return summary;
}

Question question_of(const data::Example& example) {
  std::size_t end = example.labels.size();
  while (end > 0 && example.labels[end - 1] == kIgnoredLabel) --end;
  std::size_t begin = end;
  while (begin > 0 && example.labels[begin - 1] != kIgnoredLabel) --begin;
  const auto at = [&](std::size_t i) { return example.ids.begin() + static_cast<std::ptrdiff_t>(i); };
  return {{at(0), at(begin)}, {at(begin), at(end)}};
}

std::vector<Sample> sample_answers(ops::Context& context, model::Decoder& decoder,
                                   const data::Dataset& dataset, const text::PretrainedTokenizer& tokenizer,
                                   std::int64_t count) {
  std::vector<Sample> samples;
  for (std::int64_t i = 0; i < dataset.num_examples() && static_cast<std::int64_t>(samples.size()) < count;
       ++i) {
    const Question question = question_of(dataset.example(i));
    if (question.prompt.empty() || question.answer.empty()) continue;
    if (static_cast<std::int64_t>(question.prompt.size()) >= decoder.spec().context_length()) continue;
    const auto room = static_cast<std::int64_t>(question.answer.size()) * 2 + 16;
    const auto answer = model::generate(
        context, decoder, {question.prompt},
        {.max_new_tokens = std::min<std::int64_t>(room, 256), .stop_ids = stop_ids(tokenizer, question)});
    const auto text = [&](const std::vector<std::int32_t>& ids, bool skip) {
      return tokenizer.tokenizer().decode(ids, skip);
    };
    samples.push_back({text(question.prompt, false), text(answer.at(0), true), text(question.answer, true)});
  }
  return samples;
}

ExactMatch exact_match(ops::Context& context, model::Decoder& decoder, const data::Dataset& dataset,
                       const EvalProgress& progress) {
  constexpr std::int64_t kGroup = 64;
  ExactMatch result;
  for (std::int64_t first = 0; first < dataset.num_examples(); first += kGroup) {
    std::vector<std::vector<std::int32_t>> prompts;
    std::vector<Question> questions;
    std::size_t longest = 0;
    for (std::int64_t i = first; i < std::min(first + kGroup, dataset.num_examples()); ++i) {
      Question question = question_of(dataset.example(i));
      if (question.prompt.empty() || question.answer.empty()) continue;
      longest = std::max(longest, question.answer.size());
      prompts.push_back(question.prompt);
      questions.push_back(std::move(question));
    }
    // An answer ends where it is complete or wrong: it does not matter what ends other answers.
    std::vector<std::size_t> right(questions.size(), 0);
    const auto answers =
        model::generate(context, decoder, prompts, {.max_new_tokens = static_cast<std::int64_t>(longest)},
                        [&](std::size_t s, std::int32_t id) {
                          const auto& answer = questions[s].answer;
                          if (id != answer[right[s]]) return false;
                          return ++right[s] < answer.size();
                        });
    for (std::size_t i = 0; i < answers.size(); ++i)
      result.matched += right[i] == questions[i].answer.size() ? 1 : 0;
    result.asked += static_cast<std::int64_t>(answers.size());
    if (progress) progress(std::min(first + kGroup, dataset.num_examples()), dataset.num_examples());
  }
  return result;
}

}  // namespace hone::train
