// Rows of files of every format, and where the files of a dataset are.
#include "data/records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "data/data_files.h"
#include "tests/data/support.h"

namespace hone::data {
namespace {

using test::error_of;
using test::Json;
using test::TemporaryDirectory;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

using Rows = std::vector<std::pair<std::int64_t, std::string>>;

Rows rows_of(const std::string& file, FileFormat format = FileFormat::kAuto) {
  const auto reader = RecordReader::open(file, format);
  Rows result;
  for (Record record; reader->next(record);) result.emplace_back(record.number, record.json);
  Record none;
  EXPECT_FALSE(reader->next(none));
  EXPECT_EQ(reader->share(), reader->size() > 0 ? 1.0 : 0.0);
  return result;
}

std::string error_in(const std::string& file, FileFormat format = FileFormat::kAuto) {
  return error_of([&] { rows_of(file, format); });
}

std::string gzip(const std::string& text) {
  z_stream state{};
  deflateInit2(&state, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(compressBound(text.size()) + 64, '\0');
  state.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  state.avail_in = static_cast<uInt>(text.size());
  state.next_out = reinterpret_cast<Bytef*>(out.data());
  state.avail_out = static_cast<uInt>(out.size());
  deflate(&state, Z_FINISH);
  out.resize(state.total_out);
  deflateEnd(&state);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

/// `count` lines of pseudo-random length, some longer than any buffer's first size.
std::string many_lines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += "{\"n\": " + std::to_string(i) + ", \"x\": \"";
    for (int j = 0; j < (i % 97 == 0 ? 90'000 : i * 7919 % 400); ++j)
      text += static_cast<char>('a' + (i + std::int64_t{j} * j) % 26);
    text += "\"}\n";
  }
  return text;
}

TEST(Jsonl, CountsBlankLinesAndSkipsThem) {
  const TemporaryDirectory dir;
  EXPECT_THAT(rows_of(dir.write("rows.jsonl", "\n{1}\n  \t\n\n{2}")),
              ElementsAre(std::pair{2, "{1}"}, std::pair{5, "{2}"}));
}

TEST(Jsonl, LeavesOutByteOrderMarkAndCarriageReturns) {
  const TemporaryDirectory dir;
  EXPECT_THAT(rows_of(dir.write("rows.jsonl", "\xEF\xBB\xBF{1}\r\n\r\n{\"a\": \"x\\r\"}\r\n")),
              ElementsAre(std::pair{1, "{1}"}, std::pair{3, "{\"a\": \"x\\r\"}"}));
}

TEST(Jsonl, MayHaveVeryLongLines) {
  const TemporaryDirectory dir;
  const std::string huge(3'000'000, 'x');
  const auto rows = rows_of(dir.write("rows.jsonl", huge + "\n" + huge));
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].second, huge);
  EXPECT_EQ(rows[1].second, huge);
}

TEST(Jsonl, HasNoRowsInAnEmptyFile) {
  const TemporaryDirectory dir;
  EXPECT_TRUE(rows_of(dir.write("rows.jsonl", "")).empty());
  EXPECT_TRUE(rows_of(dir.write("blank.jsonl", " \n\r\n\n")).empty());
}

TEST(Jsonl, IsReadFromAPipe) {
  const TemporaryDirectory dir;
  const std::string pipe = dir / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const std::string lines = many_lines(500);
  for (const auto& content : {lines, gzip(lines)}) {
    std::thread writer([&] { std::ofstream(pipe, std::ios::binary) << content; });
    const auto rows = rows_of(pipe);
    writer.join();
    ASSERT_EQ(rows.size(), 500U);
    EXPECT_THAT(rows[499].second, HasSubstr("\"n\": 499"));
  }
}

TEST(Compressed, IsWhatItsBytesSay) {
  const TemporaryDirectory dir;
  const std::string lines = many_lines(800);
  const auto plain = rows_of(dir.write("rows.jsonl", lines));
  ASSERT_EQ(plain.size(), 800U);
  EXPECT_EQ(rows_of(dir.write("rows.jsonl.gz", gzip(lines))), plain);
  EXPECT_EQ(rows_of(dir.write("rows.jsonl.zst", zstd(lines))), plain);
  EXPECT_EQ(rows_of(dir.write("misnamed.jsonl", gzip(lines))), plain);
  EXPECT_EQ(rows_of(dir.write("unpacked.jsonl.gz", lines)), plain);
  EXPECT_THAT(rows_of(dir.write("rows.csv.gz", gzip("text\nhi\n"))),
              ElementsAre(std::pair{2, R"({"text":"hi"})"}));
}

TEST(Compressed, MayBeOfSeveralMembers) {
  const TemporaryDirectory dir;
  const Rows rows{{1, "{1}"}, {2, "{2}"}};
  EXPECT_EQ(rows_of(dir.write("rows.jsonl.gz", gzip("{1}\n") + gzip("") + gzip("{2}\n"))), rows);
  EXPECT_EQ(rows_of(dir.write("padded.jsonl.gz", gzip("{1}\n{2}\n") + std::string(700, '\0'))), rows);
  EXPECT_EQ(rows_of(dir.write("rows.jsonl.zst", zstd("{1}\n") + zstd("{2}\n"))), rows);
}

TEST(Compressed, MustBeWhole) {
  const TemporaryDirectory dir;
  const std::string lines = many_lines(300);
  for (const auto& [name, whole] : {std::pair{"a.jsonl.gz", gzip(lines)}, {"a.jsonl.zst", zstd(lines)}}) {
    for (const std::size_t size : {whole.size() - 1, whole.size() / 2, std::size_t{20}})
      EXPECT_THAT(error_in(dir.write(name, whole.substr(0, size))), EndsWith("file is cut off"))
          << name << size;
    auto broken = whole;
    broken[broken.size() / 2] = static_cast<char>(broken[broken.size() / 2] ^ 0x55);
    EXPECT_THAT(error_in(dir.write(name, broken)), HasSubstr("file is broken")) << name;
  }
  EXPECT_THAT(error_in(dir.write("b.jsonl.gz", gzip(lines) + "junk")), HasSubstr("file is broken"));
}

TEST(JsonArray, GivesItsElements) {
  const TemporaryDirectory dir;
  const Rows rows{{0, R"({"a": "]},{\" \\"})"}, {1, "{\n\"b\": [{}, [1]]\n}"}, {2, "{}"}};
  const std::string text = "\xEF\xBB\xBF \n[ " + rows[0].second + ",\r\n" + rows[1].second + " , {} ]\n ";
  EXPECT_EQ(rows_of(dir.write("rows.json", text)), rows);
  EXPECT_EQ(rows_of(dir.write("rows.jsonl", text)), rows);
  EXPECT_EQ(rows_of(dir.write("rows.json.gz", gzip(text))), rows);
  EXPECT_TRUE(rows_of(dir.write("rows.json", "[ ]")).empty());
  EXPECT_THAT(rows_of(dir.write("scalars.json", R"([1, "a,]", true])")),
              ElementsAre(std::pair{0, "1"}, std::pair{1, "\"a,]\""}, std::pair{2, "true"}));
  EXPECT_THAT(rows_of(dir.write("lines.json", "{1}\n{2}\n")),
              ElementsAre(std::pair{1, "{1}"}, std::pair{2, "{2}"}));
}

