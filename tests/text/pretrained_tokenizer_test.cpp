// Tokenizer directories against what Transformers' AutoTokenizer made of them
// (tools/goldens/pretrained_cases.py).
#include "text/pretrained_tokenizer.h"
#include "tests/temporary_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"

namespace hone::text {
namespace {

using Json = nlohmann::ordered_json;
using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

const Json& golden() {
  static const Json kGolden =
      parse_chat_json(read_file(fs::path(HONE_TEST_DATA) / "templates/pretrained.json"), "pretrained.json");
  return kGolden;
}

/// A directory that holds the golden tokenizer.json and the given files, and vanishes with the object.
class Directory : public test::TemporaryDirectory {
 public:
  explicit Directory(const Json& files) {
    write("tokenizer.json", golden()["tokenizer.json"].get<std::string>());
    for (const auto& [name, text] : files.items()) write(name, text.get<std::string>());
  }
};

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUser);
    return error.what();
  }
  return "";
}

Rendered apply(const PretrainedTokenizer& tokenizer, const Json& chat) {
  Json kwargs = chat["arguments"];
  const auto take = [&kwargs](const char* name) {
    const Json value = kwargs.value(name, Json());
    kwargs.erase(name);
    return value;
  };
  const Json tools = take("tools");
  const Json documents = take("documents");
  const Json continued = take("continue_final_message");
  ChatOptions options;
  options.add_generation_prompt = take("add_generation_prompt") == true;
  options.continue_final_message = continued == true || continued.is_string();
  if (continued.is_string()) options.continue_key = continued.get<std::string>();
  options.documents = documents.is_null() ? nullptr : &documents;
  options.kwargs = &kwargs;
  return tokenizer.apply_chat_template(chat["messages"], &tools, options);
}

TEST(PretrainedTokenizer, ReadsDirectoriesAndAppliesTemplatesAsTransformersDoes) {
  ASSERT_GT(golden()["cases"].size(), 15U);
  for (const Json& item : golden()["cases"]) {
    SCOPED_TRACE(item["name"].get<std::string>());
    const Directory directory(item["files"]);
    const auto tokenizer = PretrainedTokenizer::from_pretrained(directory.path());
    EXPECT_EQ(Json(tokenizer.special_tokens()),
              Json(item["special_tokens"].get<std::map<std::string, std::string>>()));
    EXPECT_EQ(tokenizer.tokenizer().encode("ab").ids, item["ids"].get<std::vector<std::int32_t>>());
    for (const Json& chat : item["chats"]) {
      SCOPED_TRACE(chat["arguments"].dump());
      if (chat.contains("error")) {
        EXPECT_NE(error_of([&] { apply(tokenizer, chat); }), "") << chat["error"];
        continue;
      }
      const Rendered rendered = apply(tokenizer, chat);
      EXPECT_EQ(rendered.text, chat["text"].get<std::string>());
      EXPECT_EQ(tokenizer.encode(rendered).ids, chat["ids"].get<std::vector<std::int32_t>>());
      for (const MessageSpan& span : rendered.sources) EXPECT_LE(span.end, rendered.text.size());
    }
  }
}

TEST(PretrainedTokenizer, NeedsOnlyTokenizerJson) {
  const Directory directory(Json::object());
  const auto tokenizer = PretrainedTokenizer::from_pretrained(directory.path());
  EXPECT_FALSE(tokenizer.bos_token_id());
  EXPECT_FALSE(tokenizer.has_chat_template());
  EXPECT_TRUE(tokenizer.eos_token_ids().empty());
  const std::string error = error_of([&] { tokenizer.chat_template(); });
  EXPECT_THAT(error, HasSubstr(directory.path().string()));
  EXPECT_THAT(
      error,
      HasSubstr("looked for chat_template.jinja, additional_chat_templates/*.jinja, and chat_template in "
                "tokenizer_config.json"));
  EXPECT_THAT(error_of([&] { PretrainedTokenizer::from_pretrained(directory.path() / "nowhere"); }),
              HasSubstr("no such directory"));
}

