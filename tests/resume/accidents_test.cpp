// What goes wrong around a run (files that rot, directories that move, terminals that go away) and how the
// next start takes it.
#include "tests/resume/runs.h"

namespace hone::test {
namespace {

/// A run of 12 steps that was stopped with checkpoints of steps 4 and 8, and one that went through.
class Accident : public Resume {
 protected:
  Accident() {
    workspace_.succeed(args("whole", kOptions));
    const pid_t pid = workspace_.start(args("run", kOptions));
    wait_for_step(pid, "run", 9);
    ::kill(pid, SIGKILL);
    workspace_.wait(pid);
    if (std::filesystem::exists(workspace_ / "run/checkpoints/step-12")) {  // it was quicker than the signal
      std::filesystem::remove_all(workspace_ / "run/checkpoints/step-12");
      std::filesystem::remove_all(workspace_ / "run/model");
    }
  }
  Path checkpoint(int step) const { return workspace_ / ("run/checkpoints/step-" + std::to_string(step)); }
  /// Flips a bit in the middle of a file.
  static void spoil(const Path& path) {
    std::string bytes = read(path);
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    write(path, bytes);
  }
  void expect_continued_from(int step) {
    const auto outcome = workspace_.succeed(args("run", kOptions));
    EXPECT_NE(outcome.err.find("continues after step " + std::to_string(step)), std::string::npos)
        << outcome.err;
    expect_same_run("run", "whole");
  }

