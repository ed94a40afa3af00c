// Runs that another version of hone began. tests/data/runs/format-2 was written by the hone of 2026-11-27
// (commit 798a7b3): a run of 12 steps that was killed after step 6, and finished.jsonl, the rows of the same
// run when nothing killed it.
#include "tests/resume/runs.h"

namespace hone::test {
namespace {

class OldRun : public testing::Test {
 protected:
  OldRun() {
    std::filesystem::copy(Path(HONE_TEST_DATA) / "runs/format-2", workspace_ / ".",
                          std::filesystem::copy_options::recursive);
    for (const char* file : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"})
      std::filesystem::copy(Path(HONE_SOURCE) / "demo/model" / file, workspace_ / "model" / file);
    workspace_.chat_data(24);
    workspace_.chat_data(3, "valid.jsonl", "valid");
  }
  Json index() const { return Json::parse(read(index_path())); }
  void set_index(const Json& index) const { write(index_path(), index.dump(1) + "\n"); }
  std::vector<Json> rows(const std::string& file) const {
    std::vector<Json> rows;
    std::istringstream in(read(workspace_ / file));
    for (std::string line; std::getline(in, line);) rows.push_back(Json::parse(line));
    return rows;
  }
  /// Continues and compares with what the old hone did: the same tokens in every step, and the same figures,
  /// but for the order in which another processor or a newer kernel sums.
  void expect_continued() const {
    const auto outcome = workspace_.succeed({"train", "recipe.yaml", "--resume"});
    EXPECT_NE(outcome.err.find("continues after step 6"), std::string::npos) << outcome.err;
    const auto now = rows("run/metrics.jsonl");
    const auto then = rows("finished.jsonl");
    ASSERT_EQ(now.size(), then.size());
    for (std::size_t i = 0; i < now.size(); ++i) {
      for (const char* same : {"step", "lr", "tokens", "supervised", "total_tokens"})
        EXPECT_EQ(now[i].at(same), then[i].at(same)) << same << " of step " << i + 1;
      for (const char* near : {"loss", "lm_loss", "aux_loss", "grad_norm"})
        EXPECT_NEAR(now[i].at(near).get<double>(), then[i].at(near).get<double>(),
                    2e-5 * then[i].at(near).get<double>())
            << near << " of step " << i + 1;
      if (i < 6) {
        EXPECT_EQ(now[i], then[i]);
      }
    }
  }
  Path index_path() const { return workspace_ / "run/checkpoints/step-6/index.json"; }
  Workspace workspace_;
};

TEST_F(OldRun, IsContinued) {
  expect_continued();
}

TEST_F(OldRun, OfFormat1IsContinued) {
  auto old = index();
  old["version"] = 1;
  for (const char* later : {"started", "expert_counts", "waiting_row"}) old["state"].erase(later);
  set_index(old);
  expect_continued();
}

TEST_F(OldRun, OfANewerFormatIsLeftAlone) {
  auto newer = index();
  newer["version"] = newer["version"].get<int>() + 1;
  newer["state"].erase("step");  // who knows what it holds
  set_index(newer);
  // An older one that could be read is no reason to go back to it.
  std::filesystem::copy(Path(HONE_TEST_DATA) / "runs/format-2/run/checkpoints/step-6",
                        workspace_ / "run/checkpoints/step-3", std::filesystem::copy_options::recursive);
  const auto before = workspace_.files("run");
  const auto outcome = workspace_.hone({"train", "recipe.yaml"});
  expect_refused(outcome, {"step-6", "written by a newer hone", "nothing was changed"});
  EXPECT_EQ(outcome.message().find("delete"), std::string::npos) << outcome.message();
  EXPECT_EQ(workspace_.files("run"), before);
}

/// Takes the line of one option out of the run's key, as if the option had not existed when the run began.
void without_option(Json& index, const std::string& option) {
  auto key = index.at("state").at("run_key").get<std::string>();
  const auto begin = key.find(option + ": ");
  ASSERT_NE(begin, std::string::npos) << option;
  key.erase(begin, key.find('\n', begin) + 1 - begin);
  index["state"]["run_key"] = key;
}

TEST_F(OldRun, FromBeforeAnOptionExistedIsContinued) {
  auto old = index();
  for (const char* option : {"train.clip", "train.schedule.min_lr_ratio", "data.packing", "mesh.ep"})
    without_option(old, option);
  set_index(old);
  expect_continued();
}

TEST_F(OldRun, WithAnOptionThatIsNewAndGivenIsRefusedByName) {
  auto old = index();
  without_option(old, "train.clip");
  set_index(old);
  expect_refused(workspace_.hone({"train", "recipe.yaml", "train.clip=0.5"}),
                 {"output run", "'train.clip: 1', not 'train.clip: 0.5'"});
}

TEST_F(OldRun, WithAnOptionThatIsUnknownHereIsRefusedByName) {
  auto newer = index();
  newer["state"]["run_key"] = newer["state"]["run_key"].get<std::string>() + "train.telepathy: true\n";
  set_index(newer);
  const auto before = workspace_.files("run");
  expect_refused(workspace_.hone({"train", "recipe.yaml"}), {"train.telepathy: true", "does not have"});
  EXPECT_EQ(workspace_.files("run"), before);
}

}  // namespace
}  // namespace hone::test
