// What `hone train` says, and where: stderr, stdout, metrics.jsonl, samples.jsonl, tensorboard/, report.html.
#include <algorithm>
#include <cmath>
#include <sstream>

#include "tests/cli_verbs/program.h"

namespace hone::test {
namespace {

class RunOutput : public testing::Test {
 protected:
  RunOutput() {
    workspace_.chat_model();
    workspace_.chat_data(8);
    workspace_.chat_data(3, "valid.jsonl", "valid");
    write(workspace_ / "recipe.yaml",
          "model: {path: model, dtype: f32}\n"
          "data: {train: train.jsonl, eval: valid.jsonl, seq_len: 128}\n"
          "train: {steps: 3, global_batch: 2, eval_every: 2, eval_samples: 2, threads: 1}\n"
          "output: run\n");
  }
  Outcome train(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"train", "recipe.yaml"});
    return workspace_.hone(more);
  }
  std::vector<Json> rows(const std::string& file) const {
    std::vector<Json> rows;
    std::istringstream in(read(workspace_ / file));
    for (std::string line; std::getline(in, line);) rows.push_back(Json::parse(line));
    return rows;
  }
  bool exists(const std::string& file) const { return std::filesystem::exists(workspace_ / file); }
  Workspace workspace_;
};

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(RunOutput, ProgressIsOnStderrAndTheResultOnStdout) {
  const auto outcome = train();
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out.starts_with("done: 3 steps, ")) << outcome.out;
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 3) << outcome.out;
  for (const char* part : {"hone     qwen3_moe", "step 1/3  loss ", "eval after step 0: loss ",
                           "eval after step 2: loss ", "saved run/checkpoints/step-3"})
    EXPECT_TRUE(holds(outcome.err, part)) << part << " in " << outcome.err;
}

TEST_F(RunOutput, MetricsSayWhenAndHowFar) {
  ASSERT_EQ(train().code, 0);
  const auto metrics = rows("run/metrics.jsonl");
  ASSERT_EQ(metrics.size(), 4U);  // the evaluation before the first step, and three steps
  std::string before;
  for (std::size_t i = 0; i < metrics.size(); ++i) {
    EXPECT_EQ(metrics[i].at("steps"), 3);
    EXPECT_DOUBLE_EQ(metrics[i].at("progress").get<double>(), static_cast<double>(i) / 3);
    const auto time = metrics[i].at("time").get<std::string>();
    ASSERT_EQ(time.size(), std::string("2026-11-28T09:00:00Z").size()) << time;
    EXPECT_EQ(time.back(), 'Z');
    EXPECT_GE(time, before);
    before = time;
    if (i > 0) {
      EXPECT_GE(metrics[i].at("eta_s").get<double>(), 0);
    }
  }
  EXPECT_EQ(metrics.back().at("eta_s"), 0.0);
}

TEST_F(RunOutput, WeightsAreSaidAndThoseThatAreAllTheSameChangeNoBit) {
  const std::string rows_before = read(workspace_ / "train.jsonl");
  const auto weigh = [&](const std::vector<double>& weights) {
    std::string text;
    std::istringstream in(rows_before);
    std::size_t i = 0;
    for (std::string line; std::getline(in, line); ++i) {
      Json row = Json::parse(line);
      row["weight"] = weights[i % weights.size()];
      text += row.dump() + "\n";
    }
    write(workspace_ / "train.jsonl", text);
  };
  ASSERT_EQ(train({"output=plain"}).code, 0);
  weigh({0.25});
  const auto outcome = train({"output=same"});
  ASSERT_EQ(outcome.code, 0);
  EXPECT_TRUE(holds(outcome.err,
                    "8 rows whose tokens count 0.25 in the loss, by 'weight'; "
                    "first train.jsonl:1"))
      << outcome.err;
  weigh({0.5, 3});
  ASSERT_EQ(train({"output=other"}).code, 0);
  EXPECT_EQ(read(workspace_ / "plain/model/model.safetensors"),
            read(workspace_ / "same/model/model.safetensors"));
  EXPECT_NE(read(workspace_ / "plain/model/model.safetensors"),
            read(workspace_ / "other/model/model.safetensors"));
  const auto plain = rows("plain/metrics.jsonl"), same = rows("same/metrics.jsonl"),
             other = rows("other/metrics.jsonl");
  ASSERT_EQ(same.size(), plain.size());
  for (std::size_t i = 1; i < plain.size(); ++i) {
    EXPECT_EQ(same[i].at("loss"), plain[i].at("loss"));
    EXPECT_EQ(other[i].at("supervised"), plain[i].at("supervised"));
    EXPECT_FALSE(plain[i].contains("loss_weight"));
    EXPECT_EQ(same[i].at("loss_weight").get<double>(), 0.25 * same[i].at("supervised").get<double>());
    EXPECT_NE(other[i].at("loss"), plain[i].at("loss"));
  }
}