  const std::vector<std::string> kOptions{"train.steps=12", "train.checkpoint_every=4", "train.keep_last=3"};
};

TEST_F(Accident, NoneHappened) {
  expect_continued_from(8);
}

TEST_F(Accident, ABitFlippedInTheNewestCheckpoint) {
  spoil(checkpoint(8) / kShard);
  expect_continued_from(4);
  EXPECT_TRUE(std::filesystem::exists(workspace_ / "run/checkpoints/broken-step-8"));
}

TEST_F(Accident, TheNewestCheckpointLostItsShard) {
  std::filesystem::remove(checkpoint(8) / kShard);
  expect_continued_from(4);
}

TEST_F(Accident, TheNewestCheckpointLostItsIndex) {
  std::filesystem::remove(checkpoint(8) / "index.json");
  expect_continued_from(4);
}

TEST_F(Accident, TheNewestCheckpointIsCutShort) {
  std::filesystem::resize_file(checkpoint(8) / kShard, 1000);
  std::filesystem::resize_file(checkpoint(8) / "index.json", 100);
  expect_continued_from(4);
}

TEST_F(Accident, AllCheckpointsAreBroken) {
  for (const int step : {4, 8}) spoil(checkpoint(step) / kShard);
  const auto before = workspace_.files("run/checkpoints");
  expect_refused(workspace_.hone(args("run", kOptions)), {"run/checkpoints", "none", "delete"});
  EXPECT_EQ(workspace_.files("run/checkpoints"), before);
}

TEST_F(Accident, EverythingMoved) {
  std::filesystem::create_directory(workspace_ / "elsewhere");
  for (const char* name : {"model", "train.jsonl", "run"})
    std::filesystem::rename(workspace_ / name, workspace_ / "elsewhere" / name);
  auto options = kOptions;
  options.insert(options.end(), {"model.path=elsewhere/model", "data.train=elsewhere/train.jsonl"});
  workspace_.succeed(args("elsewhere/run", options));
  expect_same_run("elsewhere/run", "whole");
}

TEST_F(Accident, AnotherModelUnderTheSameName) {
  std::filesystem::remove_all(workspace_ / "model");
  workspace_.succeed({"init", "model-config", "model", "--seed", "2"});
  expect_refused(workspace_.hone(args("run", kOptions)), {"output run", "model.path", "another model"});
}

/// What happens to the base model in the middle of a run; the run is finished afterwards.
class BaseModel : public Resume {
 protected:
  /// Starts a run, lets `accident` happen after its third step and waits for its end.
  template <typename F>
  Outcome run_through(F&& accident, std::vector<std::string> options = {}) const {
    write(workspace_ / "keys", "secret");  // in the working directory
    options.push_back("train.steps=400");
    options.push_back("train.checkpoint_every=1000");
    const pid_t pid = workspace_.start(args("run", options));
    wait_for_step(pid, "run", 3);
    accident();
    EXPECT_LT(metrics("run").size(), 400U) << "the accident came too late to be one";
    return workspace_.wait(pid);
  }
  void expect_whole_model() const {
    auto expected = workspace_.files("model");
    const auto written = workspace_.files("run/model");
    ASSERT_EQ(written.size(), expected.size());
    for (const auto& [name, bytes] : expected) {
      ASSERT_TRUE(written.contains(name)) << name;
      if (name == "model.safetensors") continue;
      EXPECT_EQ(written.at(name), bytes) << name;
    }
    EXPECT_NE(written.at("model.safetensors"), expected.at("model.safetensors"));
  }
};

TEST_F(BaseModel, MovedAwayUnderARun) {
  EXPECT_EQ(
      run_through([&] { std::filesystem::rename(workspace_ / "model", workspace_ / "elsewhere"); }).code, 0);
  std::filesystem::rename(workspace_ / "elsewhere", workspace_ / "model");
  expect_whole_model();
}

TEST_F(BaseModel, DeletedUnderARunThatCopiesFrozenWeights) {
  const Path model = workspace_ / "model";
  std::filesystem::copy(model, workspace_ / "safe", std::filesystem::copy_options::recursive);
  EXPECT_EQ(run_through([&] { std::filesystem::remove_all(model); }, {"method.freeze=[embed_tokens]"}).code,
            0);
  std::filesystem::rename(workspace_ / "safe", model);
  expect_whole_model();
}

TEST_F(BaseModel, FilesThatCameLaterAreNotCopied) {
  EXPECT_EQ(run_through([&] { write(workspace_ / "model/keys", "secret"); }).code, 0);
  std::filesystem::remove(workspace_ / "model/keys");
  expect_whole_model();
}

TEST_F(BaseModel, RewrittenOrCutShortUnderARunThatCopiesFrozenWeights) {
  const Path weights = workspace_ / "model/model.safetensors";
  const std::string before = read(weights);
  for (const bool cut : {false, true}) {
    const auto accident = [&] {
      if (cut) return std::filesystem::resize_file(weights, 5000);
      std::string bytes = before;
      for (std::size_t i = bytes.size() / 2; i < bytes.size(); ++i) bytes[i] = 1;
      std::ofstream(weights, std::ios::binary | std::ios::in) << bytes;  // in place
    };
    const auto outcome = run_through(accident, {"method.freeze=[embed_tokens,layers]"});
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_NE(outcome.message().find(cut ? "model.safetensors: was cut short" : "its bytes are not those"),
              std::string::npos)
        << outcome.message();
    EXPECT_NE(outcome.message().find("run/checkpoints/step-400"), std::string::npos) << outcome.message();
    EXPECT_FALSE(std::filesystem::exists(workspace_ / "run/model"));
    write(weights, before);
    workspace_.succeed(args(
        "run", {"train.steps=400", "train.checkpoint_every=1000", "method.freeze=[embed_tokens,layers]"}));
    expect_whole_model();
    std::filesystem::remove_all(workspace_ / "run");
  }
}

TEST_F(Accident, AFinishedRunLostItsModel) {
  const auto model = workspace_.files("whole/model");
  std::filesystem::remove_all(workspace_ / "whole/model");
  workspace_.succeed(args("whole", kOptions));
  EXPECT_TRUE(workspace_.files("whole/model") == model);
}

TEST_F(Accident, RecomputeMayBeTurnedOn) {
  auto options = kOptions;
  options.push_back("train.recompute=block");
  workspace_.succeed(args("run", options));
  expect_same_run("run", "whole");
}

TEST_F(Resume, AtAnotherTimeRendersTheSameChats) {
  const Path path = workspace_ / "model/chat_template.jinja";
  write(path, "{{- strftime_now('%H:%M:%S') }}\n" + read(path));
  const pid_t pid = workspace_.start(args("run", {"train.steps=100000"}));
  wait_for_step(pid, "run", 3);
  ::kill(pid, SIGTERM);
  EXPECT_EQ(workspace_.wait(pid).code, 0);
  ::usleep(1'100'000);
  const pid_t again = workspace_.start(args("run", {"train.steps=100000"}));
  const auto done = metrics("run").size();
  int status = 0;
  for (int i = 0; i < 20'000 && metrics("run").size() < done + 1 && ::waitpid(again, &status, WNOHANG) == 0;
       ++i)
    ::usleep(1000);
  EXPECT_GT(metrics("run").size(), done) << read(workspace_ / "hone.err");
  ::kill(again, SIGKILL);
  ::waitpid(again, &status, 0);
}

TEST_F(Resume, AfterThePipeItPrintsToIsGone) {
  // As `hone train | tee log` and Ctrl-C, which ends tee at once.
  const std::string shell = "set -- sh -c '(\"$@\" 2>&1; echo $? > code) | head -n 1' sh \"$@\";";
  workspace_.wait(workspace_.start(args("run", {"train.steps=100000"}), "hone", shell));
  EXPECT_EQ(read(workspace_ / "code"), "0\n");
  EXPECT_EQ(newest_checkpoint("run"), "checkpoints/step-" + std::to_string(metrics("run").size()));
}

TEST_F(Resume, ASignalThatTheShellIgnoredForItStopsIt) {
  // A script's shell starts what ends in & with SIGINT ignored; nohup ignores SIGHUP, and means it.
  const pid_t pid = workspace_.start(args("run", {"train.steps=100000"}), "hone", "trap '' INT HUP;");
  wait_for_step(pid, "run", 3);
  ::kill(pid, SIGHUP);
  wait_for_step(pid, "run", metrics("run").size() + 50);
  ::kill(pid, SIGINT);
  const auto outcome = workspace_.wait(pid);
  EXPECT_EQ(outcome.code, 0);
  EXPECT_NE(outcome.out.find("stopped after step"), std::string::npos);
}

TEST_F(Resume, ASecondSignalOfAnotherKindAborts) {
  many_rows(2048);
  const pid_t pid = workspace_.start(args("run", {"data.packing=false", "train.global_batch=2048"}));
  wait_for_step(pid, "run", 1);
  ::kill(pid, SIGTERM);
  ::usleep(100'000);  // in the second step, of 2,048 micro-batches
  ::kill(pid, SIGINT);
  EXPECT_EQ(workspace_.wait(pid).code, 128 + SIGINT);
}

TEST_F(Resume, WithoutStandardStreamsWritesNothingIntoItsFiles) {
  EXPECT_EQ(workspace_.hone(args("closed"), "set -- sh -c '\"$@\" <&- >&- 2>&-' sh \"$@\";").code, 0);
  workspace_.succeed(args("open"));
  expect_same_run("closed", "open");
}

TEST_F(Resume, StoppedInAnEvaluationDoesItAgain) {
  std::string rows = read(workspace_ / "train.jsonl");
  for (int i = 0; i < 6; ++i) rows += rows;
  write(workspace_ / "valid.jsonl", rows);  // 2,048 rows: long enough to be stopped within
  const std::vector<std::string> options{"data.eval=valid.jsonl", "train.eval_every=3", "train.steps=6",
                                         "train.eval_samples=0"};
  workspace_.succeed(args("whole", options));
  for (const int step : {3, 6}) {
    const std::string name = "stopped-" + std::to_string(step);
    write(workspace_ / (name + ".err"), "");
    const pid_t pid = workspace_.start(args("run", options), name);
    const std::string line = "step " + std::to_string(step) + "/6";
    while (read(workspace_ / (name + ".err")).find(line) == std::string::npos) ::usleep(1000);
    ::kill(pid, SIGTERM);
    const auto outcome = workspace_.wait(pid, name);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.err.find("eval after step " + std::to_string(step)), std::string::npos) << outcome.err;
    EXPECT_EQ(metrics("run").back().at("step"), step - 1);
  }
  workspace_.succeed(args("run", options));
  expect_same_run("run", "whole");
}

TEST_F(Resume, StoppedWhileItReadsLeavesNothing) {
  many_rows(65536);
  const pid_t pid = workspace_.start(args("run"));
  while (!std::filesystem::exists(workspace_ / "run/.lock")) ::usleep(1000);
  ::usleep(100'000);
  ::kill(pid, SIGTERM);
  const auto outcome = workspace_.wait(pid);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("stopped before a step was done"), std::string::npos) << outcome.out;
  EXPECT_FALSE(std::filesystem::exists(workspace_ / "run"));
}

}  // namespace
}  // namespace hone::test
