// config.json in the spellings of Transformers 4 and 5.
#include "hub/config.h"

#include <limits>

#include "tests/hub/support.h"

namespace hone::hub {
namespace {

using test::error_of;
using test::TemporaryDirectory;
using test::write_text;

ModelConfig parse(const std::string& members) {
  return ModelConfig::parse("{\"model_type\": \"qwen3_moe\"" + (members.empty() ? "" : ", " + members) + "}",
                            "config.json");
}

TEST(ModelConfig, ReadsADirectoryOrAFile) {
  const TemporaryDirectory directory;
  EXPECT_CONTAINS(error_of([&] { ModelConfig::read(directory.path()); }), "no config.json");
  write_text(directory / "config.json", "{\"model_type\": \"llama\"}");
  EXPECT_EQ(ModelConfig::read(directory.path()).model_type(), "llama");
  EXPECT_EQ(ModelConfig::read(directory / "config.json").file(), (directory / "config.json").string());
  write_text(directory / "config.json", "{\"model_type\": \"llama\"");
  EXPECT_CONTAINS(error_of([&] { ModelConfig::read(directory.path()); }), "config.json:1:");
}

TEST(ModelConfig, TellsAbsentFromNull) {
  const auto config =
      parse(R"("sliding_window": null, "n": 3, "f": 2, "s": "x", "b": true, "l": [1, 2], "e": 5)");
  EXPECT_EQ(config.integer_or_null("sliding_window", 4096), std::nullopt);
  EXPECT_EQ(config.integer_or_null("absent", 4096), 4096);
  EXPECT_EQ(config.integer("n"), 3);
  EXPECT_EQ(config.integer("absent", 7), 7);
  EXPECT_EQ(config.number("f"), 2.0);
  EXPECT_EQ(config.number("absent", 0.5), 0.5);
  EXPECT_EQ(config.number_or_null("sliding_window", 1.0), std::nullopt);
  EXPECT_EQ(config.string("s"), "x");
  EXPECT_EQ(config.string("absent", "y"), "y");
  EXPECT_EQ(config.string_or_null("sliding_window", "y"), std::nullopt);
  EXPECT_TRUE(config.boolean("b", false));
  EXPECT_TRUE(config.boolean("absent", true));
  EXPECT_TRUE(config.boolean_or_null("sliding_window", true));
  EXPECT_EQ(config.integers("l"), (std::vector<std::int64_t>{1, 2}));
  EXPECT_TRUE(config.integers("absent").empty());
  EXPECT_EQ(config.integer_or_list("e"), std::vector<std::int64_t>{5});
  EXPECT_EQ(config.integer_or_list("l"), (std::vector<std::int64_t>{1, 2}));
  EXPECT_TRUE(config.integer_or_list("sliding_window").empty());
  EXPECT_FALSE(config.section("absent"));
  EXPECT_TRUE(config.has("sliding_window"));
  EXPECT_FALSE(config.has_value("sliding_window"));
  EXPECT_EQ(error_of([&] { config.integer("sliding_window", 1); }),
            "config.json: sliding_window is null, expected an integer");
  EXPECT_EQ(error_of([&] { config.boolean("n", false); }), "config.json: n is 3, expected true or false");
  EXPECT_EQ(error_of([&] { config.integers("n"); }), "config.json: n is 3, expected a list");
  EXPECT_EQ(error_of([&] { config.section("n"); }), "config.json: n is 3, expected an object");
}

TEST(ModelConfig, SuggestsTheNearestKey) {
  const auto config = parse(R"("num_attention_head": 8)");
  EXPECT_EQ(error_of([&] { config.integer("num_attention_heads"); }),
            "config.json: no key num_attention_heads; did you mean 'num_attention_head'?");
}

TEST(ModelConfig, TakesBothSpellingsUnlessTheyDisagree) {
  const ConfigKey experts{"num_experts", "num_local_experts"};
  EXPECT_EQ(parse(R"("num_experts": 8)").integer(experts), 8);
  EXPECT_EQ(parse(R"("num_local_experts": 8)").integer(experts), 8);
  EXPECT_EQ(parse(R"("num_local_experts": 8, "num_experts": 8)").integer(experts), 8);
  EXPECT_EQ(error_of([&] { parse(R"("num_local_experts": 8, "num_experts": 4)").integer(experts); }),
            "config.json: num_experts is 4 but num_local_experts is 8; they are two names of one setting");
}

TEST(ModelConfig, ReadsTheDtypeInEverySpelling) {
  EXPECT_EQ(parse("").dtype(), std::nullopt);
  EXPECT_EQ(parse(R"("torch_dtype": "bfloat16")").dtype(), DType::kBF16);
  EXPECT_EQ(parse(R"("dtype": "float32", "torch_dtype": "bfloat16")").dtype(), DType::kF32);
  EXPECT_EQ(parse(R"("dtype": null, "torch_dtype": "float16")").dtype(), DType::kF16);
  EXPECT_EQ(parse(R"("torch_dtype": "torch.bfloat16")").dtype(), DType::kBF16);
  EXPECT_EQ(parse(R"("torch_dtype": "auto")").dtype(), std::nullopt);
  EXPECT_CONTAINS(error_of([] { parse(R"("dtype": "float31")").dtype(); }),
                  "config.json: dtype is \"float31\", expected");
}

TEST(ModelConfig, FoldsBothGenerationsOfRope) {
  EXPECT_EQ(parse("").rope().type, "default");
  EXPECT_EQ(parse("").rope().theta, std::nullopt);
  const auto v4 =
      parse(R"("rope_theta": 500000.0, "rope_scaling": {"factor": 8.0, "rope_type": "llama3", "type": "x"})")
          .rope();
  EXPECT_EQ(v4.type, "llama3");
  EXPECT_EQ(v4.theta, 500000.0);
  EXPECT_EQ(v4.parameters->number("factor"), 8.0);
  EXPECT_EQ(parse(R"("rope_scaling": {"type": "linear", "factor": 2})").rope().type, "linear");
  EXPECT_EQ(parse(R"("rope_scaling": null, "rope_theta": 1e6)").rope().theta, 1e6);
  const auto v5 =
      parse(
          R"("rope_parameters": {"rope_theta": 1000000, "rope_type": "yarn", "partial_rotary_factor": 0.5})")
          .rope();
  EXPECT_EQ(v5.type, "yarn");
  EXPECT_EQ(v5.theta, 1e6);
  EXPECT_EQ(v5.partial_rotary_factor, 0.5);
  const auto both =
      parse(
          R"("rope_theta": 1, "rope_parameters": {"rope_theta": 2, "rope_type": "a"}, "rope_scaling": {"type": "b"})")
          .rope();
  EXPECT_EQ(both.type, "b");
  EXPECT_EQ(both.theta, 1.0);
  EXPECT_EQ(parse(R"("rope_parameters": {"rope_type": "a"}, "rope_scaling": {})").rope().type, "a");
  EXPECT_CONTAINS(
      error_of([] { parse(R"("rope_parameters": {"full_attention": {"rope_theta": 1}})").rope(); }),
      "config.json: rope_parameters differs by layer type (full_attention)");
}

TEST(ModelConfig, RopeOfALayerType) {
  const auto config = parse(
      R"("rope_theta": 5, "rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 7}, "other": null})");
  EXPECT_EQ(config.rope_of("full_attention").type, "yarn");
  EXPECT_EQ(config.rope_of("full_attention").theta, 7.0);
  EXPECT_EQ(config.rope_of("other").type, "default");
  EXPECT_EQ(config.rope_of("absent").theta, std::nullopt);
  EXPECT_CONTAINS(
      error_of([] { parse(R"("rope_parameters": {"rope_type": "default"})").rope_of("full_attention"); }),
      "config.json: rope_parameters is for all layers (rope_type)");
}

