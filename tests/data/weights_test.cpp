// What tokens count in the loss: every spelling of weights, in rows of every kind and format.
#include "data/weights.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/dataset.h"
#include "tests/data/support.h"
#include "text/pretrained_tokenizer.h"

namespace hone::data {
namespace {

using test::chatml;
using test::error_of;
using test::id_of;
using test::TemporaryDirectory;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TokenizedRow tokenize(const std::string& json, const ColumnNames& columns = {}) {
  return RowTokenizer(&chatml(), {.for_training = true, .columns = columns}).tokenize(json, "f.jsonl:7");
}

/// The learnt tokens, those of one weight together: "TEXT*WEIGHT".
std::vector<std::string> learnt(const std::vector<std::int32_t>& ids, const std::vector<std::int32_t>& labels,
                                const std::vector<float>& weights) {
  std::vector<std::string> runs;
  const auto weight = [&](std::size_t i) { return weights.empty() ? 1.0F : weights.at(i); };
  for (std::size_t i = 0; i < ids.size();) {
    std::size_t end = i + 1;
    if (labels[i] == kIgnoredLabel) {
      EXPECT_TRUE(weights.empty() || weights[i] == 0) << i;
    } else {
      while (end < ids.size() && labels[end] != kIgnoredLabel && weight(end) == weight(i)) ++end;
      runs.push_back(
          fmt::format("{}*{}", test::tiny_tokenizer().decode(std::span(ids).subspan(i, end - i)), weight(i)));
    }
    i = end;
  }
  return runs;
}
std::vector<std::string> learnt(const TokenizedRow& row) {
  return learnt(row.ids, row.labels, row.weights);
}
std::vector<std::string> learnt(const std::string& json) {
  return learnt(tokenize(json));
}

/// Findings about weights and columns: "KIND WHAT LEAST..LARGEST @ PLACE".
std::vector<std::string> found(const std::string& json) {
  std::vector<std::string> list;
  for (const auto& f : tokenize(json).findings) {
    if (f.kind == FindingKind::kTurns) continue;
    list.push_back(fmt::format("{} {}", name_of(f.kind), f.what));
    if (f.kind == FindingKind::kWeights)
      list.back() += fmt::format(" {}..{}", f.weights.least, f.weights.largest);
    if (!f.place.empty()) list.back() += " @ " + f.place;
  }
  return list;
}

/// Two answers, each with more keys.
std::string chat(const std::string& first, const std::string& second, const std::string& row = "") {
  return R"({"messages": [{"role":"user","content":"Hi"},{"role":"assistant","content":"A")" + first +
         R"(},{"role":"user","content":"?"},{"role":"assistant","content":"B")" + second + "}]" + row + "}";
}

TEST(MessageWeights, CountEveryTokenThroughTheEndOfTheTurn) {
  EXPECT_THAT(learnt(chat(R"(,"weight":0.5)", "")), ElementsAre("A<|im_end|>*0.5", "B<|im_end|>*1"));
  EXPECT_THAT(learnt(chat(R"(,"loss_weight":2)", R"(,"weight":"1e-3")")),
              ElementsAre("A<|im_end|>*2", "B<|im_end|>*0.001"));
  EXPECT_THAT(learnt(chat(R"(,"weight":0)", R"(,"weight":3)")), ElementsAre("B<|im_end|>*3"));
  EXPECT_THAT(learnt(chat(R"(,"weight":2,"train":false)", R"(,"weight":null)")),
              ElementsAre("B<|im_end|>*1"));
  EXPECT_THAT(found(chat(R"(,"weight":0.5)", R"(,"weight":0)")),
              ElementsAre("weights weight of messages 0.5..0.5 @ messages"));
  EXPECT_THAT(found(chat(R"(,"weight":0.5)", "")),
              ElementsAre("weights weight of messages 0.5..1 @ messages"));
}

TEST(MessageWeights, OfOneOrZeroAreAsBefore) {
  const auto row = tokenize(chat(R"(,"weight":1.0)", R"(,"weight":1)"));
  EXPECT_TRUE(row.weights.empty());
  EXPECT_THAT(found(chat(R"(,"weight":0)", R"(,"weight":1)")), IsEmpty());
  EXPECT_EQ(tokenize(chat(R"(,"weight":0)", R"(,"weight":0.0)")).no_target,
            "every assistant message says that it is not to be learnt from (train, weight)");
}

TEST(MessageWeights, AreReadInEveryKindOfChat) {
  EXPECT_THAT(
      learnt(R"({"conversations": [{"from":"human","value":"a"},{"from":"gpt","value":"b","weight":4}]})"),
      ElementsAre("b<|im_end|>*4"));
  const std::string pair =
      R"({"prompt": [{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":3},
      {"role":"user","content":"c"}], "completion": [{"role":"assistant","content":"d","weight":0.5}]})";
  EXPECT_THAT(learnt(pair), ElementsAre("d<|im_end|>*0.5"));
  EXPECT_THAT(found(pair), ElementsAre("ignored_mark a weight on a turn of the prompt @ prompt[1]",
                                       "weights weight of messages 0.5..0.5 @ completion"));
}

