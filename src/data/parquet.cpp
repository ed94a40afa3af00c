// Parquet through Apache Arrow: batches of rows, each row as JSON. What a file says of itself is its Parquet
// schema; the Arrow schema that Arrow's own writers put beside it is left out. Of a value it changes nothing
// that JSON shows, and a list of structs whose strings it calls dictionaries (categories of pandas, datasets'
// roles) cannot be read across row groups by Arrow: each has a dictionary of its own, and nested data must be
// in one piece.
#include <arrow/api.h>
#include <arrow/util/config.h>
#include <arrow/util/float16.h>
#include <parquet/arrow/reader.h>
#include <parquet/exception.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>
#include <parquet/properties.h>

#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "base/error.h"
#include "data/json_text.h"
#include "data/record_readers.h"
#include "text/unicode.h"

namespace hone::data {

namespace {

/// Rows that are decoded at once.
constexpr std::int64_t kBatchRows = 1024;

void append(std::string& out, const arrow::Array& array, std::int64_t i);

/// Numbers as JSON has them; what it has not (NaN, infinities) is null, as pandas means it.
template <typename Real>
void append_real(std::string& out, Real value) {
  out += std::isfinite(value) ? fmt::format("{}", value) : "null";
}

/// Text, and bytes that are text; other bytes (images, say) are null: no key that hone reads holds any.
void append_bytes(std::string& out, std::string_view bytes) {
  if (text::unicode::find_invalid(bytes) == std::string::npos)
    append_json_string(out, bytes);
  else
    out += "null";
}

void append_list(std::string& out, const arrow::Array& values, std::int64_t begin, std::int64_t end) {
  out += '[';
  for (std::int64_t i = begin; i < end; ++i) {
    if (i > begin) out += ',';
    append(out, values, i);
  }
  out += ']';
}

void append_struct(std::string& out, const arrow::StructArray& array, std::int64_t i) {
  out += '{';
  for (int field = 0; field < array.num_fields(); ++field) {
    if (field > 0) out += ',';
    append_json_string(out, array.struct_type()->field(field)->name());
    out += ':';
    append(out, *array.field(field), i);
  }
  out += '}';
}

/// Of string keys an object, of others a list of pairs.
void append_map(std::string& out, const arrow::MapArray& array, std::int64_t i) {
  const std::int64_t begin = array.value_offset(i);
  const std::int64_t end = begin + array.value_length(i);
  const bool object = array.keys()->type_id() == arrow::Type::STRING;
  out += object ? '{' : '[';
  for (std::int64_t at = begin; at < end; ++at) {
    if (at > begin) out += ',';
    if (!object) out += '[';
    append(out, *array.keys(), at);
    out += object ? ':' : ',';
    append(out, *array.items(), at);
    if (!object) out += ']';
  }
  out += object ? '}' : ']';
}

template <typename Array>
auto value_of(const arrow::Array& array, std::int64_t i) {
  return static_cast<const Array&>(array).Value(i);
}

template <typename Array>
std::string_view view_of(const arrow::Array& array, std::int64_t i) {
  return static_cast<const Array&>(array).GetView(i);
}

void append(std::string& out, const arrow::Array& array, std::int64_t i) {
  using arrow::Type;
  if (array.IsNull(i)) {
    out += "null";
    return;
  }
  switch (array.type_id()) {
    case Type::NA:
      out += "null";
      return;
    case Type::BOOL:
      out += value_of<arrow::BooleanArray>(array, i) ? "true" : "false";
      return;
    case Type::INT8:
      out += std::to_string(value_of<arrow::Int8Array>(array, i));
      return;
    case Type::INT16:
      out += std::to_string(value_of<arrow::Int16Array>(array, i));
      return;
    case Type::INT32:
      out += std::to_string(value_of<arrow::Int32Array>(array, i));
      return;
    case Type::INT64:
      out += std::to_string(value_of<arrow::Int64Array>(array, i));
      return;
    case Type::UINT8:
      out += std::to_string(value_of<arrow::UInt8Array>(array, i));
      return;
    case Type::UINT16:
      out += std::to_string(value_of<arrow::UInt16Array>(array, i));
      return;
    case Type::UINT32:
      out += std::to_string(value_of<arrow::UInt32Array>(array, i));
      return;
    case Type::UINT64:
      out += std::to_string(value_of<arrow::UInt64Array>(array, i));
      return;
    case Type::HALF_FLOAT:
      append_real(out, arrow::util::Float16::FromBits(value_of<arrow::HalfFloatArray>(array, i)).ToFloat());
      return;
    case Type::FLOAT:
      append_real(out, value_of<arrow::FloatArray>(array, i));
      return;
    case Type::DOUBLE:
      append_real(out, value_of<arrow::DoubleArray>(array, i));
      return;
    case Type::STRING:
      append_bytes(out, view_of<arrow::StringArray>(array, i));
      return;
    case Type::BINARY:
      append_bytes(out, view_of<arrow::BinaryArray>(array, i));
      return;
    case Type::FIXED_SIZE_BINARY:
      append_bytes(out, view_of<arrow::FixedSizeBinaryArray>(array, i));
      return;
    case Type::LIST: {
      const auto& list = static_cast<const arrow::ListArray&>(array);
      return append_list(out, *list.values(), list.value_offset(i), list.value_offset(i + 1));
    }
    case Type::STRUCT:
      return append_struct(out, static_cast<const arrow::StructArray&>(array), i);
    case Type::MAP:
      return append_map(out, static_cast<const arrow::MapArray&>(array), i);
    default: {  // dates, decimals: as text
      const auto scalar = array.GetScalar(i);
      if (scalar.ok())
        append_bytes(out, (*scalar)->ToString());
      else
        out += "null";
    }
  }
}

/// The same without the key "ARROW:schema" (and what else writers note there).
std::shared_ptr<parquet::FileMetaData> without_arrow_schema(const parquet::FileMetaData& metadata) {
  const auto properties = parquet::WriterProperties::Builder().created_by(metadata.created_by())->build();
  std::shared_ptr<parquet::FileMetaData> stripped =
      parquet::FileMetaDataBuilder::Make(metadata.schema(), properties)->Finish();
  stripped->AppendRowGroups(metadata);
  return stripped;
}

class ParquetReader : public RecordReader {
 public:
  explicit ParquetReader(const std::filesystem::path& path) : name_(path.string()) {
    std::error_code unknown;
    const auto size = std::filesystem::file_size(path, unknown);
    if (unknown) fail("{}: cannot open: {}", name_, unknown.message());
    size_ = static_cast<std::int64_t>(size);
    guarded([&] {
      parquet::ReaderProperties reading = parquet::default_reader_properties();
      reading.enable_buffered_stream();  // or a row group's columns would be read whole
      parquet::ArrowReaderProperties decoding;
      decoding.set_batch_size(kBatchRows);
      decoding.set_pre_buffer(false);
      parquet::arrow::FileReaderBuilder opened, builder;
      check(opened.OpenFile(name_, false, reading));
      const auto metadata = without_arrow_schema(*opened.raw_reader()->metadata());
      check(builder.OpenFile(name_, false, reading, metadata));
      check(builder.memory_pool(arrow::default_memory_pool())->properties(decoding)->Build(&file_));
      num_rows_ = metadata->num_rows();
      auto batches = file_->GetRecordBatchReader();
      check(batches.status());
      batches_ = std::move(*batches);
    });
  }

