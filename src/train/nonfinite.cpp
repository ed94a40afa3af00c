#include "train/nonfinite.h"

#include <fmt/format.h>

#include <numeric>

namespace hone::train {

namespace {

constexpr std::size_t kMostShown = 4;

/// "train.jsonl:3, train.jsonl:8 and 2 more": where the loss was not finite, or all rows of the step.
std::string rows_text(const Run& run, const StepResult& result, const StepBatches& batches) {
  std::vector<std::int64_t> documents = result.nonfinite_documents;
  if (documents.empty()) {
    documents.resize(batches.examples.size());
    std::iota(documents.begin(), documents.end(), 0);
  }
  std::string text;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    if (i == kMostShown) return text + fmt::format(" and {} more", documents.size() - kMostShown);
    const auto source = run.train_data->source(batches.examples.at(static_cast<std::size_t>(documents[i])));
    text += (text.empty() ? "" : ", ") + source.where();
  }
  return text;
}

}  // namespace

std::string nonfinite_warning(const Run& run, const StepResult& result, const StepBatches& batches) {
  return fmt::format(
      "step {}: {} is not finite; the update was skipped and the weights are unchanged; rows {}",
      run.state.step, result.nonfinite == "loss" ? "the loss" : "the gradient of " + result.nonfinite,
      rows_text(run, result, batches));
}

std::string nonfinite_failure(const Run& run, const StepResult& result, const StepBatches& batches,
                              std::int64_t count) {
  return fmt::format(
      "{} steps in a row were not finite, first in {}, last on rows {}; the weights are those before them "
      "(checkpoint in {}); lower train.optimizer.lr, or look at the data",
      count, result.nonfinite, rows_text(run, result, batches), run.directory.checkpoints().string());
}

}  // namespace hone::train
