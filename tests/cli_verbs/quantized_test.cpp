// Quantised checkpoints from the outside: what the start card says of them, what is saved, exported and
// inspected.
#include <gmock/gmock.h>

#include <set>

#include "tests/cli_verbs/program.h"

namespace hone::test {
namespace {

using testing::HasSubstr;

class QuantizedRun : public testing::Test {
 protected:
  QuantizedRun() {
    workspace_.golden("llama-fp8");
    std::string rows;
    for (int i = 0; i < 8; ++i)
      rows += R"({"input_ids": [5, 9, 3, 17, 4, 11, 6, 8], "labels": [5, 9, 3, 17, 4, 11, 6, 8]})" +
              std::string("\n");
    write(workspace_ / "train.jsonl", rows);
    write(workspace_ / "recipe.yaml",
          "model: {path: model}\n"
          "data: {train: train.jsonl, seq_len: 16}\n"
          "train: {steps: 2, global_batch: 2, seed: 3, threads: 1, optimizer: {lr: 1e-3}}\n"
          "output: run\n");
  }
  Outcome train(const std::string& output, const std::string& quantized) const {
    return workspace_.succeed({"train", "recipe.yaml", "output=" + output, "model.quantized=" + quantized});
  }
  Json config(const std::string& directory) const {
    return Json::parse(read(workspace_ / (directory + "/config.json")));
  }
  static std::string types(const RawSafetensors& file) {
    std::set<std::string> found;
    for (const auto& [name, tensor] : file.header.items())
      if (name != "__metadata__") found.insert(tensor.at("dtype").get<std::string>());
    std::string text;
    for (const auto& type : found) text += type + " ";
    return text;
  }

  Workspace workspace_;
};

TEST_F(QuantizedRun, IsDequantizedByDefault) {
  const auto outcome = workspace_.succeed({"train", "recipe.yaml"});
  EXPECT_THAT(outcome.out + outcome.err, HasSubstr("dequantized: model/ is saved in bf16"));
  EXPECT_FALSE(config("run/model").contains("quantization_config"));
  EXPECT_EQ(config("run/model").at("dtype"), "bfloat16");
  EXPECT_EQ(types(RawSafetensors(workspace_ / "run/model/model.safetensors")), "BF16 ");
  workspace_.succeed({"export", "run", "out"});
  EXPECT_TRUE(workspace_.files("out") == workspace_.files("run/model"));
  workspace_.succeed({"train", "recipe.yaml", "model.path=out", "output=again", "train.steps=1"});
}

TEST_F(QuantizedRun, KeepsItsFormatAndSaysWhatThatCosts) {
  const auto outcome = train("run", "keep");
  EXPECT_THAT(outcome.out + outcome.err,
              HasSubstr("trained and coded again when saved, which adds up to about"));
  EXPECT_THAT(outcome.out + outcome.err, HasSubstr("quantised again: "));
  EXPECT_EQ(config("run/model"), config("model"));
  EXPECT_EQ(RawSafetensors(workspace_ / "run/model/model.safetensors").header,
            RawSafetensors(workspace_ / "model/model.safetensors").header);
  workspace_.succeed({"export", "run", "out"});
  EXPECT_TRUE(workspace_.files("out") == workspace_.files("run/model"));
  workspace_.succeed({"export", "run", "wide", "--dtype", "f32"});
  EXPECT_EQ(types(RawSafetensors(workspace_ / "wide/model.safetensors")), "F32 ");
  EXPECT_FALSE(config("wide").contains("quantization_config"));
}

TEST_F(QuantizedRun, IsInspected) {
  EXPECT_THAT(workspace_.succeed({"inspect", "model"}).out, HasSubstr("quantised (fp8)"));
  const auto row = workspace_.succeed({"inspect", "model", "--json"}).json();
  EXPECT_EQ(row.at("quantization"), "fp8");
  EXPECT_EQ(row.at("memory").at("dtype"), "bf16");
  EXPECT_EQ(row.at("refusals"), Json::array());
}

TEST_F(QuantizedRun, OtherWordsAndMethodsAreRefused) {
  expect_refused(workspace_.hone({"train", "recipe.yaml", "model.quantized=yes"}),
                 {"model.quantized", "keep"});
  auto json = config("model");
  json["quantization_config"] = {{"quant_method", "gptq"}, {"bits", 4}};
  write(workspace_ / "model/config.json", json.dump());
  expect_refused(workspace_.hone({"train", "recipe.yaml"}), {"quantization_config", "gptq"});
}

}  // namespace
}  // namespace hone::test
