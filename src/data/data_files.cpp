#include "data/data_files.h"

#include <glob.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "base/error.h"

namespace hone::data {

namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 5> kExtensions{".jsonl", ".json", ".csv", ".tsv", ".parquet"};
constexpr std::array<std::string_view, 3> kCompressions{"", ".gz", ".zst"};

std::vector<std::string> split_names(const std::string& split) {
  if (split == "valid") return {"valid", "validation", "val", "eval", "dev"};
  return {split};
}

/// NAME.jsonl and the like, or the shards NAME-00000-of-00002.parquet, of a directory; empty: none.
std::vector<std::string> files_of_name(const fs::path& directory, const std::string& name) {
  std::error_code unreadable;
  for (const auto extension : kExtensions) {
    for (const auto compression : kCompressions) {
      const std::string ending = std::string(extension) + std::string(compression);
      if (fs::exists(directory / (name + ending), unreadable))
        return {(directory / (name + ending)).string()};
      std::vector<std::string> shards;
      for (const auto& entry : fs::directory_iterator(directory, unreadable)) {
        const auto file = entry.path().filename().string();
        if (file.starts_with(name + "-") && file.ends_with(ending) && file.find("-of-") != std::string::npos)
          shards.push_back(entry.path().string());
      }
      std::sort(shards.begin(), shards.end());
      if (!shards.empty()) return shards;
    }
  }
  return {};
}

bool is_data_file(const fs::path& path) {
  const std::string name = path.filename().string();
  return std::any_of(kExtensions.begin(), kExtensions.end(), [&](std::string_view extension) {
    return std::any_of(kCompressions.begin(), kCompressions.end(), [&](std::string_view compression) {
      return name.ends_with(std::string(extension) + std::string(compression));
    });
  });
}

/// The data files of a directory, by name, cut to a line.
std::string listing(const std::string& path) {
  std::vector<std::string> there;
  std::error_code unreadable;
  for (const auto& entry : fs::directory_iterator(path, unreadable))
    if (is_data_file(entry.path())) there.push_back(entry.path().filename().string());
  std::sort(there.begin(), there.end());
  std::string list;
  for (const auto& name : there) {
    if (list.size() + name.size() > 200) return list + ", …";
    list += (list.empty() ? "" : ", ") + name;
  }
  return list.empty() ? "none" : list;
}

std::vector<std::string> files_of_directory(const std::string& path, const std::string& split) {
  std::string tried;
  for (const auto& name : split_names(split)) {
    for (const auto& directory : {fs::path(path), fs::path(path) / "data"})
      if (auto files = files_of_name(directory, name); !files.empty()) return files;
    tried += (tried.empty() ? "" : ", ") + name + ".jsonl";
  }
  fail("{}: the directory has no {} (looked for {}, and .json, .csv, .tsv, .parquet); its data files: {}",
       path, split + ".jsonl", tried, listing(path));
}

std::vector<std::string> files_of_pattern(const std::string& pattern) {
  glob_t found{};
  const int status = ::glob(pattern.c_str(), GLOB_ERR, nullptr, &found);
  std::vector<std::string> files(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  if (status != 0 && status != GLOB_NOMATCH) fail("{}: cannot read the directories of the pattern", pattern);
  std::erase_if(files, [](const std::string& file) { return fs::is_directory(file); });
  std::sort(files.begin(), files.end());
  if (files.empty()) fail("{}: no file matches the pattern", pattern);
  return files;
}

}  // namespace

std::vector<std::string> find_data_files(const std::string& path, const std::string& split) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return files_of_directory(path, split);
  if (fs::exists(path, ignored)) return {path};
  if (path.find_first_of("*?[") != std::string::npos) return files_of_pattern(path);
  fail("{}: no such file, directory or pattern", path);
}

}  // namespace hone::data
