// hone export: any checkpoint as a Hugging Face directory.
#include "tests/resume/runs.h"

namespace hone::test {
namespace {

float bf16_to_float(const char* at) {
  std::uint16_t half = 0;
  std::memcpy(&half, at, sizeof half);
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// A finished run of 12 steps with checkpoints at 2, 4, …
class Export : public Resume {
 protected:
  Export() {
    workspace_.chat_data(6, "valid.jsonl", "valid");
    workspace_.succeed(args("run", {"train.keep_last=9", "data.eval=valid.jsonl", "train.eval_every=4",
                                    "train.eval_samples=0", "method.freeze=[embed_tokens]"}));
  }
  std::map<std::string, std::string> files(const std::string& name) const { return workspace_.files(name); }
};

TEST_F(Export, OfTheLastStepIsTheModelThatTheRunWrote) {
  const auto outcome = workspace_.succeed({"export", "run", "out"});
  EXPECT_TRUE(files("out") == files("run/model"));
  EXPECT_NE(outcome.out.find("step 12"), std::string::npos) << outcome.out;
}

TEST_F(Export, OfAStepIsTheModelOfARunThatEndedThere) {
  // The schedule is constant, so that a run of 6 steps is the first half of one of 12.
  const std::vector<std::string> constant{"train.schedule.type=constant", "train.keep_last=9"};
  auto six = constant;
  six.push_back("train.steps=6");
  workspace_.succeed(args("long", constant));
  workspace_.succeed(args("short", six));
  workspace_.succeed({"export", "long", "out", "--step", "6"});
  EXPECT_TRUE(files("out") == files("short/model"));
  workspace_.succeed({"export", "long/checkpoints/step-6/", "same"});
  EXPECT_TRUE(files("same") == files("out"));
}

TEST_F(Export, OfTheBestStepIsThatOfTheLeastEvaluationLoss) {
  std::int64_t best = 0;
  double least = 1e30;
  for (const auto& row : metrics("run"))
    if (row.contains("eval_loss") && row["step"] > 0 && row["eval_loss"].get<double>() < least) {
      least = row["eval_loss"].get<double>();
      best = row["step"].get<std::int64_t>();
    }
  const auto row = workspace_.succeed({"export", "run", "out", "--step", "best", "--json"}).json();
  EXPECT_EQ(row.at("step"), best);
  EXPECT_EQ(row.at("best_eval_loss"), least);
  workspace_.succeed({"export", "run", "same", "--step", std::to_string(best)});
  EXPECT_TRUE(files("out") == files("same"));
}

TEST_F(Export, InAnotherDtypeRoundsEveryParameterAndSaysSo) {
  workspace_.succeed({"export", "run", "out", "--dtype", "bf16"});
  const RawSafetensors wide(workspace_ / "run/model/model.safetensors");
  const RawSafetensors narrow(workspace_ / "out/model.safetensors");
  ASSERT_EQ(narrow.header.size(), wide.header.size());
  for (const auto& [name, tensor] : narrow.header.items()) {
    if (name == "__metadata__") continue;
    ASSERT_EQ(tensor.at("dtype"), "BF16") << name;
    EXPECT_EQ(tensor.at("shape"), wide.header.at(name).at("shape"));
    const auto floats = wide.floats(name);
    const auto begin = tensor.at("data_offsets")[0].get<std::size_t>();
    for (std::size_t i = 0; i < floats.size(); ++i) {
      const float rounded = bf16_to_float(narrow.data.data() + begin + 2 * i);
      ASSERT_NEAR(rounded, floats[i], std::abs(floats[i]) / 256) << name << " " << i;
    }
  }
  EXPECT_EQ(Json::parse(read(workspace_ / "out/config.json")).at("dtype"), "bfloat16");
  // It is a checkpoint like any other: it loads and trains, and a run from it exports as bf16.
  workspace_.succeed({"train", "recipe.yaml", "model.path=out", "output=again", "train.steps=1"});
  workspace_.succeed({"export", "again", "again-out"});
  EXPECT_EQ(RawSafetensors(workspace_ / "again-out/model.safetensors").header.dump(), narrow.header.dump());
}

TEST_F(Export, NoticesThatTheBaseModelMovedOrChanged) {
  std::filesystem::rename(workspace_ / "model", workspace_ / "moved");
  expect_refused(workspace_.hone({"export", "run", "out"}), {"run/checkpoints/step-12", "model", "--base"});
  workspace_.succeed({"export", "run", "out", "--base", "moved"});
  EXPECT_TRUE(files("out") == files("run/model"));

  // Another model of the same shapes: its embedding, which was frozen, would be mixed in.
  workspace_.succeed({"init", "model-config", "other", "--seed", "2"});
  expect_refused(workspace_.hone({"export", "run", "mixed", "--base", "other"}),
                 {"another model than other", "embed_tokens"});
  EXPECT_FALSE(std::filesystem::exists(workspace_ / "mixed"));
  // Where every tensor was trained, nothing can be mixed in.
  workspace_.succeed(args("full", {"model.path=moved", "train.steps=2"}));
  const auto outcome = workspace_.succeed({"export", "full", "whole", "--base", "other"});
  EXPECT_NE(outcome.err.find("none of its weights"), std::string::npos) << outcome.err;
  EXPECT_TRUE(files("whole") == files("full/model"));
}

TEST_F(Export, OfAnotherShapeOfModelIsRefused) {
  workspace_.golden("llama-default", "other");
  expect_refused(workspace_.hone({"export", "run", "out", "--base", "other"}), {"step-12", "other"});
  EXPECT_FALSE(std::filesystem::exists(workspace_ / "out"));
}

TEST_F(Export, RefusesWhatIsNoCheckpointAndWhatWouldBeOverwritten) {
  const auto before = workspace_.files();
  expect_refused(workspace_.hone({"export", "model", "out"}), {"model: is a Hugging Face directory"});
  expect_refused(workspace_.hone({"export", "nowhere", "out"}), {"nowhere", "no such directory"});
  expect_refused(workspace_.hone({"export", "run", "out", "--step", "5"}),
                 {"run: has no checkpoint of step 5", "step-2, step-4, step-6"});
  expect_refused(workspace_.hone({"export", "run", "out", "--step", "newest"}),
                 {"--step is 'newest'", "best, last"});
  expect_refused(workspace_.hone({"export", "run/checkpoints/step-6", "out", "--step", "4"}),
                 {"is one checkpoint"});
  expect_refused(workspace_.hone({"export", "run", "model"}), {"model", "base model"});
  expect_refused(workspace_.hone({"export", "run", "model/out"}), {"base model"});
  expect_refused(workspace_.hone({"export", "run", "run/checkpoints/step-99"}),
                 {"among the run's checkpoints"});
  EXPECT_EQ(workspace_.files(), before);
}

TEST_F(Export, RefusesBytesThatRottedAndWritesNothing) {
  const Path shard = workspace_ / "run/checkpoints/step-6" / kShard;
  std::string bytes = read(shard);
  const RawSafetensors raw(shard);
  const auto at = raw.header.at("master.model.norm.weight").at("data_offsets")[0].get<std::size_t>();
  bytes[bytes.size() - raw.data.size() + at] ^= 1;
  write(shard, bytes);
  expect_refused(workspace_.hone({"export", "run", "out", "--step", "6"}), {"step-6", "model.norm.weight"});
  EXPECT_FALSE(std::filesystem::exists(workspace_ / "out"));
}

TEST_F(Export, OfARunWithoutEvaluationHasNoBest) {
  workspace_.succeed(args("blind", {"train.steps=2"}));
  expect_refused(workspace_.hone({"export", "blind", "out", "--step", "best"}),
                 {"blind", "data.eval", "step-2"});
}

}  // namespace
}  // namespace hone::test
