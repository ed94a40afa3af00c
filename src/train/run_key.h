// What must not change while a run is continued, unless it is changed on purpose.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "train/recipe.h"
#include "train/recipe_options.h"

namespace hone::train {

/// Of a base model: its config.json, and every weight file by its size, its header and samples of its bytes
/// (the whole would take as long as reading it).
std::uint64_t base_fingerprint(const std::filesystem::path& directory);

/// A line "KEY: VALUE" for each option that bears on the numbers and is not at its default, after hashes of
/// the data and of the base model ("data HASH", "model HASH"), and, where evaluations decide when the run
/// ends or what it leaves, of how they are made (`evaluation`: a hash of their data). Where these lie does
/// not matter, nor what only changes how a run is watched or how fast it goes. What is at its default has no
/// line, so that an option that is new leaves the keys of older runs as they are: a default never changes
/// without a migration in key_changes().
std::string run_key(const Recipe& recipe, const data::Dataset& dataset, const std::string& evaluation = "");

/// The base model's fingerprint in a run key; "" where the key has none.
std::string base_in_key(const std::string& run_key);

/// One thing that another start asks for differently.
struct KeyChange {
  std::string key;          // of an option; "data", "model", "eval" for the hashes
  std::string before, now;  // its values, "by default" where none was given; of hashes: in hexadecimal
  Bearing bearing = Bearing::kState;
};
/// How `now` differs from the key that a run was begun with, by any version of hone: older ones wrote a line
/// for every option, and for some that bear on nothing.
std::vector<KeyChange> key_changes(const std::string& before, const std::string& now);

/// Whether the change gives the data another order, in which the old cursor means nothing.
bool reorders_data(const KeyChange& change);

/// "train.steps: 2 -> 4", for a run's history.
std::string arrow(const KeyChange& change);
/// "it was begun with 'train.steps: 2', not 'train.steps: 4'".
std::string describe(const KeyChange& change);

}  // namespace hone::train
