// Tokens from one start to the next: the same ones, or new ones.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/file.h"
#include "data/dataset.h"
#include "data/token_file.h"
#include "tests/data/support.h"
#include "text/moment.h"
#include "text/pretrained_tokenizer.h"

namespace hone::data {
namespace {

using test::error_of;
using test::TemporaryDirectory;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

class TokenCacheTest : public ::testing::Test {
 protected:
  TokenCacheTest() {
    test::write_tokenizer(dir, "chatml");
    dir.write("train.jsonl", rows("the"));
  }

  static std::string rows(const std::string& word) {
    std::string text;
    for (int i = 0; i < 300; ++i)
      text += i % 3 == 0 ? "{\"text\": \"" + word + " " + std::to_string(i) + "\"}\n"
              : i % 3 == 1
                  ? "{\"prompt\": \"" + std::to_string(i) + "\", \"completion\": \" " + word + "\"}\n"
                  : "{\"input_ids\": [1, 2, 3], \"labels\": [-100, " + std::to_string(i) + ", 3]}\n";
    return text;
  }

  DatasetOptions options() const {
    return {.seq_len = 64,
            .seed = 3,
            .vocab = 1000,
            .cache = {.directory = cache, .least_bytes = 0, .tokenizer = dir.path()}};
  }
  Dataset load(const DatasetOptions& with) const {
    const auto tokenizer = text::PretrainedTokenizer::from_pretrained(dir.path());
    return Dataset::load(dir / "train.jsonl", "train", tokenizer, with);
  }
  Dataset load() const { return load(options()); }
  /// Was the file's tokens' file there?
  bool hits(const DatasetOptions& with) const { return load(with).statistics().cached_files == 1; }
  bool hits() const { return hits(options()); }

  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(cache)) found.push_back(entry.path());
    return found;
  }

  TemporaryDirectory dir;
  fs::path cache = dir / "cache";
};

TEST_F(TokenCacheTest, GivesWhatTokenizingGives) {
  const auto first = load();
  EXPECT_EQ(first.statistics().cached_files, 0);
  auto uncached = options();
  uncached.cache.directory.clear();
  const auto plain = load(uncached);
  const auto second = load();
  EXPECT_EQ(second.statistics().cached_files, 1);
  EXPECT_EQ(files().size(), 1U);
  for (const auto* dataset : {&first, &second}) {
    EXPECT_EQ(dataset->fingerprint(), plain.fingerprint());
    ASSERT_EQ(dataset->num_examples(), 300);
    EXPECT_EQ(dataset->statistics().supervised, plain.statistics().supervised);
    EXPECT_EQ(dataset->statistics().rows, 300);
    for (std::int64_t i = 0; i < 300; ++i) {
      EXPECT_EQ(dataset->example(i).ids, plain.example(i).ids);
      EXPECT_EQ(dataset->example(i).labels, plain.example(i).labels);
      EXPECT_EQ(dataset->source(i).where(), plain.source(i).where());
    }
  }
  EXPECT_FALSE(fs::exists(cache / "x"));
  EXPECT_EQ(plain.statistics().cached_files, 0);
}

TEST_F(TokenCacheTest, ServesEverySeqLenAndSide) {
  load();
  auto other = options();
  other.seq_len = 5;
  other.packing = false;
  other.overlong = Overlong::kTruncate;
  other.seed = 8;
  other.holdout = {0.1};
  EXPECT_TRUE(hits(other));
}

TEST_F(TokenCacheTest, IsMadeAnewForOtherData) {
  load();
  dir.write("train.jsonl", rows("teh"));  // of the same size
  EXPECT_FALSE(hits());
  EXPECT_TRUE(hits());
  dir.write("train.jsonl", rows("the"));
  EXPECT_TRUE(hits());  // as before
}

