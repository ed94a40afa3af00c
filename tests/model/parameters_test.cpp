#include "model/parameters.h"

#include <gtest/gtest.h>

namespace hone::model {
namespace {

ParameterSet random_matrix(ops::Context& context, std::optional<std::int64_t> drawn) {
  ParameterSet parameters(context, {{.name = "w", .shape = Shape{7, 11}, .role = Role::kDense}}, DType::kF32);
  parameters.initialize(context, DecoderSpec{}, 5, drawn);
  return parameters;
}

TEST(RandomWeights, AreAFunctionOfSeedAndNameOfWhichTheFirstMayBeRepeated) {
  ops::Context context;
  const auto all = random_matrix(context, std::nullopt);
  const auto whole = all.value("w").span<float>();
  EXPECT_NE(whole[0], whole[5]);
  for (const std::int64_t drawn : {1, 5, 40, 77, 1000}) {
    const auto some = random_matrix(context, drawn);
    const auto repeated = some.value("w").span<float>();
    for (std::size_t i = 0; i < repeated.size(); ++i)
      ASSERT_EQ(repeated[i], whole[i % static_cast<std::size_t>(drawn)]) << drawn << ": " << i;
  }
}

}  // namespace
}  // namespace hone::model
