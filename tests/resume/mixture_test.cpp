// Runs on several sources, with held-out rows and cached tokens: interrupted or not, the same bits.
#include <fstream>

#include "tests/resume/runs.h"

namespace hone::test {
namespace {

class MixtureRun : public Resume {
 protected:
  MixtureRun() {
    workspace_.chat_data(8, "valid.jsonl", "valid");
    // A second source in another format: pairs under other names.
    std::string csv = "id,question,answer\n";
    for (int i = 0; i < 40; ++i)
      csv += std::to_string(i) + ",\"list, " + std::to_string(i) + "\",ls -" + std::to_string(i) + "\n";
    write(workspace_ / "pairs.csv", csv);
    write(workspace_ / "recipe.yaml",
          "model: {path: model, dtype: f32}\n"
          "data:\n"
          "  train:\n"
          "    - {path: train.jsonl, weight: 0.7}\n"
          "    - {path: pairs.csv, weight: 0.3, columns: {user: question, assistant: answer}}\n"
          "  eval: {held: 20%, valid: valid.jsonl}\n"
          "  seq_len: 128\n"
          "  cache: cache\n"
          "train: {steps: 200, global_batch: 2, micro_batch: 1, checkpoint_every: 20, seed: 3, threads: 1,\n"
          "        eval_every: 100, eval_samples: 0}\n"
          "output: run\n");
  }
  std::size_t cached_files() const {
    const Path cache = workspace_ / "cache";
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(cache), {}));
  }
};

TEST_F(MixtureRun, IsTheSameAfterBeingStopped) {
  const auto whole = workspace_.succeed(args("whole"));
  EXPECT_NE(whole.err.find("pairs.csv (weight 0.3)"), std::string::npos) << whole.err;
  EXPECT_NE(whole.err.find("20% of the training rows"), std::string::npos) << whole.err;
  EXPECT_EQ(cached_files(), 3U);
  const pid_t pid = workspace_.start(args("run"));
  wait_for_step(pid, "run", 30);
  ::kill(pid, SIGKILL);
  workspace_.wait(pid);
  const auto rest = workspace_.succeed(args("run"));
  EXPECT_NE(rest.err.find("cache"), std::string::npos) << rest.err;
  EXPECT_EQ(cached_files(), 3U);
  expect_same_run("run", "whole");
  const auto last = metrics("run").back();
  EXPECT_TRUE(last.contains("eval_held_loss")) << last.dump();
  EXPECT_TRUE(last.contains("eval_valid_loss")) << last.dump();
  // Without the cache, and with it broken, too.
  workspace_.succeed(args("uncached", {"data.cache=off"}));
  expect_same_run("uncached", "whole");
  for (const auto& entry : std::filesystem::directory_iterator(workspace_ / "cache"))
    std::ofstream(entry.path(), std::ios::app) << "x";
  const auto mended = workspace_.succeed(args("mended"));
  EXPECT_NE(mended.err.find("it is made anew"), std::string::npos) << mended.err;
  expect_same_run("mended", "whole");
}

TEST_F(MixtureRun, IsAnotherOneForOtherProportions) {
  workspace_.succeed(args("run", {"train.steps=2"}));
  const auto source = [](const std::string& weight) {
    return "data.train=[{path: train.jsonl, weight: " + weight +
           "}, {path: pairs.csv, weight: 0.3, columns: {user: question, assistant: answer}}]";
  };
  expect_refused(workspace_.hone(args("run", {"train.steps=2", source("0.8")})), {"training data changed"});
  expect_refused(workspace_.hone(args("run", {"train.steps=2", "data.eval=10%"})), {"training data changed"});
  EXPECT_EQ(workspace_.hone(args("run", {"train.steps=2", source("0.7")})).code, 0);
}

TEST_F(MixtureRun, IsCheckedSourceBySource) {
  const auto row = workspace_.succeed({"check", "recipe.yaml", "--json"}).json();
  ASSERT_EQ(row.at("sources").size(), 2U) << row.dump();
  EXPECT_EQ(row["sources"][0].at("rows"), 32);
  EXPECT_EQ(row["sources"][1].at("rows"), 40);
  EXPECT_EQ(row.at("held_out").get<int>() + row.at("examples").get<int>(), 72);
  EXPECT_EQ(row.at("eval_held").at("examples"), row.at("held_out"));
  EXPECT_EQ(row.at("eval_valid").at("examples"), 8);
  const auto text = workspace_.succeed({"check", "recipe.yaml", "--show", "0"}).out;
  EXPECT_NE(text.find("pairs.csv  40 rows"), std::string::npos) << text;
  const double a = row["sources"][0].at("examples_per_epoch").get<double>();
  const double b = row["sources"][1].at("examples_per_epoch").get<double>();
  EXPECT_NEAR(a / b, 7.0 / 3, 1e-9);
}

}  // namespace
}  // namespace hone::test