TEST(JsonArray, OfManyElementsIsTheSameAsLines) {
  const TemporaryDirectory dir;
  const std::string lines = many_lines(700);
  std::string array = "[" + lines;
  array.back() = ']';
  for (std::size_t at = 0; (at = array.find("}\n", at)) != std::string::npos; at += 2)
    array.replace(at, 2, "},");
  const auto a = rows_of(dir.write("rows.json", array));
  const auto b = rows_of(dir.write("rows.jsonl", lines));
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].second, b[i].second);
}

TEST(JsonArray, SaysWhereItIsBroken) {
  const TemporaryDirectory dir;
  const auto error = [&](const std::string& text) {
    const auto file = dir.write("rows.json", text);
    const auto message = error_in(file, FileFormat::kJson);
    EXPECT_TRUE(message.starts_with(file)) << message;
    return message.substr(std::min(message.size(), file.size()));
  };
  EXPECT_EQ(error("[{}\n,\n{} {}]"), ":3: expected , or ] after element 1 of the array");
  EXPECT_EQ(error("[{},\n]"), ":2: expected element 1 of the array, found ]");
  EXPECT_EQ(error("[{},,{}]"), ":1: expected element 1 of the array, found ,");
  EXPECT_EQ(error("[{},\n{}"), ":2: the file ends inside the array, after 2 elements; it is cut off");
  EXPECT_EQ(error("[{},\n"), ":2: the file ends inside the array, after 1 elements; it is cut off");
  EXPECT_EQ(error("[{},\n{\"a\": \"\n\\"),
            ":2: the file ends inside element 1 of the array, which begins here; it is cut off");
  EXPECT_EQ(error("[{}]\n[]"), ":2: something follows the array; a JSON file is one array of rows");
  EXPECT_THAT(error("\n{}"), HasSubstr(":2: the file does not begin with ["));
}

TEST(Csv, GivesObjectsOfStrings) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.csv",
                              "\xEF\xBB\xBFprompt,completion,\"a \"\"b\"\"\"\r\n"
                              "one,\"two, \"\"three\"\"\r\nfour\",\r\n"
                              "\n"
                              " x , 5\" ,\"\"\n"
                              "\"\\\t\",\xC3\xA9,z");
  EXPECT_THAT(
      rows_of(file),
      ElementsAre(
          std::pair{2, R"({"prompt":"one","completion":"two, \"three\"\u000d\u000afour","a \"b\"":null})"},
          std::pair{5, R"({"prompt":" x ","completion":" 5\" ","a \"b\"":""})"},
          std::pair{6, R"({"prompt":"\\\u0009","completion":"é","a \"b\"":"z"})"}));
  EXPECT_TRUE(rows_of(dir.write("header.csv", "text\n")).empty());
  EXPECT_TRUE(rows_of(dir.write("empty.csv", "")).empty());
  EXPECT_THAT(rows_of(dir.write("rows.tsv", "a\tb\n1,2\t\"x\ty\"\n")),
              ElementsAre(std::pair{2, R"({"a":"1,2","b":"x\u0009y"})"}));
  EXPECT_THAT(rows_of(dir.write("data.txt", "a\n[1]\n"), FileFormat::kCsv),
              ElementsAre(std::pair{2, R"({"a":"[1]"})"}));
}