TEST_F(TokenCacheTest, IsMadeAnewForAnotherTokenizer) {
  load();
  dir.write("chat_template.jinja", test::chat_template_text("llama2"));
  EXPECT_FALSE(hits());
  EXPECT_TRUE(hits());
  dir.write("generation_config.json", R"({"eos_token_id": 5})");
  EXPECT_FALSE(hits());
  dir.write("model.safetensors.index.json", "{}");
  EXPECT_TRUE(hits());
  auto other = options();
  other.vocab = 999;
  EXPECT_FALSE(hits(other));
  other.vocab = 1000;
  other.for_training = false;
  EXPECT_FALSE(hits(other));
}

TEST_F(TokenCacheTest, KnowsWhatATemplateReadsOfTheClock) {
  const auto at = [&](const char* moment) {
    auto with = options();
    with.now = text::parse_moment(moment, "test");
    return hits(with);
  };
  EXPECT_FALSE(at("2025-01-03 10:00:00"));
  EXPECT_TRUE(at("2026-01-03 10:00:00"));
  dir.write("chat_template.jinja",
            "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content }}{% endfor %}");
  EXPECT_FALSE(at("2025-01-03 10:00:00"));
  EXPECT_TRUE(at("2025-01-03 11:00:00"));
  EXPECT_FALSE(at("2025-01-04 10:00:00"));
  dir.write("chat_template.jinja",
            "{{ strftime_now(\"%H\") }}{% for m in messages %}{{ m.content }}{% endfor %}");
  EXPECT_FALSE(at("2025-01-03 10:00:00"));
  EXPECT_TRUE(at("2025-01-03 10:00:00"));
  EXPECT_FALSE(at("2025-01-03 11:00:00"));
}

TEST_F(TokenCacheTest, IsMadeAnewWhereItIsBroken) {
  const auto print = load().fingerprint();
  const auto file = files().at(0);
  const std::string whole = read_file(file);
  for (const std::size_t at : {std::size_t{3}, std::size_t{20}, std::size_t{41}, std::size_t{60},
                               std::size_t{70}, whole.size() / 2, whole.size() - 400, whole.size() - 1}) {
    std::string broken = whole;
    broken[at] = static_cast<char>(broken[at] ^ 4);
    std::ofstream(file, std::ios::binary) << broken;
    testing::internal::CaptureStderr();
    EXPECT_FALSE(hits()) << at;
    EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("it is made anew"));
    EXPECT_EQ(read_file(file), whole) << at;
  }
  for (const std::size_t size : {whole.size() - 1, whole.size() / 2, std::size_t{7}, std::size_t{0}}) {
    std::ofstream(file, std::ios::binary) << whole.substr(0, size);
    testing::internal::CaptureStderr();
    EXPECT_FALSE(hits()) << size;
    testing::internal::GetCapturedStderr();
    EXPECT_EQ(load().fingerprint(), print);
  }
}

TEST_F(TokenCacheTest, KeepsWeights) {
  std::string weighted;
  for (int i = 0; i < 50; ++i)
    weighted += fmt::format(
        "{{\"text\": \"the {0}\", \"weight\": {1}}}\n"
        "{{\"input_ids\": [1, 2, 3], \"labels\": [1, {0}, 3], \"weights\": [1, 0.5, {1}]}}\n",
        i, 0.25 * (i % 9));
  dir.write("train.jsonl", weighted);
  const auto first = load();
  const auto second = load();
  EXPECT_EQ(second.statistics().cached_files, 1);
  EXPECT_EQ(first.fingerprint(), second.fingerprint());
  ASSERT_EQ(second.num_examples(), 94);  // six texts weigh 0
  for (std::int64_t i = 0; i < 94; ++i) EXPECT_EQ(second.example(i).weights, first.example(i).weights);
  EXPECT_EQ(second.example(2).weights.at(2), 0.25F);
  EXPECT_EQ(describe(second.statistics().report, Severity::kNotice),
            describe(first.statistics().report, Severity::kNotice));
  EXPECT_THAT(describe(second.statistics().report, Severity::kNotice),
              ::testing::Contains(HasSubstr("count 0.25 to 2 in the loss, by 'weight'; first ")));
}

