#include "train/run_key.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "train/content_hash.h"
#include "train/recipe_options.h"

namespace hone::train {

namespace {

/// Options that may change between starts. Recomputing gives the same bits; what lies at the paths is hashed.
constexpr std::array<std::string_view, 10> kMayChange{"model.path",         "data.train",
                                                      "data.eval",          "output",
                                                      "train.recompute",    "train.threads",
                                                      "train.keep_last",    "train.eval_every",
                                                      "train.eval_samples", "train.checkpoint_every"};

/// Of the base model: its config, and every weight file by its size, its header and samples of its bytes (the
/// whole would take as long as reading it).
std::uint64_t model_fingerprint(const std::filesystem::path& directory) {
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

}  // namespace

std::string run_key(const Recipe& recipe, const data::Dataset& dataset) {
  std::string key = fmt::format("data {:016x}\nmodel {:016x}\n", dataset.fingerprint(),
                                model_fingerprint(recipe.model_path));
  for (const auto& option : all_options()) {
    if (std::find(kMayChange.begin(), kMayChange.end(), option.key) != kMayChange.end()) continue;
    const std::string value = option.get(recipe);
    key += option.key + ": " + (value.empty() ? "by default" : value) + "\n";
  }
  return key;
}

std::string difference(const std::string& before, const std::string& now) {
  std::size_t a = 0;
  std::size_t b = 0;
  while (a < before.size() && b < now.size()) {
    const std::string x = before.substr(a, before.find('\n', a) - a);
    const std::string y = now.substr(b, now.find('\n', b) - b);
    if (x != y) {
      if (x.starts_with("data "))
        return "the training data changed: its rows, its tokenizer or its chat template";
      if (x.starts_with("model ")) return "model.path holds another model, or its files changed";
      return fmt::format("it was begun with '{}', not '{}'", x, y);
    }
    a += x.size() + 1;
    b += y.size() + 1;
  }
  return "options were added or removed";
}

}  // namespace hone::train
