#include "train/run_key.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "train/content_hash.h"

namespace hone::train {

namespace {

/// Leaves of the option table that may change between starts. `recompute` gives the same bits; what lies at
/// the paths is hashed instead.
constexpr std::array<std::string_view, 10> kMayChange{
    "path",      "train",      "eval",        "output", "threads", "recompute", "checkpoint_every",
    "keep_last", "eval_every", "eval_samples"};

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
  for (std::size_t at = 0; at < recipe.resolved.size();) {
    const auto end = std::min(recipe.resolved.find('\n', at), recipe.resolved.size());
    const std::string line = recipe.resolved.substr(at, std::min(recipe.resolved.find("  # ", at), end) - at);
    at = end + 1;
    const auto begin = line.find_first_not_of(' ');
    if (begin == std::string::npos || line[begin] == '#') continue;
    const auto colon = line.find(':');
    const bool is_section = colon + 1 == line.size();  // the section `train`, not data.train
    const std::string name = line.substr(begin, colon - begin);
    if (is_section || std::find(kMayChange.begin(), kMayChange.end(), name) == kMayChange.end())
      key += line + "\n";
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
      return fmt::format("was '{}', is '{}'", x.substr(x.find_first_not_of(' ')),
                         y.substr(y.find_first_not_of(' ')));
    }
    a += x.size() + 1;
    b += y.size() + 1;
  }
  return "options were added or removed";
}

}  // namespace hone::train