TEST(Csv, SaysWhereItIsBroken) {
  const TemporaryDirectory dir;
  const auto error = [&](const std::string& text) {
    const auto file = dir.write("rows.csv", text);
    const auto message = error_in(file);
    EXPECT_TRUE(message.starts_with(file)) << message;
    return message.substr(std::min(message.size(), file.size()));
  };
  EXPECT_EQ(error("a,b\n1,2\n\n1,2,3\n"), ":4: 3 fields, where the header has 2 columns");
  EXPECT_EQ(error("a,b\n\"1\n\n\",2\n1\n"), ":5: 1 fields, where the header has 2 columns");
  EXPECT_EQ(error("a,b\n1,\"2\n\n"), ":2: the quoted field 2 that begins here is never closed");
  EXPECT_EQ(error("a,b\n\"1\"x,2\n"),
            ":2: 'x' follows the closing quote of field 1; a quote inside a quoted field is doubled (\"\")");
  EXPECT_EQ(error("a,b,a\n"), ":1: two columns are called 'a'");
  EXPECT_EQ(error("a;b\n1;2\n"),
            ":1: the header is one column, 'a;b'; fields are separated by ',' here, not by ';'");
  EXPECT_THAT(error("a\tb\n1\t2\n"), EndsWith("not by tabs; data.format: tsv"));
}

TEST(Csv, OfManyRecordsKeepsEveryByte) {
  const TemporaryDirectory dir;
  std::string csv = "text,n\n";
  std::vector<std::string> texts;
  for (int i = 0; i < 3000; ++i) {
    std::string text;
    for (int j = 0; j < i * 7919 % 900; ++j)
      text += "a\"\n,\r\t\\ \xC3\xA9"[static_cast<std::size_t>((i + j * j) % 8)];
    std::string quoted;
    for (const char c : text) quoted.append(c == '"' ? 2 : 1, c);
    csv += '"' + quoted + "\"," + std::to_string(i) + (i % 2 == 0 ? "\n" : "\r\n");
    texts.push_back(text);
  }
  const auto rows = rows_of(dir.write("rows.csv", csv));
  ASSERT_EQ(rows.size(), texts.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto json = Json::parse(rows[i].second);
    EXPECT_EQ(json["text"], texts[i]);
    EXPECT_EQ(json["n"], std::to_string(i));
  }
}

TEST(Records, RefuseOtherFiles) {
  const TemporaryDirectory dir;
  EXPECT_THAT(error_in(dir.write("rows.jsonl", "PK\x03\x04")), HasSubstr("zip"));
  EXPECT_THAT(error_in(dir.write("rows.jsonl", "\xFF\xFE{")), HasSubstr("UTF-16"));
  EXPECT_THAT(error_in(dir.write("rows.jsonl", "BZh9")), HasSubstr("bzip2"));
  EXPECT_THAT(error_in(dir / "missing.jsonl"), HasSubstr("cannot open"));
  EXPECT_THAT(error_in(dir.path()), HasSubstr("is a directory"));
}

TEST(Records, KnowWhereTheyAre) {
  EXPECT_EQ((RowSource{"a.jsonl", 3, RowSource::Unit::kLine}.where()), "a.jsonl:3");
  EXPECT_EQ((RowSource{"a.json", 3, RowSource::Unit::kIndex}.where()), "a.json[3]");
  EXPECT_EQ((RowSource{"a.parquet", 3, RowSource::Unit::kRow}.where()), "a.parquet:row 3");
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
      HasSubstr("the directory has no test.jsonl (looked for test.jsonl, and .json, .csv, .tsv, .parquet); "
                "its data files: dev.jsonl, train.jsonl, valid.jsonl"));
}

TEST(DataFiles, OfADirectoryAreOfAnyFormatAndInShards) {
  const TemporaryDirectory dir;
  const auto csv = dir.write("train.csv.gz", "");
  EXPECT_THAT(find_data_files(dir.path(), "train"), ElementsAre(csv));
  const auto jsonl = dir.write("train.jsonl.zst", "");
  EXPECT_THAT(find_data_files(dir.path(), "train"), ElementsAre(jsonl));
  std::filesystem::create_directory(dir / "data");
  const auto b = dir.write("data/validation-00001-of-00002.parquet", "");
  const auto a = dir.write("data/validation-00000-of-00002.parquet", "");
  dir.write("data/train-00000-of-00001.parquet", "");
  EXPECT_THAT(find_data_files(dir.path(), "valid"), ElementsAre(a, b));
}

TEST(DataFiles, AreMissedByName) {
  EXPECT_EQ(error_of([] { find_data_files("no/such/place.jsonl", "train"); }),
            "no/such/place.jsonl: no such file, directory or pattern");
}

}  // namespace
}  // namespace hone::data