  bool next(Record& record) override {
    while (!batch_ || at_ == batch_->num_rows()) {
      guarded([&] { check(batches_->ReadNext(&batch_)); });
      at_ = 0;
      if (!batch_) return false;
    }
    json_ = '{';
    for (int column = 0; column < batch_->num_columns(); ++column) {
      if (column > 0) json_ += ',';
      append_json_string(json_, batch_->schema()->field(column)->name());
      json_ += ':';
      append(json_, *batch_->column(column), at_);
    }
    json_ += '}';
    ++at_;
    record = {json_, ++row_};
    return true;
  }

  RowSource source(std::int64_t number) const override { return {name_, number, RowSource::Unit::kRow}; }
  double share() const override {
    return num_rows_ > 0 ? static_cast<double>(row_) / static_cast<double>(num_rows_) : 1.0;
  }
  std::int64_t size() const override { return size_; }

 private:
  void check(const arrow::Status& status) const {
    if (!status.ok()) fail_read(status.message());
  }
  [[noreturn]] void fail_read(std::string what) const {
    what = what.substr(0, what.find('\n'));
    fail("{}: cannot be read as Parquet{}: {}", name_, row_ > 0 ? fmt::format(" behind row {}", row_) : "",
         what);
  }
  /// What Arrow throws, as an Error.
  template <typename Action>
  void guarded(Action&& action) const {
    try {
      action();
    } catch (const Error&) {
      throw;
    } catch (const std::exception& e) {
      fail_read(e.what());
    }
  }

  std::string name_;
  std::int64_t size_ = 0, num_rows_ = 0, at_ = 0, row_ = 0;
  std::unique_ptr<parquet::arrow::FileReader> file_;
  std::unique_ptr<arrow::RecordBatchReader> batches_;
  std::shared_ptr<arrow::RecordBatch> batch_;
  std::string json_;
};

}  // namespace

std::unique_ptr<RecordReader> make_parquet_reader(const std::filesystem::path& path) {
  return std::make_unique<ParquetReader>(path);
}

}  // namespace hone::data
