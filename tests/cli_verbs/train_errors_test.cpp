// Recipes, data and outputs that `hone train` refuses: one clear line, exit code 2, nothing half-written.
#include <csignal>

#include "tests/cli_verbs/program.h"

namespace hone::test {
namespace {

constexpr const char* kRecipe =
    "model: {path: model}\n"
    "data: {train: train.jsonl}\n"
    "train: {steps: 2, global_batch: 2}\n"
    "output: run\n";
constexpr const char* kUser = "{\"role\": \"user\", \"content\": \"hello\"}";

/// A recipe that would train; each test spoils one thing.
class BadTraining : public testing::Test {
 protected:
  BadTraining() {
    workspace_.chat_model();
    workspace_.chat_data(8);
    write(workspace_ / "recipe.yaml", kRecipe);
  }
  void expect_train_refused(const std::vector<std::string>& parts,
                            const std::vector<std::string>& overrides = {}) {
    const auto before = workspace_.files();
    std::vector<std::string> args{"train", "recipe.yaml"};
    args.insert(args.end(), overrides.begin(), overrides.end());
    expect_refused(workspace_.hone(args), parts);
    EXPECT_EQ(workspace_.files(), before);
  }
  void recipe(const std::string& text) { write(workspace_ / "recipe.yaml", text); }
  void data(const std::string& text) { write(workspace_ / "train.jsonl", text); }

