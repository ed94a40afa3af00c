#include "train/run_key.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <sstream>

#include "base/content_hash.h"
#include "base/error.h"
#include "base/file.h"

namespace hone::train {

namespace {

constexpr const char* kByDefault = "by default";

/// The lines of a run key: option or "data" or "model", and its value.
std::map<std::string, std::string> lines_of(const std::string& key) {
  std::map<std::string, std::string> lines;
  std::istringstream in(key);
  for (std::string line; std::getline(in, line);) {
    const auto end = line.find(' ');
    if (end == std::string::npos) continue;
    std::string name = line.substr(0, end);
    if (name.ends_with(':')) name.pop_back();
    lines.emplace(std::move(name), line.substr(end + 1));
  }
  return lines;
}

std::string default_of(const Option& option) {
  static const Recipe kDefaults;
  const std::string value = option.get(kDefaults);
  return value.empty() ? kByDefault : value;
}

}  // namespace

std::uint64_t base_fingerprint(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  const std::string config = read_file(directory / "config.json");
  std::uint64_t hash = content_hash(std::as_bytes(std::span(config)));
  constexpr std::size_t kPiece = 4096;
  constexpr std::size_t kPieces = 64;
  for (const auto& path : files) {
    const auto file = MappedFile::open(path);
    const auto bytes = file->bytes();
    const auto add = [&](std::size_t at, std::size_t size) {
      at = std::min(at, bytes.size());
      hash = content_hash(bytes.subspan(at, std::min(size, bytes.size() - at)), hash);
    };
    std::uint64_t header = 0;
    if (bytes.size() >= sizeof header) std::memcpy(&header, bytes.data(), sizeof header);
    add(0, sizeof header + std::min<std::uint64_t>(header, bytes.size()));
    for (std::size_t i = 0; i < kPieces; ++i) add(bytes.size() / kPieces * i, kPiece);
    const std::uint64_t size = bytes.size();
    hash = content_hash(std::as_bytes(std::span(&size, 1)), hash);
  }
  return hash;
}

std::string run_key(const Recipe& recipe, const data::Dataset& dataset, const std::string& evaluation) {
  std::string key = fmt::format("data {:016x}\nmodel {:016x}\n", dataset.fingerprint(),
                                base_fingerprint(recipe.model_path));
  if (recipe.load_best || recipe.early_stopping.patience > 0)
    key += fmt::format("eval {} every {}\n", evaluation, recipe.eval_every);
  for (const auto& option : all_options()) {
    if (option.bearing == Bearing::kNone) continue;
    const std::string value = option.get(recipe);
    if (!value.empty() && value != default_of(option)) key += option.key + ": " + value + "\n";
  }
  return key;
}

std::string base_in_key(const std::string& run_key) {
  const auto lines = lines_of(run_key);
  const auto found = lines.find("model");
  return found == lines.end() ? "" : found->second;
}

std::vector<KeyChange> key_changes(const std::string& before, const std::string& now) {
  const auto was = lines_of(before);
  const auto is = lines_of(now);
  std::vector<KeyChange> changes;
  const auto compare = [&](const std::string& key, const std::string& if_absent, Bearing bearing) {
    const auto value_in = [&](const std::map<std::string, std::string>& lines) {
      const auto found = lines.find(key);
      return found == lines.end() || found->second == kByDefault ? if_absent : found->second;
    };
    const std::string a = value_in(was);
    const std::string b = value_in(is);
    if (a != b) changes.push_back({key, a, b, bearing});
  };
  compare("data", "", Bearing::kNumbers);
  compare("model", "", Bearing::kState);
  // Where evaluations begin to decide something, or no longer do, an option has changed as well.
  if (was.contains("eval") && is.contains("eval")) compare("eval", "", Bearing::kNumbers);
  for (const auto& option : all_options())
    if (option.bearing != Bearing::kNone) compare(option.key, default_of(option), option.bearing);
  for (const auto& [key, value] : was)  // options that this hone does not have: of a newer one, say
    if (key != "data" && key != "model" && key != "eval" && find_option(key) == nullptr &&
        value != kByDefault)
      changes.push_back({key, value, kByDefault, Bearing::kState});
  return changes;
}

bool reorders_data(const KeyChange& change) {
  return change.key == "data" || change.key.starts_with("data.") || change.key == "train.seed";
}

std::string arrow(const KeyChange& change) {
  return fmt::format("{}: {} -> {}", change.key, change.before, change.now);
}

std::string describe(const KeyChange& change) {
  if (change.key == "data")
    return "the training data changed: its rows, their weights, its tokenizer or its chat template";
  if (change.key == "eval")
    return "the evaluation data or train.eval_every changed, and evaluations decide its end";
  if (change.key == "model") return "model.path holds another model, or its files changed";
  if (find_option(change.key) == nullptr)
    return fmt::format("it was begun with '{}: {}', an option that this version of hone does not have",
                       change.key, change.before);
  return fmt::format("it was begun with '{}: {}', not '{}: {}'", change.key, change.before, change.key,
                     change.now);
}

}  // namespace hone::train
