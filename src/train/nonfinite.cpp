#include "train/nonfinite.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tensor/transfer.h"

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

/// The first parameter that holds a number that is not finite; "" where none does.
std::string first_nonfinite_weight(ops::Context& context, const model::ParameterSet& parameters) {
  std::vector<float> values;
  for (const auto& p : parameters.all()) {
    const HostView view(context.stream(), p.value);
    values.resize(static_cast<std::size_t>(p.value.numel()));
    convert(p.value.dtype(), view.data(), DType::kF32, values.data(), values.size());
    if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
      return p.spec.name;
  }
  return "";
}

/// What was not finite.
std::string tensor_text(const StepResult& result) {
  if (result.nonfinite == "loss") return "the loss";
  return result.nonfinite.empty() ? "the norm of the gradients" : "the gradient of " + result.nonfinite;
}

std::string what_to_mend(const Run& run) {
  const Recipe& recipe = run.recipe;
  const std::string weight = first_nonfinite_weight(*run.context, run.model->decoder().parameters());
  if (!weight.empty())
    return fmt::format("{} holds a number that is not finite: {}", weight,
                       run.state.updates == 0 ? "so it was in model.path, whose weights must be mended"
                                              : "continue from an older checkpoint with a lower "
                                                "train.optimizer.lr");
  if (run.state.updates == 0)
    return "no update was done yet, so the learning rate is not the cause: look at these rows, and at what "
           "the model gives for them (hone eval)";
  const std::string lower = fmt::format("lower train.optimizer.lr ({})", recipe.learning_rate);
  if (!recipe.clip) return "gradients are not clipped (train.clip: null): set train.clip: 1.0, or " + lower;
  return lower + ", or look at the data";
}

}  // namespace

std::string nonfinite_warning(const Run& run, const StepResult& result, const StepBatches& batches) {
  return fmt::format(
      "step {}: {} is not finite; {}; rows {}", run.state.step, tensor_text(result),
      result.in_part
          ? "parameters whose gradients came before it (later layers) were updated, the others were not"
          : "the update was skipped and the weights are unchanged",
      rows_text(run, result, batches));
}

std::string nonfinite_failure(const Run& run, const StepResult& result, const StepBatches& batches,
                              std::int64_t count) {
  return fmt::format(
      "{} steps in a row were not finite, first in {}, last on rows {}; the weights are those before them "
      "(checkpoint in {}); {}",
      count, tensor_text(result), rows_text(run, result, batches), run.directory.checkpoints().string(),
      what_to_mend(run));
}

}  // namespace hone::train
