// Parquet where this build has no Apache Arrow (HONE_PARQUET in cmake/deps.cmake).
#include "base/error.h"
#include "data/record_readers.h"

namespace hone::data {

std::unique_ptr<RecordReader> make_parquet_reader(const std::filesystem::path& path) {
  fail(
      "{}: this build of hone reads no Parquet; run scripts/setup.sh --parquet and build again, or write the "
      "file "
      "as JSONL (pandas.read_parquet(…).to_json(…, orient='records', lines=True))",
      path.string());
}

}  // namespace hone::data
