#include "train/run_data.h"

#include <fmt/format.h>

#include "base/console.h"

namespace hone::train {

std::vector<std::string> source_lines(const data::DatasetStatistics& statistics) {
  std::vector<std::string> lines;
  for (const auto& s : statistics.sources) {
    const bool whole = s.per_epoch == static_cast<double>(s.examples);
    if (whole && statistics.sources.size() == 1) continue;
    lines.push_back(fmt::format("{}  {} rows, {} tokens; {:.6g} an epoch, {:.1f}% of its rows", s.path,
                                with_commas(s.rows), with_commas(s.tokens), s.per_epoch,
                                100 * s.per_epoch / static_cast<double>(statistics.epoch_examples)));
  }
  return lines;
}

RunData load_data(const Recipe& recipe, const text::PretrainedTokenizer* tokenizer,
                  data::DatasetOptions reading, const DataProgress& progress) {
  reading.cache = token_cache_of(recipe);
  reading.threads = recipe.threads;
  const auto load = [&](const std::vector<data::DataSource>& sources, const std::string& split,
                        const std::string& what) {
    return data::Dataset::load(sources, split, tokenizer, reading,
                               [&](std::int64_t rows, double share) { progress(what, rows, share); });
  };
  reading.holdout = holdout_of(recipe);
  RunData result{load(recipe.train_data, "train", "training data"), {}};
  reading.holdout = {};
  for (const auto& set : recipe.eval_data)
    result.evaluation_sets.push_back(
        {set.name, set.percent > 0
                       ? result.train.held_out()
                       : load(set.sources, "valid",
                              set.name.empty() ? "evaluation data" : "evaluation data " + set.name)});
  return result;
}

}  // namespace hone::train
