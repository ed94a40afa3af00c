// Rows broken at random: every one is either tokenised, with labels that fit, or refused by an Error that
// begins with its place.
#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "data/tokenize.h"
#include "tests/data/support.h"
#include "text/pretrained_tokenizer.h"

namespace hone::data {
namespace {

const std::vector<std::string> kRows{
    R"({"messages": [{"role":"user","content":"Hi"},{"role":"assistant","content":"Yo","weight":1}], "tools": []})",
    R"({"conversations": [{"from":"human","value":"Hi"},{"from":"gpt","value":"<|im_end|>\n ñ"}], "system": "S"})",
    R"({"prompt": [{"role":"user","content":"a"}], "completion": [{"role":"assistant","content":"b"}]})",
    R"({"prompt": "Q: ", "completion": "the A"})",
    R"({"text": "ab\ud83e\udda4c"})",
    R"({"input_ids": [5, 6, 7], "labels": [-100, 6, 9], "attention_mask": [1, 1, 1]})",
    R"({"input_ids": [5, 6, 7], "weights": [0.5, 0, 1e3], "sample_weight": "2", "seq_lengths": [1, 2]})"};

/// A row with a few bytes changed, left out, doubled, or exchanged with a piece of another row.
std::string mutated(const std::string& row, const CounterRng& rng, std::uint64_t& draw) {
  std::string text = row;
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(rng.below(draw++, n)); };
  for (std::size_t n = 1 + below(2); n > 0 && !text.empty(); --n) {
    const std::size_t at = below(text.size());
    const std::size_t length = 1 + below(std::min<std::size_t>(12, text.size() - at));
    switch (below(5)) {
      case 0:
        text[at] = static_cast<char>(below(256));
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, text.substr(at, length));
        break;
      case 3:
        text[at] = "{}[],:\"\\0-e"[below(11)];
        break;
      default: {
        const auto& other = kRows[below(kRows.size())];
        const std::size_t from = below(other.size());
        text.insert(at, other.substr(from, 1 + below(40)));
      }
    }
  }
  return text;
}

TEST(BrokenRows, AreTokenisedOrRefused) {
  const test::TemporaryDirectory dir;
  test::write_tokenizer(dir, "qwen3");
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(dir.path());
  const CounterRng rng(1, RngPurpose::kBench);
  std::uint64_t draw = 0;
  int refused = 0;
  int taken = 0;
  for (int round = 0; round < 6000; ++round) {
    const std::string row = mutated(kRows[static_cast<std::size_t>(round) % kRows.size()], rng, draw);
    const RowTokenizer rows(&tokenizer, {.decode = true, .for_training = round % 2 == 0, .vocab = 500});
    try {
      const auto tokenised = rows.tokenize(row, "f:1");
      ASSERT_EQ(tokenised.ids.size(), tokenised.labels.size()) << row;
      ++taken;
    } catch (const Error& error) {
      ASSERT_TRUE(std::string(error.what()).starts_with("f:1:")) << error.what() << "\n" << row;
      ASSERT_EQ(error.kind(), ErrorKind::kUser) << error.what() << "\n" << row;
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(taken, 300);
}

}  // namespace
}  // namespace hone::data
