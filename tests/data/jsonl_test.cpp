// Lines of files, and where the files of a dataset are.
#include "data/jsonl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/data/support.h"

namespace hone::data {
namespace {

using test::error_of;
using test::TemporaryDirectory;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

std::vector<std::pair<std::int64_t, std::string>> lines_of(const std::string& file) {
  auto lines = JsonLines::open(file);
  std::vector<std::pair<std::int64_t, std::string>> result;
  JsonLine line;
  while (lines.next(line)) result.emplace_back(line.number, line.text);
  EXPECT_EQ(lines.bytes_read(), lines.size());
  return result;
}

TEST(JsonLines, CountsBlankLinesAndSkipsThem) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", "\n{1}\n  \t\n\n{2}");
  EXPECT_THAT(lines_of(file), ElementsAre(std::pair{2, "{1}"}, std::pair{5, "{2}"}));
}

TEST(JsonLines, LeaveOutByteOrderMarkAndCarriageReturns) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", "\xEF\xBB\xBF{1}\r\n\r\n{\"a\": \"x\\r\"}\r\n");
  EXPECT_THAT(lines_of(file), ElementsAre(std::pair{1, "{1}"}, std::pair{3, "{\"a\": \"x\\r\"}"}));
}

TEST(JsonLines, MayBeVeryLong) {
  const TemporaryDirectory dir;
  const std::string huge(3'000'000, 'x');
  const auto file = dir.write("rows.jsonl", huge + "\n" + huge);
  const auto lines = lines_of(file);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[1].second, huge);
}

TEST(JsonLines, HasNoneInAnEmptyFile) {
  const TemporaryDirectory dir;
  EXPECT_TRUE(lines_of(dir.write("rows.jsonl", "")).empty());
  EXPECT_TRUE(lines_of(dir.write("blank.jsonl", " \n\r\n\n")).empty());
}

TEST(JsonLines, RefusesOtherFormats) {
  const TemporaryDirectory dir;
  const auto refusal = [&](const std::string& content) {
    const auto file = dir.write("rows", content);
    return error_of([&] { JsonLines::open(file); });
  };
  EXPECT_THAT(refusal("\x1F\x8B\x08"), HasSubstr("gzip"));
  EXPECT_THAT(refusal("PAR1xxxx"), HasSubstr("Parquet"));
  EXPECT_THAT(refusal("\xFF\xFE{"), HasSubstr("UTF-16"));
  EXPECT_THAT(refusal("\n[\n{}\n]"), HasSubstr("rows:2: the file is a JSON array"));
}

TEST(DataFiles, AreTheFileItself) {
  const TemporaryDirectory dir;
  const auto odd = dir.write("odd[1].jsonl", "");
  EXPECT_THAT(find_data_files(odd, "train"), ElementsAre(odd));
}

TEST(DataFiles, AreWhatAPatternMatchesInOrder) {
  const TemporaryDirectory dir;
  const auto b = dir.write("b.jsonl", "");
  const auto a = dir.write("a.jsonl", "");
  dir.write("a.txt", "");
  std::filesystem::create_directory(dir / "c.jsonl");
  EXPECT_THAT(find_data_files(dir / "*.jsonl", "train"), ElementsAre(a, b));
  EXPECT_THAT(error_of([&] { find_data_files(dir / "*.csv", "train"); }),
              EndsWith("*.csv: no file matches the pattern"));
}

TEST(DataFiles, OfADirectoryAreOfItsSplit) {
  const TemporaryDirectory dir;
  const auto train = dir.write("train.jsonl", "");
  const auto dev = dir.write("dev.jsonl", "");
  EXPECT_THAT(find_data_files(dir.path(), "train"), ElementsAre(train));
  EXPECT_THAT(find_data_files(dir.path(), "valid"), ElementsAre(dev));
  const auto valid = dir.write("valid.jsonl", "");
  EXPECT_THAT(find_data_files(dir.path(), "valid"), ElementsAre(valid));
  EXPECT_THAT(
      error_of([&] { find_data_files(dir.path(), "test"); }),
      HasSubstr("the directory has no test.jsonl (looked for test.jsonl); its JSONL files: dev.jsonl, "
                "train.jsonl, valid.jsonl"));
}

TEST(DataFiles, AreMissedByName) {
  EXPECT_EQ(error_of([] { find_data_files("no/such/place.jsonl", "train"); }),
            "no/such/place.jsonl: no such file, directory or pattern");
}

}  // namespace
}  // namespace hone::data