TEST_F(TokenCacheTest, OfAnOlderHoneIsMadeAnew) {
  load();
  const auto file = files().at(0);
  const std::string now = read_file(file);
  std::string old = now;
  old[7] = '1';  // before rows had weights
  std::ofstream(file, std::ios::binary) << old;
  testing::internal::CaptureStderr();
  EXPECT_FALSE(hits());
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("it is of another version; it is made anew"));
  EXPECT_EQ(read_file(file), now);
}

TEST_F(TokenCacheTest, LeavesNothingOfARowThatIsWrong) {
  dir.write("train.jsonl", rows("the") + "{\"text\": 1}\n");
  EXPECT_THAT(error_of([&] { load(); }), HasSubstr("train.jsonl:301"));
  EXPECT_TRUE(files().empty());
}

TEST_F(TokenCacheTest, IsWrittenByManyAtOnce) {
  std::vector<std::thread> threads;
  std::vector<std::uint64_t> prints(6);
  for (auto& print : prints) threads.emplace_back([&] { print = load().fingerprint(); });
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(prints, ::testing::Each(prints[0]));
  EXPECT_EQ(files().size(), 1U);
  EXPECT_TRUE(hits());
}

TEST_F(TokenCacheTest, IsNotForSmallFiles) {
  auto with = options();
  with.cache.least_bytes = 1 << 20;
  EXPECT_FALSE(hits(with));
  EXPECT_TRUE(files().empty());
}

TEST_F(TokenCacheTest, ForgetsWhatIsNotUsed) {
  load();
  const auto old = files().at(0);
  const auto set_age = [](const fs::path& file, int days) {
    fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::hours(24 * days));
  };
  const fs::path foreign = cache / "notes.tokens";
  const fs::path abandoned = cache / ".tokens-abc123";
  for (const auto& file : {foreign, abandoned}) std::ofstream(file) << "x";
  set_age(foreign, 400);
  set_age(abandoned, 2);
  set_age(old, 29);
  dir.write("train.jsonl", rows("teh"));
  load();
  EXPECT_TRUE(fs::exists(old));
  EXPECT_TRUE(fs::exists(foreign));
  EXPECT_FALSE(fs::exists(abandoned));
  set_age(old, 31);
  dir.write("train.jsonl", rows("eth"));
  load();
  EXPECT_FALSE(fs::exists(old));
  EXPECT_EQ(files().size(), 3U);
  set_age(files().at(0), 20);
  // Being used makes it young again.
  load();
  EXPECT_TRUE(hits());
}

TEST_F(TokenCacheTest, IsDoneWithoutWhereItCannotBeWritten) {
  dir.write("file", "");
  auto with = options();
  with.cache.directory = dir / "file/cache";
  testing::internal::CaptureStderr();
  EXPECT_EQ(load(with).num_examples(), 300);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("cannot write there; tokens are kept in memory"));
}

TEST_F(TokenCacheTest, IsNotFooledByLinks) {
  load();
  const auto file = files().at(0);
  const auto elsewhere = dir.write("elsewhere", read_file(file));
  fs::remove(file);
  fs::create_symlink(elsewhere, file);
  testing::internal::CaptureStderr();
  EXPECT_FALSE(hits());
  testing::internal::GetCapturedStderr();
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(file)));
}

