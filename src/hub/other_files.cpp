#include "hub/other_files.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/message.h"
#include "hub/directory_merge.h"

namespace hone::hub {

namespace fs = std::filesystem;

namespace {

bool is_weight_file(const std::string& name) {
  static constexpr std::array<std::string_view, 18> kEnds{
      ".safetensors", ".bin",       ".pt",        ".pth",  ".ckpt",    ".gguf",
      ".ggml",        ".onnx",      ".onnx_data", ".h5",   ".msgpack", ".tflite",
      ".mlmodel",     ".mlpackage", ".npz",       ".nemo", ".pkl",     ".ot"};
  std::string stem = name;
  std::transform(stem.begin(), stem.end(), stem.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (constexpr std::string_view kIndex = ".index.json"; stem.ends_with(kIndex))
    stem.resize(stem.size() - kIndex.size());
  return std::any_of(kEnds.begin(), kEnds.end(), [&](std::string_view end) { return stem.ends_with(end); });
}

bool is_weight_directory(const std::string& name) {
  static const std::set<std::string, std::less<>> kNames{"original", "onnx",  "openvino", "coreml",
                                                         "gguf",     "metal", "mlx"};
  constexpr std::string_view kTrainer = "checkpoint-";
  const bool is_trainers = name.starts_with(kTrainer) && name.size() > kTrainer.size() &&
                           name.find_first_not_of("0123456789", kTrainer.size()) == std::string::npos;
  return is_trainers || kNames.contains(name) || name.ends_with(".mlpackage");
}

bool is_hidden(const fs::path& name) {
  return name.filename().string().starts_with('.');
}

}  // namespace

bool is_left_out(const fs::path& relative) {
  for (const auto& part : relative.parent_path())
    if (is_weight_directory(part.string())) return true;
  const std::string name = relative.filename().string();
  return is_weight_file(name) || is_weight_directory(name) || name == "adapter_config.json";
}

bool is_model_file(const fs::path& relative) {
  static const std::set<std::string, std::less<>> kNames{"config.json",
                                                         "generation_config.json",
                                                         "special_tokens_map.json",
                                                         "added_tokens.json",
                                                         "vocab.json",
                                                         "vocab.txt",
                                                         "merges.txt",
                                                         "normalizer.json",
                                                         "chat_template.json",
                                                         "chat_template.jinja",
                                                         "processor_config.json",
                                                         "preprocessor_config.json"};
  const std::string name = relative.filename().string();
  if (relative.parent_path() == "additional_chat_templates") return name.ends_with(".jinja");
  if (relative.has_parent_path()) return false;
  return kNames.contains(name) || name.starts_with("tokenizer") || name.ends_with(".model") ||
         name.ends_with(".tiktoken");
}

/// One walk through a directory.
class OtherFiles::Lister {
 public:
  explicit Lister(const fs::path& directory) : given_(directory) {
    list_.directory_ = fs::canonical(directory);
    const fs::path& root = list_.directory_;
    if (root.parent_path().filename() == "snapshots") blobs_ = root.parent_path().parent_path() / "blobs";
  }

  void walk() { walk(""); }
  void take(const fs::path& name, const fs::path& as) {
    const auto file = OpenFile::open(given_ / name);
    list_.files_.push_back({as, PinnedBytes::read(file, 0, file->size())});
  }
  OtherFiles finish() {
    std::sort(list_.files_.begin(), list_.files_.end(),
              [](const File& a, const File& b) { return a.name < b.name; });
    std::sort(list_.left_out_.begin(), list_.left_out_.end());
    std::sort(list_.not_followed_.begin(), list_.not_followed_.end());
    return std::move(list_);
  }
  /// False where a link leads to what must not be read; it is then noted.
  bool may_follow(const fs::path& name) {
    const fs::path path = given_ / name;
    if (!fs::is_symlink(path)) return true;
    if (is_merge_link(path) && !fs::exists(path)) return false;
    if (!fs::exists(path)) fail("{}: is a broken link", path.string());
    const fs::path real = fs::canonical(path);
    const bool same_name =
        fs::is_regular_file(real) && real.filename() == name.filename() && is_model_file(name);
    const bool is_loop = fs::is_directory(real) && lies_in(fs::canonical(path.parent_path()), real);
    if ((lies_in(real, list_.directory_) && !is_loop) || (!blobs_.empty() && lies_in(real, blobs_)) ||
        same_name)
      return true;
    list_.not_followed_.push_back(
        fmt::format("{} -> {}", shown(name.string()), shown(fs::read_symlink(path).string())));
    return false;
  }

 private:
  static constexpr int kDeepest = 16;

  static bool lies_in(const fs::path& inner, const fs::path& outer) {
    return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
  }

  void walk(const fs::path& below, int depth = 0) {
    if (depth > kDeepest)
      fail("{}: directories nest too deep to copy; is there a loop of links?", (given_ / below).string());
    for (const auto& entry : fs::directory_iterator(given_ / below)) {
      const fs::path name = below / entry.path().filename();
      const bool is_directory = entry.is_directory();
      if (is_directory && is_hidden(name)) continue;  // .git, .cache: the tools' own
      if (is_left_out(name)) {
        list_.left_out_.push_back(is_directory ? name.string() + "/" : name.string());
      } else if (!may_follow(name)) {
        continue;
      } else if (is_directory) {
        walk(name, depth + 1);
      } else if (entry.is_regular_file()) {
        take(name, name);
      } else {
        list_.not_followed_.push_back(shown(name.string()));
      }
    }
  }

  fs::path given_;  // for messages and for reading
  fs::path blobs_;  // of the repository, in the hub's cache; else empty
  OtherFiles list_;
};

std::string OtherFiles::content(const fs::path& name) const {
  const auto file = std::find_if(files_.begin(), files_.end(), [&](const File& f) { return f.name == name; });
  HONE_CHECK(file != files_.end(), "{} has no {}", directory_.string(), name.string());
  std::string text;
  file->bytes.for_each_piece([&](std::uint64_t, std::span<const std::byte> bytes) {
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
  return text;
}

OtherFiles OtherFiles::list(const fs::path& directory) {
  try {
    Lister lister(directory);
    lister.walk();
    return lister.finish();
  } catch (const fs::filesystem_error& error) {
    fail("{}: cannot be read: {}", error.path1().string(), error.code().message());
  }
}

OtherFiles OtherFiles::of_config(const fs::path& config) {
  const fs::path directory = config.has_parent_path() ? config.parent_path() : ".";
  try {
    Lister lister(directory);
    lister.take(config.filename(), "config.json");
    for (const auto& entry : fs::directory_iterator(directory)) {
      const fs::path name = entry.path().filename();
      if (is_model_file(name) && name != "config.json" && entry.is_regular_file() && lister.may_follow(name))
        lister.take(name, name);
    }
    return lister.finish();
  } catch (const fs::filesystem_error& error) {
    fail("{}: cannot be read: {}", error.path1().string(), error.code().message());
  }
}

}  // namespace hone::hub
