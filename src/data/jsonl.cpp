#include "data/jsonl.h"

#include <glob.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <system_error>

#include "base/error.h"
#include "base/file.h"

namespace hone::data {

namespace {

namespace fs = std::filesystem;

std::vector<std::string> split_names(const std::string& split) {
  if (split == "valid") return {"valid", "validation", "val", "eval", "dev"};
  return {split};
}

std::vector<std::string> files_of_directory(const std::string& path, const std::string& split) {
  std::string tried;
  for (const auto& name : split_names(split)) {
    const fs::path file = fs::path(path) / (name + ".jsonl");
    std::error_code ignored;
    if (fs::exists(file, ignored)) return {file.string()};
    tried += (tried.empty() ? "" : ", ") + name + ".jsonl";
  }
  std::vector<std::string> there;
  std::error_code unreadable;
  for (const auto& entry : fs::directory_iterator(path, unreadable))
    if (entry.path().extension() == ".jsonl") there.push_back(entry.path().filename().string());
  std::sort(there.begin(), there.end());
  std::string list;
  for (const auto& name : there) {
    if (list.size() + name.size() > 200) {
      list += ", …";
      break;
    }
    list += (list.empty() ? "" : ", ") + name;
  }
  fail("{}: the directory has no {} (looked for {}); its JSONL files: {}", path, split + ".jsonl", tried,
       list.empty() ? "none" : list);
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

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

/// Formats that end up here by mistake, by their first bytes.
void refuse_other_formats(std::string_view bytes, const std::string& name) {
  struct Format {
    std::string_view magic;
    const char* what;
  };
  using namespace std::string_view_literals;
  constexpr std::array<Format, 6> kFormats{{{"\x1F\x8B"sv, "gzip-compressed"},
                                            {"\x28\xB5\x2F\xFD"sv, "zstd-compressed"},
                                            {"PK\x03\x04"sv, "a zip archive"},
                                            {"PAR1"sv, "Parquet"},
                                            {"\xFF\xFE"sv, "UTF-16"},
                                            {"\xFE\xFF"sv, "UTF-16"}}};
  for (const auto& format : kFormats)
    if (bytes.starts_with(format.magic))
      fail("{}: the file is {}; write it as JSONL in UTF-8: one JSON object a line", name, format.what);
  const auto first = bytes.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && bytes[first] == '[')
    fail("{}:{}: the file is a JSON array; write it as JSONL, one object a line (jq -c '.[]' does it)", name,
         1 + std::count(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(first), '\n'));
}

}  // namespace

std::vector<std::string> find_data_files(const std::string& path, const std::string& split) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return files_of_directory(path, split);
  if (fs::exists(path, ignored)) return {path};
  if (path.find_first_of("*?[") != std::string::npos) return files_of_pattern(path);
  fail("{}: no such file, directory or pattern", path);
}

JsonLines JsonLines::open(const fs::path& path) {
  JsonLines lines;
  lines.name_ = path.string();
  std::error_code ignored;
  if (fs::exists(path, ignored) && !fs::is_regular_file(path, ignored)) {
    lines.content_ = std::make_shared<const std::string>(read_file(path));
    lines.bytes_ = *lines.content_;
  } else {
    lines.mapped_ = MappedFile::open(path);
    const auto bytes = lines.mapped_->bytes();
    lines.bytes_ = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  if (lines.bytes_.starts_with(kByteOrderMark)) lines.at_ = kByteOrderMark.size();
  refuse_other_formats(lines.bytes_.substr(lines.at_), lines.name_);
  return lines;
}

bool JsonLines::next(JsonLine& line) {
  while (at_ < bytes_.size()) {
    const char* const begin = bytes_.data() + at_;
    const void* const found = std::memchr(begin, '\n', bytes_.size() - at_);
    const std::size_t length = found != nullptr
                                   ? static_cast<std::size_t>(static_cast<const char*>(found) - begin)
                                   : bytes_.size() - at_;
    at_ += length + (found != nullptr ? 1 : 0);
    ++number_;
    std::string_view text(begin, length);
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (is_blank(text)) continue;
    line = {text, number_};
    return true;
  }
  return false;
}

}  // namespace hone::data
