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
        Slip{"unknown_device",
             kStart + "device: gpu\n",
             {},
             {"recipe.yaml:4: device is gpu, expected cpu, cuda"}},
        Slip{
            "card_without_number", "", {"device=cuda:x"}, {"device is cuda:x, expected cpu, cuda or cuda:N"}},
        Slip{"card_that_is_not_there",
             kStart + "device: cuda:99\n",
             {},
             {"recipe.yaml:4: device: device cuda:99: "}},
        Slip{"device_by_name", kStart + "device: cpu\ntrain: {steps: 1}\n", {}, {}},
        Slip{"exponent_without_a_point", "", {"train.optimizer.lr=1e-5"}, {}},
        Slip{"quoted_number",
             kStart + "train: {steps: \"2\"}\n",
             {},
             {"recipe.yaml:4: train.steps is \"2\", expected an integer", "in quotes it is text"}},
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
        Slip{"rate_with_a_bare_point", "", {"train.optimizer.lr=1.e-5"}, {}},
        Slip{"digits_grouped", "", {"train.steps=1_0", "train.checkpoint_every=1_000"}, {}},
        Slip{"underscore_at_the_end", "", {"train.steps=10_"}, {"train.steps is 10_, expected an integer"}},
        Slip{"integer_in_scientific_notation", "", {"train.steps=1e0", "train.global_batch=2.0"}, {}},
        Slip{"half_an_integer", "", {"train.steps=2.5"}, {"train.steps is 2.5, expected an integer"}},
        Slip{"quoted_rate",
             kStart + "train: {steps: 1, optimizer: {lr: \"5e-5\"}}\n",
             {},
             {"train.optimizer.lr is \"5e-5\", expected a number", "in quotes it is text, write it without"}},
        Slip{"booleans_of_yaml_1_1", "", {"data.packing=off", "data.shuffle=Yes"}, {}},
        Slip{"boolean_as_a_number", "", {"data.packing=1"}, {"data.packing is 1, expected true or false"}},
        Slip{"clip_none", "", {"train.clip=none"}, {"train.clip is none", "write clip: null"}},
        Slip{"aux_coef_off", "", {"train.aux_coef=off"}, {"train.aux_coef is off", "write aux_coef: null"}},
        Slip{"torchs_dtype", "", {"model.dtype=float32"}, {}},
        Slip{"f16", "", {"model.dtype=float16"}, {"model.dtype is float16", "not computed in"}},
        Slip{"warmup_as_a_share", "", {"train.schedule.warmup=0.03"}, {}},
        Slip{"warmup_in_percent", "", {"train.schedule.warmup=3%"}, {}},
        Slip{"warmup_of_one_and_a_half",
             "",
             {"train.schedule.warmup=1.5"},
             {"warmup is 1.5, expected an integer"}},
        Slip{"bf16_true", kStart + "bf16: true\n", {}, {"recipe.yaml:4", "'bf16'", "model.dtype: bf16"}},
        Slip{"mixed_precision",
             kStart + "mixed_precision: fp8\n",
             {},
             {"'mixed_precision'", "model.dtype: bf16, train.fp8: block"}},
        Slip{"fp8_recipe",
             kStart + "fp8_recipe: delayed\n",
             {},
             {"'fp8_recipe'", "train.fp8: block (scales of blocks"}},
        Slip{"fp8_of_other_tools", kStart + "train: {fp8: true}\n", {}, {"train.fp8", "none", "block"}},
        Slip{"fp16_true",
             kStart + "train: {fp16: true}\n",
             {},
             {"'train.fp16'", "bf16 or f32", "not computed in"}},
        Slip{"accumulation_is_multiplied_out",
             kStart + "train: {micro_batch: 2, gradient_accumulation_steps: 8}\n",
             {},
             {"here it is: train.global_batch: 16 (8 accumulated x 2"}},
        Slip{"trainers_batch",
             kStart + "per_device_train_batch_size: 4\ngradient_accumulation_steps: \"8\"\n",
             {},
             {"train.micro_batch: 4, train.global_batch: 32",
              "also 'gradient_accumulation_steps': train.global_batch: 32"}},
        Slip{"ratio_of_steps_given",
             kStart + "train: {steps: 1000, warmup_ratio: 0.03}\n",
             {},
             {"train.schedule.warmup: 30 (0.03 of 1000 steps)"}},
        Slip{"ratio_of_unknown_steps",
             kStart + "train: {epochs: 2, warmup_ratio: 0.03}\n",
             {},
             {"train.schedule.warmup: 0.03 (a share of all steps)"}},
        Slip{"steps_of_minus_one", kStart + "max_steps: -1\n", {}, {"train.epochs"}},
        Slip{"axolotls_data",
             "base_model: model\ndatasets:\n  - path: train.jsonl\n    type: alpaca\nsequence_len: "
             "64\nsample_packing: true\n",
             {},
             {"'base_model'", "model.path: model", "'datasets': data.train: train.jsonl",
              "'sequence_len': data.seq_len: 64", "'sample_packing': data.packing: true"}},
        Slip{"llama_factorys_words",
             kStart + "cutoff_len: 2048\nfinetuning_type: full\nlr_scheduler_type: constant_with_warmup\n",
             {},
             {"data.seq_len: 2048", "method.type: full", "train.schedule.type: constant, with warmup"}},
        Slip{"nemos_sections",
             kStart + "step_scheduler: {global_batch_size: 16, local_batch_size: 2, ckpt_every_steps: 500}\n",
             {},
             {"'step_scheduler'", "train.global_batch: 16", "train.micro_batch: 2",
              "train.checkpoint_every: 500"}},
        Slip{"least_rate",
             kStart + "train: {optimizer: {lr: 1e-4}, min_lr: 1e-5}\n",
             {},
             {"train.schedule.min_lr_ratio: 0.1 (1e-05 of lr 0.0001)"}},
        Slip{"evaluation_by_epoch",
             kStart + "eval_strategy: epoch\n",
             {},
             {"train.eval_every: the steps of an epoch"}},
        Slip{"checkpointing_of_activations",
             kStart + "gradient_checkpointing: true\n",
             {},
             {"train.recompute: block"}},
        Slip{"no_clipping_elsewhere", kStart + "max_grad_norm: 0.0\n", {}, {"train.clip: null"}},
        Slip{"logging", kStart + "logging_steps: 10\n", {}, {"every step is logged"}},
        Slip{"wrong_section", kStart + "seed: 7\n", {}, {"'seed'", "train.seed: 7"}},
        Slip{"group_without_match",
             "",
             {"train.optimizer.groups=[{lr_scale: 0.1}]"},
             {"train.optimizer.groups[0] is {lr_scale: 0.1}", "match"}},
        Slip{"group_that_changes_nothing",
             "",
             {"train.optimizer.groups=[{match: norm}]"},
             {"groups[0]", "changes nothing"}},
        Slip{"group_of_another_word",
             "",
             {"train.optimizer.groups=[{match: norm, lr: 0.1}]"},
             {"train.optimizer.groups[0] has an unknown key 'lr'", "lr_scale"}},
        Slip{"group_that_matches_nothing",
             "",
             {"train.optimizer.groups=[{match: lm_haed, lr_scale: 0.1}]"},
             {"command line: train.optimizer.groups", "'lm_haed' matches no parameter"}},
        Slip{"group_behind_another",
             "",
             {"train.optimizer.groups=[{match: norm, lr_scale: 2}, {match: 'input_layernorm', lr_scale: 3}]"},
             {"'input_layernorm' takes no parameter", "groups before it"}},
        Slip{"group_that_is_frozen",
             "",
             {"method.freeze=embed", "train.optimizer.groups=[{match: embed_tokens, lr_scale: 2}]"},
             {"'embed_tokens' takes no parameter", "frozen"}},
        Slip{"pattern_that_is_none",
             "",
             {"method.freeze='a('"},
             {"'a(' is not a regular expression", "character"}},
        Slip{"pattern_that_explodes",
             "",
             {"method.freeze='^((\\w|\\w\\w|\\.)+)+[!?]$'"},
             {"cannot be searched for"}},
        Slip{"clip_null", "", {"train.clip=null"}, {}}, Slip{"eval_null", "", {"data.eval=null"}, {}},
        Slip{"section_as_a_word",
             kStart + "train:\n  steps: 1\n  schedule: cosine\n",
             {},
             {"recipe.yaml:6: train.schedule is cosine, expected its keys", "train.schedule: {type"}},
        Slip{"words_of_trainer",
             kStart + "train: {num_train_epochs: 3}\n",
             {},
             {"recipe.yaml:4", "'train.num_train_epochs'", "here it is: train.epochs: 3"}},
        Slip{"words_of_trainer_at_the_top",
             kStart + "learning_rate: 1e-5\n",
             {},
             {"recipe.yaml:4", "here it is: train.optimizer.lr: 1e-05"}},
        Slip{"dotted_key_twice",
             kStart + "train: {seed: 1}\ntrain.seed: 2\n",
             {},
             {"recipe.yaml:5: duplicate key train.seed"}},
        Slip{"paged",
             kStart + "optim: paged_adamw_8bit\n",
             {},
             {"recipe.yaml:4", "train.optimizer: {type: adamw, state: 8bit, offload: host}"}},
        Slip{"offloaded",
             kStart + "offload_optimizer: {device: cpu, pin_memory: true}\n",
             {},
             {"recipe.yaml:4", "train.optimizer.offload: host"}},
        Slip{"not_offloaded",
             kStart + "offload_optimizer: {device: none}\n",
             {},
             {"recipe.yaml:4", "train.optimizer.offload: none"}},
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
                                       "  schedule: {type: constant, min_lr_ratio: 0.1, warmup: 4}\n"
                                       "  weight_gradients: beside\n");
  const auto outcome = workspace.succeed({"train", "recipe.yaml"});
  for (const char* part : {"recipe.yaml:6: train.eval_every has no effect",
                           "recipe.yaml:7: train.optimizer.momentum has no effect",
                           "recipe.yaml:8: train.schedule.min_lr_ratio has no effect",
                           "recipe.yaml:8: train.schedule.warmup is 4 of 2 steps",
                           "recipe.yaml:9: train.weight_gradients has no effect: device is cpu"})
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
