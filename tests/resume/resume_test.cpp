// A run that was interrupted, in whatever way, ends with the same bits as one that was not.
#include <fmt/format.h>

#include <cmath>
#include <set>

#include "tests/resume/runs.h"

namespace hone::test {
namespace {

struct Setting {
  const char* name;
  std::vector<std::string> options;
};

/// Stops with SIGTERM after some step, continues, and compares with a run that went through.
class ResumeAfterTerm : public Resume, public testing::WithParamInterface<Setting> {};

TEST_P(ResumeAfterTerm, IsBitForBitAnUndisturbedRun) {
  auto options = GetParam().options;
  options.push_back(fmt::format("train.steps={}", many_steps()));
  options.push_back("train.checkpoint_every=0");  // so that the stop itself must save
  workspace_.succeed(args("whole", options));
  const pid_t pid = workspace_.start(args("run", options));
  wait_for_step(pid, "run", 3);
  ::kill(pid, SIGTERM);
  const auto stopped = workspace_.wait(pid);
  EXPECT_EQ(stopped.code, 0) << stopped.err;
  ASSERT_NE(stopped.out.find("stopped after step "), std::string::npos) << stopped.out;
  const auto done = metrics("run").size();
  EXPECT_LT(done, static_cast<std::size_t>(many_steps()));
  EXPECT_EQ(newest_checkpoint("run"), "checkpoints/step-" + std::to_string(done));
  EXPECT_FALSE(std::filesystem::exists(workspace_ / "run/model"));
  workspace_.succeed(args("run", options));
  expect_same_run("run", "whole");
}

INSTANTIATE_TEST_SUITE_P(Settings, ResumeAfterTerm,
                         testing::Values(Setting{"f32_accumulated", {}},
                                         Setting{"f32", {"train.micro_batch=2"}},
                                         Setting{"bf16_accumulated", {"model.dtype=bf16"}},
                                         Setting{"bf16", {"model.dtype=bf16", "train.micro_batch=2"}},
                                         Setting{"fp8", {"model.dtype=bf16", "train.fp8=block"}},
                                         Setting{"eight_bit", {"train.optimizer.state=8bit"}},
                                         Setting{"without_masters",
                                                 {"model.dtype=bf16", "train.optimizer.master=bf16",
                                                  "train.optimizer.state=8bit", "train.micro_batch=2"}},
                                         Setting{"as_ready",
                                                 {"train.micro_batch=2", "train.global_batch=2",
                                                  "train.optimizer.update=as_ready"}},
                                         Setting{"across_epochs", {"train.global_batch=8"}},
                                         Setting{"unpacked", {"data.packing=false"}}),
                         [](const auto& test) { return std::string(test.param.name); });

// On the CPU the word changes nothing; on a card the states lie elsewhere.
TEST_F(Resume, StatesMayMoveBetweenCardAndHost) {
  const auto with = [&](int steps, const char* where, std::vector<std::string> more = {}) {
    more.push_back(fmt::format("train.optimizer.offload={}", where));
    more.insert(more.end(), {"model.dtype=bf16", "train.clip=0.5", "train.checkpoint_every=0",
                             "train.schedule.type=constant", fmt::format("train.steps={}", steps)});
    return more;
  };
  workspace_.succeed(args("whole", with(6, "none")));
  workspace_.succeed(args("run", with(2, "host")));
  workspace_.succeed(args("run", with(4, "none", {"--extend"})));
  workspace_.succeed(args("run", with(6, "host", {"--extend"})));
  EXPECT_TRUE(workspace_.files("run/model") == workspace_.files("whole/model"));
  EXPECT_TRUE(read(workspace_ / "run" / newest_checkpoint("run") / kShard) ==
              read(workspace_ / "whole" / newest_checkpoint("whole") / kShard));
}

TEST_F(Resume, WithWeightsIsBitForBitAnUndisturbedRun) {
  const auto weigh = [&](double most) {
    std::string text;
    std::istringstream in(read(workspace_ / "train.jsonl"));
    int i = 0;
    for (std::string line; std::getline(in, line); ++i) {
      Json row = Json::parse(line);
      row["weight"] = 0.5 + most * (i % 3);
      row["messages"].back()["weight"] = 1 + i % 2;
      text += row.dump() + "\n";
    }
    write(workspace_ / "train.jsonl", text);
  };
  weigh(0.75);
  const std::vector<std::string> options{fmt::format("train.steps={}", many_steps()),
                                         "train.checkpoint_every=0"};
  workspace_.succeed(args("whole", options));
  const pid_t pid = workspace_.start(args("run", options));
  wait_for_step(pid, "run", 3);
  ::kill(pid, SIGTERM);
  const auto stopped = workspace_.wait(pid);
  EXPECT_EQ(stopped.code, 0) << stopped.err;
  ASSERT_NE(stopped.out.find("stopped after step "), std::string::npos) << stopped.out;
  std::filesystem::copy(workspace_ / "run", workspace_ / "other", std::filesystem::copy_options::recursive);
  workspace_.succeed(args("run", options));
  expect_same_run("run", "whole");
  EXPECT_NE(metrics("run").back().at("loss_weight"), metrics("run").back().at("supervised"));
  // Other weights are other data: of a run that an older hone began without them, too. It goes on all the
  // same.
  weigh(1.5);
  expect_refused(workspace_.hone(args("other", options)),
                 {"output other", "training data changed", "weights"});
  auto extended = args("other", options);
  extended.emplace_back("--extend");
  workspace_.succeed(extended);
}

TEST_F(Resume, TheEvaluationBeforeTheFirstStepIsARow) {
  workspace_.chat_data(4, "valid.jsonl", "valid");
  workspace_.succeed(args("run", {"data.eval=valid.jsonl", "train.eval_samples=0", "train.steps=2"}));
  const auto rows = metrics("run");
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].at("step"), 0);
  EXPECT_EQ(rows[0].at("progress"), 0.0);
  EXPECT_GT(rows[0].at("eval_loss"), rows[2].at("eval_loss"));
  EXPECT_FALSE(rows[0].contains("loss"));
  EXPECT_FALSE(rows[1].contains("eval_loss"));
}

