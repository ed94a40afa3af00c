// Tokenizer directories of many kinds, held against what Transformers' AutoTokenizer makes of them
// (tools/goldens/tokenizer_class_cases.py): classes that overrule tokenizer.json, and the files beside it.
#include "text/tokenizer_class.h"
#include "tests/temporary_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "text/pretrained_tokenizer.h"

namespace hone::text {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;
namespace fs = std::filesystem;

const Json& golden() {
  static const Json kGolden = [] {
    const char* other = std::getenv("HONE_TOKENIZER_CLASSES");  // more cases, made with another seed
    return Json::parse(
        read_file(other != nullptr ? fs::path(other) : fs::path(HONE_TEST_DATA) / "tokenizer_classes.json"));
  }();
  return kGolden;
}

Json tokenizer_of(const Json& test) {
  Json tokenizer = golden()["bases"][test["base"].get<std::string>()];
  tokenizer["added_tokens"] = golden()["added_tokens"][test["changes"]["added_tokens"].get<std::size_t>()];
  tokenizer["post_processor"] = test["changes"]["post_processor"];
  return tokenizer;
}

TEST(TokenizerClass, GivesWhatAutoTokenizerGives) {
  const auto texts = golden()["texts"].get<std::vector<std::string>>();
  std::size_t number = 0;
  for (const Json& test : golden()["cases"]) {
    const std::string label = fmt::format("case {}: {} {} {}", number++, test["base"].dump(),
                                          test["class"].dump(), test["files"].dump());
    const test::TemporaryDirectory directory;
    directory.write("tokenizer.json", tokenizer_of(test).dump());
    for (const auto& [name, content] : test["files"].items()) directory.write(name, content.dump());
    const auto tokenizer = PretrainedTokenizer::from_pretrained(directory.path());
    const Json& ids = golden()["encodings"][test["ids"].get<std::size_t>()];
    const Json& plain_ids = golden()["encodings"][test["plain_ids"].get<std::size_t>()];
    for (std::size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(tokenizer.tokenizer().encode(texts[i]).ids, ids[i].get<std::vector<std::int32_t>>())
          << label << "\n"
          << texts[i];
      EXPECT_EQ(tokenizer.tokenizer().encode(texts[i], false).ids,
                plain_ids[i].get<std::vector<std::int32_t>>())
          << label << "\n"
          << texts[i];
    }
    EXPECT_EQ(tokenizer.special_tokens(), (test["special_tokens"].get<std::map<std::string, std::string>>()))
        << label;
  }
}

TokenizerFiles files_of(const Json& config, const char* base = "bytes") {
  return {golden()["bases"][base], config, Json::object(), Json::object(), {{"model_type", "qwen3"}}};
}

TEST(TokenizerClass, SaysWhatCouldSurprise) {
  auto files = files_of({{"tokenizer_class", "CLIPTokenizerFast"}});
  EXPECT_THAT(apply_tokenizer_class(files, "m").warnings,
              testing::ElementsAre(HasSubstr("m: tokenizer_class is CLIPTokenizer")));
  files = files_of({{"split_special_tokens", true}, {"tokenizer_class", "TokenizersBackend"}});
  EXPECT_THAT(apply_tokenizer_class(files, "m").warnings,
              testing::ElementsAre(HasSubstr("split_special_tokens is true")));
  files = files_of({{"eos_token", "<none>"}, {"tokenizer_class", "TokenizersBackend"}});
  EXPECT_THAT(
      apply_tokenizer_class(files, "m").warnings,
      testing::ElementsAre(HasSubstr("the eos_token '<none>' is in no vocabulary of the checkpoint")));
  files = files_of({{"eos_token", "<|im_end|>"}, {"tokenizer_class", "Qwen2Tokenizer"}});
  EXPECT_THAT(apply_tokenizer_class(files, "m").warnings, testing::ElementsAre());
}

/// What the files add to tokenizer.json's list, of one content.
std::vector<Json> entries_of(TokenizerFiles files, const std::string& content) {
  apply_tokenizer_class(files, "m");
  std::vector<Json> entries;
  for (const Json& token : files.tokenizer["added_tokens"])
    if (token["content"] == content) entries.push_back(token);
  return entries;
}

Json added(const std::string& content, Json options) {
  options.update({{"__type", "AddedToken"}, {"content", content}});
  return options;
}

// The following as AutoTokenizer did them in random directories (800, all combinations of the files).
TEST(TokenizerClass, AStringAndAnObjectOfOneContentAreBothAddedAndTheLastCounts) {
  const auto files = files_of({{"tokenizer_class", "TokenizersBackend"},
                               {"unk_token", added("<x>", {{"lstrip", true}})},
                               {"pad_token", "<x>"},
                               {"cls_token", "<x>"}});
  const auto entries = entries_of(files, "<x>");
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0]["lstrip"], true);
  EXPECT_EQ(entries[1]["lstrip"], false);
}