TEST(MessageWeights, FollowGenerationBlocks) {
  const TemporaryDirectory dir;
  test::write_tokenizer(dir, "");
  dir.write("chat_template.jinja",
            "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>"
            "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}");
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(dir.path());
  const auto row = RowTokenizer(&tokenizer, {})
                       .tokenize(chat(R"(,"weight":0.5)", R"(,"weight":2)", R"(,"sample_weight":3)"), "f:1");
  EXPECT_THAT(learnt(row), ElementsAre("A<|im_end|>*1.5", "B<|im_end|>*6"));
}

// Nothing lies between two answers of which one follows the other.
TEST(MessageWeights, OfTurnsThatTouchStayApart) {
  const TemporaryDirectory dir;
  test::write_tokenizer(dir, "");
  dir.write("chat_template.jinja",
            "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>{% endif %}{{ m.content }}"
            "{% if m.role == 'assistant' %}<|im_end|>{% endif %}{% endfor %}");
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(dir.path());
  const auto row =
      RowTokenizer(&tokenizer, {})
          .tokenize(
              R"({"messages": [{"role":"user","content":"u"},{"role":"assistant","content":"A","weight":2},
          {"role":"assistant","content":"B","weight":3},{"role":"assistant","content":"C","weight":3}]})",
              "f:1");
  EXPECT_THAT(learnt(row), ElementsAre("A<|im_end|>*2", "B<|im_end|>C<|im_end|>*3"));
}

TEST(RowWeights, CountInRowsOfEveryKind) {
  for (const char* key : {"weight", "loss_weight", "sample_weight"}) {
    for (const char* value : {"2.5", "\"2.5\"", "\" 2.5\\n\""}) {
      const std::string weight = fmt::format(", \"{}\": {}", key, value);
      SCOPED_TRACE(weight);
      EXPECT_THAT(learnt(chat("", R"(,"weight":2)", weight)),
                  ElementsAre("A<|im_end|>*2.5", "B<|im_end|>*5"));
      EXPECT_THAT(learnt(R"({"prompt": "a", "completion": "b")" + weight + "}"),
                  ElementsAre("b<|im_end|>*2.5"));
      EXPECT_THAT(learnt(R"({"instruction": "a", "output": "b")" + weight + "}"),
                  ElementsAre("b<|im_end|>*2.5"));
      EXPECT_THAT(learnt(R"({"text": "ab")" + weight + "}"), ElementsAre("ab<|im_end|>*2.5"));
      EXPECT_THAT(tokenize(R"({"input_ids": [5, 6, 7], "labels": [5, -100, 7])" + weight + "}").weights,
                  ElementsAre(2.5F, 0, 2.5F));
      EXPECT_THAT(found(R"({"text": "ab")" + weight + "}"),
                  ElementsAre(fmt::format("weights {} 2.5..2.5", key)));
    }
  }
}

