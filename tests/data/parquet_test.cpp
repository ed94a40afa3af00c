// Rows of Parquet files (tests/data/parquet/make.py), where this build reads them; else what it says.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "data/dataset.h"
#include "tests/data/support.h"
#include "text/pretrained_tokenizer.h"

namespace hone::data {
namespace {

using test::error_of;
using test::Json;
using test::TemporaryDirectory;
using ::testing::HasSubstr;

const std::string kFiles = std::string(HONE_TEST_DATA) + "/parquet/";

#if HONE_HAS_PARQUET

std::vector<Json> rows_of(const std::string& file) {
  const auto reader = RecordReader::open(file);
  std::vector<Json> rows;
  for (Record record; reader->next(record);) {
    rows.push_back(Json::parse(record.json));
    EXPECT_EQ(record.number, static_cast<std::int64_t>(rows.size()));
  }
  EXPECT_EQ(reader->share(), 1.0);
  return rows;
}

TEST(Parquet, GivesNestedRowsWithTheirNulls) {
  const auto rows = rows_of(kFiles + "messages.parquet");
  ASSERT_EQ(rows.size(), 40U);
  EXPECT_EQ(rows[39]["messages"], Json::parse(R"([
      {"role": "user", "content": "Question 39: \"é\"\n", "tool_calls": null},
      {"role": "assistant", "content": "Answer 39", "tool_calls": null}])"));
  EXPECT_EQ(rows[1]["messages"][1], Json::parse(R"({"role": "assistant", "content": null, "tool_calls": [
      {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome", "days": null}}}]})"));
  EXPECT_EQ(rows[2]["score"], 0.5);
  EXPECT_TRUE(rows[3]["score"].is_null());  // NaN
  EXPECT_TRUE(rows[0]["tools"].is_null());
}

TEST(Parquet, HasEveryType) {
  const auto rows = rows_of(kFiles + "types.parquet");
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0],
            Json::parse(R"({"text": "a", "bool": true, "i8": -128, "u64": 18446744073709551615, "f32": 0.1,
      "bytes": "ab", "date": "1970-01-01", "map": {"k": 1}, "fixed": [1, 2], "nested": [[1], []]})"));
  EXPECT_EQ(rows[1], Json::parse(R"({"text": null, "bool": false, "i8": 127, "u64": 0, "f32": null,
      "bytes": null, "date": "1970-01-02", "map": {}, "fixed": [3, null], "nested": null})"));
}

// "Nested data conversions not implemented for chunked array outputs", says Arrow, where it goes by its own
// schema.
TEST(Parquet, GivesArrowsOwnTypesAsPlainOnes) {
  const auto rows = rows_of(kFiles + "arrow.parquet");
  ASSERT_EQ(rows.size(), 600U);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::string text = fmt::format("text {} {}", i, std::string(400, 'x'));
    EXPECT_EQ(
        rows[i],
        Json({{"turns", {{{"role", "user"}, {"content", text}}, {{"role", "assistant"}, {"content", "yes"}}}},
              {"kind", i % 3 == 0   ? Json("a")
                       : i % 3 == 1 ? Json("b")
                                    : Json()},
              {"view", fmt::format("view {}", i)},
              {"large", Json::array({i})},
              {"f16", 0.5},
              {"fixed", "four"}}))
        << i;
  }
}

TEST(Parquet, IsTheDatasetThatJsonlIs) {
  const TemporaryDirectory dir;
  test::write_tokenizer(dir, "qwen3");
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(dir.path());
  std::string lines;
  for (const auto& row : rows_of(kFiles + "messages.parquet")) lines += row.dump() + "\n";
  const auto jsonl = Dataset::load(dir.write("rows.jsonl", lines), "train", tokenizer, {});
  const auto parquet = Dataset::load(kFiles + "messages.parquet", "train", tokenizer, {});
  EXPECT_EQ(parquet.statistics().rows, 40);
  EXPECT_EQ(parquet.fingerprint(), jsonl.fingerprint());
  EXPECT_EQ(parquet.source(parquet.num_examples() - 1).where(), kFiles + "messages.parquet:row 40");
  const auto ids = Dataset::load(kFiles + "ids.parquet", "train", nullptr, {});
  EXPECT_EQ(ids.example(0).labels, (std::vector<std::int32_t>{-100, 2, 3}));
  EXPECT_THAT(error_of([&] { Dataset::load(kFiles + "types.parquet", "train", tokenizer, {}); }),
              HasSubstr("types.parquet:row 2"));
}

TEST(Parquet, SaysWhatIsBroken) {
  const TemporaryDirectory dir;
  const std::string whole = read_file(kFiles + "messages.parquet");
  const auto error = [&](const std::string& content) {
    return error_of([&] { rows_of(dir.write("rows.parquet", content)); });
  };
  for (const std::size_t size : {whole.size() - 1, whole.size() / 2, std::size_t{4}, std::size_t{0}})
    EXPECT_THAT(error(whole.substr(0, size)), HasSubstr("rows.parquet: cannot be read as Parquet")) << size;
  EXPECT_THAT(error("{}\n"), HasSubstr("cannot be read as Parquet"));
  EXPECT_THAT(error_of([] { RecordReader::open("missing.parquet"); }),
              HasSubstr("missing.parquet: cannot open"));
  EXPECT_EQ(rows_of(dir.write("misnamed.jsonl", whole)).size(), 40U);
  // Broken bytes anywhere end in rows or in an error.
  for (std::size_t at = 0; at < whole.size(); at += 37) {
    std::string broken = whole;
    broken[at] = static_cast<char>(broken[at] ^ 0x55);
    const auto file = dir.write("rows.parquet", broken);
    const auto message = error_of([&] {
      const auto reader = RecordReader::open(file);
      for (Record record; reader->next(record);) {
      }
    });
    EXPECT_THAT(message, ::testing::AnyOf("", HasSubstr("cannot be read as Parquet"))) << at;
  }
}

#else

TEST(Parquet, IsRefusedWithTheRemedy) {
  for (const char* file : {"messages.parquet", "ids.parquet"})
    EXPECT_THAT(error_of([&] { RecordReader::open(kFiles + file); }),
                HasSubstr("run scripts/setup.sh --parquet"));
  const TemporaryDirectory dir;
  EXPECT_THAT(error_of([&] { RecordReader::open(dir.write("rows", read_file(kFiles + "ids.parquet"))); }),
              HasSubstr("reads no Parquet"));
}

#endif

}  // namespace
}  // namespace hone::data
