// Data files of every format as rows of JSON, read once from front to back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hone::data {

/// How rows lie in a file. Whether the file is compressed (gzip, zstd) its bytes say, whatever the format.
enum class FileFormat {
  kAuto,     // by the file's name and its first bytes
  kJsonl,    // one JSON object a line
  kJson,     // one array of objects
  kCsv,      // RFC 4180: commas, a header, fields that may be quoted and then hold line breaks
  kTsv,      // the same with tabs
  kParquet,  // where this build has it
};
/// The words of `data.format`, in the order of the enum.
const std::vector<std::string>& file_format_names();

/// Where a row is.
struct RowSource {
  enum class Unit { kLine, kIndex, kRow };
  std::string file;
  std::int64_t line = 0;  // 1-based line; of a JSON array the index from 0; of Parquet the row from 1
  Unit unit = Unit::kLine;

  /// "FILE:LINE", "FILE[INDEX]" or "FILE:row ROW": what errors about the row begin with.
  std::string where() const;
};

/// One row.
struct Record {
  std::string_view json;    // an object; valid until the next row is asked for
  std::int64_t number = 0;  // RowSource::line
};

/// The rows of one data file. Memory does not grow with the file, only with its longest row (in Parquet, its
/// largest row group's columns).
class RecordReader {
 public:
  /// Throws Error(kUser) where the file cannot be read, and for what is none of the formats at first sight: a
  /// zip archive, UTF-16.
  static std::unique_ptr<RecordReader> open(const std::filesystem::path& path,
                                            FileFormat format = FileFormat::kAuto);

  RecordReader() = default;
  virtual ~RecordReader() = default;
  RecordReader(const RecordReader&) = delete;
  RecordReader& operator=(const RecordReader&) = delete;

  /// The next row; false at the end. A byte order mark, blank lines and CR before LF are left out. JSON is
  /// not checked here beyond where it ends. Throws Error(kUser) at the row for what has no end, and for CSV
  /// whose fields do not match its header.
  virtual bool next(Record& record) = 0;
  /// Where row `number` of this file is.
  virtual RowSource source(std::int64_t number) const = 0;
  /// The share of the file that has been read, from 0 to 1; of a pipe, whose size is unknown, 0.
  virtual double share() const = 0;
  /// Bytes of the file; 0 for a pipe.
  virtual std::int64_t size() const = 0;
};

}  // namespace hone::data
