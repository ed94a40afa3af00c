// Columns under other names, alpaca's rows, lists as strings of JSON.
#include "data/column_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/data/support.h"

namespace hone::data {
namespace {

using test::error_of;
using test::Json;
using ::testing::HasSubstr;

Json applied(const std::string& row, const ColumnNames& names = {}) {
  Json json = Json::parse(row);
  apply_columns(json, names, "f:1");
  return json;
}

TEST(ColumnNames, AreRenamed) {
  const ColumnNames names{{"prompt", "question"}, {"completion", "answer"}};
  EXPECT_EQ(applied(R"({"id": 7, "question": "q", "answer": "a"})", names),
            Json::parse(R"({"completion": "a", "prompt": "q", "id": 7})"));
  // What would make the row of another kind is not asked for.
  EXPECT_EQ(applied(R"({"question": "q", "answer": "a", "text": "q a", "messages": []})", names),
            Json::parse(R"({"completion": "a", "prompt": "q"})"));
  // Two keys may swap, and one column may serve twice.
  EXPECT_EQ(
      applied(R"({"prompt": "a", "completion": "q"})", {{"prompt", "completion"}, {"completion", "prompt"}}),
      Json::parse(R"({"completion": "a", "prompt": "q"})"));
  EXPECT_EQ(applied(R"({"body": "b", "text": "t"})", {{"text", "body"}}), Json::parse(R"({"text": "b"})"));
}

TEST(ColumnNames, ThatAreMissingAreNamed) {
  EXPECT_EQ(
      error_of([] {
        applied(R"({"qestion": "q", "answer": "a"})", {{"prompt", "question"}});
      }),
      "f:1: the row has no column 'question', which data.columns names for prompt; did you mean 'qestion'? "
      "(keys: qestion, answer)");
  EXPECT_THAT(error_of([] {
                applied(R"({"question": null})", {{"prompt", "question"}});
              }),
              HasSubstr("no column 'question'"));
}

TEST(ColumnNames, OfAPairBecomeAChat) {
  const ColumnNames names{{"user", "q"}, {"assistant", "a"}, {"system", "s"}};
  EXPECT_EQ(applied(R"({"q": "?", "a": "!", "s": "Be brief.", "prompt": "x"})", names),
            Json::parse(R"({"messages": [{"role": "system", "content": "Be brief."},
                                         {"role": "user", "content": "?"},
                                         {"role": "assistant", "content": "!"}]})"));
  EXPECT_EQ(applied(R"({"q": "?", "a": "!"})", names)["messages"].size(), 2U);
  EXPECT_EQ(error_of([&] { applied(R"({"q": "?", "a": 42})", names); }),
            "f:1: assistant is a number, not a string");
}

TEST(ColumnNames, OfAlpacaGetItsPrompt) {
  const auto row = applied(R"({"instruction": "Add.", "input": "1 2", "output": "3", "text": "all of it"})");
  EXPECT_EQ(
      row["prompt"],
      "Below is an instruction that describes a task, paired with an input that provides further context. "
      "Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### "
      "Input:\n1 2\n\n### Response:");
  EXPECT_EQ(row["completion"], "3");
  EXPECT_FALSE(row.contains("text"));
  for (const char* without :
       {R"({"instruction": "Add.", "input": "", "output": "3"})", R"({"instruction": "Add.", "output": "3"})",
        R"({"instruction": "Add.", "input": null, "output": "3"})"})
    EXPECT_EQ(
        applied(without)["prompt"],
        "Below is an instruction that describes a task. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\nAdd.\n\n### Response:");
  EXPECT_THAT(error_of([] { applied(R"({"instruction": "a", "output": "b", "system": "s"})"); }),
              HasSubstr("'system' has no place in alpaca's prompt"));
  EXPECT_THAT(error_of([] { applied(R"({"instruction": "a", "output": "b", "history": [["a", "b"]]})"); }),
              HasSubstr("'history'"));
  EXPECT_EQ(applied(R"({"instruction": "a", "output": "b", "system": "", "history": []})")["completion"],
            "b");
  // Where the row is of a kind already, they are keys like others.
  EXPECT_TRUE(applied(R"({"messages": [], "instruction": "a", "output": "b"})").contains("instruction"));
}

TEST(ColumnNames, OfListsMayBeStringsOfJson) {
  EXPECT_EQ(applied(R"({"messages": "[{\"role\": \"user\"}]"})")["messages"][0]["role"], "user");
  EXPECT_EQ(applied(R"({"input_ids": " [1, 2]", "labels": ""})"),
            Json::parse(R"({"input_ids": [1, 2], "labels": null})"));
  EXPECT_EQ(applied(R"({"text": "[1]", "prompt": "{}"})"), Json::parse(R"({"text": "[1]", "prompt": "{}"})"));
  EXPECT_THAT(error_of([] { applied(R"({"messages": "[{'role': 'user'}]"})"); }),
              HasSubstr("as Python prints it"));
  EXPECT_THAT(error_of([] { applied(R"({"messages": "[{]"})"); }),
              HasSubstr("f:1: messages, a string of JSON"));
}

}  // namespace
}  // namespace hone::data
