// Recipes as people write them: what other tools' words, YAML's traps and slips of the hand become.
#include "tests/cli_verbs/program.h"

namespace hone::test {
namespace {

struct Slip {
  const char* name;
  std::string recipe;  // all of it; "": the one that trains
  std::vector<std::string> overrides;
  std::vector<std::string> parts;  // of the message; none: it trains
};

const std::string kStart = "model: {path: model}\ndata: {train: train.jsonl}\noutput: run\n";

class RecipeSlip : public testing::TestWithParam<Slip> {};

TEST_P(RecipeSlip, IsToldOrTaken) {
  const Workspace workspace;
  workspace.chat_model();
  workspace.chat_data(8);
  const Slip& slip = GetParam();
  write(workspace / "recipe.yaml", slip.recipe.empty() ? kStart + "train: {steps: 1}\n" : slip.recipe);
  const auto before = workspace.files();
  std::vector<std::string> args{"train", "recipe.yaml"};
  args.insert(args.end(), slip.overrides.begin(), slip.overrides.end());
  const auto outcome = workspace.hone(args);
  if (slip.parts.empty()) {
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return;
  }
  expect_refused(outcome, slip.parts);
  EXPECT_EQ(workspace.files(), before);
}

INSTANTIATE_TEST_SUITE_P(
    Slips, RecipeSlip,
    testing::Values(
        Slip{"exponent_without_a_point", "", {"train.optimizer.lr=1e-5"}, {}},
        Slip{"quoted_number",
             kStart + "train: {steps: \"2\"}\n",
             {},
             {"recipe.yaml:4: train.steps is \"2\", expected an integer"}},
        Slip{"quoted_boolean",
             "",
             {"data.packing=\"true\""},
             {"data.packing is \"true\", expected true or false"}},
        Slip{"hexadecimal", "", {"train.steps=0x2"}, {"train.steps is 0x2"}},
        Slip{"large_seed", "", {"train.seed=20261127223014123"}, {}},
        Slip{"seed_too_large", "", {"train.seed=9223372036854775808"}, {"from 0 to 9223372036854775807"}},
        Slip{"rate_too_large",
             "",
             {"train.optimizer.lr=1e40"},
             {"train.optimizer.lr is 1e40, expected a number from 0 to"}},
        Slip{"clip_of_zero", "", {"train.clip=0"}, {"train.clip is 0, expected a number above 0, or null"}},
        Slip{"clip_below_zero",
             "",
             {"train.clip=-1"},
             {"train.clip is -1, expected a number above 0, or null"}},
        Slip{"clip_null", "", {"train.clip=null"}, {}}, Slip{"eval_null", "", {"data.eval=null"}, {}},
        Slip{"section_as_a_word",
             kStart + "train:\n  steps: 1\n  schedule: cosine\n",
             {},
             {"recipe.yaml:6: train.schedule is cosine, expected its keys", "train.schedule: {type"}},
        Slip{"words_of_trainer",
             kStart + "train: {num_train_epochs: 3}\n",
             {},
             {"recipe.yaml:4", "'train.num_train_epochs'", "'train.epochs'"}},
        Slip{"words_of_trainer_at_the_top",
             kStart + "learning_rate: 1e-5\n",
             {},
             {"recipe.yaml:4", "'train.optimizer.lr'"}},
        Slip{"dotted_key_twice",
             kStart + "train: {seed: 1}\ntrain.seed: 2\n",
             {},
             {"recipe.yaml:5: duplicate key train.seed"}},
        Slip{"merge_key",
             "model: &m {path: model}\ndata: {train: train.jsonl}\ntrain: {<<: *m}\noutput: run\n",
             {},
             {"recipe.yaml:3", "merge keys"}},
        Slip{"alias", kStart + "train: {steps: &n 1, global_batch: *n}\n", {}, {}},
        Slip{"tab", "model:\n\tpath: model\n", {}, {"recipe.yaml:2", "tab"}},
        Slip{"latin_1", kStart + "# caf\xE9\n", {}, {"recipe.yaml:4: is not UTF-8"}},
        Slip{"byte_order_mark", "\xEF\xBB\xBF" + kStart, {}, {}},
        Slip{"carriage_returns",
             "model: {path: model}\r\ndata: {train: train.jsonl}\r\noutput: run\r\n",
             {},
             {}},
        Slip{"empty_key", kStart + "\"\": 1\n", {}, {"unknown key ''"}},
        Slip{"dashes", "", {"--train.steps=1"}, {"--train.steps", "without dashes: train.steps=1"}},
        Slip{"no_such_model",
             kStart,
             {"model.path=Qwen/Qwen3-30B-A3B"},
             {"command line: model.path", "no directory Qwen/Qwen3-30B-A3B in /", "hf download"}},
        Slip{"no_such_data",
             "model: {path: model}\ndata:\n  train: trian.jsonl\noutput: run\n",
             {},
             {"recipe.yaml:3: data.train", "trian.jsonl"}},
        Slip{"no_such_eval", "", {"data.eval=vaild.jsonl"}, {"command line: data.eval", "vaild.jsonl"}},
        Slip{
            "output_inside_the_model", "", {"output=model/run"}, {"output: model/run lies inside the model"}},
        Slip{"context_names_its_line",
             kStart + "data.seq_len: 129\n",
             {},
             {"recipe.yaml:4: data.seq_len is 129", "128"}},
        Slip{"deep_output_vanishes", "", {"output=a/b/c", "data.seq_len=8"}, {"data.seq_len 8"}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(RecipeNotes, WhatHasNoEffectIsSaid) {
  const Workspace workspace;
  workspace.chat_model();
  workspace.chat_data(8);
  write(workspace / "recipe.yaml", kStart +
                                       "train:\n  steps: 2\n  eval_every: 5\n  optimizer: {momentum: 0.9}\n"
                                       "  schedule: {type: constant, min_lr_ratio: 0.1, warmup: 4}\n");
  const auto outcome = workspace.succeed({"train", "recipe.yaml"});
  for (const char* part : {"recipe.yaml:6: train.eval_every has no effect",
                           "recipe.yaml:7: train.optimizer.momentum has no effect",
                           "recipe.yaml:8: train.schedule.min_lr_ratio has no effect",
                           "recipe.yaml:8: train.schedule.warmup is 4 of 2 steps"})
    EXPECT_NE(outcome.err.find(part), std::string::npos) << part << " in: " << outcome.err;
}

TEST(RecipePaths, TildeIsTheHomeDirectory) {
  const Workspace workspace;
  workspace.chat_model();
  workspace.chat_data(8);
  write(workspace / "recipe.yaml",
        "model: {path: ~/model}\ndata: {train: ~/train.jsonl}\ntrain: {steps: 1}\noutput: ~/run\n");
  EXPECT_EQ(workspace.hone({"train", "recipe.yaml"}, "HOME=\"$PWD\";").code, 0);
  EXPECT_TRUE(std::filesystem::exists(workspace / "run/model/model.safetensors"));
}

}  // namespace
}  // namespace hone::test