TEST(RowWeights, OfOneSayNothingAndOfZeroLeaveTheRowOut) {
  const auto one = tokenize(R"({"text": "ab", "weight": 1})");
  EXPECT_TRUE(one.weights.empty());
  EXPECT_THAT(found(R"({"text": "ab", "weight": "1.0"})"), IsEmpty());
  for (const char* row : {R"({"text": "ab", "weight": 0})", R"({"input_ids": [1, 2], "weights": 0})",
                          R"({"messages": [{"role":"assistant","content":"a"}], "sample_weight": 0.0})"})
    EXPECT_EQ(tokenize(row).no_target, "its weight is 0") << row;
  EXPECT_THAT(learnt(R"({"text": "ab", "weight": null, "loss_weight": 2})"), ElementsAre("ab<|im_end|>*2"));
  // What two factors make is what counts.
  EXPECT_TRUE(tokenize(chat(R"(,"weight":2)", R"(,"weight":2)", R"(,"weight":0.5)")).weights.empty());
}

TEST(RowWeights, MayBeCalledOtherwise) {
  EXPECT_THAT(learnt(tokenize(R"({"text": "ab", "score": 0.5, "weight": "heavy"})", {{"weight", "score"}})),
              ElementsAre("ab<|im_end|>*0.5"));
  EXPECT_THAT(learnt(tokenize(R"({"text": "ab"})", {{"weight", "score"}})), ElementsAre("ab<|im_end|>*1"));
}

TEST(TokenWeights, AreAlignedWithTheIds) {
  for (const char* key : {"weight", "loss_weight", "weights", "loss_weights", "token_weights"}) {
    const auto with = [&](const std::string& more) {
      return tokenize(fmt::format(R"({{"input_ids": [5, 6, 7, 8], "{}": {}}})", key, more));
    };
    EXPECT_THAT(with("[1, 0.5, 0, 2]").weights, ElementsAre(1, 0.5F, 0, 2)) << key;
    EXPECT_THAT(with("[1, 0.5, 0, 2]").labels, ElementsAre(5, 6, -100, 8)) << key;
    EXPECT_THAT(with(R"("[1, 0.5, 0, 2]")").weights, ElementsAre(1, 0.5F, 0, 2))
        << key;  // a cell of a CSV file
    EXPECT_THAT(with("3").weights, ElementsAre(3, 3, 3, 3)) << key;
    EXPECT_TRUE(with("[1, 1.0, 0, 1]").weights.empty()) << key;
    EXPECT_THAT(with("[1, 1.0, 0, 1]").labels, ElementsAre(5, 6, -100, 8)) << key;
  }
}

TEST(TokenWeights, MultiplyWithLabelsMasksAndTheRow) {
  const auto row =
      tokenize(R"({"input_ids": [5, 6, 7, 8], "labels": [-100, 9, 7, 8], "loss_mask": [1, 1, 0, 1],
      "weights": [2, 2, 2, 0.5], "sample_weight": 0.25})");
  EXPECT_THAT(row.labels, ElementsAre(-100, 9, -100, 8));
  EXPECT_THAT(row.weights, ElementsAre(0, 0.5F, 0, 0.125F));
  EXPECT_THAT(found(R"({"input_ids": [5, 6], "weights": [0, 0.5], "weight": 3})"),
              ElementsAre("weights weight 3..3", "weights weights 0.5..0.5"));
  EXPECT_THAT(found(R"({"input_ids": [5, 6], "weights": [0, 1]})"), ElementsAre("mask_column weights"));
  EXPECT_EQ(tokenize(R"({"input_ids": [5, 6], "weights": [1, 0]})").no_target,
            "every label but those of first tokens is -100, or its weight 0");
}

TEST(Weights, OfNoPlainMeaningAreNamed) {
  EXPECT_THAT(found(R"({"text": "a", "weights": [1, 2], "token_weights": 2})"),
              ElementsAre("ignored_column weights", "ignored_column token_weights"));
  EXPECT_THAT(found(R"({"input_ids": [1, 2], "loss_scale": [1, 2]})"),
              ElementsAre("ignored_column loss_scale"));
  EXPECT_THAT(found(chat(R"(,"loss_scale":2)", "")),
              Contains("ignored_mark 'loss_scale' on a turn of role 'assistant' @ messages[1].loss_scale"));
}

