// Datasets: what is kept, in which order, and where a run continues.
#include "data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

#include "base/file.h"
#include "tests/data/support.h"
#include "text/moment.h"
#include "text/pretrained_tokenizer.h"

namespace hone::data {
namespace {

using test::error_of;
using test::TemporaryDirectory;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Lt;

/// A row of `length` ids; the first says which row it is.
std::string ids_row(std::int64_t number, std::int64_t length) {
  std::string row = "{\"input_ids\": [" + std::to_string(number);
  for (std::int64_t i = 1; i < length; ++i) row += ", 1";
  return row + "]}\n";
}

/// `count` rows, of lengths between 2 and 21.
std::string many_rows(std::int64_t count) {
  std::string rows;
  for (std::int64_t i = 0; i < count; ++i) rows += ids_row(i, 2 + i * 7919 % 20);
  return rows;
}

Dataset load(const std::string& path, const DatasetOptions& options) {
  return Dataset::load(path, "train", nullptr, options);
}

std::vector<std::vector<std::int64_t>> epoch_of(const Dataset& dataset, std::int64_t epoch) {
  std::vector<std::vector<std::int64_t>> packs;
  for (std::int64_t i = 0; i < dataset.num_packs(); ++i) packs.push_back(dataset.pack(epoch, i));
  return packs;
}

std::vector<std::int64_t> flat_sorted(const std::vector<std::vector<std::int64_t>>& packs) {
  std::vector<std::int64_t> all;
  for (const auto& pack : packs) all.insert(all.end(), pack.begin(), pack.end());
  std::sort(all.begin(), all.end());
  return all;
}

TEST(Dataset, KeepsRowsWithTheirPlaces) {
  const TemporaryDirectory dir;
  const auto a = dir.write("a.jsonl", "\n{\"input_ids\": [1, 2, 3], \"labels\": [-100, 2, -100]}\n");
  const auto b = dir.write("b.jsonl", "{\"input_ids\": [4, 5], \"labels\": [9, 8]}\n{\"input_ids\": [6, 7]}");
  const auto dataset = load(dir / "*.jsonl", {});
  ASSERT_EQ(dataset.num_examples(), 3);
  EXPECT_THAT(dataset.example(0).ids, ElementsAre(1, 2, 3));
  EXPECT_THAT(dataset.example(0).labels, ElementsAre(-100, 2, -100));
  EXPECT_THAT(dataset.example(1).labels, ElementsAre(9, 8));
  EXPECT_THAT(dataset.example(2).labels, ElementsAre(6, 7));
  EXPECT_EQ(dataset.source(0).file, a);
  EXPECT_EQ(dataset.source(0).line, 2);
  EXPECT_EQ(dataset.source(2).file, b);
  EXPECT_EQ(dataset.source(2).line, 2);
  EXPECT_EQ(dataset.statistics().rows, 3);
  EXPECT_EQ(dataset.statistics().tokens, 7);
  EXPECT_EQ(dataset.statistics().supervised, 3);
  EXPECT_EQ(dataset.statistics().longest, 3);
}

TEST(Dataset, PacksEveryRowOnceAnEpochWithinSeqLen) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", many_rows(1000));
  for (const bool shuffle : {false, true}) {
    const auto dataset = load(file, {.seq_len = 64, .shuffle = shuffle, .seed = 3});
    std::vector<std::int64_t> all(1000);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
    for (const std::int64_t epoch : {0, 1, 5}) EXPECT_EQ(flat_sorted(epoch_of(dataset, epoch)), all);
    for (const auto& pack : epoch_of(dataset, 0)) {
      std::size_t tokens = 0;
      for (const auto index : pack) tokens += dataset.example(index).ids.size();
      EXPECT_LE(tokens, 64U);
    }
    EXPECT_GT(dataset.statistics().fill, 0.99);
    EXPECT_EQ(dataset.statistics().packs, dataset.num_packs());
    EXPECT_DOUBLE_EQ(dataset.statistics().fill, static_cast<double>(dataset.statistics().tokens) /
                                                    static_cast<double>(64 * dataset.num_packs()));
  }
}

TEST(Dataset, ShufflesEveryEpochAnew) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", many_rows(300));
  const auto dataset = load(file, {.seq_len = 64, .seed = 3});
  const auto first = epoch_of(dataset, 0);
  const auto second = epoch_of(dataset, 1);
  EXPECT_NE(first, second);
  EXPECT_EQ(std::set(first.begin(), first.end()), std::set(second.begin(), second.end()));  // packs stay
  EXPECT_EQ(epoch_of(dataset, 0), first);  // also when asked again, after another epoch
  EXPECT_EQ(epoch_of(load(file, {.seq_len = 64, .seed = 3}), 1), second);
  EXPECT_NE(epoch_of(load(file, {.seq_len = 64, .seed = 4}), 1), second);
}

