// Keys with digits in them.
#include "hub/key_pattern.h"

#include "tests/hub/support.h"

namespace hone::hub {
namespace {

using test::is_internal_error;

TEST(KeyPattern, MatchesDigitsAndFillsThemIn) {
  const KeyPattern pattern("model.layers.{l}.mlp.experts.{e}.w1.weight");
  const auto captures = pattern.match("model.layers.12.mlp.experts.0.w1.weight");
  ASSERT_TRUE(captures);
  EXPECT_EQ(captures->at("l"), "12");
  EXPECT_EQ(captures->at("e"), "0");
  EXPECT_EQ(KeyPattern("{e}/{l}").expand(*captures), "0/12");
  for (const char* other :
       {"model.layers..mlp.experts.0.w1.weight", "model.layers.x.mlp.experts.0.w1.weight",
        "model.layers.1.mlp.experts.0.w1.weights", "a.model.layers.1.mlp.experts.0.w1.weight",
        "model.layers.1.mlp.experts.0.w1", "model.layers.1.mlp.experts.-1.w1.weight", ""})
    EXPECT_FALSE(pattern.match(other)) << other;
  EXPECT_TRUE(KeyPattern("{a}.{a}").match("7.7"));
  EXPECT_FALSE(KeyPattern("{a}.{a}").match("7.8"));
  EXPECT_TRUE(KeyPattern("lm_head.weight").match("lm_head.weight"));
  for (const char* wrong : {"{", "a{b", "}", "a{}b", "{a}{b}", "a}{b}"})
    EXPECT_TRUE(is_internal_error([&] { KeyPattern pattern_(wrong); })) << wrong;
  EXPECT_TRUE(is_internal_error([&] { (void)pattern.expand({}); }));
}

TEST(KeyPattern, NaturalOrderCountsNumbers) {
  const std::vector<std::string> sorted{"",        "lm_head.weight", "m.2.a",      "m.10.a",
                                        "m.10.b",  "m.10.b.c",       "m.0010.c",   "m.a.1",
                                        "m.a1.10", "m.a10.2",        "model.norm", "model.norm.x"};
  for (std::size_t i = 0; i < sorted.size(); ++i)
    for (std::size_t j = 0; j < sorted.size(); ++j)
      EXPECT_EQ(natural_key_less(sorted[i], sorted[j]), i < j) << sorted[i] << " " << sorted[j];
}

}  // namespace
}  // namespace hone::hub