TEST(TokenizerClass, NormalizedIsWhatSpecialEndsUpNotToBeUnlessItIsSaid) {
  auto files = files_of({{"tokenizer_class", "TokenizersBackend"},
                         {"eos_token", added("<x>", Json::object())},
                         {"pad_token", added("<y>", {{"normalized", true}})},
                         {"bos_token", added("<z>", Json::object())},
                         {"extra_special_tokens", {added("<e>", Json::object())}}});
  files.added_tokens = {{"<z>", 420U}};  // an object in the configuration does not make this one special …
  const auto is = [&](const char* content, bool special, bool normalized) {
    const auto entries = entries_of(files, content);
    return entries.size() == 1 && entries[0]["special"] == special && entries[0]["normalized"] == normalized;
  };
  EXPECT_TRUE(is("<x>", true, false));
  EXPECT_TRUE(is("<y>", true, true));
  EXPECT_TRUE(is("<z>", true, true));  // … its name does, after it was said to be normalized
  EXPECT_TRUE(is("<e>", false, true));
}

TEST(TokenizerClass, Qwen2AddsItsSpecialTokensOnceMore) {
  Json config = {{"tokenizer_class", "Qwen2Tokenizer"}, {"eos_token", added("<x>", {{"lstrip", true}})}};
  auto entries = entries_of(files_of(config), "<x>");
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[1]["lstrip"], false);
  config["tokenizer_class"] = "GPT2Tokenizer";
  EXPECT_EQ(entries_of(files_of(config), "<x>").size(), 1U);
}

TEST(TokenizerClass, WhatWasSpecialOnceIsSplitWhereSpecialTokensAre) {
  Json document = golden()["bases"]["bytes"];
  Json token = document["added_tokens"][0];
  ASSERT_EQ(token["special"], true);
  const auto content = token["content"].get<std::string>();
  token["special"] = false;
  document["added_tokens"].push_back(token);
  const auto size = [&](bool splits) {
    return Tokenizer::from_document(document, "t", splits).encode(content).ids.size();
  };
  EXPECT_EQ(size(false), 1U);
  EXPECT_GT(size(true), 1U);
}

TEST(TokenizerClass, RefusesWhatIsNoTokenList) {
  for (const Json& wrong :
       {Json{{"added_tokens_decoder", 5}}, Json{{"added_tokens_decoder", {{"x", {{"content", "a"}}}}}},
        Json{{"added_tokens_decoder", {{"7", "text"}}}}}) {
    auto files = files_of(wrong);
    try {
      apply_tokenizer_class(files, "m");
      ADD_FAILURE() << wrong;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("m/tokenizer_config.json: added_tokens_decoder"));
    }
  }
  auto files = files_of(Json::object());
  files.added_tokens = {{"<x>", -4}};
  EXPECT_THROW(apply_tokenizer_class(files, "m"), Error);
}

}  // namespace
}  // namespace hone::text