TEST(Dataset, KeepsTheFilesOrderWithoutShuffling) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", many_rows(50));
  const auto rows = load(file, {.seq_len = 64, .packing = false, .shuffle = false});
  ASSERT_EQ(rows.num_packs(), 50);
  for (std::int64_t i = 0; i < 50; ++i) EXPECT_THAT(rows.pack(2, i), ElementsAre(i));
  const auto packs = epoch_of(load(file, {.seq_len = 64, .shuffle = false}), 0);
  for (std::size_t i = 1; i < packs.size(); ++i) EXPECT_LT(packs[i - 1].front(), packs[i].front());
}

TEST(Dataset, ContinuesFromAnyCursor) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", many_rows(23));
  const DatasetOptions options{.seq_len = 64, .packing = false, .seed = 9};
  const auto dataset = load(file, options);
  EXPECT_EQ(dataset.steps_per_epoch(5), 5);
  Cursor cursor;
  std::vector<std::vector<std::vector<std::int64_t>>> batches;
  std::vector<Cursor> cursors;
  for (int step = 0; step < 12; ++step) {
    cursors.push_back(cursor);
    batches.push_back(dataset.next_batch(cursor, 5));
  }
  EXPECT_EQ(batches[4].size(), 3U);  // an epoch's last batch is short; none crosses the end
  EXPECT_EQ(cursors[5], (Cursor{1, 0}));
  EXPECT_EQ(cursors[11], (Cursor{2, 5}));
  const auto again = load(file, options);
  EXPECT_EQ(again.fingerprint(), dataset.fingerprint());
  for (const std::size_t from : {3U, 5U, 7U}) {
    Cursor resumed = cursors[from];
    for (std::size_t step = from; step < batches.size(); ++step)
      EXPECT_EQ(again.next_batch(resumed, 5), batches[step]);
  }
}

TEST(Dataset, GivesOneShortBatchWhereTheEpochIsShort) {
  const TemporaryDirectory dir;
  const auto dataset = load(dir.write("rows.jsonl", many_rows(3)), {.packing = false});
  Cursor cursor;
  EXPECT_EQ(dataset.next_batch(cursor, 8).size(), 3U);
  EXPECT_EQ(cursor, (Cursor{1, 0}));
  EXPECT_EQ(dataset.steps_per_epoch(8), 1);
}

TEST(Dataset, IsTheSameForAnyNumberOfThreads) {
  const TemporaryDirectory dir;
  test::write_tokenizer(dir, "chatml");
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(dir.path());
  std::string rows;
  for (int i = 0; i < 500; ++i)
    rows += "{\"messages\": [{\"role\":\"user\",\"content\":\"" +
            std::string(static_cast<std::size_t>(i % 13), 'q') +
            "\"},{\"role\":\"assistant\",\"content\":\"the " + std::to_string(i) + "\"}]}\n";
  const auto file = dir.write("train.jsonl", rows);
  const auto bad = dir.write("bad.jsonl", rows + "{\"text\": 1}\n" + rows + "{\"text\": 2}\n[]\n");
  std::vector<std::uint64_t> prints;
  std::vector<std::string> errors;
  for (const int n : {1, 2, 5}) {
    const DatasetOptions options{.seq_len = 128, .threads = n};
    prints.push_back(Dataset::load(dir.path(), "train", tokenizer, options).fingerprint());
    errors.push_back(error_of([&] { Dataset::load(bad, "train", tokenizer, options); }));
  }
  EXPECT_THAT(prints, ElementsAre(prints[0], prints[0], prints[0]));
  const std::string first = bad + ":501: text is a number, not a string";
  EXPECT_THAT(errors, ElementsAre(first, first, first));
}