TEST_F(Resume, OfAFinishedRunChangesNothing) {
  workspace_.succeed(args("run"));
  const auto before = workspace_.files("run");
  const auto time = std::filesystem::last_write_time(workspace_ / "run/model/model.safetensors");
  EXPECT_EQ(workspace_.hone(args("run")).code, 0);
  EXPECT_EQ(workspace_.hone(args("run", {"--resume"})).code, 0);
  EXPECT_EQ(workspace_.files("run"), before);
  EXPECT_EQ(std::filesystem::last_write_time(workspace_ / "run/model/model.safetensors"), time);
}

TEST_F(Resume, WithoutACheckpointIsRefused) {
  expect_refused(workspace_.hone(args("run", {"--resume"})), {"output run", "no checkpoint"});
  EXPECT_FALSE(std::filesystem::exists(workspace_ / "run"));
}

TEST_F(Resume, WithAnotherRecipeIsRefusedByName) {
  workspace_.succeed(args("run", {"train.steps=2"}));
  const auto before = workspace_.files("run");
  expect_refused(workspace_.hone(args("run", {"train.steps=2", "train.optimizer.lr=0.5"})),
                 {"output run", "lr: 0.5"});
  expect_refused(workspace_.hone(args("run", {"train.steps=4"})), {"train.steps: 2", "train.steps: 4"});
  expect_refused(workspace_.hone(args("run", {"train.steps=2", "train.schedule.type=cosine"})),
                 {"train.schedule.type: linear", "train.schedule.type: cosine"});
  EXPECT_EQ(workspace_.files("run"), before);
}

TEST_F(Resume, WithOtherDataIsRefused) {
  workspace_.succeed(args("run", {"train.steps=2"}));
  workspace_.chat_data(31);
  expect_refused(workspace_.hone(args("run", {"train.steps=2"})), {"output run", "training data changed"});
}

