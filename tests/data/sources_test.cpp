// Datasets of several sources: proportions, held-out rows, the first so many, texts in pieces.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "data/dataset.h"
#include "data/mixture.h"
#include "tests/data/support.h"
#include "text/pretrained_tokenizer.h"

namespace hone::data {
namespace {

using test::error_of;
using test::TemporaryDirectory;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Rows of ids [first, first + count): each its number and a 1.
std::string rows_from(std::int64_t first, std::int64_t count) {
  std::string rows;
  for (std::int64_t i = first; i < first + count; ++i)
    rows += "{\"input_ids\": [" + std::to_string(i) + ", 1]}\n";
  return rows;
}

/// How often an epoch has the row that begins with each number.
std::map<std::int32_t, int> counts_of(const Dataset& dataset, std::int64_t epoch) {
  std::map<std::int32_t, int> counts;
  for (std::int64_t i = 0; i < dataset.num_packs(epoch); ++i)
    for (const auto index : dataset.pack(epoch, i)) ++counts[dataset.example(index).ids.front()];
  return counts;
}

int sum_in(const std::map<std::int32_t, int>& counts, std::int32_t first, std::int32_t last) {
  int sum = 0;
  for (const auto& [number, count] : counts) sum += number >= first && number < last ? count : 0;
  return sum;
}

TEST(Mixture, OfWholeSourcesIsPlain) {
  EXPECT_TRUE(Mixture({{0, 3, 3}, {3, 2, 2}}, true, 1).is_plain());
  EXPECT_FALSE(Mixture({{0, 3, 6}, {3, 2, 2}}, true, 1).is_plain());
  EXPECT_TRUE(Mixture({{0, 3, 6}, {3, 2, 2}}, true, 1).is_constant());
  EXPECT_FALSE(Mixture({{0, 3, 1.5}}, true, 1).is_constant());
  EXPECT_THAT(Mixture({{0, 3, 6}, {3, 2, 2}}, true, 1).epoch(5), ElementsAre(0, 1, 2, 0, 1, 2, 3, 4));
}

TEST(Mixture, TakesEveryExampleBeforeAnyTwice) {
  for (const bool shuffle : {false, true}) {
    for (const double per_epoch : {0.5, 1.0, 3.7, 7.0, 10.0, 23.4}) {
      const Mixture mixture({{100, 10, per_epoch}, {0, 5, 5}}, shuffle, 7);
      std::map<std::int64_t, int> counts;
      std::int64_t total = 0;
      for (std::int64_t epoch = 0; epoch < 30; ++epoch) {
        const auto examples = mixture.epoch(epoch);
        EXPECT_EQ(examples, mixture.epoch(epoch));
        for (const auto example : examples) {
          if (example < 100) continue;
          ASSERT_LT(example, 110);
          ++counts[example];
          ++total;
        }
        EXPECT_EQ(total, std::llround(static_cast<double>(epoch + 1) * per_epoch));
        int least = 1 << 30;
        int most = 0;
        for (std::int64_t i = 100; i < 110; ++i) {
          least = std::min(least, counts[i]);
          most = std::max(most, counts[i]);
        }
        EXPECT_LE(most, least + 1) << per_epoch << " " << epoch;
      }
    }
  }
}

TEST(Mixture, DrawsOtherExamplesForAnotherSeed) {
  const auto first = [](std::uint64_t seed) { return Mixture({{0, 100, 10}}, true, seed).epoch(0); };
  EXPECT_EQ(first(1), first(1));
  EXPECT_NE(first(1), first(2));
}

TEST(Sources, AreReadOneAfterAnother) {
  const TemporaryDirectory dir;
  const auto a = dir.write("a.jsonl", rows_from(0, 30));
  const auto b = dir.write("b.csv", "input_ids\n\"[1000, 1]\"\n\"[1001, 1]\"\n");
  const auto dataset = Dataset::load({{.path = a}, {.path = b}}, "train", nullptr, {.seq_len = 8});
  ASSERT_EQ(dataset.num_examples(), 32);
  EXPECT_EQ(dataset.example(31).ids.front(), 1001);
  EXPECT_EQ(dataset.example(29).source, 0);
  EXPECT_EQ(dataset.example(30).source, 1);
  EXPECT_EQ(dataset.source(30).where(), b + ":2");
  const auto& s = dataset.statistics();
  ASSERT_EQ(s.sources.size(), 2U);
  EXPECT_EQ(s.sources[0].path, a);
  EXPECT_EQ(s.sources[0].rows, 30);
  EXPECT_EQ(s.sources[0].tokens, 60);
  EXPECT_EQ(s.sources[1].examples, 2);
  EXPECT_EQ(s.epoch_tokens, 64);
  EXPECT_EQ(counts_of(dataset, 0).size(), 32U);
  const auto swapped = Dataset::load({{.path = b}, {.path = a}}, "train", nullptr, {.seq_len = 8});
  EXPECT_NE(swapped.fingerprint(), dataset.fingerprint());
}

TEST(Sources, RepeatWholeAndInPart) {
  const TemporaryDirectory dir;
  const auto a = dir.write("a.jsonl", rows_from(0, 40));
  const auto b = dir.write("b.jsonl", rows_from(1000, 10));
  for (const bool packing : {true, false}) {
    const auto dataset = Dataset::load({{.path = a, .repeat = 0.25}, {.path = b, .repeat = 3}}, "train",
                                       nullptr, {.seq_len = 7, .packing = packing, .seed = 5});
    std::map<std::int32_t, int> all;
    for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
      const auto counts = counts_of(dataset, epoch);
      EXPECT_EQ(sum_in(counts, 0, 1000), 10);
      for (const auto& [number, count] : counts) {
        EXPECT_EQ(count, number < 1000 ? 1 : 3);
        all[number] += count;
      }
    }
    for (const auto& [number, count] : all) EXPECT_EQ(count, number < 1000 ? 1 : 12) << number;
    EXPECT_EQ(dataset.statistics().epoch_examples, 40);
    EXPECT_EQ(dataset.statistics().epoch_tokens, 80);
    EXPECT_DOUBLE_EQ(dataset.statistics().sources[0].per_epoch, 10);
  }
}

TEST(Sources, MixByWeightWithoutARowTwice) {
  const TemporaryDirectory dir;
  const auto a = dir.write("a.jsonl", rows_from(0, 400));
  const auto b = dir.write("b.jsonl", rows_from(1000, 30));
  const auto load = [&](double wa, double wb) {
    return Dataset::load({{.path = a, .weight = wa}, {.path = b, .weight = wb}}, "train", nullptr,
                         {.packing = false, .seed = 5});
  };
  const auto dataset = load(2, 1);
  for (std::int64_t epoch = 0; epoch < 5; ++epoch) {
    const auto counts = counts_of(dataset, epoch);
    EXPECT_EQ(sum_in(counts, 0, 1000), 60);
    EXPECT_EQ(sum_in(counts, 1000, 2000), 30);
    for (const auto& [number, count] : counts) EXPECT_EQ(count, 1) << number;
  }
  EXPECT_NE(counts_of(dataset, 0), counts_of(dataset, 1));
  EXPECT_EQ(counts_of(load(0.02, 0.01), 3), counts_of(dataset, 3));
  EXPECT_EQ(dataset.steps_per_epoch(9), 10);
  EXPECT_EQ(sum_in(counts_of(load(1, 1000), 0), 0, 1000), 0);  // 0.03 rows an epoch: one in the 17th
  EXPECT_EQ(sum_in(counts_of(load(1, 1000), 16), 0, 1000), 1);
  EXPECT_THAT(error_of([&] {
                Dataset::load({{.path = a, .weight = 1}, {.path = b}}, "train", nullptr, {});
              }),
              HasSubstr("1 of 2 sources have a weight"));
}

TEST(Sources, ContinueFromAnyCursorOfAMixture) {
  const TemporaryDirectory dir;
  const auto a = dir.write("a.jsonl", rows_from(0, 40));
  const auto b = dir.write("b.jsonl", rows_from(1000, 7));
  const auto load = [&] {
    return Dataset::load({{.path = a, .weight = 0.6}, {.path = b, .weight = 0.4}}, "train", nullptr,
                         {.seq_len = 5, .seed = 2});
  };
  const auto dataset = load();
  std::vector<Cursor> cursors;
  std::vector<std::vector<std::vector<std::int64_t>>> batches;
  Cursor cursor;
  for (int step = 0; step < 25; ++step) {
    cursors.push_back(cursor);
    batches.push_back(dataset.next_batch(cursor, 3));
  }
  EXPECT_GT(cursor.epoch, 2);
  const auto again = load();
  EXPECT_EQ(again.fingerprint(), dataset.fingerprint());
  for (const std::size_t from : {24U, 11U, 2U, 17U}) {
    Cursor resumed = cursors[from];
    for (std::size_t step = from; step < batches.size(); ++step)
      ASSERT_EQ(again.next_batch(resumed, 3), batches[step]);
  }
}

TEST(Sources, HaveAFingerprintOfTheirProportions) {
  const TemporaryDirectory dir;
  const auto a = dir.write("a.jsonl", rows_from(0, 40));
  const auto b = dir.write("b.jsonl", rows_from(1000, 10));
  const auto print = [&](std::vector<DataSource> sources, const DatasetOptions& options = {}) {
    return Dataset::load(sources, "train", nullptr, options).fingerprint();
  };
  const std::set<std::uint64_t> prints{print({{.path = a}}),
                                       print({{.path = a}, {.path = b}}),
                                       print({{.path = a, .max_rows = 39}}),
                                       print({{.path = a, .repeat = 2}}),
                                       print({{.path = a, .repeat = 2}, {.path = b}}),
                                       print({{.path = a, .weight = 1}, {.path = b, .weight = 1}}),
                                       print({{.path = a, .weight = 1}, {.path = b, .weight = 1.5}}),
                                       print({{.path = a}}, {.holdout = {0.2}}),
                                       print({{.path = a}}, {.holdout = {0.3}})};
  EXPECT_EQ(prints.size(), 9U);
}

TEST(Sources, GiveTheirFirstRowsWhereAsked) {
  const TemporaryDirectory dir;
  dir.write("a-1.jsonl", rows_from(0, 5));
  dir.write("a-2.jsonl", rows_from(5, 5) + "not read\n");
  const auto load = [&](std::int64_t rows) {
    return Dataset::load({{.path = dir / "a-*.jsonl", .max_rows = rows}}, "train", nullptr, {});
  };
  EXPECT_EQ(load(3).num_examples(), 3);
  EXPECT_EQ(load(5).num_examples(), 5);
  EXPECT_EQ(load(7).num_examples(), 7);
  EXPECT_EQ(load(7).example(6).ids.front(), 6);
  EXPECT_EQ(load(10).num_examples(), 10);
  EXPECT_THAT(error_of([&] { load(11); }), HasSubstr("a-2.jsonl:6"));
}

TEST(Sources, NameTheOneWithoutRows) {
  const TemporaryDirectory dir;
  const auto a = dir.write("a.jsonl", rows_from(0, 5));
  const auto empty = dir.write("empty.jsonl", "\n");
  EXPECT_EQ(error_of([&] {
              Dataset::load({{.path = a}, {.path = empty}}, "train", nullptr, {});
            }),
            empty + ": the data has no rows (blank lines are skipped)");
  const auto longer = dir.write("long.jsonl", "{\"input_ids\": [1, 2, 3, 4]}\n");
  EXPECT_THAT(error_of([&] {
                Dataset::load({{.path = a}, {.path = longer}}, "train", nullptr,
                              {.seq_len = 3, .overlong = Overlong::kDrop});
              }),
              HasSubstr(longer + ": no row of this source is left of 1"));
}

TEST(Holdout, KeepsTheSidesApart) {
  const TemporaryDirectory dir;
  // Every row four times, in different places and with different metadata.
  std::string rows;
  for (int copy = 0; copy < 4; ++copy)
    for (int i = 0; i < 1000; ++i)
      rows += "{\"id\": " + std::to_string(copy) + ", \"input_ids\": [" +
              std::to_string((i * 7 + copy * 31) % 1000) + ", 1]}\n";
  const auto file = dir.write("rows.jsonl", rows);
  const auto sides = [&](const DatasetOptions& options) {
    const auto rest = Dataset::load(file, "train", nullptr, options);
    return std::pair(counts_of(rest, 0), counts_of(rest.held_out(), 0));
  };
  const auto [rest, held] = sides({.holdout = {0.05}});
  EXPECT_EQ(rest.size() + held.size(), 1000U);
  EXPECT_GT(held.size(), 25U);  // binomial: 50 with a standard deviation of 7
  EXPECT_LT(held.size(), 75U);
  for (const auto& [number, count] : held) {
    EXPECT_EQ(count, 4);
    EXPECT_FALSE(rest.contains(number));
  }
  // Whatever else changes, the same rows are held.
  EXPECT_EQ(sides({.seq_len = 17, .packing = false, .shuffle = false, .seed = 99, .holdout = {0.05}}).second,
            held);
  // A larger share holds those too.
  const auto more = sides({.holdout = {0.2}}).second;
  EXPECT_GT(more.size(), held.size());
  for (const auto& [number, count] : held) EXPECT_TRUE(more.contains(number));
}

TEST(Holdout, CountsAndNamesWhatIsMissing) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", rows_from(0, 400));
  const auto rest = Dataset::load({{.path = file, .repeat = 2}}, "train", nullptr, {.holdout = {0.1}});
  const auto held = rest.held_out();
  EXPECT_EQ(rest.statistics().rows, 400);
  EXPECT_EQ(rest.statistics().examples, 400 - rest.statistics().held_out);
  EXPECT_EQ(held.statistics().examples, rest.statistics().held_out);
  EXPECT_EQ(held.statistics().epoch_examples, held.num_examples());  // not repeated
  const auto few = dir.write("few.jsonl", rows_from(0, 2));
  EXPECT_THAT(error_of([&] { Dataset::load(few, "train", nullptr, {.holdout = {0.001}}).held_out(); }),
              HasSubstr("a holdout of 0.1% holds none of 2 rows"));
}

