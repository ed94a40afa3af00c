#include "data/records.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "data/record_readers.h"

namespace hone::data {

namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF"sv;

/// The format that a name says, without .gz and .zst; kAuto where it says none.
FileFormat format_of_name(fs::path path) {
  const auto extension = [&] {
    std::string lower = path.extension().string();
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return lower;
  };
  while (extension() == ".gz" || extension() == ".zst" || extension() == ".gzip" || extension() == ".zstd")
    path = path.stem();
  constexpr std::array<std::pair<std::string_view, FileFormat>, 7> kFormats{
      {{".jsonl", FileFormat::kJsonl},
       {".ndjson", FileFormat::kJsonl},
       {".csv", FileFormat::kCsv},
       {".tsv", FileFormat::kTsv},
       {".tab", FileFormat::kTsv},
       {".parquet", FileFormat::kParquet},
       {".pq", FileFormat::kParquet}}};
  for (const auto& [name, format] : kFormats)
    if (extension() == name) return format;
  return FileFormat::kAuto;  // .json is either an array or lines
}

/// Files that end up here by mistake, by their first bytes.
void refuse_other_files(std::string_view bytes, const std::string& name) {
  constexpr std::array<std::pair<std::string_view, const char*>, 6> kKinds{
      {{"PK\x03\x04"sv, "a zip archive; unpack it"},
       {"\xFF\xFE"sv, "UTF-16; write it in UTF-8"},
       {"\xFE\xFF"sv, "UTF-16; write it in UTF-8"},
       {"BZh"sv, "bzip2-compressed; unpack it, or compress it with gzip or zstd"},
       {"\xFD\x37zXZ"sv, "xz-compressed; unpack it, or compress it with gzip or zstd"},
       {"ARROW1"sv, "Arrow IPC (Feather); write it as Parquet or JSONL"}}};
  for (const auto& [magic, what] : kKinds)
    if (bytes.starts_with(magic)) fail("{}: the file is {}", name, what);
}

/// The first bytes of a window, without a byte order mark.
std::string_view first_bytes(TextWindow& window) {
  constexpr std::size_t kEnough = 16;
  while (window.text().size() < kEnough && window.more()) {
  }
  if (window.text().starts_with(kByteOrderMark)) window.consume(kByteOrderMark.size());
  return window.text();
}

/// The first byte that is no white space; 0 where there is none.
char first_character(TextWindow& window) {
  constexpr std::string_view kBlank = " \t\r\n";
  for (;;) {
    const auto at = window.text().find_first_not_of(kBlank);
    if (at != std::string_view::npos) return window.text()[at];
    if (window.text().size() > (1U << 20U) || !window.more()) return 0;
  }
}

std::int64_t size_of(const fs::path& path) {
  std::error_code unknown;
  if (!fs::is_regular_file(path, unknown)) return 0;
  const auto size = fs::file_size(path, unknown);
  return unknown ? 0 : static_cast<std::int64_t>(size);
}

}  // namespace

const std::vector<std::string>& file_format_names() {
  static const std::vector<std::string> names{"auto", "jsonl", "json", "csv", "tsv", "parquet"};
  return names;
}

std::string RowSource::where() const {
  switch (unit) {
    case Unit::kIndex:
      return fmt::format("{}[{}]", file, line);
    case Unit::kRow:
      return fmt::format("{}:row {}", file, line);
    default:
      return fmt::format("{}:{}", file, line);
  }
}

std::unique_ptr<RecordReader> RecordReader::open(const fs::path& path, FileFormat format) {
  if (format == FileFormat::kAuto) format = format_of_name(path);
  if (format == FileFormat::kParquet) return make_parquet_reader(path);
  TextWindow window(ByteStream::open(path), path.string());
  const auto bytes = first_bytes(window);
  refuse_other_files(bytes, path.string());
  if (bytes.starts_with("PAR1")) return make_parquet_reader(path);
  const std::int64_t size = size_of(path);
  switch (format) {
    case FileFormat::kCsv:
      return make_csv_reader(std::move(window), size, ',');
    case FileFormat::kTsv:
      return make_csv_reader(std::move(window), size, '\t');
    case FileFormat::kJson:
      return make_json_array_reader(std::move(window), size);
    default:
      break;
  }
  if (first_character(window) == '[') {
    // [1, 2] may be a line of JSONL that is no row: that is said of its elements.
    return make_json_array_reader(std::move(window), size);
  }
  return make_jsonl_reader(std::move(window), size);
}

}  // namespace hone::data
