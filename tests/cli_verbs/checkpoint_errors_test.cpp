// Checkpoints that are not what they say: one clear line, exit code 2, nothing written.
#include "tests/cli_verbs/program.h"

namespace hone::test {
namespace {

/// A golden checkpoint to be spoilt, and `hone logits` run on it.
class BadCheckpoint : public testing::Test {
 protected:
  BadCheckpoint() {
    workspace_.golden("qwen3_moe-default");
    write(workspace_ / "rows.jsonl", "{\"input_ids\": [1, 2, 3]}\n");
  }

  /// Spoils the header of model.safetensors.
  template <typename Change>
  void change_header(Change&& change) {
    RawSafetensors file(weights());
    change(file.header);
    file.save(weights());
  }
  void change_config(const std::string& key, const Json& value) {
    auto config = Json::parse(read(config_path()));
    config[key] = value;
    write(config_path(), config.dump(1));
  }
  void expect_logits_refused(const std::vector<std::string>& parts) {
    const auto before = workspace_.files();
    expect_refused(workspace_.hone({"logits", "model", "--ids", "rows.jsonl", "--out", "out.safetensors"}),
                   parts);
    EXPECT_EQ(workspace_.files(), before);
  }
  Path weights() const { return workspace_ / "model/model.safetensors"; }
  Path config_path() const { return workspace_ / "model/config.json"; }

