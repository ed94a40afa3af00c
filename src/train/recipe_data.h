// The recipe's data: which files, in which proportion, and what is evaluated on.
#pragma once

#include <string>
#include <vector>

#include "data/sources.h"
#include "train/recipe_value.h"

namespace hone::train {

struct Option;
struct Recipe;

/// One set that the loss is evaluated on: files, or a share of the training rows.
struct EvalData {
  std::string name;  // "" where there is only one, without a name
  std::vector<data::DataSource> sources;
  double percent = 0;  // of the training rows, held out; 0: none, sources then is not empty
};

/// data.train, data.eval, data.columns and data.cache.
void add_source_options(std::vector<Option>& options);

/// What no single option can know. Throws Error(kUser).
void check_sources(const Recipe& recipe);

/// The sources for a message: "a.jsonl", or "a.jsonl (weight 0.7) + b.jsonl (repeat 2)".
std::string describe(const std::vector<data::DataSource>& sources);

/// The share of the training rows that data.eval holds out.
data::Holdout holdout_of(const Recipe& recipe);

/// Where data.cache says.
data::TokenCacheOptions token_cache_of(const Recipe& recipe);

}  // namespace hone::train
