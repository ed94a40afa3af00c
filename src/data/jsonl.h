// JSONL files, line by line, without reading them whole; and where a dataset's files are.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hone {
class MappedFile;
}

namespace hone::data {

/// The files of a dataset. A file is itself; a pattern with *, ? or [] is what it matches, sorted by name (a
/// file of exactly that name wins); of a directory it is SPLIT.jsonl, where "valid" may also be called
/// validation.jsonl, val.jsonl, eval.jsonl or dev.jsonl (the first that exists). Throws Error(kUser) that
/// names what was looked for.
std::vector<std::string> find_data_files(const std::string& path, const std::string& split);

/// One line of a file, without its line break.
struct JsonLine {
  std::string_view text;    // valid as long as the JsonLines it came from
  std::int64_t number = 0;  // 1-based, counting empty lines too
};

/// The lines of a JSONL file that are not blank. A byte order mark at the start and CR before LF are left
/// out. The file is mapped, so lines may be of any length and the file larger than memory; what cannot be
/// mapped (a pipe) is read whole.
class JsonLines {
 public:
  /// Throws Error(kUser) where the file cannot be read, and for what is no JSONL at first sight: compressed
  /// or Parquet files, UTF-16, one JSON array.
  static JsonLines open(const std::filesystem::path& path);

  /// The next line that is not blank; false at the end.
  bool next(JsonLine& line);

  /// Bytes of lines returned so far, and of the file.
  std::int64_t bytes_read() const { return static_cast<std::int64_t>(at_); }
  std::int64_t size() const { return static_cast<std::int64_t>(bytes_.size()); }
  const std::string& name() const { return name_; }

 private:
  JsonLines() = default;
  std::string name_;
  std::shared_ptr<const MappedFile> mapped_;
  std::shared_ptr<const std::string> content_;  // where the file cannot be mapped
  std::string_view bytes_;
  std::size_t at_ = 0;
  std::int64_t number_ = 0;
};

}  // namespace hone::data