TEST(Dataset, HasAFingerprintOfAllThatMatters) {
  const TemporaryDirectory dir;
  const auto print = [&](const std::string& rows, const DatasetOptions& options) {
    return load(dir.write("rows.jsonl", rows), options).fingerprint();
  };
  const std::string rows = many_rows(20);
  const std::set<std::uint64_t> prints{
      print(rows, {.seq_len = 64, .seed = 1}),
      print(rows, {.seq_len = 64, .seed = 2}),
      print(rows, {.seq_len = 65, .seed = 1}),
      print(rows, {.seq_len = 64, .packing = false, .seed = 1}),
      print(rows, {.seq_len = 64, .shuffle = false, .seed = 1}),
      print(rows + ids_row(3, 3), {.seq_len = 64, .seed = 1}),
      print(many_rows(19) + "{\"input_ids\": [19, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2]}\n",
            {.seq_len = 64, .seed = 1}),
      print("{\"input_ids\": [1, 2, 3]}\n", {}),
      print("{\"input_ids\": [1, 2]}\n{\"input_ids\": [3]}", {}),
      print("{\"input_ids\": [1, 2, 3], \"labels\": [1, 2, -100]}\n", {})};
  EXPECT_EQ(prints.size(), 10U);
}

TEST(Dataset, RefusesLongRowsByDefault) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", ids_row(1, 4) + ids_row(2, 9) + ids_row(3, 12));
  const auto message = error_of([&] { load(file, {.seq_len = 8}); });
  EXPECT_EQ(
      message,
      file +
          ":2: 9 tokens, longer than data.seq_len 8; 2 of 3 rows are, up to 12 tokens; raise "
          "data.seq_len, or set data.overlong: truncate (keeps the start) or drop (leaves the row out)");
}

TEST(Dataset, TruncatesLongRowsToTheirStart) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", ids_row(1, 4) + ids_row(2, 9) +
                                                "{\"input_ids\": [1,2,3,4,5,6,7,8,9], \"labels\": "
                                                "[-100,-100,-100,-100,-100,-100,-100,-100,9]}\n");
  const auto dataset = load(file, {.seq_len = 8, .overlong = Overlong::kTruncate});
  EXPECT_EQ(dataset.num_examples(), 2);
  EXPECT_THAT(dataset.example(1).ids, ElementsAre(2, 1, 1, 1, 1, 1, 1, 1));
  EXPECT_EQ(dataset.statistics().truncated, 2);
  EXPECT_EQ(dataset.statistics().emptied, 1);
  EXPECT_EQ(dataset.statistics().dropped, 0);
  EXPECT_EQ(dataset.statistics().longest, 9);
}

TEST(Dataset, DropsLongRowsWhereAsked) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", ids_row(1, 4) + ids_row(2, 9) + ids_row(3, 8));
  const auto dataset = load(file, {.seq_len = 8, .overlong = Overlong::kDrop});
  EXPECT_EQ(dataset.num_examples(), 2);
  EXPECT_EQ(dataset.source(1).line, 3);
  EXPECT_EQ(dataset.statistics().dropped, 1);
  EXPECT_EQ(dataset.statistics().rows, 3);
  EXPECT_EQ(error_of([&] { load(file, {.seq_len = 3, .overlong = Overlong::kDrop}); }),
            file +
                ": no row is left: of 3 rows, 3 were dropped as longer than data.seq_len 3, 0 had nothing to "
                "learn from within it, and 0 nothing at all; raise data.seq_len");
}

TEST(Dataset, RefusesToBeEmpty) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", "\n \n");
  EXPECT_EQ(error_of([&] { load(file, {}); }), file + ": the data has no rows (blank lines are skipped)");
}

TEST(Dataset, RefusesToHaveNothingToLearn) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1, -100]}\n");
  EXPECT_EQ(
      error_of([&] { load(file, {}); }),
      file +
          ": no token of 1 rows is learnt from: 1 row left out, with no token to learn from: every label "
          "but those of first tokens is -100; first " +
          file + ":1");
  EXPECT_EQ(load(file, {.for_training = false}).statistics().supervised, 0);
}