TEST(TokenFile, HoldsRowsOfAnyLabels) {
  const TemporaryDirectory dir;
  const auto row_of = [](RowKind kind, std::vector<std::int32_t> ids, std::vector<std::int32_t> labels) {
    TokenizedRow row;
    row.kind = kind;
    row.ids = std::move(ids);
    row.labels = std::move(labels);
    row.content = 77;
    return row;
  };
  const auto runs = row_of(RowKind::kText, {1, 2, 3, 4, 5}, {-100, 2, -100, 4, 5});
  const auto own = row_of(RowKind::kTokens, {1, 2, 3}, {7, -100, 9});
  const auto none = row_of(RowKind::kChat, {1}, {-100});
  const auto with = [](TokenizedRow row, std::vector<float> weights) {
    row.weights = std::move(weights);
    return row;
  };
  const auto weighted = with(runs, {0, 0.5F, 0, 2, 3}), own_weighted = with(own, {1, 0, 0.125F});
  for (const auto& path : std::vector<std::string>{"", dir / "x.tokens"}) {
    TokenWriter writer(path);
    for (const auto* row : {&runs, &own, &none, &weighted, &own_weighted}) writer.add(*row, 10);
    const auto file = writer.finish("key", "notes");
    ASSERT_EQ(file->size(), 5);
    EXPECT_EQ(file->row(0).content, 77U);
    EXPECT_EQ(file->row(0).supervised, 3U);
    EXPECT_EQ(file->row(0).number, 10);
    EXPECT_EQ(file->example(file->row(0), 0, 5).labels, runs.labels);
    EXPECT_EQ(file->example(file->row(0), 2, 2).labels, (std::vector<std::int32_t>{-100, 4}));
    EXPECT_EQ(file->example(file->row(0), 4, 1).ids, (std::vector<std::int32_t>{5}));
    EXPECT_EQ(file->example(file->row(1), 0, 3).labels, own.labels);
    EXPECT_EQ(file->example(file->row(1), 1, 2).labels, (std::vector<std::int32_t>{-100, 9}));
    EXPECT_EQ(file->example(file->row(2), 0, 1).labels, none.labels);
    EXPECT_TRUE(file->example(file->row(0), 0, 5).weights.empty());
    EXPECT_EQ(file->example(file->row(3), 0, 5).weights, weighted.weights);
    EXPECT_EQ(file->example(file->row(3), 0, 5).labels, runs.labels);
    EXPECT_EQ(file->example(file->row(3), 3, 2).weights, (std::vector<float>{2, 3}));
    EXPECT_EQ(file->example(file->row(4), 1, 2).weights, (std::vector<float>{0, 0.125F}));
    EXPECT_EQ(file->example(file->row(4), 1, 2).labels, (std::vector<std::int32_t>{-100, 9}));
    EXPECT_EQ(file->notes(), "notes");
  }
  std::string why;
  EXPECT_EQ(TokenFile::open(dir / "x.tokens", "other key", why), nullptr);
  EXPECT_EQ(why, "it is of other data");
  EXPECT_NE(TokenFile::open(dir / "x.tokens", "key", why), nullptr);
}

TEST(TokenFile, IsWrittenInPieces) {
  const TemporaryDirectory dir;
  TokenWriter writer(dir / "x.tokens");
  TokenizedRow row;
  for (std::int32_t i = 0; i < 120'000; ++i) {
    row.ids.assign(static_cast<std::size_t>(i % 40 + 1), i);
    row.labels = row.ids;
    if (i % 5 == 0) row.labels.back() = i + 1;
    writer.add(row, i);
  }
  writer.finish("key", "");
  std::string why;
  const auto file = TokenFile::open(dir / "x.tokens", "key", why);
  ASSERT_NE(file, nullptr) << why;
  for (const std::int64_t i : {0, 1, 5, 77'777, 119'995, 119'999}) {
    const auto example = file->example(file->row(i), 0, file->row(i).length);
    EXPECT_EQ(example.ids.size(), static_cast<std::size_t>(i % 40 + 1));
    EXPECT_EQ(example.ids.front(), i);
    EXPECT_EQ(example.labels.back(), i % 5 == 0 ? i + 1 : i);
  }
}

}  // namespace
}  // namespace hone::data
