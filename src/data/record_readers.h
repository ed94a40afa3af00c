// The readers behind RecordReader::open. Inside this room only.
#pragma once

#include <filesystem>
#include <memory>

#include "data/byte_stream.h"
#include "data/records.h"

namespace hone::data {

/// What readers of text share: the window, and how far it is.
class TextReader : public RecordReader {
 public:
  TextReader(TextWindow window, std::int64_t size, RowSource::Unit unit)
      : window_(std::move(window)), size_(size), unit_(unit) {}
  RowSource source(std::int64_t number) const override { return {window_.name(), number, unit_}; }
  double share() const override {
    return size_ > 0 ? static_cast<double>(window_.bytes_read()) / static_cast<double>(size_) : 0.0;
  }
  std::int64_t size() const override { return size_; }

 protected:
  TextWindow& window() { return window_; }

 private:
  TextWindow window_;
  std::int64_t size_ = 0;
  RowSource::Unit unit_;
};

std::unique_ptr<RecordReader> make_jsonl_reader(TextWindow window, std::int64_t size);
std::unique_ptr<RecordReader> make_json_array_reader(TextWindow window, std::int64_t size);
std::unique_ptr<RecordReader> make_csv_reader(TextWindow window, std::int64_t size, char separator);
/// Throws Error(kUser) that names the remedy where this build reads no Parquet.
std::unique_ptr<RecordReader> make_parquet_reader(const std::filesystem::path& path);

}  // namespace hone::data