TEST(Holdout, GoesByWhatARowSays) {
  const TemporaryDirectory dir;
  test::write_tokenizer(dir, "chatml");
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(dir.path());
  const RowTokenizer rows(&tokenizer, {});
  const auto content = [&](const std::string& row) { return rows.tokenize(row, "f:1").content; };
  const auto chat =
      content(R"({"messages": [{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})");
  EXPECT_EQ(chat, content(R"({"id": 7,
      "conversations": [{"from":"human","value":"a"},{"from":"gpt","value":"b"}], "source": "x"})"));
  EXPECT_NE(chat,
            content(R"({"messages": [{"role":"user","content":"a"},{"role":"assistant","content":"c"}]})"));
  EXPECT_NE(content(R"({"prompt": "a", "completion": "b"})"),
            content(R"({"prompt": "ab", "completion": ""})"));
  EXPECT_NE(content(R"({"text": "a"})"), content(R"({"text": "b"})"));
  EXPECT_NE(content(R"({"input_ids": [1, 2]})"), content(R"({"input_ids": [1, 2], "labels": [-100, 2]})"));
}

TEST(Split, CutsTextsIntoPieces) {
  const TemporaryDirectory dir;
  test::write_tokenizer(dir, "chatml");
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(dir.path());
  const auto file = dir.write("rows.jsonl", "{\"text\": \"0123456789abcdefghijkl\"}\n{\"text\": \"xyz\"}\n");
  const auto dataset = Dataset::load(file, "train", tokenizer, {.seq_len = 10, .overlong = Overlong::kSplit});
  ASSERT_EQ(dataset.num_examples(), 4);
  std::string text;
  for (std::int64_t i = 0; i < 3; ++i) {
    const auto example = dataset.example(i);
    EXPECT_EQ(example.labels, example.ids);
    EXPECT_LE(example.ids.size(), 10U);
    text += tokenizer.tokenizer().decode(example.ids, false);
    EXPECT_EQ(dataset.source(i).line, 1);
  }
  EXPECT_EQ(text, "0123456789abcdefghijkl<|im_end|>");
  EXPECT_EQ(dataset.source(3).line, 2);
  EXPECT_EQ(dataset.statistics().split, 1);
  EXPECT_EQ(dataset.statistics().tokens, 27);
  EXPECT_EQ(dataset.statistics().supervised, 23);  // the first of a piece has nothing before it
  // A last piece of one token would have nothing to learn from.
  const auto odd = dir.write("odd.jsonl", "{\"text\": \"0123456789\"}\n");
  EXPECT_EQ(
      Dataset::load(odd, "train", tokenizer, {.seq_len = 10, .overlong = Overlong::kSplit}).num_examples(),
      1);
  // Other rows are no text to cut, and are said to be too long.
  const auto ids = dir.write("ids.jsonl", "{\"input_ids\": [1, 2, 3, 4]}\n");
  EXPECT_THAT(
      error_of([&] { Dataset::load(ids, "train", tokenizer, {.seq_len = 3, .overlong = Overlong::kSplit}); }),
      HasSubstr("set data.overlong: truncate (keeps the start) or drop"));
  EXPECT_THAT(error_of([&] { Dataset::load(file, "train", tokenizer, {.seq_len = 10}); }),
              HasSubstr("truncate (keeps the start), split (into several) or drop"));
}

}  // namespace
}  // namespace hone::data
