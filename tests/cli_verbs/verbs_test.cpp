// Every verb on good input: what it writes and prints is what the documentation promises.
#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

#include "tests/cli_verbs/program.h"
#include "tests/tolerance.h"

namespace hone::test {
namespace {

const std::string kDemoModel = std::string(HONE_SOURCE) + "/demo/model";

std::vector<Json> json_lines(const std::string& text) {
  std::vector<Json> rows;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) rows.push_back(Json::parse(line));
  return rows;
}

void expect_keys(const Json& row, const std::vector<std::string>& keys) {
  for (const auto& key : keys) EXPECT_TRUE(row.contains(key)) << key << " in " << row.dump();
}

std::vector<double> doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

std::vector<std::int32_t> ints(const RawSafetensors& file, const std::string& name) {
  const auto raw = file.floats(name);  // 4 bytes each, too
  std::vector<std::int32_t> values(raw.size());
  std::memcpy(values.data(), raw.data(), raw.size() * sizeof(float));
  return values;
}

/// The rows of a golden file as JSONL.
std::string golden_rows(const RawSafetensors& golden, bool labels) {
  std::string text;
  for (int i = 0; golden.header.contains("ids." + std::to_string(i)); ++i) {
    Json row{{"input_ids", ints(golden, "ids." + std::to_string(i))}};
    if (labels) row["labels"] = ints(golden, "labels." + std::to_string(i));
    text += row.dump() + "\n";
  }
  return text;
}

// ---- logits ----

class Logits : public testing::TestWithParam<const char*> {};

TEST_P(Logits, AndTheLossAreTransformers) {
  Workspace workspace;
  workspace.golden(GetParam());
  const RawSafetensors golden(workspace / "model/golden.safetensors");
  write(workspace / "rows.jsonl", golden_rows(golden, true));
  workspace.succeed({"logits", "model", "--ids", "rows.jsonl", "--out", "out.safetensors", "--dtype", "f32"});
  const RawSafetensors out(workspace / "out.safetensors");
  std::size_t rows = 0;
  for (; golden.header.contains("ids." + std::to_string(rows)); ++rows) {
    const std::string key = "logits." + std::to_string(rows);
    EXPECT_EQ(out.header.at(key).at("dtype"), "F32");
    EXPECT_EQ(out.header.at(key).at("shape"), golden.header.at(key).at("shape"));
    EXPECT_LT(relative_distance(doubles(out.floats(key)), doubles(golden.floats(key))), 1e-5) << key;
  }
  EXPECT_GT(rows, 1U);
  EXPECT_EQ(out.header.at("loss").at("shape"), Json({1}));
  EXPECT_NEAR(out.floats("loss")[0] / golden.floats("loss")[0], 1, 1e-5);
}

// Without and with the auxiliary loss, and a dense model.
INSTANTIATE_TEST_SUITE_P(Goldens, Logits,
                         testing::Values("qwen3_moe-default", "qwen3_moe-aux", "llama-default"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(LogitsVerb, WritesNoLossWithoutLabels) {
  Workspace workspace;
  workspace.golden("qwen3_moe-default");
  write(workspace / "rows.jsonl", "{\"input_ids\": [3, 1, 4]}\n");
  workspace.succeed({"logits", "model", "--ids", "rows.jsonl", "--out", "out.safetensors"});
  const RawSafetensors out(workspace / "out.safetensors");
  EXPECT_FALSE(out.header.contains("loss"));
  EXPECT_EQ(out.header.at("logits.0").at("shape"), Json({3, 128}));
}

TEST(LogitsVerb, WritesToADeviceAndDoesNotReplaceIt) {
  Workspace workspace;
  workspace.golden("qwen3_moe-default");
  write(workspace / "rows.jsonl", "{\"input_ids\": [5, 6, 7, 8]}\n");
  std::filesystem::create_symlink("/dev/null", workspace / "out");
  workspace.succeed({"logits", "model", "--ids", "rows.jsonl", "--out", "out"});
  EXPECT_TRUE(std::filesystem::is_symlink(workspace / "out"));
  EXPECT_TRUE(std::filesystem::is_character_file(workspace / "out"));
}

TEST(LogitsVerb, PartialRotaryFactorIsNothingToTheDefaultRope) {
  Workspace workspace;
  workspace.golden("qwen3_moe-default");
  write(workspace / "rows.jsonl", "{\"input_ids\": [5, 6, 7, 8]}\n");
  const auto logits = [&](const std::string& out) {
    workspace.succeed({"logits", "model", "--ids", "rows.jsonl", "--out", out});
    return read(workspace / out);
  };
  const auto before = logits("before.safetensors");
  auto config = Json::parse(read(workspace / "model/config.json"));
  config["partial_rotary_factor"] = 0.5;
  write(workspace / "model/config.json", config.dump(1));
  EXPECT_EQ(logits("after.safetensors"), before);
}

TEST(LogitsVerb, ComputesInBf16WhereAsked) {
  Workspace workspace;
  workspace.golden("qwen3_moe-default");
  write(workspace / "rows.jsonl", "{\"input_ids\": [3, 1, 4, 1, 5]}\n");
  workspace.succeed({"logits", "model", "--ids", "rows.jsonl", "--out", "f32.safetensors", "--dtype", "f32"});
  workspace.succeed(
      {"logits", "model", "--ids", "rows.jsonl", "--out", "bf16.safetensors", "--dtype", "bf16"});
  const auto f32 = doubles(RawSafetensors(workspace / "f32.safetensors").floats("logits.0"));
  const auto bf16 = doubles(RawSafetensors(workspace / "bf16.safetensors").floats("logits.0"));
  const double distance = relative_distance(bf16, f32);
  EXPECT_GT(distance, 0);  // it did compute in another dtype
  EXPECT_LT(distance, 0.05);
}

// ---- tokenize ----

TEST(TokenizeVerb, TextThereAndBack) {
  Workspace workspace;
  const std::string text = "find . -name '*.log' — naïve 漢字 🙂\n\tend";
  write(workspace / "text.jsonl", Json{{"text", text}}.dump() + "\n");
  workspace.succeed({"tokenize", kDemoModel, "--in", "text.jsonl", "--out", "ids.jsonl"});
  const auto ids = json_lines(read(workspace / "ids.jsonl"));
  ASSERT_EQ(ids.size(), 1U);
  EXPECT_EQ(ids[0].size(), 1U);
  EXPECT_GT(ids[0].at("input_ids").size(), 5U);
  workspace.succeed({"tokenize", kDemoModel, "--in", "ids.jsonl", "--out", "back.jsonl"});
  EXPECT_EQ(json_lines(read(workspace / "back.jsonl")).at(0), Json({{"text", text}}));
}

TEST(TokenizeVerb, LabelsOfAChatCoverExactlyTheAnswersAndTheirEnds) {
  Workspace workspace;
  write(workspace / "chat.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"same words\"}, {\"role\": \"assistant\", "
        "\"content\": \"same words\"}]}\n");
  workspace.succeed({"tokenize", kDemoModel, "--in", "chat.jsonl", "--out", "out.jsonl"});
  const auto row = json_lines(read(workspace / "out.jsonl")).at(0);
  EXPECT_EQ(row.at("text"),
            "<|im_start|>user\nsame words<|im_end|>\n<|im_start|>assistant\nsame words<|im_end|>\n");
  ASSERT_EQ(row.at("labels").size(), row.at("input_ids").size());
  Json learnt = Json::array();
  for (std::size_t i = 0; i < row["labels"].size(); ++i) {
    if (row["labels"][i] == -100) continue;
    EXPECT_EQ(row["labels"][i], row["input_ids"][i]);
    learnt.push_back(row["labels"][i]);
  }
  write(workspace / "learnt.jsonl", Json{{"input_ids", learnt}}.dump() + "\n");
  workspace.succeed({"tokenize", kDemoModel, "--in", "learnt.jsonl", "--out", "text.jsonl"});
  EXPECT_EQ(json_lines(read(workspace / "text.jsonl")).at(0).at("text"), "same words<|im_end|>");
}

// What it writes, hone reads: the same tokens count the same.
TEST(TokenizeVerb, WeightsAreWrittenAsTheyAreRead) {
  Workspace workspace;
  write(workspace / "chat.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": "
        "\"b\", \"weight\": 0.5}], \"weight\": 3}\n");
  workspace.succeed({"tokenize", kDemoModel, "--in", "chat.jsonl", "--out", "out.jsonl"});
  auto row = json_lines(read(workspace / "out.jsonl")).at(0);
  ASSERT_EQ(row.at("loss_weights").size(), row.at("labels").size());
  for (std::size_t i = 0; i < row["labels"].size(); ++i)
    EXPECT_EQ(row["loss_weights"][i], row["labels"][i] == -100 ? 0 : 1.5) << i;
  row.erase("text");
  write(workspace / "ids.jsonl", row.dump() + "\n");
  for (const char* file : {"chat.jsonl", "ids.jsonl"}) {
    const auto check = workspace.succeed({"check", kDemoModel, file, "--json"}).json();
    EXPECT_EQ(check.at("supervised"), 2) << file;
  }
}

TEST(TokenizeVerb, RowsOfNoIdsAreNoText) {
  Workspace workspace;
  write(workspace / "ids.jsonl", "{\"input_ids\": []}\n");
  workspace.succeed({"tokenize", kDemoModel, "--in", "ids.jsonl", "--out", "out.jsonl"});
  EXPECT_EQ(json_lines(read(workspace / "out.jsonl")).at(0), Json({{"text", ""}}));
}

TEST(TokenizeVerb, OutputIsWhatTrainingWouldSee) {
  Workspace workspace;
  write(workspace / "rows.jsonl",
        "{\"prompt\": \"all logs\", \"completion\": \" ls\"}\n"
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": "
        "\"b\", \"reasoning_content\": \"c\"}]}\n");
  const auto said = workspace.succeed({"tokenize", kDemoModel, "--in", "rows.jsonl", "--out", "out.jsonl"});
  EXPECT_NE(said.err.find("1 turn whose reasoning the chat template writes nowhere"), std::string::npos)
      << said.err;
  const auto check = [&](const std::string& rows) {
    auto json = workspace.succeed({"check", kDemoModel, rows, "--json"}).json();
    json.erase("findings");
    json.erase("sources");  // which name the file
    return json;
  };
  EXPECT_EQ(check("out.jsonl"), check("rows.jsonl"));
  EXPECT_EQ(json_lines(read(workspace / "out.jsonl")).at(0).at("labels").back(),
            json_lines(read(workspace / "out.jsonl")).at(0).at("input_ids").back());
}

TEST(TokenizeVerb, GenerationPromptEndsTheText) {
  Workspace workspace;
  write(workspace / "chat.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n");
  workspace.succeed(
      {"tokenize", kDemoModel, "--in", "chat.jsonl", "--out", "out.jsonl", "--generation-prompt"});
  EXPECT_EQ(json_lines(read(workspace / "out.jsonl")).at(0).at("text"),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
}

// ---- init ----

TEST(InitVerb, WeightsAreAFunctionOfTheSeed) {
  Workspace workspace;
  for (const std::string seed : {"1", "2"})
    workspace.succeed({"init", kDemoModel, "seed" + seed, "--seed", seed});
  workspace.succeed({"init", kDemoModel, "again", "--seed", "1"});
  const auto weights = [&](const std::string& name) {
    return read(workspace / (name + "/model.safetensors"));
  };
  EXPECT_TRUE(weights("seed1") == weights("again"));
  EXPECT_FALSE(weights("seed1") == weights("seed2"));
}

TEST(InitVerb, CopiesTheOtherFilesByteForByte) {
  Workspace workspace;
  workspace.succeed({"init", kDemoModel, "model", "--seed", "1"});
  for (const std::string name :
       {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"})
    EXPECT_TRUE(read(workspace / ("model/" + name)) == read(Path(kDemoModel) / name)) << name;
}

TEST(InitVerb, MatricesHaveTheConfigsDeviation) {
  Workspace workspace;
  workspace.succeed({"init", kDemoModel, "model", "--seed", "3"});
  const RawSafetensors file(workspace / "model/model.safetensors");
  const auto values = file.floats("model.embed_tokens.weight");
  double squares = 0;
  for (const float v : values) squares += static_cast<double>(v) * v;
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(values.size())), 0.06, 0.0006);
  for (const float v : file.floats("model.norm.weight")) EXPECT_EQ(v, 1.0F);
}

TEST(InitVerb, StoresBf16WhereAsked) {
  Workspace workspace;
  workspace.succeed({"init", kDemoModel, "model", "--seed", "1", "--dtype", "bf16"});
  const RawSafetensors file(workspace / "model/model.safetensors");
  for (const auto& [name, tensor] : file.header.items())
    EXPECT_TRUE(name == "__metadata__" || tensor.at("dtype") == "BF16") << name;
}

// ---- the verbs that report ----

class Reports : public testing::Test {
 protected:
  Reports() {
    workspace_.chat_model();
    workspace_.chat_data(6, "data.jsonl", "test");
  }
  Workspace workspace_;
};

TEST_F(Reports, InspectCountsParametersByGroup) {
  const auto row = workspace_.succeed({"inspect", "model", "--json", "--tensors"}).json();
  expect_keys(row, {"config", "groups", "parameters", "active_parameters", "weights"});
  std::int64_t elements = 0;
  for (const auto& t : row["weights"]["tensors"]) {
    std::int64_t n = 1;
    for (const auto& d : t.at("shape")) n *= d.get<std::int64_t>();
    elements += n;
  }
  EXPECT_EQ(row["parameters"], elements);
  EXPECT_LT(row["active_parameters"], row["parameters"]);
  EXPECT_EQ(row["config"]["model_type"], "qwen3_moe");
  EXPECT_EQ(row["weights"]["shards"], Json({"model.safetensors"}));
}

TEST(InspectVerb, CountsAHeadThatIsStoredAlthoughConfigTiesIt) {
  Workspace workspace;
  workspace.golden("llama-tied-stored-different");
  const auto row = workspace.succeed({"inspect", "model", "--json"}).json();
  EXPECT_EQ(row["config"]["tied"], false);
  EXPECT_EQ(row["parameters"], row["weights"]["elements_by_dtype"]["BF16"]);
}

TEST_F(Reports, InspectReadsAConfigurationAlone) {
  const auto row = workspace_.succeed({"inspect", "model-config", "--json"}).json();
  EXPECT_FALSE(row.contains("weights"));
  EXPECT_EQ(row["parameters"], workspace_.succeed({"inspect", "model", "--json"}).json()["parameters"]);
}

TEST_F(Reports, DoctorNamesWhatIsUsed) {
  const auto row = workspace_.succeed({"doctor", "--json"}).json();
  expect_keys(row, {"processor", "cores", "instruction_sets", "used", "peak_gflops_f32", "memory_read_gb_s",
                    "libraries"});
  const auto forced = workspace_.hone({"doctor", "--json"}, "export HONE_CPU_ISA=reference;");
  EXPECT_EQ(forced.code, 0);
  EXPECT_EQ(forced.json()["used"], "reference");
}

TEST_F(Reports, EvalOfRandomWeightsIsNearTheLogarithmOfTheVocabulary) {
  const auto row = workspace_.succeed({"eval", "model", "data.jsonl", "--json", "--exact-match"}).json();
  expect_keys(row, {"loss", "perplexity", "rows", "tokens", "supervised", "exact_match", "asked"});
  EXPECT_NEAR(row["loss"].get<double>(), std::log(768.0), 0.3);
  EXPECT_NEAR(row["perplexity"].get<double>(), std::exp(row["loss"].get<double>()), 0.1);
  EXPECT_EQ(row["rows"], 6);
}

TEST_F(Reports, ExactMatchEndsEveryAnswerByItself) {
  // Two rows of one prompt and the model's own answer to it, one cut short: what ends that one is in the
  // midst of the other.
  const auto made =
      workspace_.succeed({"generate", "model", "--prompt", "all logs", "--max-new-tokens", "6", "--json"})
          .json();
  std::string rows;
  ASSERT_GE(made["ids"].size(), 3U);
  for (const std::size_t length : {made["ids"].size(), std::size_t{2}}) {
    Json ids = made["prompt_ids"];
    Json labels = Json::array();
    for (std::size_t i = 0; i < ids.size(); ++i) labels.push_back(-100);
    for (std::size_t i = 0; i < length; ++i) {
      ids.push_back(made["ids"][i]);
      labels.push_back(made["ids"][i]);
    }
    rows += Json{{"input_ids", ids}, {"labels", labels}}.dump() + "\n";
  }
  write(workspace_ / "data.jsonl", rows);
  const auto row = workspace_.succeed({"eval", "model", "data.jsonl", "--json", "--exact-match"}).json();
  EXPECT_EQ(row["asked"], 2);
  EXPECT_EQ(row["exact_match"], 1.0);
}

TEST_F(Reports, EvalOfNothingSupervisedIsAnError) {
  write(workspace_ / "data.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1, -100]}\n");
  expect_refused(workspace_.hone({"eval", "model", "data.jsonl"}), {"data.jsonl", "no token is supervised"});
}

TEST_F(Reports, CheckCountsWhatTrainingWouldSee) {
  const auto row = workspace_.succeed({"check", "model", "data.jsonl", "--json"}).json();
  EXPECT_EQ(row.at("rows"), 6) << row.dump();
  const auto eval = workspace_.succeed({"eval", "model", "data.jsonl", "--json"}).json();
  EXPECT_EQ(row.at("tokens"), eval.at("tokens"));
}

TEST_F(Reports, CheckOfARecipeTakesItsKeysAndFlags) {
  write(workspace_ / "r.yaml",
        "model: {path: model}\ndata: {train: data.jsonl, packing: true}\noutput: out\n");
  const auto packed = workspace_.succeed({"check", "r.yaml", "--json"}).json();
  EXPECT_LT(packed.at("packs"), packed.at("examples")) << packed.dump();
  const auto unpacked = workspace_.succeed({"check", "r.yaml", "data.packing=false", "--json"}).json();
  EXPECT_EQ(unpacked.at("packs"), unpacked.at("examples"));
  EXPECT_EQ(workspace_.succeed({"check", "r.yaml", "--no-packing", "--json"}).json(), unpacked);
  expect_refused(workspace_.hone({"check", "r.yaml", "data.packng=false"}), {"data.packng", "data.packing"});
  expect_refused(workspace_.hone({"check", "model"}), {"model", "train.jsonl"});
}

TEST_F(Reports, CheckReadsARecipesEvaluationDataToo) {
  write(workspace_ / "eval.jsonl", "{\"input_ids\": [3, 4, 5], \"loss_mask\": [0, 0, 1], \"weight\": 2}\n");
  write(workspace_ / "r.yaml",
        "model: {path: model}\ndata: {train: data.jsonl, eval: eval.jsonl}\noutput: out\n");
  const auto json = workspace_.succeed({"check", "r.yaml", "--json"}).json();
  EXPECT_EQ(json.at("rows"), 6);
  EXPECT_EQ(json.at("eval").at("supervised"), 1);
  const auto& weights = json.at("eval").at("findings").at(1);
  EXPECT_EQ(weights.at("kind"), "weights");
  EXPECT_EQ(weights.at("least"), 2);
  EXPECT_EQ(weights.at("largest"), 2);
  const auto eval = workspace_.succeed({"eval", "model", "eval.jsonl", "--json"}).json();
  EXPECT_EQ(eval.at("supervised"), 1);
  EXPECT_EQ(eval.at("loss_weight"), 2);
  const auto text = workspace_.succeed({"check", "r.yaml", "--show", "0"}).out;
  EXPECT_NE(text.find("eval: "), std::string::npos);
  EXPECT_NE(text.find("eval.jsonl:1"), std::string::npos) << text;
}

TEST_F(Reports, CheckShowsTheMasks) {
  write(workspace_ / "data.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"all logs\"}, {\"role\": \"assistant\", "
        "\"content\": \"ls *.log\"}]}\n");
  const auto outcome = workspace_.succeed({"check", "model", "data.jsonl"});
  EXPECT_NE(outcome.out.find("«ls *.log<|im_end|>»"), std::string::npos) << outcome.out;
}

TEST_F(Reports, GenerateIsGreedyUnlessAsked) {
  const std::vector<std::string> args{"generate",         "model", "--prompt", "all logs",
                                      "--max-new-tokens", "6",     "--json"};
  const auto first = workspace_.succeed(args).json();
  expect_keys(first, {"text", "ids", "prompt_ids"});
  EXPECT_LE(first["ids"].size(), 6U);
  EXPECT_GT(first["prompt_ids"].size(), 5U);
  EXPECT_EQ(workspace_.succeed(args).json(), first);
}

TEST_F(Reports, SamplingIsAFunctionOfTheSeed) {
  const auto sample = [&](const std::string& seed) {
    return workspace_
        .succeed({"generate", "model", "--prompt", "all logs", "--max-new-tokens", "12", "--json",
                  "--temperature", "1", "--seed", seed})
        .json()
        .at("ids");
  };
  EXPECT_EQ(sample("1"), sample("1"));
  EXPECT_NE(sample("1"), sample("2"));
}

TEST_F(Reports, BenchStepEndsWithOneObjectOfMedians) {
  for (const std::string dtype : {"f32", "bf16"}) {
    const auto row = workspace_
                         .succeed({"bench", "step", "model-config", "--batch", "2", "--seq", "32", "--dtype",
                                   dtype, "--steps", "3", "--threads", "1", "--json"})
                         .json();
    expect_keys(row, {"peak_above_weights_mib", "fraction_of_peak"});
    for (const std::string key :
         {"fwd_ms", "bwd_ms", "opt_ms", "step_ms", "tok_s", "gemm_peak_gflops", "least_ms", "speed_of_light"})
      EXPECT_GT(row.at(key).get<double>(), 0) << key;
  }
}

TEST_F(Reports, BenchStepProfilesEverySlotThatAStepCalls) {
  const auto row = workspace_
                       .succeed({"bench", "step", "model-config", "--batch", "2", "--seq", "32", "--steps",
                                 "3", "--profile", "--json"})
                       .json();
  std::set<std::string> slots;
  for (const auto& slot : row.at("slots")) {
    slots.insert(slot.at("slot").get<std::string>());
    EXPECT_GE(slot.at("calls").get<double>(), 1) << slot;  // in each of the steps
    EXPECT_GT(slot.at("ms").get<double>(), 0) << slot;
  }
  for (const std::string slot : {"matmul", "attention", "attention_grad", "linear_cross_entropy", "adamw"})
    EXPECT_TRUE(slots.contains(slot)) << slot;
}

/// hone bench step --dry of the shape in small, and what it says.
class BenchDry : public Reports {
 protected:
  Json dry(const std::vector<std::string>& more = {}, const std::string& seq = "128") const {
    std::vector<std::string> args{"bench", "step",  "model-config", "--seq", seq,     "--device",
                                  "cuda",  "--dry", "--dtype",      "bf16",  "--json"};
    args.insert(args.end(), more.begin(), more.end());
    return workspace_.succeed(args).json();
  }
};

TEST_F(BenchDry, SaysWhereTheTimeWouldGo) {
  const auto row = dry();
  expect_keys(row, {"modelled",
                    "card",
                    "model_type",
                    "parameters",
                    "dtype",
                    "fp8",
                    "batch",
                    "seq",
                    "fwd_ms",
                    "bwd_ms",
                    "opt_ms",
                    "step_ms",
                    "tok_s",
                    "least_ms",
                    "speed_of_light",
                    "gap_ms",
                    "launches",
                    "peak_gib",
                    "memory_gib",
                    "counts_scratch",
                    "slots",
                    "paths",
                    "hidden_at_best_ms",
                    "weight_gradients"});
  EXPECT_EQ(row["modelled"], true);
  EXPECT_EQ(row["card"]["name"], "H200");
  const auto number = [](const Json& of, const std::string& key) { return of.at(key).get<double>(); };
  const double step = number(row, "step_ms");
  EXPECT_NEAR(number(row, "fwd_ms") + number(row, "bwd_ms") + number(row, "opt_ms"), step, 1e-9 * step);
  double gap = 0;
  for (const auto& [part, ms] : row["gap_ms"].items()) gap += ms.get<double>();
  EXPECT_NEAR(number(row, "least_ms") + gap, step, 1e-9 * step);
  EXPECT_NEAR(number(row, "tok_s"), 128e3 / step, 1e-6 * number(row, "tok_s"));
  double slots = 0, launches = 0, share = 0;
  std::set<std::string> names, paths;
  for (const auto& slot : row["slots"]) {
    expect_keys(slot,
                {"slot", "path", "calls", "launches", "ms", "share", "least_ms", "gflop", "gb", "rate_ms",
                 "rounding_ms", "more_work_ms", "launches_ms", "forward_ms", "backward_ms", "optimizer_ms"});
    slots += number(slot, "ms");
    share += number(slot, "share");
    launches += number(slot, "launches");
    EXPECT_GE(number(slot, "ms"), number(slot, "least_ms")) << slot;
    names.insert(slot["slot"].get<std::string>());
    paths.insert(slot["path"].get<std::string>());
  }
  EXPECT_NEAR(slots, step, 1e-9 * step);
  EXPECT_NEAR(share, 1, 1e-9);
  EXPECT_EQ(launches, number(row, "launches"));
  for (const std::string slot :
       {"matmul", "attention", "attention_grad", "experts_grad", "linear_cross_entropy", "adamw"})
    EXPECT_TRUE(names.contains(slot)) << slot;
  std::set<std::string> explained;
  for (const auto& path : row["paths"]) explained.insert(path["path"].get<std::string>());
  EXPECT_EQ(explained, paths);
  double memory = 0;
  for (const auto& [purpose, gib] : row["memory_gib"].items()) memory += gib.get<double>();
  EXPECT_NEAR(memory, number(row, "peak_gib"), 1e-9);

  const auto text =
      workspace_.succeed({"bench", "step", "model-config", "--seq", "128", "--device", "cuda", "--dry"}).out;
  EXPECT_NE(text.find("modelled, not measured"), std::string::npos);
  EXPECT_NE(text.find("ms are beyond the least: "), std::string::npos);
  EXPECT_EQ(text.find("updates run beside backward"), std::string::npos);
  EXPECT_EQ(number(row, "hidden_at_best_ms"), 0);
  const auto beside = workspace_
                          .succeed({"bench", "step", "model-config", "--seq", "128", "--device", "cuda",
                                    "--dry", "--as-ready"})
                          .out;
  EXPECT_NE(beside.find("updates run beside backward"), std::string::npos) << beside;
}

TEST_F(BenchDry, FollowsWhatIsAskedFor) {
  const auto number = [](const Json& of, const std::string& key) { return of.at(key).get<double>(); };
  const auto plain = dry();
  EXPECT_GT(number(dry({"--card", "H100"}), "step_ms"), number(plain, "step_ms")) << "whose memory is slower";
  const auto again = dry({"--recompute"});
  EXPECT_GT(number(again, "bwd_ms"), number(plain, "bwd_ms"));
  EXPECT_NEAR(number(again, "fwd_ms"), number(plain, "fwd_ms"), 0.01 * number(plain, "fwd_ms"));
  EXPECT_LT(number(again["memory_gib"], "activations"), number(plain["memory_gib"], "activations"));
  const auto small = dry({"--state", "8bit", "--master", "bf16"});
  EXPECT_LT(number(small["memory_gib"], "optimizer"), 0.5 * number(plain["memory_gib"], "optimizer"));
  const auto ready = dry({"--as-ready"});
  EXPECT_EQ(number(ready["memory_gib"], "gradients"), 0);
  EXPECT_NEAR(number(ready, "bwd_ms"), number(plain, "bwd_ms"), 0.01 * number(plain, "bwd_ms"));
  EXPECT_GE(number(ready, "opt_ms"), number(plain, "opt_ms")) << "the same updates, wherever they are made";
  const auto beside = dry({"--weight-gradients", "beside"});
  EXPECT_EQ(beside["weight_gradients"], "beside");
  EXPECT_EQ(number(beside, "step_ms"), number(plain, "step_ms")) << "one after another";
  EXPECT_GT(number(dry({"--batch", "64"}), "tok_s"), 10 * number(plain, "tok_s")) << "launches are shared";
  const auto in_fp8 = dry({"--fp8"});
  EXPECT_EQ(in_fp8["fp8"], true);
  EXPECT_GT(number(in_fp8, "launches"), number(plain, "launches")) << "operands are coded";
  EXPECT_LE(number(in_fp8, "least_ms"), number(plain, "least_ms"));
}

TEST_F(BenchDry, RefusesWhatItDoesNotKnow) {
  const auto refused = [&](std::vector<std::string> more) {
    std::vector<std::string> args{"bench", "step", "model-config", "--dry"};
    args.insert(args.end(), more.begin(), more.end());
    const auto outcome = workspace_.hone(args);
    EXPECT_EQ(outcome.code, 2);
    return outcome.message();
  };
  EXPECT_NE(refused({"--device", "cuda", "--card", "H20"})
                .find("unknown card 'H20'; did you mean 'H200'?; known: H200, "),
            std::string::npos);
  EXPECT_NE(refused({"--device", "cpu"}).find("--dry models NVIDIA cards: add --device cuda"),
            std::string::npos);
}

TEST(Help, ListsTheVerbsAndTheRecipe) {
  const Workspace workspace;
  const auto all = workspace.succeed({"--help"}).out;
  for (const std::string verb :
       {"train", "generate", "eval", "check", "tokenize", "logits", "inspect", "init", "bench", "doctor"})
    EXPECT_NE(all.find("  " + verb), std::string::npos) << verb;
  const auto train = workspace.succeed({"train", "--help"}).out;
  for (const std::string key : {"\n  model:\n    path ", "\n    overlong ", "\n  train.optimizer:\n",
                                "\n    min_lr_ratio ", "output"})
    EXPECT_NE(train.find(key), std::string::npos) << key;
}

}  // namespace
}  // namespace hone::test