TEST(Weights, ThatAreNoneAreErrorsOfTheirPlace) {
  const auto error = [](const std::string& json) { return error_of([&] { tokenize(json); }); };
  const std::string range = "; a weight in the loss is 0 (not learnt from) or between 1e-12 and 1e+12";
  EXPECT_EQ(error(chat(R"(,"weight":-1)", "")), "f.jsonl:7: messages[1].weight is -1" + range);
  EXPECT_EQ(error(chat("", R"(,"loss_weight":1e13)")),
            "f.jsonl:7: messages[3].loss_weight is 10000000000000" + range);
  EXPECT_EQ(error(R"({"text": "a", "weight": NaN})"), "f.jsonl:7: weight is nan" + range);
  EXPECT_EQ(error(R"({"text": "a", "weight": Infinity})"), "f.jsonl:7: weight is inf" + range);
  EXPECT_EQ(error(R"({"text": "a", "weight": "-inf"})"), "f.jsonl:7: weight is -inf" + range);
  EXPECT_EQ(error(R"({"text": "a", "sample_weight": 1e-20})"), "f.jsonl:7: sample_weight is 1e-20" + range);
  EXPECT_EQ(error(R"({"text": "a", "weight": "1e999"})"),
            "f.jsonl:7: weight is '1e999', beyond the range of weights");
  const std::string rename =
      "not a number: it says what is counted in the loss; rename what says something else";
  EXPECT_EQ(error(R"({"text": "a", "weight": "3 kg"})"), "f.jsonl:7: weight is '3 kg', " + rename);
  EXPECT_EQ(error(R"({"text": "a", "weight": true})"), "f.jsonl:7: weight is a boolean, " + rename);
  EXPECT_EQ(error(R"({"text": "a", "weight": [1]})"), "f.jsonl:7: weight is a list, " + rename);
  EXPECT_EQ(error(R"({"input_ids": [1, 2], "sample_weight": [1, 2]})"),
            "f.jsonl:7: sample_weight is a list, " + rename);
  EXPECT_EQ(error(R"({"input_ids": [1, 2], "weights": [1, null]})"),
            "f.jsonl:7: weights[1] is a null, " + rename);
  EXPECT_EQ(error(R"({"input_ids": [1, 2], "weights": [1]})"),
            "f.jsonl:7: 1 values in weights for 2 input_ids; it is aligned with the ids");
  EXPECT_EQ(error(R"({"text": "a", "weight": 1, "loss_weight": 1})"),
            "f.jsonl:7: weight and loss_weight both say what the row counts in the loss; keep one");
  EXPECT_EQ(error(R"({"input_ids": [1, 2], "weights": [1, 1], "loss_weights": [1, 1]})"),
            "f.jsonl:7: weights and loss_weights both say what each token counts in the loss; keep one");
  EXPECT_EQ(error(chat(R"(,"weight":1,"loss_weight":1)", "")),
            "f.jsonl:7: messages[1] has both a weight and a loss_weight; keep one");
  EXPECT_EQ(error(R"({"input_ids": [1, 2], "weights": [1, 1e10], "weight": 1e10})"),
            "f.jsonl:7: the weight of token 1, times that of the row, is 1e+20" + range);
}

Dataset load(const std::string& path, const DatasetOptions& options, const ColumnNames& columns = {}) {
  return Dataset::load({{.path = path, .columns = columns}}, "train", &chatml(), options);
}