TEST(Dataset, LeavesOutRowsWithNothingToLearnAndCountsThem) {
  const TemporaryDirectory dir;
  const auto file = dir.write(
      "rows.jsonl", ids_row(1, 3) + "{\"input_ids\": [1, 2], \"labels\": [-100, -100]}\n" + ids_row(2, 3) +
                        "{\"input_ids\": []}\n" + "{\"input_ids\": [8, 9], \"labels\": [8, -100]}\n");
  const auto dataset = load(file, {.seq_len = 8, .packing = false, .shuffle = false});
  ASSERT_EQ(dataset.num_examples(), 2);
  EXPECT_EQ(dataset.source(1).line, 3);
  EXPECT_EQ(dataset.statistics().rows, 5);
  EXPECT_EQ(dataset.statistics().without_target, 3);
  EXPECT_THAT(describe(dataset.statistics().report, Severity::kNote),
              ElementsAre("warning: 2 rows left out, with no token to learn from: every label but those of "
                          "first tokens is -100; first " +
                              file + ":2",
                          "warning: 1 row left out, with no token to learn from: input_ids is empty; first " +
                              file + ":4"));
  // For evaluation a row without a target is kept: it adds nothing to the loss.
  EXPECT_EQ(load(file, {.seq_len = 8, .for_training = false}).num_examples(), 4);
}

TEST(Dataset, CutsRowsThatWerePackedElsewhere) {
  const TemporaryDirectory dir;
  const auto packed = dir.write("packed.jsonl", R"({"input_ids": [1, 2, 3, 4, 5, 6], "seq_lengths": [2, 1, 3],
    "labels": [1, 2, 3, -100, 5, 6]})"
                                                "\n");
  std::string flat = read_file(packed);
  flat.erase(flat.find('\n'), 1);
  const auto dataset = load(dir.write("packed.jsonl", flat), {.seq_len = 4, .shuffle = false});
  ASSERT_EQ(dataset.num_examples(), 2);  // a document of one token has nothing to learn from
  EXPECT_THAT(dataset.example(0).ids, ElementsAre(1, 2));
  EXPECT_THAT(dataset.example(1).labels, ElementsAre(-100, 5, 6));
  EXPECT_EQ(dataset.source(1).line, 1);
  EXPECT_EQ(dataset.statistics().rows, 1);
  EXPECT_EQ(dataset.statistics().longest, 3);
  EXPECT_EQ(dataset.statistics().supervised, 3);
}

TEST(Report, CountsTheSameTogetherInTheOrderOfRows) {
  Report report;
  report.add({{FindingKind::kUnknownColumn, "id"}, {FindingKind::kIgnoredColumn, "weight", "here"}},
             {"a", 1});
  report.add({{FindingKind::kIgnoredColumn, "weight"}, {FindingKind::kIgnoredColumn, "weight"}}, {"a", 2});
  Report later;
  later.add({{FindingKind::kUnknownColumn, "id"}, {FindingKind::kPrepacked, "position_ids"}}, {"b", 1});
  report.add(later);
  ASSERT_EQ(report.entries().size(), 3U);
  EXPECT_EQ(report.entries()[0].count, 2);
  EXPECT_EQ(report.entries()[1].count, 3);
  EXPECT_EQ(report.entries()[1].rows, 2);
  EXPECT_EQ(
      describe(report.entries()[1], 0),
      "3 rows with 'weight', which other tools read as a mask, a weight or a boundary and hone does not; "
      "first a:1: here");
  EXPECT_EQ(describe(report, Severity::kWarning).size(), 1U);
  EXPECT_EQ(describe(report, Severity::kNotice).size(), 2U);
  EXPECT_EQ(to_json(report)[2]["file"], "b");
  EXPECT_EQ(to_json(report)[2]["severity"], "notice");
}

TEST(Report, TellsOnlySoManyOfAKindApart) {
  Report report;
  for (int i = 0; i < 1000; ++i) report.add({{FindingKind::kUnknownColumn, std::to_string(i)}}, {"a", i});
  EXPECT_EQ(report.entries().size(), 65U);
  EXPECT_EQ(report.entries().back().what, "others");
  EXPECT_EQ(report.entries().back().count, 936);
}

TEST(Dataset, NamesIdsOutsideTheVocabularyByRow) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", ids_row(1, 3) + ids_row(77, 3));
  EXPECT_EQ(error_of([&] { load(file, {.vocab = 50}); }),
            file + ":2: input_ids[0] is 77, outside the vocabulary of 50 ids (0 to 49)");
}