TEST_F(RunOutput, SampleAnswersAreInAFileAndInTheReport) {
  ASSERT_EQ(train().code, 0);
  const auto samples = rows("run/samples.jsonl");
  ASSERT_EQ(samples.size(), 6U);  // two after each of three evaluations
  const std::string report = read(workspace_ / "run/report.html");
  for (const char* step : {"after step 0", "after step 2", "after step 3"}) EXPECT_TRUE(holds(report, step));
  for (std::size_t i = 0; i < samples.size(); ++i) {
    EXPECT_EQ(samples[i].at("step"), std::vector<int>({0, 0, 2, 2, 3, 3})[i]);
    EXPECT_TRUE(holds(samples[i].at("prompt"), "user"));
    std::string reference = samples[i].at("reference");
    EXPECT_FALSE(reference.empty());
    EXPECT_TRUE(holds(report, "<td>" + reference.substr(0, reference.find_first_of("&<>\"'"))));
  }
}

TEST_F(RunOutput, ReportToChoosesThePlaces) {
  const auto quiet = train({"train.report_to=none"});
  ASSERT_EQ(quiet.code, 0) << quiet.err;
  EXPECT_EQ(quiet.err, "");
  for (const char* file : {"run/metrics.jsonl", "run/report.html", "run/tensorboard"})
    EXPECT_FALSE(exists(file)) << file;

  ASSERT_EQ(train({"output=board", "train.report_to=[tensorboard]"}).code, 0);
  EXPECT_TRUE(exists("board/tensorboard"));
  EXPECT_FALSE(exists("board/metrics.jsonl"));

  ASSERT_EQ(train({"output=all", "train.report_to=all"}).code, 0);
  for (const char* file : {"all/metrics.jsonl", "all/samples.jsonl", "all/report.html", "all/tensorboard"})
    EXPECT_TRUE(exists(file)) << file;
  EXPECT_EQ(read(workspace_ / "run/model/model.safetensors"),
            read(workspace_ / "all/model/model.safetensors"));
}

TEST_F(RunOutput, ReportToRefusesWhatItDoesNotKnow) {
  expect_refused(train({"train.report_to=[tensorbord]"}), {"train.report_to", "'tensorboard'"});
  expect_refused(train({"train.report_to=wandb"}), {"train.report_to", "wandb", "tensorboard"});
  expect_refused(train({"train.report_to=[report]"}), {"train.report_to", "metrics"});
  EXPECT_FALSE(exists("run"));
}

TEST_F(RunOutput, NonfiniteStepsBeforeAnyUpdateDoNotBlameTheLearningRate) {
  // Finite weights, attention scores that are not.
  RawSafetensors file(workspace_ / "model/model.safetensors");
  const auto offsets = file.header.at("model.layers.0.self_attn.q_norm.weight").at("data_offsets");
  std::vector<float> huge((offsets[1].get<std::size_t>() - offsets[0].get<std::size_t>()) / sizeof(float),
                          3e38F);
  std::memcpy(file.data.data() + offsets[0].get<std::size_t>(), huge.data(), huge.size() * sizeof(float));
  file.save(workspace_ / "model/model.safetensors");
  const auto outcome = train();
  expect_refused(outcome, {"3 steps in a row", "no update was done yet"});
  EXPECT_FALSE(holds(outcome.message(), "optimizer.lr")) << outcome.message();
}

}  // namespace
}  // namespace hone::test
