// The data of a run: what is trained on and what is evaluated on, as the recipe says.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "train/recipe.h"

namespace hone::text {
class PretrainedTokenizer;
}

namespace hone::train {

struct EvaluationSet {
  std::string name;  // "" for the only one
  data::Dataset data;
};

struct RunData {
  data::Dataset train;
  std::vector<EvaluationSet> evaluation_sets;
};

/// A line for each of several sources, and for one that is not simply read whole: what an epoch takes of it.
std::vector<std::string> source_lines(const data::DatasetStatistics& statistics);

/// Called now and then while data is read; `what`: "training data", …
using DataProgress = std::function<void(const std::string& what, std::int64_t rows, double share)>;

/// Reads all data of a recipe. `reading`: what else is known (seq_len, vocab, …); sources, holdout, cache and
/// the recipe's own options are added. `tokenizer` may be null.
RunData load_data(const Recipe& recipe, const text::PretrainedTokenizer* tokenizer,
                  data::DatasetOptions reading, const DataProgress& progress);

}  // namespace hone::train
