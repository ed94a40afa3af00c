// Rotary frequencies against LlamaRotaryEmbedding of Transformers 5.23, to the last bit but one: a token at
// place 100,000 multiplies what the frequencies were rounded to.
#include "model/rope.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "model/families/family.h"

namespace hone::model {
namespace {

struct Case {
  std::string name;
  RopeSpec spec;
  std::int64_t length;
  std::vector<float> frequencies;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> kCases{
      {"default_",
       {.rotary_dim = 20},
       1,
       {1, 0.398107171F, 0.158489317F, 0.0630957261F, 0.0251188632F, 0.00999999978F, 0.00398107059F,
        0.00158489333F, 0.000630957307F, 0.0002511887F}},
      {"linear",
       {.type = "linear", .theta = 500000, .rotary_dim = 20, .factor = 3},
       1,
       {0.333333343F, 0.0897391066F, 0.0241593197F, 0.00650410727F, 0.00175101857F, 0.000471404492F,
        0.000126910221F, 3.41664454e-05F, 9.19819649e-06F, 2.47631488e-06F}},
      {"dynamic_within",
       {.type = "dynamic", .rotary_dim = 12, .factor = 4, .max_positions = 256},
       256,
       {1, 0.215443447F, 0.046415884F, 0.00999999978F, 0.00215443433F, 0.000464158948F}},
      {"dynamic_beyond",
       {.type = "dynamic", .rotary_dim = 12, .factor = 4, .max_positions = 256},
       1000,
       {1, 0.129743919F, 0.016833486F, 0.00218404294F, 0.000283366244F, 3.67650682e-05F}},
      {"llama3",
       {.type = "llama3", .theta = 500000, .rotary_dim = 24, .factor = 8, .original_max_positions = 512},
       1,
       {1, 0.335031629F, 0.112246193F, 0.0273441337F, 0.00167292845F, 0.000527641852F, 0.000176776681F,
        5.92258002e-05F, 1.98425078e-05F, 6.64786967e-06F, 2.22724748e-06F, 7.46197941e-07F}},
      {"yarn",
       {.type = "yarn",
        .rotary_dim = 20,
        .factor = 40,
        .original_max_positions = 512,
        .beta_fast = 16,
        .truncate = false},
       1,
       {1, 0.398107171F, 0.146550596F, 0.0379068963F, 0.00695530884F, 0.000250000012F, 9.95267692e-05F,
        3.96223331e-05F, 1.57739323e-05F, 6.27971758e-06F}},
      {"longrope",
       {.type = "longrope",
        .rotary_dim = 12,
        .factor = 8,
        .original_max_positions = 512,
        .short_factor = {1, 1.1, 1.2, 1.3, 1.4, 1.5},
        .long_factor = {1, 1.7, 3.1, 5.3, 11.9, 23.7}},
       1000,
       {1, 0.12673144F, 0.0149728656F, 0.00188679248F, 0.000181044903F, 1.95847661e-05F}}};
  return kCases;
}

class Frequencies : public testing::TestWithParam<Case> {};

TEST_P(Frequencies, AreTransformers) {
  const auto& [name, spec, length, expected] = GetParam();
  const auto got = inverse_frequencies(spec, length);
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], expected[i], 1.3e-7 * static_cast<double>(expected[i])) << i;
}

INSTANTIATE_TEST_SUITE_P(Rope, Frequencies, testing::ValuesIn(cases()),
                         [](const auto& named) { return named.param.name; });

// As Transformers 5.23, whose yarn looks for `truncate` in rope_parameters itself.
TEST(Rope, OfALayerTypeIsTruncatedWhateverItSays) {
  const std::string yarn =
      R"({"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "truncate": false,
          "original_max_position_embeddings": 32})";
  const auto truncate = [](const std::string& model_type, const std::string& rope) {
    const std::string config = R"({"model_type": ")" + model_type + R"(", "rope_parameters": )" + rope + "}";
    return find_family(model_type)->spec(hub::ModelConfig::parse(config, "config.json")).ropes.at(0).truncate;
  };
  EXPECT_FALSE(truncate("llama", yarn));
  for (const std::string model_type : {"gemma3_text", "olmo3"})
    EXPECT_TRUE(truncate(model_type, R"({"full_attention": )" + yarn + "}")) << model_type;
}

}  // namespace
}  // namespace hone::model
