// Mutated recipes either parse or throw hone's Error of kind kUser, in one line; what parses is resolved to a
// recipe that parses to the same. Hostile ones cost what a long recipe costs. Deterministic: the same
// mutations in every run.
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/fuzz/fuzz.h"
#include "train/recipe.h"

namespace hone::train {
namespace {

const std::vector<std::string> kRecipes{
    "model:  {path: model, dtype: bf16}\n"
    "data:   {train: train.jsonl, eval: valid.jsonl, seq_len: 4096, packing: true, overlong: drop}\n"
    "method: {type: full, freeze: [embed_tokens, 'layers\\.[0-3]\\.']}\n"
    "train:  {epochs: 2.5, global_batch: 16, micro_batch: 2, clip: null, seed: 7, eval_every: 10,\n"
    "         early_stopping: {patience: 3, min_delta: 1e-3}, load_best: true,\n"
    "         optimizer: {lr: 1.0e-5, betas: [0.9, 0.95], groups: [{match: 'lm_head|embed', lr_scale: "
    "0.1}]},\n"
    "         schedule: {type: cosine, warmup: 3%, min_lr_ratio: 0.1}}\n"
    "output: runs/first\n",
    "# block style\n"
    "model:\n  path: &p \"a model\"\n"
    "data:\n  train: 'train.jsonl'\n  shuffle: no\n"
    "train:\n  steps: 1_000\n  optimizer:\n    type: sgd\n    momentum: 0.9\n  aux_coef: 0.01\n"
    "mesh: {ep: 1}\n"
    "output: *p\n",
    "# the words of other tools, which are answered\n"
    "model_name_or_path: model\nlearning_rate: 3e-4\ngradient_accumulation_steps: 8\nwarmup_ratio: 0.03\n"};

/// What people and enemies put into YAML; the first 16 take the place of numbers.
const std::vector<std::string> kWords{"0",
                                      "1",
                                      "0.5",
                                      "1e-5",
                                      "3%",
                                      "-1",
                                      "1e999",
                                      "0x1F",
                                      "1__0",
                                      ".inf",
                                      "-.nan",
                                      "9223372036854775808",
                                      "1e-320",
                                      "null",
                                      "off",
                                      "{}",
                                      ": ",
                                      "- ",
                                      "\n",
                                      "\n  ",
                                      "\t",
                                      "{",
                                      "}",
                                      "[",
                                      "]",
                                      "[]",
                                      "&a ",
                                      "*a",
                                      "*b",
                                      "<<: *a",
                                      "!",
                                      "!!",
                                      "!!binary ",
                                      "!!float ",
                                      "? ",
                                      "|",
                                      ">",
                                      ">-",
                                      "|+2",
                                      "'",
                                      "\"",
                                      "\\x",
                                      "\\u12",
                                      "%YAML 9.9",
                                      "---",
                                      "...",
                                      "#",
                                      "~",
                                      "none",
                                      "true",
                                      "\xEF\xBB\xBF",
                                      "\xFF",
                                      "\xC3",
                                      std::string(1, '\0'),
                                      "train",
                                      "optimizer",
                                      "groups",
                                      "match",
                                      "(",
                                      "(a+)+$",
                                      "early_stopping",
                                      "warmup_ratio: 0.03",
                                      "max_steps: -1",
                                      "datasets: [{path: x}]",
                                      "step_scheduler: {lr: 1}"};

/// Parses; true where it is a recipe.
bool parses(const std::string& text, std::string* resolved = nullptr,
            std::vector<std::string> overrides = {}) {
  return fuzz::survives(
      [&] {
        const auto recipe = parse_recipe(text, "recipe.yaml", overrides);
        if (resolved != nullptr) *resolved = recipe.resolved;
      },
      text + fmt::format("{}", fmt::join(overrides, " ")));
}

/// The lines of a resolved recipe without where each value came from.
std::string values_of(const std::string& resolved) {
  std::string values;
  for (std::size_t at = 0; at < resolved.size();) {
    const auto end = std::min(resolved.find('\n', at), resolved.size());
    const std::string line = resolved.substr(at, end - at);
    values += line.substr(0, line.rfind("  # ")) + "\n";
    at = end + 1;
  }
  return values;
}

TEST(RecipeFuzz, MutatedRecipesParseOrSayWhy) {
  std::mt19937_64 random(7);
  int taken = 0;
  for (int i = 0; i < 20'000 && !HasFailure(); ++i) {
    const std::string text =
        fuzz::mutate(kRecipes[static_cast<std::size_t>(i) % kRecipes.size()], kWords, random);
    std::string resolved, again;
    if (!parses(text, &resolved)) continue;
    ++taken;
    EXPECT_TRUE(parses(resolved, &again)) << text << "\n" << resolved;
    EXPECT_EQ(values_of(resolved), values_of(again)) << text;
  }
  // Measured: 967, one in twenty; where all are refused, what is taken is not tested.
  EXPECT_GT(taken, 400);
  EXPECT_LT(taken, 10'000);
}

TEST(RecipeFuzz, MutatedOverridesParseOrSayWhy) {
  std::mt19937_64 random(8);
  int taken = 0;
  for (int i = 0; i < 5'000 && !HasFailure(); ++i) {
    const std::string text =
        fuzz::mutate("train.optimizer.groups=[{match: 'a|b', lr_scale: 0.1}]", kWords, random);
    taken += parses(kRecipes[0], nullptr, {text}) ? 1 : 0;
  }
  EXPECT_GT(taken, 0);
}

std::string refusal(const std::string& text) {
  try {
    parse_recipe(text, "recipe.yaml", {});
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUser);
    return e.what();
  }
  return "";
}

TEST(RecipeFuzz, AliasesOfAliasesAreNotExpanded) {
  std::string text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (int i = 1; i < 30; ++i) {
    text += fmt::format("a{}: &a{} [", i, i);
    for (int j = 0; j < 10; ++j) text += fmt::format("{}*a{}", j > 0 ? ", " : "", i - 1);
    text += "]\n";
  }
  EXPECT_NE(refusal(text).find("expands to more than"), std::string::npos) << refusal(text);
  EXPECT_NE(refusal("model: &m {path: *m}\n").find("nests deeper"), std::string::npos);
  EXPECT_NE(refusal("method: {freeze: &f [a, *f]}\n").find("nests deeper"), std::string::npos);
}

// yaml-cpp's LoadAll takes what closes nothing for documents without end.
TEST(RecipeFuzz, WhatClosesNothingEnds) {
  for (const char* stray :
       {"]", "}", "]]", "\n]", "a: [1]]\n", "{a: 1}}\n", "a: 1\n}\n", ",", "a: 1\n---\nb: 2\n"})
    EXPECT_NE(refusal(stray).find("not valid YAML"), std::string::npos) << stray << "\n" << refusal(stray);
  EXPECT_THROW(parse_recipe(kRecipes[0], "recipe.yaml", {"train.steps=5]"}), Error);
}

TEST(RecipeFuzz, DepthAndSizeAreBounded) {
  for (const char* open : {"[", "{a: ", "- ", "? ", "!x [", "&a ["}) {
    for (const std::size_t depth : {100U, 1000U, 100'000U}) {
      std::string text = "model: ";
      if (std::string(open) == "- " || std::string(open) == "? ") text = "";
      for (std::size_t i = 0; i < depth; ++i) text += open;
      EXPECT_NE(refusal(text), "") << open << " x " << depth;
    }
  }
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  EXPECT_NE(refusal(deep), "");
  EXPECT_NE(refusal(std::string(std::size_t{2} << 20, '#')).find("bytes"), std::string::npos);
  EXPECT_NE(refusal(std::string(900'000, '\n')).find("is empty"), std::string::npos);
  EXPECT_NE(refusal("model: {path: " + std::string(900'000, 'x') + "}\n"), "");
}

}  // namespace
}  // namespace hone::train
