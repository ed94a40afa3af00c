// The recipe's data: sources, evaluation sets, columns, and what it says to what is none of them.
#include "train/recipe_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "train/recipe.h"

namespace hone::train {
namespace {

using ::testing::HasSubstr;

/// A recipe whose data section holds these lines.
std::string recipe_text(const std::string& data) {
  return "model: {path: m}\noutput: o\ndata:\n" + data;
}
Recipe parsed(const std::string& data, const std::vector<std::string>& overrides = {}) {
  return parse_recipe(recipe_text(data), "recipe.yaml", overrides);
}
std::string refusal(const std::string& data, const std::vector<std::string>& overrides = {}) {
  try {
    parsed(data, overrides);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(RecipeData, MayBeOnePath) {
  const auto recipe = parsed("  train: a.jsonl\n");
  ASSERT_EQ(recipe.train_data.size(), 1U);
  EXPECT_EQ(recipe.train_data[0].path, "a.jsonl");
  EXPECT_TRUE(recipe.eval_data.empty());
  EXPECT_THAT(recipe.resolved, HasSubstr("  train: \"a.jsonl\"  # recipe.yaml:4\n"));
  EXPECT_EQ(describe(recipe.train_data), "a.jsonl");
}

TEST(RecipeData, MayBeAListOfSources) {
  const auto recipe = parsed(
      "  train:\n"
      "    - a.jsonl\n"
      "    - {path: b, split: valid, format: csv, max_rows: 7, repeat: 2.5}\n"
      "    - {path: c.json, columns: {text: body}}\n");
  ASSERT_EQ(recipe.train_data.size(), 3U);
  const auto& b = recipe.train_data[1];
  EXPECT_EQ(b.path, "b");
  EXPECT_EQ(b.split, "valid");
  EXPECT_EQ(b.format, data::FileFormat::kCsv);
  EXPECT_EQ(b.max_rows, 7);
  EXPECT_EQ(b.repeat, 2.5);
  EXPECT_FALSE(b.weight);
  EXPECT_EQ(recipe.train_data[2].columns, (data::ColumnNames{{"text", "body"}}));
  EXPECT_EQ(describe(recipe.train_data), "a.jsonl + b (repeat 2.5) + c.json");
}

TEST(RecipeData, OfAResolvedRecipeIsTheSame) {
  const std::string data =
      "  train: [{path: \"a b.jsonl\", weight: 0.7}, {path: b, weight: 0.3, columns: {prompt: q, completion: "
      "a}}]\n"
      "  eval: {news: [n.jsonl, {path: m, max_rows: 3}], held: 2.5%}\n"
      "  columns: {text: body}\n"
      "  cache: /tmp/x\n";
  const auto recipe = parsed(data);
  const auto again = parse_recipe(recipe.resolved, "again.yaml", {});
  const auto without_origins = [](std::string text) {
    for (std::size_t at = 0; (at = text.find("  # ", at)) != std::string::npos;)
      text.erase(at, text.find('\n', at) - at);
    return text;
  };
  EXPECT_EQ(without_origins(again.resolved), without_origins(recipe.resolved));
  EXPECT_EQ(again.train_data[0].columns, (data::ColumnNames{{"text", "body"}}));
  EXPECT_EQ(again.train_data[1].columns.size(), 2U);
  ASSERT_EQ(again.eval_data.size(), 2U);
  EXPECT_EQ(again.eval_data[0].name, "news");
  EXPECT_EQ(again.eval_data[0].sources[1].max_rows, 3);
  EXPECT_EQ(again.eval_data[1].percent, 2.5);
  EXPECT_EQ(holdout_of(again).share, 0.025);
  EXPECT_EQ(token_cache_of(again).directory, "/tmp/x");
}

TEST(RecipeData, MayBeEvaluatedOnAShare) {
  const auto recipe = parsed("  train: a\n  eval: 5%\n");
  ASSERT_EQ(recipe.eval_data.size(), 1U);
  EXPECT_EQ(recipe.eval_data[0].name, "");
  EXPECT_EQ(recipe.eval_data[0].percent, 5);
  EXPECT_THAT(recipe.resolved, HasSubstr("  eval: 5%  # recipe.yaml:5\n"));
  EXPECT_TRUE(parsed("  train: a\n  eval: null\n").eval_data.empty());
  EXPECT_EQ(holdout_of(parsed("  train: a\n  eval: b\n")).share, 0);
}

TEST(RecipeData, MayBeEvaluatedOnSeveralSets) {
  for (const char* eval :
       {"  eval: {one: a.jsonl, two: {path: b, split: test}}\n",
        "  eval:\n    - {name: one, path: a.jsonl}\n    - {name: two, path: b, split: test}\n"}) {
    const auto recipe = parsed(std::string("  train: t\n") + eval);
    ASSERT_EQ(recipe.eval_data.size(), 2U);
    EXPECT_EQ(recipe.eval_data[0].name, "one");
    EXPECT_EQ(recipe.eval_data[0].sources.at(0).path, "a.jsonl");
    EXPECT_EQ(recipe.eval_data[1].sources.at(0).split, "test");
  }
  const auto one = parsed("  train: t\n  eval: [a.jsonl, b.jsonl]\n");
  ASSERT_EQ(one.eval_data.size(), 1U);
  EXPECT_EQ(one.eval_data[0].sources.size(), 2U);
  EXPECT_EQ(parsed("  train: t\n  eval: {path: a}\n").eval_data.at(0).sources.at(0).path, "a");
}

TEST(RecipeData, MayBeGivenOnTheCommandLine) {
  const auto recipe = parsed(
      "  train: a\n", {"data.train=[b, {path: c, repeat: 2}]", "data.eval=5%",
                       "data.columns={prompt: q, completion: a}", "data.cache=off", "data.overlong=split"});
  EXPECT_EQ(describe(recipe.train_data), "b + c (repeat 2)");
  EXPECT_EQ(recipe.eval_data.at(0).percent, 5);
  EXPECT_EQ(recipe.train_data[1].columns.at("prompt"), "q");
  EXPECT_TRUE(token_cache_of(recipe).directory.empty());
  EXPECT_EQ(recipe.overlong, data::Overlong::kSplit);
  EXPECT_EQ(token_cache_of(parsed("  train: a\n  cache: off\n")).directory, "");
}

TEST(RecipeData, ThatIsWrongIsNamedWithItsLine) {
  const struct {
    const char* data;
    const char* message;
  } cases[] = {
      {"  train:\n    - a\n    - {path: b, wieght: 1}\n",
       "recipe.yaml:6: unknown key 'data.train.wieght'; did you mean 'weight'?"},
      {"  train:\n    - a\n    - {weight: 1}\n", "recipe.yaml:6: data.train has no path"},
      {"  train: [{path: a, weight: 1, repeat: 2}]\n", "weight and repeat are both given"},
      {"  train: [{path: a, weight: 0}]\n", "data.train.weight is 0, expected a number"},
      {"  train: [{path: a, weight: 1}, b]\n", "recipe.yaml:4: data.train: b has no weight, but others do"},
      {"  train: [{path: a, format: parqet}]\n", "did you mean 'parquet'?"},
      {"  train: [{path: a, max_rows: 0}]\n", "data.train.max_rows is 0"},
      {"  train: [{path: a, path: b}]\n", "duplicate key data.train.path"},
      {"  train: []\n", "data.train is [], expected at least one path"},
      {"  train: [[a]]\n", "expected a path, or keys"},
      {"  train: a\n  eval: 0%\n", "recipe.yaml:5: data.eval is 0%, expected a share"},
      {"  train: a\n  eval: 100%\n", "expected a share"},
      {"  train: a\n  eval: {one: 5%, two: 5%}\n", "two shares of the training rows"},
      {"  train: a\n  eval: {\"a b\": c}\n", "the evaluation set 'a b' has a name of other characters"},
      {"  train: a\n  eval:\n    - {name: x, path: a}\n    - b\n", "recipe.yaml:7: b has no name"},
      {"  train: a\n  eval:\n    - {name: x, path: a}\n    - {name: x, path: b}\n",
       "two evaluation sets are called 'x'"},
      {"  train: a\n  eval: {path: b, weight: 2}\n", "unknown key 'data.eval.weight'"},
      {"  train: a\n  columns: {promt: q}\n",
       "recipe.yaml:5: unknown key 'data.columns.promt'; did you mean 'prompt'?"},
      {"  train: a\n  columns: q\n", "data.columns is q, expected a mapping"},
  };
  for (const auto& c : cases) EXPECT_THAT(refusal(c.data), HasSubstr(c.message)) << c.data;
  EXPECT_THAT(refusal("  train: a\n", {"data.train=[{path: a, wieght: 1}]"}),
              HasSubstr("command line: unknown key 'data.train.wieght'"));
}

}  // namespace
}  // namespace hone::train
