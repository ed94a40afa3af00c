// Every tokenizer of tests/data/tokenizers against what the `tokenizers` library made of the same texts and
// ids (tools/goldens/make_tokenizer_goldens.py): all must be equal, ids, offsets and decoded text.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "text/tokenizer.h"
#include "text/unicode.h"

namespace hone::text {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;
using Json = nlohmann::json;

const fs::path kTokenizers = fs::path(HONE_TEST_DATA) / "tokenizers";

Json read_json(const fs::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  return Json::parse(file);
}

std::vector<std::string> names() {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(kTokenizers)) {
    if (entry.is_directory()) found.push_back(entry.path().filename().string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<std::size_t> flat(const Encoding& encoding) {
  std::vector<std::size_t> out;
  for (const auto& [begin, end] : encoding.offsets) {
    out.push_back(begin);
    out.push_back(end);
  }
  return out;
}

class TokenizerGolden : public testing::TestWithParam<std::string> {
 protected:
  fs::path folder() const { return kTokenizers / GetParam(); }
  std::vector<std::string> texts(const Json& expected) const {
    auto all = read_json(kTokenizers / "texts.json").get<std::vector<std::string>>();
    for (const auto& text : expected.at("own")) all.push_back(text);
    return all;
  }
};

TEST_P(TokenizerGolden, EncodesAsTheLibrary) {
  const Tokenizer tokenizer = Tokenizer::from_file(folder() / "tokenizer.json");
  const Json expected = read_json(folder() / "expected.json");
  const auto all = texts(expected);
  ASSERT_GE(all.size(), 200U);
  ASSERT_EQ(all.size(), expected.at("encoded").size());
  std::size_t with_offsets = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Json& wanted = expected["encoded"][i];
    const Encoding encoding = tokenizer.encode(all[i]);
    ASSERT_EQ(encoding.ids, wanted[0].get<Ids>()) << "text " << i << ": " << all[i];
    ASSERT_EQ(encoding.offsets.size(), encoding.ids.size());
    const Encoding bare = tokenizer.encode(all[i], false);
    ASSERT_EQ(bare.ids, (wanted[1].is_null() ? wanted[0] : wanted[1]).get<Ids>())
        << "text " << i << ": " << all[i];
    if (wanted[2].is_null()) continue;
    ++with_offsets;
    ASSERT_EQ(flat(encoding), wanted[2].get<std::vector<std::size_t>>()) << "text " << i << ": " << all[i];
  }
  EXPECT_GE(with_offsets, 60U);
}

TEST_P(TokenizerGolden, DecodesAsTheLibrary) {
  const Tokenizer tokenizer = Tokenizer::from_file(folder() / "tokenizer.json");
  const Json expected = read_json(folder() / "expected.json");
  ASSERT_GE(expected.at("decoded").size(), 200U);
  for (const Json& entry : expected["decoded"]) {
    const auto ids = entry[0].get<Ids>();
    ASSERT_EQ(tokenizer.decode(ids), entry[1].get<std::string>()) << entry[0];
    ASSERT_EQ(tokenizer.decode(ids, true), entry[2].get<std::string>()) << entry[0];
  }
}

TEST_P(TokenizerGolden, StreamsTheSameTextInWholeCharacters) {
  const Tokenizer tokenizer = Tokenizer::from_file(folder() / "tokenizer.json");
  const Json expected = read_json(folder() / "expected.json");
  const auto check = [&](const Ids& ids, bool skip_special_tokens) {
    StreamDecoder stream(tokenizer, skip_special_tokens);
    std::string text;
    for (const std::int32_t id : ids) {
      const std::string part = stream.push(id);
      ASSERT_EQ(unicode::find_invalid(part), std::string::npos);
      text += part;
    }
    text += stream.finish();
    ASSERT_EQ(text, tokenizer.decode(ids, skip_special_tokens)) << Json(ids);
  };
  for (const Json& entry : expected.at("decoded")) {
    check(entry[0].get<Ids>(), false);
    check(entry[0].get<Ids>(), true);
  }
  for (const Json& entry : expected.at("encoded")) {
    if (entry[0].size() < 400) check(entry[0].get<Ids>(), true);
  }
}

TEST_P(TokenizerGolden, KnowsItsVocabulary) {
  const Tokenizer tokenizer = Tokenizer::from_file(folder() / "tokenizer.json");
  const Json file = read_json(folder() / "tokenizer.json");
  std::int64_t largest = -1;
  for (const auto& [token, id] : file["model"]["vocab"].items()) {
    ASSERT_EQ(tokenizer.token_to_id(token), id.get<std::int32_t>());
    largest = std::max<std::int64_t>(largest, id.get<std::int32_t>());
  }
  for (const AddedToken& token : tokenizer.added_tokens()) {
    ASSERT_EQ(tokenizer.token_to_id(token.content), token.id);
    ASSERT_EQ(tokenizer.is_special(token.id), token.special);
    largest = std::max<std::int64_t>(largest, token.id);
  }
  EXPECT_EQ(tokenizer.id_limit(), largest + 1);
  EXPECT_EQ(tokenizer.vocab_size(), largest + 1);  // none of these has holes
  EXPECT_FALSE(tokenizer.id_to_token(static_cast<std::int32_t>(largest + 1)));
  EXPECT_FALSE(tokenizer.id_to_token(-1));
  EXPECT_FALSE(tokenizer.token_to_id("no such token"));
}

TEST_P(TokenizerGolden, IsTheSameInManyThreads) {
  const Tokenizer tokenizer = Tokenizer::from_file(folder() / "tokenizer.json");
  const Json expected = read_json(folder() / "expected.json");
  const auto all = texts(expected);
  std::vector<Ids> alone;
  for (const auto& text : all) alone.push_back(tokenizer.encode(text).ids);
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < all.size(); ++i) {
        const std::size_t at = (i + t * 37) % all.size();
        if (tokenizer.encode(all[at]).ids != alone[at]) ++wrong[t];
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerGolden, testing::ValuesIn(names()),
                         [](const auto& named) { return named.param; });

TEST(TokenizerGoldens, CoverTheFamilies) {
  EXPECT_GE(names().size(), 18U);
}

TEST(Tokenizer, MergesLongRunsWithoutQuadraticCost) {
  for (const char* name : {"gemma", "llama2", "llama3", "gpt2"}) {
    const Tokenizer tokenizer = Tokenizer::from_file(kTokenizers / name / "tokenizer.json");
    for (const std::string unit : {"a", " ", "ab", "1", "\n"}) {
      std::string text;
      while (text.size() < 300'000) text += unit;  // quadratic time would take hours
      const Encoding encoding = tokenizer.encode(text, false);
      EXPECT_EQ(tokenizer.decode(encoding.ids), text) << name << " " << unit;
      EXPECT_EQ(encoding.offsets.back().second, text.size());
    }
  }
}

}  // namespace
}  // namespace hone::text
