// Runs that go on with other values on purpose, that end early, and that keep their best step.
#include <algorithm>
#include <cmath>
#include <sstream>

#include "tests/resume/runs.h"

namespace hone::test {
namespace {

class Extend : public Resume {
 protected:
  std::vector<std::string> with(const std::string& output, std::vector<std::string> more) const {
    return args(output, std::move(more));
  }
  void expect_same_model(const std::string& a, const std::string& b) const {
    EXPECT_TRUE(workspace_.files(a + "/model") == workspace_.files(b + "/model"));
  }
};

TEST_F(Extend, AFinishedRunGoesOnAsIfItHadBeenThatLong) {
  // A constant rate does not know how long a run is; a linear one is read as if it had been so from the
  // start.
  const std::vector<std::string> constant{"train.schedule.type=constant"};
  workspace_.succeed(with("whole", {"train.schedule.type=constant"}));
  workspace_.succeed(with("run", {"train.schedule.type=constant", "train.steps=5"}));
  const auto before = workspace_.files("run");
  expect_refused(workspace_.hone(with("run", {"train.schedule.type=constant"})),
                 {"'train.steps: 5', not 'train.steps: 12'", "--extend"});
  EXPECT_EQ(workspace_.files("run"), before);
  const auto outcome = workspace_.succeed(with("run", {"train.schedule.type=constant", "--extend"}));
  EXPECT_NE(outcome.err.find("after step 5: train.steps: 5 -> 12"), std::string::npos) << outcome.err;
  expect_same_model("run", "whole");
  EXPECT_EQ(metrics("run").size(), metrics("whole").size());
  const std::string recipe = read(workspace_ / "run/recipe.yaml");
  EXPECT_NE(recipe.find("#   after step 5: train.steps: 5 -> 12"), std::string::npos) << recipe;
  // What it is now needs no --extend, and nothing is left to do.
  const auto again = workspace_.succeed(with("run", {"train.schedule.type=constant"}));
  EXPECT_NE(again.out.find("this run is finished: 12 steps"), std::string::npos) << again.out;
}

TEST_F(Extend, TheScheduleIsReadOverAllSteps) {
  workspace_.succeed(args("whole"));
  workspace_.succeed(with("run", {"train.steps=6"}));
  workspace_.succeed(with("run", {"--extend"}));
  const auto rows = metrics("run");
  const auto whole = metrics("whole");
  ASSERT_EQ(rows.size(), 12U);
  for (std::size_t i = 6; i < 12; ++i) EXPECT_EQ(rows[i].at("lr"), whole[i].at("lr")) << "step " << i + 1;
  EXPECT_GT(rows[6].at("lr").get<double>(), rows[5].at("lr").get<double>());
}

TEST_F(Extend, InterruptedAfterwardsEndsWithTheSameBits) {
  const std::vector<std::string> longer{"train.steps=120", "train.optimizer.lr=1e-3", "--extend"};
  for (const char* name : {"whole", "run"}) workspace_.succeed(with(name, {"train.steps=6"}));
  workspace_.succeed(with("whole", longer));
  const pid_t pid = workspace_.start(with("run", longer));
  wait_for_step(pid, "run", 20);
  ::kill(pid, SIGTERM);
  EXPECT_EQ(workspace_.wait(pid).code, 0);
  ASSERT_LT(metrics("run").size(), 120U);
  // The checkpoint knows of the extension: the plain command continues.
  workspace_.succeed(with("run", {"train.steps=120", "train.optimizer.lr=1e-3"}));
  expect_same_run("run", "whole");
}

TEST_F(Extend, OtherDataBeginAtTheirStart) {
  workspace_.succeed(with("run", {"train.steps=3"}));
  std::string rows = read(workspace_ / "train.jsonl");
  workspace_.chat_data(10, "other.jsonl", "valid");
  expect_refused(workspace_.hone(with("run", {"train.steps=3", "data.train=other.jsonl"})),
                 {"training data changed", "--extend"});
  // Epochs count passes over the new data: 10 rows are fewer steps than an epoch of 32.
  const auto outcome = workspace_.succeed(
      {"train", "recipe.yaml", "output=run", "data.train=other.jsonl", "train.epochs=2", "--extend"});
  const auto after = metrics("run");
  EXPECT_GT(after.size(), 3U);
  EXPECT_LT(after.size(), 12U);
  EXPECT_NEAR(after.back().at("epoch").get<double>(), 2.0, 1e-9) << outcome.out;
  std::int64_t tokens = 0;
  for (std::size_t i = 3; i < after.size(); ++i) tokens += after[i].at("tokens").get<std::int64_t>();
  workspace_.succeed({"train", "recipe.yaml", "output=fresh", "data.train=other.jsonl", "train.epochs=2"});
  std::int64_t fresh = 0;
  for (const auto& row : metrics("fresh")) fresh += row.at("tokens").get<std::int64_t>();
  EXPECT_EQ(tokens, fresh) << "every row twice";
}

TEST_F(Extend, RefusesWhatWouldBeAnotherRun) {
  workspace_.succeed(with("run", {"train.steps=4"}));
  const auto before = workspace_.files("run");
  expect_refused(workspace_.hone(with("run", {"train.steps=2", "--extend"})),
                 {"train.steps", "2 steps", "4 already"});
  expect_refused(workspace_.hone(with("run", {"train.steps=8", "method.freeze=embed", "--extend"})),
                 {"method.freeze", "cannot be extended with that"});
  expect_refused(workspace_.hone(with("run", {"train.steps=8", "train.optimizer.type=sgd", "--extend"})),
                 {"train.optimizer.type", "cannot be extended with that"});
  workspace_.succeed({"init", "model-config", "other", "--seed", "9"});
  expect_refused(workspace_.hone(with("run", {"train.steps=8", "model.path=other", "--extend"})),
                 {"another model", "cannot be extended with that"});
  expect_refused(workspace_.hone(with("nowhere", {"--extend"})), {"nowhere", "no checkpoint to extend"});
  EXPECT_EQ(workspace_.files("run"), before);
  // The same again is no extension.
  const auto outcome = workspace_.succeed(with("run", {"train.steps=4", "--extend"}));
  EXPECT_NE(outcome.err.find("nothing else than before"), std::string::npos) << outcome.err;
  EXPECT_EQ(workspace_.files("run"), before);
}

/// Evaluated at every second step on the training answers backwards: once the letters are learnt, all that is
/// learnt makes them less likely, and the loss rises.
class Best : public Extend {
 protected:
  Best() {
    std::istringstream lines(read(workspace_ / "train.jsonl"));
    std::string line, backwards;
    for (int i = 0; i < 6 && std::getline(lines, line); ++i) {
      Json row = Json::parse(line);
      for (Json& message : row["messages"]) {
        auto& content = message["content"].get_ref<std::string&>();
        if (message["role"] == "assistant") std::reverse(content.begin(), content.end());
      }
      backwards += row.dump() + "\n";
    }
    write(workspace_ / "valid.jsonl", backwards);
  }
  const std::vector<std::string> rising_{"data.eval=valid.jsonl",    "train.eval_every=2",
                                         "train.eval_samples=0",     "train.steps=40",
                                         "train.optimizer.lr=0.05",  "train.schedule.type=constant",
                                         "train.checkpoint_every=0", "train.keep_last=1"};
  std::vector<std::string> rising(std::vector<std::string> more) const {
    more.insert(more.begin(), rising_.begin(), rising_.end());
    return more;
  }
  struct Evaluation {
    std::int64_t step;
    double loss;
  };
  std::vector<Evaluation> evaluations(const std::string& output) const {
    std::vector<Evaluation> result;
    for (const auto& row : metrics(output))
      if (row.contains("eval_loss") && row["step"] > 0)
        result.push_back({row["step"].get<std::int64_t>(), row["eval_loss"].get<double>()});
    return result;
  }
  Evaluation best(const std::string& output) const {
    const auto all = evaluations(output);
    return *std::min_element(all.begin(), all.end(),
                             [](const auto& a, const auto& b) { return a.loss < b.loss; });
  }
  /// metrics() of Resume without the row of step 0.
};

TEST_F(Best, LoadBestWritesTheBestStepsWeights) {
  const auto outcome = workspace_.succeed(args("run", rising({"train.load_best=true"})));
  const auto least = best("run");
  ASSERT_LT(least.step, 40) << "the loss never rose: this tests nothing";
  EXPECT_NE(outcome.out.find("step " + std::to_string(least.step) + ", the best"), std::string::npos)
      << outcome.out;
  // A run that ends at that step is what model/ must be.
  auto shorter = rising({});
  shorter.push_back("train.steps=" + std::to_string(least.step));
  workspace_.succeed(args("short", shorter));
  expect_same_model("run", "short");
  const double loss = workspace_.succeed({"eval", "run/model", "valid.jsonl", "--json"}).json().at("loss");
  EXPECT_NEAR(loss, least.loss, 1e-5);
  // Without it: the last step, other weights.
  workspace_.succeed(args("last", rising({})));
  EXPECT_FALSE(workspace_.files("run/model") == workspace_.files("last/model"));
  workspace_.succeed({"export", "run", "exported", "--step", "best"});
  EXPECT_TRUE(workspace_.files("exported") == workspace_.files("run/model"));
}

TEST_F(Best, EarlyStoppingEndsAfterPatienceEvaluationsWithoutAGain) {
  const auto outcome = workspace_.succeed(
      args("run", rising({"train.early_stopping.patience=3", "train.early_stopping.min_delta=0.001",
                          "train.load_best=true", "--json"})));
  // What should have happened, from the evaluations themselves.
  workspace_.succeed(args("whole", rising({})));
  double least = INFINITY;
  int without = 0;
  std::int64_t end = 40;
  for (const auto& e : evaluations("whole")) {
    without = e.loss < least - 0.001 ? 0 : without + 1;
    least = std::min(least, e.loss);
    if (without < 3) continue;
    end = e.step;
    break;
  }
  ASSERT_LT(end, 40) << "the loss never rose: this tests nothing";
  const auto row = outcome.json();
  EXPECT_EQ(row.at("steps"), end);
  EXPECT_EQ(row.at("stopped_early"), true);
  EXPECT_EQ(row.at("finished"), true);
  EXPECT_EQ(row.at("best_step"), best("run").step);
  EXPECT_EQ(row.at("model_step"), best("run").step);
  EXPECT_NE(outcome.err.find("ends "), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.out.find('\n'), outcome.out.size() - 1)
      << "stdout holds one line of JSON: " << outcome.out;
  // It is finished; asked for more, it goes on.
  const auto again = workspace_.succeed(
      args("run", rising({"train.early_stopping.patience=3", "train.early_stopping.min_delta=0.001",
                          "train.load_best=true"})));
  EXPECT_NE(again.out.find("this run is finished"), std::string::npos);
  workspace_.succeed(
      args("run", rising({"train.early_stopping.patience=0", "train.load_best=true", "--extend"})));
  EXPECT_EQ(metrics("run").back().at("step"), 40);
}

TEST_F(Best, StoppedAndContinuedItEndsAtTheSameStepWithTheSameBits) {
  const auto options =
      rising({"train.early_stopping.patience=2", "train.load_best=true", "train.optimizer.lr=0.02"});
  const std::string said = workspace_.succeed(args("whole", options)).out;
  EXPECT_NE(said.find("stopped early: 2 evaluations without a gain over step "), std::string::npos) << said;
  const auto length = metrics("whole").size();
  ASSERT_GT(length, 4U);
  for (int tries = 0; tries < 30 && !std::filesystem::exists(workspace_ / "run/model"); ++tries) {
    const pid_t pid = workspace_.start(args("run", options));
    ::usleep(60'000 + 7'000 * static_cast<useconds_t>(tries));
    ::kill(pid, SIGTERM);
    const int code = workspace_.wait(pid).code;  // where the machine is slow the program may not have begun
    EXPECT_TRUE(code == 0 || code == 128 + SIGTERM) << code;
  }
  workspace_.succeed(args("run", options));
  expect_same_model("run", "whole");
  EXPECT_EQ(metrics("run").size(), length);
}

TEST_F(Best, IsRefusedWhereNothingIsEvaluated) {
  expect_refused(workspace_.hone(args("run", {"train.load_best=true"})), {"train.load_best needs data.eval"});
  expect_refused(workspace_.hone(args("run", {"train.early_stopping.patience=2", "data.eval=valid.jsonl"})),
                 {"train.early_stopping.patience needs train.eval_every"});
  expect_refused(
      workspace_.hone(args("run", rising({"train.load_best=true", "train.early_stopping.metric=accuracy"}))),
      {"train.early_stopping.metric is accuracy", "eval_loss"});
}

TEST_F(Best, OtherEvaluationDataAreNoticedWhereTheyDecide) {
  workspace_.succeed(args("run", rising({"train.steps=4", "train.load_best=true"})));
  workspace_.chat_data(7, "valid.jsonl", "valid");
  expect_refused(workspace_.hone(args("run", rising({"train.steps=4", "train.load_best=true"}))),
                 {"evaluation data", "--extend"});
}

}  // namespace
}  // namespace hone::test
