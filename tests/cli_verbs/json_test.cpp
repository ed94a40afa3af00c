// --json: one object on stdout, whatever the verb says as it goes; and options that need or exclude each
// other.
#include "tests/cli_verbs/program.h"

namespace hone::test {
namespace {

class JsonOutput : public testing::Test {
 protected:
  JsonOutput() {
    workspace_.chat_model();
    workspace_.chat_data(8);
    write(workspace_ / "recipe.yaml",
          "model: {path: model}\ndata: {train: train.jsonl}\ntrain: {steps: 2}\noutput: run\n");
    write(workspace_ / "ids.jsonl", "{\"input_ids\": [1, 2, 3, 4], \"labels\": [1, 2, 3, 4]}\n");
  }
  Json object_of(const std::vector<std::string>& args) const {
    const auto outcome = workspace_.succeed(args);
    const auto json = Json::parse(outcome.out, nullptr, false);  // all of stdout
    EXPECT_TRUE(json.is_object()) << args.front() << ": " << outcome.out;
    return json;
  }
  Workspace workspace_;
};

TEST_F(JsonOutput, EveryVerbThatComputesPrintsOneObject) {
  const auto trained = object_of({"train", "recipe.yaml", "--json"});
  EXPECT_EQ(trained.at("steps"), 2);
  EXPECT_EQ(trained.at("finished"), true);
  EXPECT_EQ(trained.at("model"), "run/model");
  EXPECT_EQ(object_of({"train", "recipe.yaml", "--json"}).at("already_finished"), true);
  EXPECT_EQ(object_of({"export", "run", "exported", "--json"}).at("step"), 2);
  EXPECT_EQ(object_of({"init", "model-config", "fresh", "--seed", "4", "--json"}).at("seed"), 4);
  const auto tokens =
      object_of({"tokenize", "model", "--in", "train.jsonl", "--out", "tokens.jsonl", "--json"});
  EXPECT_EQ(tokens.at("rows"), 8);
  EXPECT_GT(tokens.at("tokens"), 8);
  const auto logits =
      object_of({"logits", "model", "--ids", "ids.jsonl", "--out", "l.safetensors", "--json"});
  EXPECT_EQ(logits.at("rows"), 1);
  EXPECT_GT(logits.at("loss"), 0);
  EXPECT_GT(object_of({"eval", "model", "train.jsonl", "--json"}).at("loss"), 0);
  EXPECT_TRUE(
      object_of({"generate", "model", "--prompt", "hi", "--max-new-tokens", "2", "--json"}).contains("ids"));
  EXPECT_TRUE(object_of({"check", "recipe.yaml", "--json"}).contains("rows"));
  EXPECT_TRUE(object_of({"inspect", "model", "--json"}).contains("parameters"));
  EXPECT_TRUE(object_of({"doctor", "--json"}).is_object());
}

TEST_F(JsonOutput, AnErrorLeavesStdoutEmpty) {
  for (const std::vector<std::string>& args : {std::vector<std::string>{"train", "nowhere.yaml", "--json"},
                                               {"export", "nowhere", "out", "--json"},
                                               {"eval", "model", "nowhere.jsonl", "--json"}}) {
    const auto outcome = workspace_.hone(args);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "") << args.front();
  }
}

TEST_F(JsonOutput, EvalLeavesOutOrCutsWhatIsTooLong) {
  const auto all = object_of({"eval", "model", "train.jsonl", "--json"});
  expect_refused(workspace_.hone({"eval", "model", "train.jsonl", "--seq-len", "45"}), {"train.jsonl:"});
  const auto fewer =
      object_of({"eval", "model", "train.jsonl", "--seq-len", "45", "--overlong", "drop", "--json"});
  EXPECT_GT(fewer.at("dropped"), 0);
  EXPECT_EQ(fewer.at("rows").get<int>() + fewer.at("dropped").get<int>(), all.at("rows").get<int>());
  const auto shorter =
      object_of({"eval", "model", "train.jsonl", "--seq-len", "45", "--overlong", "truncate", "--json"});
  EXPECT_EQ(shorter.at("truncated"), fewer.at("dropped"));
  EXPECT_LT(shorter.at("tokens"), all.at("tokens"));
}

TEST_F(JsonOutput, OptionsThatNeedOrExcludeOthersSaySo) {
  expect_refused(workspace_.hone({"generate", "model", "--prompt", "hi", "--raw", "--system", "be"}),
                 {"--raw", "--system"});
  for (const char* option : {"--top-k", "--top-p", "--seed"})
    expect_refused(workspace_.hone({"generate", "model", "--prompt", "hi", option, "1"}),
                   {option, "--temperature"});
}

TEST_F(JsonOutput, TheHelpOfTrainNamesEveryKeyBySection) {
  const auto help = workspace_.succeed({"train", "--help"}).out;
  for (const char* part : {"\n  model:\n", "\n  train.optimizer:\n", "\n  train.early_stopping:\n",
                           "    patience ", "--extend", "    groups ", "lr_scale"})
    EXPECT_NE(help.find(part), std::string::npos) << part;
}

}  // namespace
}  // namespace hone::test