TEST(Dataset, ReportsProgressToTheEnd) {
  const TemporaryDirectory dir;
  dir.write("a.jsonl", many_rows(40000));
  dir.write("b.jsonl", many_rows(10));
  std::vector<std::pair<std::int64_t, double>> reports;
  Dataset::load(dir / "*.jsonl", "train", nullptr, {},
                [&](std::int64_t rows, double share) { reports.emplace_back(rows, share); });
  ASSERT_GE(reports.size(), 3U);
  EXPECT_TRUE(std::is_sorted(reports.begin(), reports.end()));
  EXPECT_THAT(reports.front().second, Lt(1.0));
  EXPECT_EQ(reports.back(), std::pair(std::int64_t{40010}, 1.0));
}

TEST(Dataset, TakesItsClockFromTheOptions) {
  const TemporaryDirectory dir;
  test::write_tokenizer(dir, "llama3", "<|eot_id|>");
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(dir.path());
  dir.write("train.jsonl",
            R"({"messages": [{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})"
            "\n");
  const auto on_day = [&](int day) {
    DatasetOptions options;
    options.now = text::parse_moment("2025-01-0" + std::to_string(day) + " 00:00:00", "test");
    return Dataset::load(dir.path(), "train", tokenizer, options);
  };
  EXPECT_EQ(on_day(3).fingerprint(), on_day(3).fingerprint());
  EXPECT_NE(on_day(3).fingerprint(), on_day(4).fingerprint());
  EXPECT_THAT(test::tiny_tokenizer().decode(on_day(3).example(0).ids), HasSubstr("Today: 03 Jan 2025"));
}

TEST(Dataset, ReadsTheClockOnceWhereItIsGivenNone) {
  const TemporaryDirectory dir;
  test::write_tokenizer(dir, "");
  dir.write("chat_template.jinja",
            "{{ strftime_now('%H:%M:%S') }}{% for m in messages %}{{ m.content }}{% endfor %}");
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(dir.path());
  const RowTokenizer rows(&tokenizer, {});
  const std::string row = R"({"messages": [{"role":"user","content":"a"}]})";
  const auto first = rows.tokenize(row, "test:1").text;
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  EXPECT_EQ(rows.tokenize(row, "test:2").text, first);
}

TEST(Dataset, IsTheSameInEveryFormat) {
  const TemporaryDirectory dir;
  test::write_tokenizer(dir, "chatml");
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(dir.path());
  const auto load_file = [&](const std::string& path) {
    return Dataset::load({{.path = path, .columns = {{"prompt", "q"}, {"completion", "a"}}}}, "train",
                         &tokenizer, {});
  };
  const auto print = [&](const std::string& name, const std::string& content) {
    return load_file(dir.write(name, content)).fingerprint();
  };
  const auto jsonl =
      print("a.jsonl", "{\"q\": \"one, \\n\", \"a\": \"the 1\"}\n{\"q\": \"two\", \"a\": \"the 2\"}\n");
  EXPECT_EQ(jsonl, print("a.json",
                         "[{\"a\": \"the 1\", \"q\": \"one, \\n\"},\n {\"q\": \"two\", \"a\": \"the 2\"}]"));
  EXPECT_EQ(jsonl, print("a.csv", "n,q,a\n1,\"one, \n\",the 1\n2,two,the 2\n"));
  EXPECT_EQ(jsonl, print("a.tsv", "q\ta\n\"one, \n\"\tthe 1\ntwo\tthe 2\n"));
  const auto bad = dir.write("b.json", R"([{"q": "a", "a": "b"}, {"q": "a", "b": "b"}])");
  EXPECT_THAT(error_of([&] { load_file(bad); }), HasSubstr("b.json[1]: the row has no column 'a'"));
}

TEST(Dataset, HoldsManyRows) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", many_rows(100'000));
  const auto dataset = load(file, {.seq_len = 128});
  EXPECT_EQ(dataset.num_examples(), 100'000);
  EXPECT_EQ(dataset.example(99'999).ids.front(), 99'999);
  EXPECT_GT(dataset.statistics().fill, 0.999);
}

}  // namespace
}  // namespace hone::data