  Workspace workspace_;
};

using BadRecipe = BadTraining;
using BadData = BadTraining;
using BadOutput = BadTraining;

TEST_F(BadRecipe, TypoNamesTheNearestKey) {
  recipe(
      "model: {path: model}\ndata: {train: train.jsonl}\ntrain:\n  optimiser: {lr: 1.0e-3}\noutput: run\n");
  expect_train_refused({"recipe.yaml:4", "train.optimiser", "train.optimizer"});
}

TEST_F(BadRecipe, TypoOnTheCommandLineNamesTheNearestKey) {
  expect_train_refused({"command line", "train.stepz", "train.steps"}, {"train.stepz=3"});
}

TEST_F(BadRecipe, KeyInTheWrongSectionNamesTheRightOne) {
  expect_train_refused({"train.seq_len", "data.seq_len"}, {"train.seq_len=3"});
}

TEST_F(BadRecipe, DuplicateKey) {
  recipe("model: {path: model}\ndata: {train: train.jsonl}\noutput: run\noutput: other\n");
  expect_train_refused({"recipe.yaml:4", "duplicate key output"});
}

TEST_F(BadRecipe, DuplicateKeyInASection) {
  recipe(
      "model: {path: model}\ndata:\n  train: train.jsonl\n  packing: true\n  packing: false\noutput: run\n");
  expect_train_refused({"recipe.yaml:5", "duplicate key data.packing"});
}

TEST_F(BadRecipe, MissingKeysAreNamed) {
  for (const std::string key : {"model", "data", "output"}) {
    std::string text;
    for (const std::string line : {"model: {path: model}\n", "data: {train: train.jsonl}\n", "output: run\n"})
      if (!line.starts_with(key)) text += line;
    recipe(text);
    expect_train_refused({"recipe.yaml", key, "required"});
  }
}

TEST_F(BadRecipe, WordWhereANumberBelongs) {
  expect_train_refused({"train.steps", "many", "integer"}, {"train.steps=many"});
}

TEST_F(BadRecipe, FractionWhereAnIntegerBelongs) {
  expect_train_refused({"train.steps", "2.5"}, {"train.steps=2.5"});
}

TEST_F(BadRecipe, NumberWhereABooleanBelongs) {
  expect_train_refused({"data.packing", "1", "true or false"}, {"data.packing=1"});
}

TEST_F(BadRecipe, ListWhereANumberBelongs) {
  expect_train_refused({"train.optimizer.lr"}, {"train.optimizer.lr=[1, 2]"});
}

TEST_F(BadRecipe, NotANumber) {
  expect_train_refused({"train.optimizer.lr"}, {"train.optimizer.lr=.nan"});
}

TEST_F(BadRecipe, NumberOutOfRange) {
  expect_train_refused({"train.optimizer.lr", "-1"}, {"train.optimizer.lr=-1"});
}

TEST_F(BadRecipe, SectionThatIsAWord) {
  recipe("model: model\ndata: {train: train.jsonl}\noutput: run\n");
  expect_train_refused({"recipe.yaml:1", "model"});
}

TEST_F(BadRecipe, WordThatIsNotAChoice) {
  expect_train_refused({"train.schedule.type", "cosin", "cosine"}, {"train.schedule.type=cosin"});
}

TEST_F(BadRecipe, LoraIsRefusedByName) {
  recipe(std::string(kRecipe) + "method:\n  type: lora\n  rank: 8\n");
  expect_train_refused({"recipe.yaml:6", "method.type", "lora"});
}

TEST_F(BadRecipe, MeshesAreRefusedByName) {
  for (const std::string key :
       {"mesh.pp", "mesh.dp_replicate", "mesh.dp_shard", "mesh.cp", "mesh.tp", "mesh.ep_shard", "mesh.ep"})
    expect_train_refused({"command line", key + ": 2 ranks", "set it to 1"}, {key + "=2"});
}

TEST_F(BadRecipe, NotYaml) {
  recipe("model: {path: model\noutput: run\n");
  expect_train_refused({"recipe.yaml:", "YAML"});
}

TEST_F(BadRecipe, Empty) {
  recipe("# nothing\n");
  expect_train_refused({"recipe.yaml", "empty"});
}

TEST_F(BadRecipe, NoSuchFile) {
  std::filesystem::remove(workspace_ / "recipe.yaml");
  expect_train_refused({"recipe.yaml"});
}

TEST_F(BadRecipe, GlobalBatchThatIsNoMultipleOfMicroBatch) {
  expect_train_refused({"train.global_batch", "2", "train.micro_batch", "3"}, {"train.micro_batch=3"});
}

TEST_F(BadRecipe, StepsAndEpochs) {
  recipe("model: {path: model}\ndata: {train: train.jsonl}\ntrain: {steps: 2, epochs: 1}\noutput: run\n");
  expect_train_refused({"train.steps", "train.epochs"});
}

TEST_F(BadRecipe, SequenceLongerThanTheContext) {
  expect_train_refused({"data.seq_len", "129", "128", "max_position_embeddings"}, {"data.seq_len=129"});
}

TEST_F(BadRecipe, SequenceLongerThanTheContextWithoutPacking) {
  expect_train_refused({"data.seq_len", "129", "128"}, {"data.seq_len=129", "data.packing=false"});
}

TEST_F(BadRecipe, FreezePatternThatIsNoRegularExpression) {
  expect_train_refused({"freeze", "'('"}, {"method.freeze=[(]"});
}

TEST_F(BadRecipe, FreezePatternThatMatchesNothing) {
  expect_train_refused({"freeze", "embeding", "model.embed_tokens.weight"}, {"method.freeze=[embeding]"});
}

TEST_F(BadRecipe, FreezePatternsNameTheirLine) {
  recipe(std::string(kRecipe) + "method:\n  freeze: ['(']\n");
  expect_train_refused({"recipe.yaml:6: method.freeze", "regular expression"});
  recipe(std::string(kRecipe) + "method: {freeze: [embeding]}\n");
  expect_train_refused({"recipe.yaml:5: method.freeze", "matches no parameter"});
  recipe(std::string(kRecipe) + "method: {freeze: [.]}\n");
  expect_train_refused({"recipe.yaml:5: method.freeze", "nothing to train"});
}

TEST_F(BadRecipe, EverythingFrozen) {
  expect_train_refused({"method.freeze"}, {"method.freeze=[.]"});
}

TEST_F(BadData, Empty) {
  data("\n\n");
  expect_train_refused({"train.jsonl", "no rows"});
}

TEST_F(BadData, NoSuchFile) {
  expect_train_refused({"absent.jsonl"}, {"data.train=absent.jsonl"});
}

TEST_F(BadData, GlobThatMatchesNothing) {
  expect_train_refused({"absent-*.jsonl"}, {"data.train=absent-*.jsonl"});
}

TEST_F(BadData, BadJsonNamesTheLine) {
  data(head(read(workspace_ / "train.jsonl"), 3) + "{\"messages\": [\n");
  expect_train_refused({"train.jsonl:4", "JSON"});
}

TEST_F(BadData, RowWithoutMessages) {
  data(head(read(workspace_ / "train.jsonl"), 2) + "{\"dialogue\": []}\n");
  expect_train_refused({"train.jsonl:3", "dialogue", "messages"});
}

TEST_F(BadData, NoMessages) {
  data("{\"messages\": []}\n");
  expect_train_refused({"train.jsonl:1"});
}

TEST_F(BadData, RoleThatTheTemplateRejects) {
  data(std::string("{\"messages\": [") + kUser + ", {\"role\": \"wizard\", \"content\": \"hi\"}]}\n");
  expect_train_refused({"train.jsonl:1", "not wizard"});
}

TEST_F(BadData, NothingToLearn) {
  data(std::string("{\"messages\": [") + kUser + "]}\n");
  expect_train_refused({"train.jsonl:1", "no assistant message"});
}

TEST_F(BadData, EverythingMaskedByLabels) {
  data("{\"input_ids\": [1, 2, 3], \"labels\": [-100, -100, -100]}\n");
  expect_train_refused({"train.jsonl"});
}

TEST_F(BadData, TokenIdOutsideTheVocabulary) {
  data("{\"input_ids\": [1, 768]}\n");
  expect_train_refused({"train.jsonl:1", "input_ids[1]", "768"});
}

TEST_F(BadData, LabelsOfAnotherLength) {
  data("{\"input_ids\": [1, 2, 3], \"labels\": [1, 2]}\n");
  expect_train_refused({"train.jsonl:1", "2 labels", "3 input_ids"});
}

TEST_F(BadData, RowLongerThanThePack) {
  expect_train_refused({"train.jsonl:", "data.seq_len 8", "data.overlong"}, {"data.seq_len=8"});
}

TEST_F(BadOutput, DirectoryThatHoldsSomethingElse) {
  std::filesystem::create_directory(workspace_ / "run");
  write(workspace_ / "run/letter.txt", "dear");
  expect_train_refused({"output run", "not a run of hone"});
}

TEST_F(BadOutput, TheModelItself) {
  expect_train_refused({"output model"}, {"output=model"});
}

TEST_F(BadOutput, File) {
  write(workspace_ / "run", "a file");
  expect_train_refused({"output run", "is a file"});
}

TEST_F(BadOutput, BelowAFile) {
  expect_train_refused({"recipe.yaml/run"}, {"output=recipe.yaml/run"});
}

TEST_F(BadOutput, PlaceWhereNothingCanBeCreated) {
  expect_train_refused({"/proc/run"}, {"output=/proc/run"});
}

TEST_F(BadOutput, DirectoryWithoutPermission) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  std::filesystem::create_directory(workspace_ / "locked");
  std::filesystem::permissions(workspace_ / "locked",
                               std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  expect_train_refused({"locked/run"}, {"output=locked/run"});
}

/// No file may grow beyond `blocks` of 512 bytes: writing fails in the middle, as on a disk that is full.
std::string full_disk(int blocks) {
  return "trap '' XFSZ; ulimit -f " + std::to_string(blocks) + ";";
}

/// Where the system allows it, puts a file system of `kib` KiB over the directory `name`, for this program
/// only.
std::string small_disk(const std::string& name, int kib) {
  return "set -- unshare -m sh -c 'mount -t tmpfs -o size=" + std::to_string(kib) + "k none " + name +
         " && exec \"$@\"' sh \"$@\";";
}

TEST_F(BadOutput, DiskThatIsTooSmallIsNoticedBeforeTheFirstStep) {
  std::filesystem::create_directory(workspace_ / "disk");
  if (workspace_.hone({"--version"}, small_disk("disk", 300)).code != 0) GTEST_SKIP() << "cannot mount";
  const auto outcome = workspace_.hone({"train", "recipe.yaml", "output=disk/run"}, small_disk("disk", 300));
  expect_refused(outcome, {"disk/run", "free"});
  EXPECT_EQ(outcome.err.find("step 1/"), std::string::npos);
}

TEST_F(BadOutput, DiskFullWhileSavingLeavesTheOlderCheckpoint) {
  const std::vector<std::string> args{"train", "recipe.yaml", "train.steps=100000",
                                      "train.checkpoint_every=100000"};
  const pid_t pid = workspace_.start(args);
  const Path metrics = workspace_ / "run/metrics.jsonl";
  while (!std::filesystem::exists(metrics) || std::filesystem::is_empty(metrics)) ::usleep(10000);
  ::kill(pid, SIGTERM);
  ASSERT_EQ(workspace_.wait(pid).code, 0);
  const auto before = workspace_.files("run/checkpoints");
  ASSERT_FALSE(before.empty());
  auto again = args;
  again.back() = "train.checkpoint_every=1";
  expect_refused(workspace_.hone(again, full_disk(512)), {"run/checkpoints/step-"});
  EXPECT_EQ(workspace_.files("run/checkpoints"), before);
}

TEST_F(BadOutput, DiskFullWhileMakingACheckpointLeavesNone) {
  expect_refused(workspace_.hone({"init", "model-config", "other", "--seed", "2"}, full_disk(64)), {"other"});
  EXPECT_FALSE(std::filesystem::exists(workspace_ / "other"));
}

TEST_F(BadOutput, DiskFullLeavesNoLogits) {
  std::string ids = "1";
  for (int i = 0; i < 100; ++i) ids += ", 1";
  write(workspace_ / "rows.jsonl", "{\"input_ids\": [" + ids + "]}\n");
  const auto before = workspace_.files();
  expect_refused(
      workspace_.hone({"logits", "model", "--ids", "rows.jsonl", "--out", "out.safetensors"}, full_disk(64)),
      {"out.safetensors"});
  EXPECT_EQ(workspace_.files(), before);
}

}  // namespace
}  // namespace hone::test