TEST(PretrainedTokenizer, KnowsSpecialTokensAndTheirIds) {
  const Directory directory(
      Json{{"tokenizer_config.json",
            R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": "[none]"})"}});
  const auto tokenizer = PretrainedTokenizer::from_pretrained(directory.path());
  EXPECT_EQ(tokenizer.special_tokens().at("bos_token"), "<s>");
  EXPECT_EQ(tokenizer.bos_token_id(), 256);
  EXPECT_EQ(tokenizer.eos_token_id(), 257);
  EXPECT_EQ(tokenizer.special_tokens().at("pad_token"), "[none]");
  EXPECT_EQ(tokenizer.pad_token_id(), 261);  // a new token, as in Transformers
  EXPECT_THAT(tokenizer.eos_token_ids(), ElementsAre(257));
}

TEST(PretrainedTokenizer, TakesEosIdsFromTheNearestFile) {
  const Directory directory(Json{{"tokenizer_config.json", R"({"eos_token": "</s>"})"},
                                 {"config.json", R"({"text_config": {"eos_token_id": 7}})"}});
  EXPECT_THAT(PretrainedTokenizer::from_pretrained(directory.path()).eos_token_ids(), ElementsAre(7, 257));
  directory.write("config.json", R"({"eos_token_id": 9, "text_config": {"eos_token_id": 7}})");
  EXPECT_THAT(PretrainedTokenizer::from_pretrained(directory.path()).eos_token_ids(), ElementsAre(9, 257));
  directory.write("generation_config.json", R"({"eos_token_id": [5, 3, 5]})");
  EXPECT_THAT(PretrainedTokenizer::from_pretrained(directory.path()).eos_token_ids(), ElementsAre(3, 5, 257));
}

TEST(PretrainedTokenizer, ABrokenTemplateIsAnErrorOnlyWhenItIsUsed) {
  const Directory directory(Json{{"chat_template.jinja", "ok\n{% if %}"}});
  const auto tokenizer = PretrainedTokenizer::from_pretrained(directory.path());
  EXPECT_TRUE(tokenizer.has_chat_template());
  EXPECT_THAT(error_of([&] { tokenizer.chat_template(); }),
              HasSubstr("chat_template.jinja:2: Expected an expression"));
}

TEST(PretrainedTokenizer, ATemplateOfOnesOwnReplacesTheCheckpoints) {
  const Directory directory(Json{{"chat_template.jinja", "theirs"}});
  auto tokenizer = PretrainedTokenizer::from_pretrained(directory.path());
  tokenizer.set_chat_template(ChatTemplate::compile("{{ messages[0].content }}!", "mine"));
  EXPECT_EQ(tokenizer.apply_chat_template(Json::array({{{"role", "user"}, {"content", "x"}}})).text, "x!");
}

TEST(PretrainedTokenizer, NamesFileAndLineOfBadJson) {
  const Directory directory(Json{{"tokenizer_config.json", "{\n\"bos_token\": \"<s>\",\n}"}});
  EXPECT_THAT(error_of([&] { PretrainedTokenizer::from_pretrained(directory.path()); }),
              HasSubstr("tokenizer_config.json:3:"));
  directory.write("tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_THAT(error_of([&] { PretrainedTokenizer::from_pretrained(directory.path()); }),
              HasSubstr("chat_template: expected"));
  directory.write("tokenizer_config.json", "{}");
  directory.write("generation_config.json", R"({"eos_token_id": "x"})");
  EXPECT_THAT(error_of([&] { PretrainedTokenizer::from_pretrained(directory.path()); }),
              HasSubstr("eos_token_id must be"));
}

TEST(PretrainedTokenizer, ContinuingCutsSpansWithTheText) {
  const Directory directory(Json{{"chat_template.jinja",
                                  "{% for m in messages %}{{ m.role }}:{% generation %}{{ m.content }}</s>{% "
                                  "endgeneration %}{% endfor %}"}});
  const auto tokenizer = PretrainedTokenizer::from_pretrained(directory.path());
  const Json messages =
      Json::array({{{"role", "user"}, {"content", "a"}}, {{"role", "assistant"}, {"content", "bc "}}});
  ChatOptions options;
  options.continue_final_message = true;
  const Rendered rendered = tokenizer.apply_chat_template(messages, nullptr, options);
  EXPECT_EQ(rendered.text, "user:a</s>assistant:bc ");
  EXPECT_EQ(rendered.sources.back(), (MessageSpan{20, 23, 1, "content"}));
  EXPECT_EQ(rendered.generation.back(), (std::pair<std::size_t, std::size_t>{20, 23}));
}

}  // namespace
}  // namespace hone::text
