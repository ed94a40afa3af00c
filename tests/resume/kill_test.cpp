// Killed (SIGKILL) before any of its changes to files, a run goes on with the same bits. Nothing that a run
// does between two such changes can be seen by the next start, so a kill before a change stands for every
// moment since the change before it: a kill before a step's line stands for one within the step.
#include <map>
#include <regex>
#include <set>

#include "base/rng.h"
#include "tests/resume/runs.h"
#include "tests/resume/traced.h"

namespace hone::test {
namespace {

enum class Phase {
  kStart,       // reading data and weights, rehearsals, logs
  kStep,        // the step's line is what comes next
  kEvaluation,  // the evaluation's line is
  kLog,         // metrics.jsonl, samples.jsonl, experts.jsonl
  kCheckpoint,  // the files of a checkpoint
  kPublish,     // a checkpoint takes its name
  kPrune,       // an old one goes
  kModel,       // the files of the trained model
  kFinish,      // it takes its name
  kReport,
  kOther
};

/// `calls` up to the one that is asked about.
Phase phase_of(const std::vector<FileCall>& calls) {
  using Kind = FileCall::Kind;
  const FileCall& call = calls.back();
  const Path path = call.path;
  const std::string name = path.filename();
  static const std::regex kStepName("step-[0-9]+");
  if (call.text.starts_with("step ")) return Phase::kStep;
  if (call.text.starts_with("eval after")) return Phase::kEvaluation;
  const bool has_begun = std::any_of(calls.begin(), calls.end(), [](const FileCall& c) {
    return c.path.ends_with("metrics.jsonl") || c.text.starts_with("step ");
  });
  if (!has_begun) return Phase::kStart;
  if (name.ends_with(".jsonl")) return Phase::kLog;
  if (name.find("report.html") != std::string::npos) return Phase::kReport;
  const bool in_checkpoints = call.path.find("/checkpoints") != std::string::npos;
  if (call.kind == Kind::kRename && in_checkpoints && std::regex_match(name, kStepName))
    return Phase::kPublish;
  if (call.kind == Kind::kRename && name == "model") return Phase::kFinish;
  if (in_checkpoints && (call.kind == Kind::kRemove || call.kind == Kind::kRename)) return Phase::kPrune;
  if (in_checkpoints) return Phase::kCheckpoint;
  if (call.path.find("model") != std::string::npos) return Phase::kModel;
  return Phase::kOther;
}

class Killed : public Resume {
 protected:
  Killed() {
    workspace_.chat_data(3, "valid.jsonl", "valid");
    workspace_.succeed(args("whole", kOptions));
  }
  /// One start, killed before the call that `when` says yes to.
  Traced start(const std::string& output,
               const std::function<bool(const FileCall&, std::size_t)>& when) const {
    auto argv = args(output, kOptions);
    argv.insert(argv.begin(), HONE_BINARY);
    return run_traced(workspace_ / ".", argv, "hone", when);
  }
  static bool never(const FileCall&, std::size_t) { return false; }

  const std::vector<std::string> kOptions{"data.eval=valid.jsonl", "train.steps=6", "train.eval_every=3",
                                          "train.keep_last=1", "train.eval_samples=1"};
};

TEST_F(Killed, InEveryPhase) {
  const Traced whole = start("traced", never);
  if (whole.code == 125) GTEST_SKIP() << "this system does not let a test trace its children";
  ASSERT_EQ(whole.code, 0) << read(workspace_ / "hone.err");
  expect_same_run("traced", "whole");
  std::map<Phase, std::vector<std::size_t>> moments;
  for (std::size_t i = 0; i < whole.calls.size(); ++i)
    moments[phase_of({whole.calls.begin(), whole.calls.begin() + static_cast<std::ptrdiff_t>(i) + 1})]
        .push_back(i);
  std::set<Phase> covered;
  for (const auto& [phase, all] : moments) {
    for (const std::size_t moment : std::set<std::size_t>{all.front(), all[all.size() / 2], all.back()}) {
      const std::string output = "killed-" + std::to_string(moment);
      const Traced killed = start(output, [&](const FileCall&, std::size_t at) { return at == moment; });
      ASSERT_TRUE(killed.was_killed) << "call " << moment;
      EXPECT_EQ(killed.code, 128 + SIGKILL);
      covered.insert(phase_of(killed.calls));
      SCOPED_TRACE("killed before call " + std::to_string(moment) + ", " + killed.calls.back().path + " " +
                   killed.calls.back().text);
      workspace_.succeed(args(output, kOptions));
      expect_same_run(output, "whole");
      std::filesystem::remove_all(workspace_ / output);
    }
  }
  for (const Phase phase : {Phase::kStart, Phase::kStep, Phase::kEvaluation, Phase::kLog, Phase::kCheckpoint,
                            Phase::kPublish, Phase::kPrune, Phase::kModel, Phase::kFinish, Phase::kReport})
    EXPECT_TRUE(covered.contains(phase)) << "no kill in phase " << static_cast<int>(phase);
}

TEST_F(Killed, AgainAndAgain) {
  const CounterRng random(17, RngPurpose::kBench);
  std::set<Phase> covered;
  int kills = 0;
  for (std::uint64_t draw = 0; draw < 100; ++draw) {
    // Past the start of the run more often than not.
    const std::size_t moment = 20 + random.below(draw, 60);
    const Traced traced = start("run", [&](const FileCall&, std::size_t at) { return at == moment; });
    if (traced.code == 125) GTEST_SKIP() << "this system does not let a test trace its children";
    if (!traced.was_killed) {
      ASSERT_EQ(traced.code, 0) << read(workspace_ / "hone.err");
      break;
    }
    ++kills;
    covered.insert(phase_of(traced.calls));
  }
  EXPECT_GE(kills, 3);
  EXPECT_GE(covered.size(), 2U);
  workspace_.succeed(args("run", kOptions));
  expect_same_run("run", "whole");
}

}  // namespace
}  // namespace hone::test