  Workspace workspace_;
};

constexpr const char* kNorm = "model.norm.weight";

TEST_F(BadCheckpoint, TruncatedFile) {
  std::filesystem::resize_file(weights(), std::filesystem::file_size(weights()) - 100);
  expect_logits_refused({"model.safetensors", "cut short"});
}

TEST_F(BadCheckpoint, TruncatedInTheHeader) {
  std::filesystem::resize_file(weights(), 100);
  expect_logits_refused({"model.safetensors"});
}

TEST_F(BadCheckpoint, EmptyFile) {
  write(weights(), "");
  expect_logits_refused({"model.safetensors"});
}

TEST_F(BadCheckpoint, HeaderLengthBeyondTheFile) {
  std::string bytes = read(weights());
  const std::uint64_t lie = ~std::uint64_t{0};
  std::memcpy(bytes.data(), &lie, sizeof lie);
  write(weights(), bytes);
  expect_logits_refused({"model.safetensors", "18446744073709551615"});
}

TEST_F(BadCheckpoint, HeaderThatIsNotJson) {
  std::string bytes = read(weights());
  bytes[8] = '[';
  write(weights(), bytes);
  expect_logits_refused({"model.safetensors"});
}

TEST_F(BadCheckpoint, OffsetsBeyondTheData) {
  change_header([](Json& h) { h[kNorm]["data_offsets"] = {0, 1000000000}; });
  expect_logits_refused({"model.safetensors", "1000000000"});
}

TEST_F(BadCheckpoint, OffsetsThatDisagreeWithTheShape) {
  change_header([](Json& h) { h[kNorm]["shape"] = {33}; });
  expect_logits_refused({"model.safetensors", kNorm, "33"});
}

TEST_F(BadCheckpoint, ShapeThatOverflows) {
  change_header([](Json& h) { h[kNorm]["shape"] = {std::int64_t{1} << 40, std::int64_t{1} << 40, 16}; });
  expect_logits_refused({"model.safetensors", kNorm});
}

TEST_F(BadCheckpoint, NegativeDimension) {
  change_header([](Json& h) { h[kNorm]["shape"] = {-32}; });
  expect_logits_refused({"model.safetensors", kNorm});
}

TEST_F(BadCheckpoint, UnknownDtype) {
  change_header([](Json& h) { h[kNorm]["dtype"] = "F33"; });
  expect_logits_refused({"model.safetensors", kNorm, "F33", "F32"});
}

TEST_F(BadCheckpoint, WrongShapeNamesTheExpectedOne) {
  change_header([](Json& h) { h[kNorm]["shape"] = {4, 8}; });
  expect_logits_refused({"model.safetensors", kNorm, "4, 8", "32"});
}

TEST_F(BadCheckpoint, MissingTensorNamesFileAndShape) {
  change_header([](Json& h) {
    h["model.norms.weight"] = h[kNorm];
    h.erase(kNorm);
  });
  expect_logits_refused({"model.safetensors", "model.norm.weight is missing", "(32)"});
}

TEST_F(BadCheckpoint, TensorThatTransformersWouldComputeWith) {
  // A bias beside weights whose config says that there is none: passing it through would drop it silently.
  change_header([](Json& h) {
    h["model.layers.0.self_attn.q_proj.bias"] = {{"dtype", "F32"}, {"shape", {0}}, {"data_offsets", {0, 0}}};
  });
  expect_logits_refused({"model.layers.0.self_attn.q_proj.bias", "model.safetensors"});
}

TEST_F(BadCheckpoint, MissingShard) {
  std::filesystem::remove_all(workspace_ / "model");
  workspace_.golden("qwen3_moe-sharded");
  std::string shard;
  for (const auto& [name, bytes] : workspace_.files("model"))
    if (name.starts_with("model-00002")) shard = name;
  ASSERT_FALSE(shard.empty());
  std::filesystem::remove(workspace_ / ("model/" + shard));
  expect_logits_refused({shard});
}

TEST_F(BadCheckpoint, NoWeights) {
  std::filesystem::remove(weights());
  expect_logits_refused({"model.safetensors"});
}

TEST_F(BadCheckpoint, NoSuchDirectory) {
  std::filesystem::remove_all(workspace_ / "model");
  expect_logits_refused({"model", "no such directory", "hf download"});
}

TEST_F(BadCheckpoint, WeightsInPlaceOfTheirDirectory) {
  expect_refused(workspace_.hone({"inspect", "model/model.safetensors"}),
                 {"model.safetensors", "is a file", "directory"});
}

TEST_F(BadCheckpoint, RootOfTheHubsCache) {
  std::filesystem::create_directories(workspace_ / "models--a--b/snapshots");
  expect_refused(workspace_.hone({"inspect", "models--a--b"}), {"models--a--b", "snapshots/"});
}

TEST_F(BadCheckpoint, LinksToNothing) {
  for (const auto* name : {"config.json", "model.safetensors"}) {
    Workspace workspace;
    workspace.golden("qwen3_moe-default");
    const Path path = workspace / ("model/" + std::string(name));
    std::filesystem::remove(path);
    std::filesystem::create_symlink("../../blobs/0123", path);
    write(workspace / "rows.jsonl", "{\"input_ids\": [1, 2, 3]}\n");
    expect_refused(workspace.hone({"logits", "model", "--ids", "rows.jsonl", "--out", "out.safetensors"}),
                   {name, "blobs/0123", "does not exist"});
  }
}

TEST_F(BadCheckpoint, NumbersThatMakeNoSense) {
  const std::vector<std::pair<std::string, Json>> wrong{{"rms_norm_eps", -1e-6},
                                                        {"rms_norm_eps", 1e300},
                                                        {"initializer_range", -0.02},
                                                        {"router_aux_loss_coef", 1e300},
                                                        {"num_hidden_layers", std::int64_t{1} << 31},
                                                        {"num_experts", std::int64_t{1} << 31},
                                                        {"vocab_size", std::int64_t{1} << 40}};
  const std::string good = read(config_path());
  for (const auto& [key, value] : wrong) {
    if (key == "num_experts") change_config("num_local_experts", value);
    change_config(key, value);
    expect_logits_refused({"config.json", key, value.dump()});
    write(config_path(), good);
  }
}

TEST_F(BadCheckpoint, WindowOfNoTokens) {
  change_config("sliding_window", 0);  // as long as it is not used, nobody minds
  EXPECT_EQ(workspace_.hone({"inspect", "model"}).code, 0);
  change_config("use_sliding_window", true);
  expect_logits_refused({"config.json", "sliding_window", "0", "null"});
}

TEST_F(BadCheckpoint, ClippingToNothing) {
  std::filesystem::remove_all(workspace_ / "model");
  workspace_.golden("olmoe-clip");
  change_config("clip_qkv", 0.0);
  expect_logits_refused({"config.json", "clip_qkv", "0.0"});
}

TEST_F(BadCheckpoint, UnknownModelTypeListsTheKnown) {
  change_config("model_type", "gpt_neox");
  expect_logits_refused({"config.json", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "mixtral",
                         "qwen2_moe", "qwen3_moe", "olmoe"});
}

TEST_F(BadCheckpoint, MisspeltModelTypeNamesTheNearest) {
  change_config("model_type", "qwen3moe");
  expect_logits_refused({"config.json", "model_type", "qwen3moe", "qwen3_moe"});
}

TEST_F(BadCheckpoint, ModelTypeOfTheWrongType) {
  change_config("model_type", 3);
  expect_logits_refused({"config.json", "model_type"});
}

TEST_F(BadCheckpoint, UnknownRopeType) {
  change_config("rope_parameters", {{"rope_type", "spiral"}, {"rope_theta", 10000.0}});
  expect_logits_refused({"config.json", "rope_type", "spiral", "yarn"});
}

// What hone does not run can be inspected, and what it would take to train it is said, all the same.
TEST_F(BadCheckpoint, InspectDescribesWhatIsNotRun) {
  const auto inspect = [&] { return workspace_.succeed({"inspect", "model", "--json"}).json(); };
  const std::string good = read(config_path());
  const Json whole = inspect();
  EXPECT_TRUE(whole["refusals"].empty());

  change_config("hidden_act", "mish");
  expect_logits_refused({"config.json", "hidden_act", "mish"});
  Json row = inspect();
  EXPECT_THAT(row["refusals"].dump(), testing::HasSubstr("hidden_act"));
  for (const char* key : {"parameters", "memory", "weights"}) EXPECT_EQ(row[key], whole[key]) << key;

  const Json plain = Json::parse(good);
  Json nested{{"model_type", "some_vision_model"}, {"text_config", plain}, {"vision_config", Json::object()}};
  write(config_path(), nested.dump());
  expect_logits_refused({"config.json", "text_config", "some_vision_model"});
  row = inspect();
  EXPECT_EQ(row["config"], whole["config"]);
  EXPECT_EQ(row["memory"], whole["memory"]);
  EXPECT_EQ(row["unknown_config_keys"], whole["unknown_config_keys"]);

  write(config_path(), Json{{"model_type", "gpt_neox"}, {"hidden_size", 64}}.dump());
  row = inspect();
  EXPECT_EQ(row["config"]["model_type"], "gpt_neox");
  EXPECT_EQ(row["weights"], whole["weights"]);
  EXPECT_FALSE(row.contains("memory"));
  EXPECT_THAT(workspace_.succeed({"inspect", "model"}).out, testing::HasSubstr("gpt_neox"));
}

// Noise that Transformers adds in training alone is left out, and the start card says so.
TEST_F(BadCheckpoint, NoiseIsLeftOutByName) {
  change_config("attention_dropout", 0.1);
  EXPECT_THAT(workspace_.succeed({"inspect", "model"}).out,
              testing::HasSubstr("attention_dropout 0.1: not applied"));
  std::filesystem::remove_all(workspace_ / "model");
  workspace_.golden("mixtral-default");
  change_config("router_jitter_noise", 0.25);
  EXPECT_EQ(workspace_.succeed({"inspect", "model", "--json"}).json()["left_out"],
            Json({"router_jitter_noise 0.25: not applied, hone trains without noise"}));
}

TEST_F(BadCheckpoint, ConfigThatIsNotJsonNamesTheLine) {
  write(config_path(), "{\n  \"model_type\": \"llama\",\n  \"hidden_size\" 3\n}\n");
  expect_logits_refused({"config.json:3"});
}

TEST_F(BadCheckpoint, ConfigValueOfTheWrongType) {
  change_config("hidden_size", "32");
  expect_logits_refused({"config.json", "hidden_size"});
}

TEST_F(BadCheckpoint, HeadsThatDoNotDivide) {
  change_config("num_key_value_heads", 3);
  expect_logits_refused({"config.json", "num_key_value_heads", "3"});
}

}  // namespace
}  // namespace hone::test
