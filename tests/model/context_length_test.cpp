// How long a document may be, for every kind of rope.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/spec.h"

namespace hone::model {
namespace {

DecoderSpec spec_of(const std::string& type, std::int64_t max_positions, std::int64_t original = 0,
                    double factor = 1) {
  DecoderSpec spec;
  spec.max_positions = max_positions;
  spec.ropes.front().type = type;
  spec.ropes.front().max_positions = max_positions;
  spec.ropes.front().original_max_positions = original;
  spec.ropes.front().factor = factor;
  return spec;
}

TEST(ContextLength, IsMaxPositionsWhereTheRopeIsNotStretched) {
  EXPECT_EQ(spec_of("default", 4096).context_length(), 4096);
}

TEST(ContextLength, FollowsTheStretchWhereTheNumberWasLeftAtTheTrainedLength) {
  EXPECT_EQ(spec_of("yarn", 32768, 32768, 4).context_length(), 131072);  // as Qwen's model cards advise
  EXPECT_EQ(spec_of("longrope", 4096, 4096, 32).context_length(), 131072);
  EXPECT_EQ(spec_of("llama3", 8192, 8192, 8).context_length(), 65536);
  EXPECT_EQ(spec_of("linear", 4096, 0, 2.5).context_length(), 10240);
}

TEST(ContextLength, IsMaxPositionsWhereThatIsMore) {
  EXPECT_EQ(spec_of("yarn", 40960, 4096, 4).context_length(), 40960);
  EXPECT_EQ(spec_of("longrope", 131072, 4096, 1).context_length(), 131072);
  EXPECT_EQ(spec_of("linear", 4096, 0, 0.5).context_length(), 4096);
  EXPECT_EQ(spec_of("llama3", 131072, 8192, 8).context_length(), 131072);  // Llama 3.1
}

// Llama 3.2 1B: 8,192 x 32 is more than the 131,072 that it was trained for.
TEST(ContextLength, OfLlama3IsWhatItWasTrainedFor) {
  EXPECT_EQ(spec_of("llama3", 131072, 8192, 32).context_length(), 131072);
}

// Gemma 3 4B: 131,072, which the factor 8 has stretched to already.
TEST(ContextLength, IsMaxPositionsWhereThoseAreStretched) {
  DecoderSpec spec = spec_of("linear", 131072, 0, 8);
  spec.max_positions_are_stretched = true;
  EXPECT_EQ(spec.context_length(), 131072);
}

TEST(ContextLength, IsAnyWhereTheBaseGrows) {
  EXPECT_GE(spec_of("dynamic", 2048, 0, 2).context_length(), std::int64_t{1} << 31);
}

TEST(ContextLength, OfAnAbsurdFactorDoesNotOverflow) {
  EXPECT_EQ(spec_of("yarn", 32768, 32768, 1e300).context_length(), std::int64_t{1} << 31);
}

std::string refusal(const DecoderSpec& spec, std::int64_t tokens) {
  try {
    check_context(spec, tokens, "rows.jsonl:1: it");
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUser);
    return e.what();
  }
  return "";
}

TEST(ContextLength, IsRefusedWithWhatSaysSo) {
  using testing::AllOf;
  using testing::HasSubstr;
  EXPECT_EQ(refusal(spec_of("default", 128), 128), "");
  EXPECT_THAT(refusal(spec_of("default", 128), 129),
              AllOf(HasSubstr("rows.jsonl:1: it, longer than the model's context of 128 tokens"),
                    HasSubstr("(max_position_embeddings)"), HasSubstr("rope_parameters can stretch it")));
  EXPECT_EQ(refusal(spec_of("yarn", 128, 128, 4), 512), "");
  EXPECT_THAT(refusal(spec_of("yarn", 128, 128, 4), 513),
              AllOf(HasSubstr("512 tokens"), HasSubstr("original_max_position_embeddings 128 x factor 4"),
                    HasSubstr("rope_type yarn")));
}

}  // namespace
}  // namespace hone::model