TEST(ModelConfig, NamesTheKeysNobodyAskedFor) {
  const auto config = parse(R"("hidden_size": 8, "clip_qkv": null, "architectures": ["X"], "use_cache": true,
      "rope_parameters": {"rope_type": "linear", "factor": 2.0, "surprise": 1}, "quantization_config": null,
      "extra": {"a": 1}, "id2label": {"0": "x"})");
  EXPECT_EQ(config.integer("hidden_size"), 8);
  const auto copy = config;  // copies share what was read
  copy.rope().parameters->number("factor");
  EXPECT_EQ(config.unread_keys(),
            (std::vector<std::string>{"clip_qkv", "rope_parameters.surprise", "extra"}));
  config.ignore({"clip_qkv", "absent"});
  EXPECT_TRUE(config.find("extra")->is_object());
  EXPECT_EQ(config.unread_keys(), std::vector<std::string>{"rope_parameters.surprise"});
}

TEST(ModelConfig, RefusesWhatItCannotMean) {
  EXPECT_CONTAINS(error_of([] { ModelConfig::parse("{}", "config.json"); }),
                  "config.json: no key model_type");
  EXPECT_CONTAINS(error_of([] { ModelConfig::parse("[]", "config.json"); }),
                  "config.json: the document is [], expected an object");
  EXPECT_EQ(error_of([] { parse(R"("attention_dropout": 0.1)").refuse("attention_dropout", "not done"); }),
            "config.json: attention_dropout is 0.1: not done");
}

TEST(ModelConfig, SaysWhatItNestsAndHowItIsQuantised) {
  const auto plain = parse("");
  EXPECT_TRUE(plain.nested_models().empty());
  EXPECT_FALSE(plain.text_config());
  EXPECT_FALSE(plain.quantization());
  const auto nested =
      parse(R"("text_config": {"model_type": "x", "use_cache": true, "a": 1}, "vision_config": {})");
  EXPECT_EQ(nested.nested_models(), (std::vector<std::string>{"text_config", "vision_config"}));
  EXPECT_EQ(nested.text_config()->model_type(), "x");
  EXPECT_EQ(nested.text_config()->unread_keys(), std::vector<std::string>{"text_config.a"});
  const auto quantised = parse(R"("quantization_config": {"quant_method": "fp8"})").quantization();
  EXPECT_EQ(quantised->key, "quantization_config");
  EXPECT_EQ(quantised->method, "fp8");
  EXPECT_EQ(quantised->unsupported, "");
}

TEST(ModelConfig, ReadsInfinitiesAsTransformersWritesThem) {
  const auto config = parse(R"("a": {"__float__": "Infinity"}, "b": -Infinity)");
  EXPECT_EQ(config.number("a"), std::numeric_limits<double>::infinity());
  EXPECT_EQ(config.number("b"), -std::numeric_limits<double>::infinity());
}

TEST(ModelConfig, ReadsEveryGoldenCheckpointsConfig) {
  int seen = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(HONE_TEST_DATA) / "golden")) {
    if (!entry.is_directory()) continue;
    const auto config = ModelConfig::read(entry.path());
    EXPECT_GT(config.integer("hidden_size"), 0);
    const auto rope = config.find("rope_parameters");
    if (rope && rope->is_object() && rope->has("full_attention"))  // one for each type of layer
      EXPECT_NO_THROW(config.rope_of("full_attention"));
    else
      EXPECT_NO_THROW(config.rope());
    ++seen;
  }
  EXPECT_GE(seen, 8);
}

}  // namespace
}  // namespace hone::hub
