// Where a dataset's files are.
#pragma once

#include <string>
#include <vector>

namespace hone::data {

/// The files of a dataset. A file is itself; a pattern with *, ? or [] is what it matches, sorted by name (a
/// file of exactly that name wins); of a directory it is SPLIT.jsonl, .json, .csv, .tsv or .parquet (the
/// first that exists, also with .gz or .zst behind), or, as the Hugging Face hub lays data sets out,
/// SPLIT-*-of-*.parquet and the like, there or in data/. "valid" may also be called validation, val, eval or
/// dev. Throws Error(kUser) that names what was looked for.
std::vector<std::string> find_data_files(const std::string& path, const std::string& split);

}  // namespace hone::data