TEST_F(Resume, KeepsTheLastCheckpointsAndTheBest) {
  workspace_.chat_data(4, "valid.jsonl", "valid");
  workspace_.succeed(args(
      "run", {"data.eval=valid.jsonl", "train.eval_every=2", "train.eval_samples=0", "train.keep_last=1"}));
  const auto rows = metrics("run");
  std::int64_t best = 0;
  double least = 1e30;
  for (const auto& row : rows)
    if (row["step"] > 0 && row.contains("eval_loss") && row["eval_loss"].get<double>() < least) {
      least = row["eval_loss"].get<double>();
      best = row["step"].get<std::int64_t>();
    }
  std::set<std::string> kept;
  for (const auto& entry : std::filesystem::directory_iterator(workspace_ / "run/checkpoints"))
    kept.insert(entry.path().filename().string());
  EXPECT_EQ(kept, (std::set<std::string>{"step-12", "step-" + std::to_string(best)}));
}

TEST_F(Resume, EveryBestEvaluationHasACheckpoint) {
  workspace_.chat_data(4, "valid.jsonl", "valid");
  workspace_.succeed(
      args("run", {"data.eval=valid.jsonl", "train.eval_every=5", "train.eval_samples=0", "train.keep_last=9",
                   "train.checkpoint_every=4", "train.optimizer.lr=1e-3"}));
  std::set<std::string> expected{"step-4", "step-8", "step-12"};
  double least = 1e30;
  for (const auto& row : metrics("run")) {
    if (row["step"] == 0 || !row.contains("eval_loss") || row["eval_loss"].get<double>() >= least) continue;
    least = row["eval_loss"].get<double>();
    expected.insert("step-" + row["step"].dump());
  }
  EXPECT_GT(expected.size(), 3U) << "no evaluation off the checkpoints was the best so far";
  std::set<std::string> kept;
  for (const auto& entry : std::filesystem::directory_iterator(workspace_ / "run/checkpoints"))
    kept.insert(entry.path().filename().string());
  EXPECT_EQ(kept, expected);
}

TEST_F(Resume, ThreeStepsThatAreNotFiniteStopTheRunWithWeightsIntact) {
  // The first update at this rate is finite, what comes after it is not.
  const auto outcome = workspace_.hone(
      args("run", {"train.optimizer.lr=1e20", "train.clip=null", "train.schedule.type=constant"}));
  expect_refused(outcome, {"3 steps in a row", "train.jsonl:", "train.optimizer.lr"});
  const auto rows = metrics("run");
  ASSERT_GE(rows.size(), 3U);
  for (std::size_t i = rows.size() - 3; i < rows.size(); ++i) EXPECT_TRUE(rows[i].at("skipped").get<bool>());
  EXPECT_FALSE(std::filesystem::exists(workspace_ / "run/model"));
  // What the last checkpoint holds is what the last good one held.
  const auto last = "run/checkpoints/step-" + std::to_string(rows.size());
  const RawSafetensors weights(workspace_ / (last + "/rank-00000-of-00001.safetensors"));
  for (const float w : weights.floats("master.model.embed_tokens.weight")) ASSERT_TRUE(std::isfinite(w));
}

// On a card a step is begun before the last one is read, but where a checkpoint comes between.
TEST_F(Resume, StepsThatAreReadLateAreThoseThatAreReadAtOnce) {
  for (const char* update : {"at_end", "as_ready"}) {
    const std::string late = std::string("late_") + update, once = std::string("once_") + update;
    const auto with = [&](int checkpoint_every) {
      return std::vector<std::string>{"train.micro_batch=2", "train.global_batch=2", "train.steps=5",
                                      std::string("train.optimizer.update=") + update,
                                      fmt::format("train.checkpoint_every={}", checkpoint_every)};
    };
    workspace_.succeed(args(late, with(0)));
    workspace_.succeed(args(once, with(1)));
    const auto got = metrics(late), want = metrics(once);
    ASSERT_EQ(got.size(), 5U);
    ASSERT_EQ(want.size(), 5U);
    for (std::size_t i = 0; i < got.size(); ++i)
      for (const char* key : {"step", "epoch", "loss", "lr", "grad_norm", "tokens", "skipped"})
        EXPECT_EQ(got[i].at(key), want[i].at(key)) << update << " " << i << " " << key;
    EXPECT_TRUE(workspace_.files(late + "/model") == workspace_.files(once + "/model"));
  }
}

}  // namespace
}  // namespace hone::test
