// hone::Trainer over the room train.
#include "train/trainer.h"

#include <hone/hone.h>

namespace hone {

struct [[gnu::visibility("hidden")]] Trainer::Impl {
  train::Recipe recipe;
};

Trainer::Trainer(const std::vector<std::string>& settings, const std::string& recipe)
    : impl_(std::make_shared<Impl>()) {
  impl_->recipe =
      recipe.empty() ? train::parse_recipe("{}", "settings", settings) : train::read_recipe(recipe, settings);
  // A library prints nothing that nobody asked for.
  if (!impl_->recipe.origins.contains("train.report_to")) std::erase(impl_->recipe.report_to, "console");
}

TrainOutput Trainer::train(const std::function<bool(const TrainerStep&)>& each) {
  bool is_enough = false;
  const auto show = [&](const train::StepRecord& record) {
    TrainerStep step{.step = record.step,
                     .steps = record.steps,
                     .epoch = record.epoch,
                     .loss = record.loss,
                     .learning_rate = record.learning_rate,
                     .grad_norm = record.grad_norm,
                     .tokens_per_second = record.tokens_per_second,
                     .eval_loss = std::nullopt};
    if (!record.evaluations.empty()) step.eval_loss = record.evaluations.front().summary.loss;
    is_enough = !each(step);
  };
  train::TrainOptions options{.stop = [&] { return is_enough; }};
  if (each) options.each = show;
  const auto outcome = train::train(impl_->recipe, options);
  TrainOutput output{.steps = outcome.steps,
                     .finished = !outcome.interrupted,
                     .model = outcome.model.string(),
                     .best_step = std::nullopt,
                     .best_eval_loss = outcome.best_eval_loss};
  if (outcome.best_eval_loss) output.best_step = outcome.best_step;
  return output;
}

}  // namespace hone