TEST(DatasetWeights, AreTheSameInEveryFormat) {
  const TemporaryDirectory dir;
  const auto print = [&](const std::string& name, const std::string& content) {
    return load(dir.write(name, content), {}, {{"text", "t"}}).fingerprint();
  };
  const auto jsonl = print("a.jsonl", "{\"t\": \"one\", \"weight\": 0.5}\n{\"t\": \"two\"}\n");
  EXPECT_EQ(jsonl, print("a.json", R"([{"t": "one", "weight": 0.5}, {"t": "two", "weight": null}])"));
  EXPECT_EQ(jsonl, print("a.csv", "t,weight\none,0.5\ntwo,\n"));
  EXPECT_EQ(jsonl, print("b.csv", "t,weight\none,\"5e-1\"\ntwo,\"\"\n"));
  EXPECT_NE(jsonl, print("b.jsonl", "{\"t\": \"one\", \"weight\": 0.25}\n{\"t\": \"two\"}\n"));
  const auto plain = print("c.jsonl", "{\"t\": \"one\"}\n{\"t\": \"two\"}\n");
  EXPECT_NE(jsonl, plain);
  EXPECT_EQ(plain, print("d.jsonl", "{\"t\": \"one\", \"weight\": 1}\n{\"t\": \"two\"}\n"));
}

TEST(DatasetWeights, GoWithTheTokensWhereRowsAreCutOrSplitOrPackedBefore) {
  const TemporaryDirectory dir;
  const auto tokens =
      dir.write("a.jsonl",
                "{\"input_ids\": [1, 2, 3, 4, 5, 6], \"weights\": [1, 2, 3, 4, 5, 6]}\n"
                "{\"input_ids\": [1, 2, 3, 4], \"weights\": [1, 2, 3, 4], \"seq_lengths\": [2, 2]}\n");
  const auto cut = load(tokens, {.seq_len = 3, .shuffle = false, .overlong = Overlong::kTruncate});
  ASSERT_EQ(cut.num_examples(), 3);
  EXPECT_THAT(cut.example(0).weights, ElementsAre(1, 2, 3));
  EXPECT_THAT(cut.example(1).weights, ElementsAre(1, 2));
  EXPECT_THAT(cut.example(2).weights, ElementsAre(3, 4));
  const auto text = dir.write("b.jsonl", "{\"text\": \"abcde\", \"weight\": 7}\n{\"text\": \"ab\"}\n");
  const auto split = load(text, {.seq_len = 4, .shuffle = false, .overlong = Overlong::kSplit});
  ASSERT_EQ(split.num_examples(), 3);
  EXPECT_THAT(split.example(0).weights, ElementsAre(7, 7, 7, 7));
  EXPECT_THAT(split.example(1).weights, ElementsAre(7, 7));
  EXPECT_THAT(split.example(2).weights, IsEmpty());
}

TEST(DatasetWeights, AreSaidWithTheirRange) {
  const TemporaryDirectory dir;
  std::string rows = "{\"text\": \"a\"}\n";
  for (const char* weight : {"0.5", "1", "2", "0"})
    rows += fmt::format("{{\"text\": \"a\", \"weight\": {}}}\n", weight);
  const auto dataset = load(dir.write("rows.jsonl", rows), {});
  const auto lines = describe(dataset.statistics().report, Severity::kNotice);
  EXPECT_THAT(lines, Contains("2 rows whose tokens count 0.5 to 2 in the loss, by 'weight'; first " +
                              (dir / "rows.jsonl").string() + ":2"));
  EXPECT_THAT(lines,
              Contains(HasSubstr("1 row left out, with no token to learn from: its weight is 0; first ")));
  EXPECT_EQ(dataset.statistics().without_target, 1);
  const auto json = to_json(dataset.statistics().report);
  EXPECT_EQ(json[0]["kind"], "weights");
  EXPECT_EQ(json[0]["least"], 0.5);
  EXPECT_EQ(json[0]["largest"], 2);
}

// Or another weight would bring rows that were trained on into the evaluation.
TEST(DatasetWeights, DoNotMoveARowAcrossAHoldout) {
  EXPECT_EQ(tokenize(R"({"text": "a", "weight": 2})").content, tokenize(R"({"text": "a"})").content);
  EXPECT_EQ(tokenize(R"({"input_ids": [1, 2], "weights": [2, 3]})").content,
            tokenize(R"({"input_ids": [1, 2]})").content);
}

}  // namespace
}  // namespace hone::data
