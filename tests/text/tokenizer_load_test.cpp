// What loading a tokenizer.json refuses, and how it says so; and that no damaged file crashes.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "text/tokenizer.h"

namespace hone::text {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;
using Json = nlohmann::json;

Json added(std::int64_t id, const std::string& content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

/// a, b, c, and "ab" by a merge.
Json small_tokenizer() {
  Json file;
  file["version"] = "1.0";
  file["added_tokens"] = Json::array({added(4, "<s>")});
  file["model"] = {{"type", "BPE"},
                   {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}}},
                   {"merges", Json::array({Json::array({"a", "b"})})}};
  return file;
}

Tokenizer load(const Json& file) {
  return Tokenizer::from_json(file.dump(), "dir/tokenizer.json");
}

/// The message of the Error that loading `text` throws; "" where it throws none.
std::string complaint(const std::string& text) {
  try {
    Tokenizer::from_json(text, "dir/tokenizer.json");
  } catch (const Error& error) {
    const std::string what = error.what();
    EXPECT_EQ(error.kind(), ErrorKind::kUser) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
    EXPECT_LE(what.size(), 600U) << what;
    EXPECT_TRUE(what.starts_with("dir/tokenizer.json")) << what;
    return what;
  }
  return "";
}

struct Damage {
  const char* name;
  std::function<void(Json&)> apply;
  std::vector<std::string> says;
};

std::vector<Damage> damages() {
  const auto set = [](const char* pointer, Json value) {
    return [=](Json& file) { file[Json::json_pointer(pointer)] = value; };
  };
  return {
      {"NoModel", [](Json& f) { f.erase("model"); }, {"no key model"}},
      {"NotAnObject", [](Json& f) { f = Json::array(); }, {"the document is [], expected an object"}},
      {"Version", set("/version", "2.0"), {"version", "2.0", "supported: 1.0"}},
      {"Unigram", set("/model/type", "Unigram"), {"model.type", "unsupported model 'Unigram'", "BPE"}},
      {"WordPiece", set("/model/type", "WordPiece"), {"model.type", "'WordPiece'", "BPE"}},
      {"Precompiled",
       set("/normalizer", {{"type", "Precompiled"}, {"precompiled_charsmap", ""}}),
       {"normalizer.type", "'Precompiled'", "NFC"}},
      {"UnknownPreTokenizer",
       set("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", Json::array({{{"type", "Magic"}}})}}),
       {"pre_tokenizer.pretokenizers[0].type", "'Magic'", "ByteLevel"}},
      {"UnknownDecoder", set("/decoder", {{"type", "CTC"}}), {"decoder.type", "'CTC'", "ByteFallback"}},
      {"UnknownPostProcessor", set("/post_processor", {{"type", "X"}}), {"post_processor.type", "'X'"}},
      {"UnknownBehavior",
       set("/pre_tokenizer",
           {{"type", "Split"}, {"pattern", {{"String", "x"}}}, {"behavior", "isolated"}, {"invert", false}}),
       {"pre_tokenizer.behavior", "'isolated'", "Isolated"}},
      {"BadRegex",
       set("/pre_tokenizer",
           {{"type", "Split"}, {"pattern", {{"Regex", "a(b"}}}, {"behavior", "Isolated"}, {"invert", false}}),
       {"pre_tokenizer.pattern.Regex", "a(b", "unfinished group"}},
      {"MergeOfUnknown",
       set("/model/merges", Json::array({Json::array({"a", "z"})})),
       {"model.merges[0]", "'z' is not in the vocabulary"}},
      {"MergeToUnknown",
       set("/model/merges", Json::array({Json::array({"b", "c"})})),
       {"model.merges[0]", "'bc' is not in the vocabulary"}},
      {"MergeOfThree", set("/model/merges", Json::array({"a b c"})), {"model.merges[0]", "a b c"}},
      {"MergesMixed",
       set("/model/merges", Json::array({Json::array({"a", "b"}), "a b"})),
       {"model.merges[1]"}},
      {"MergesNull", set("/model/merges", nullptr), {"model.merges", "expected a list of merges"}},
      {"VocabIsArray", set("/model/vocab", Json::array()), {"model.vocab", "expected an object"}},
      {"DuplicateId", set("/model/vocab/c", 0), {"model.vocab", "'a'", "'c'", "same id 0"}},
      {"NegativeId", set("/model/vocab/c", -2), {"model.vocab", "'c'", "-2"}},
      {"HugeId", set("/model/vocab/c", 4294967296), {"model.vocab", "'c'", "4294967296"}},
      {"LargeId", set("/model/vocab/c", 2147483647), {"model.vocab", "'c'", "2147483647"}},
      {"FractionalId", set("/model/vocab/c", 2.5), {"model.vocab", "'c'", "2.5"}},
      {"TextId", set("/model/vocab/c", "2"), {"model.vocab", "'c'"}},
      {"Dropout", set("/model/dropout", 0.1), {"model.dropout", "not supported"}},
      {"FlagIsText", set("/model/byte_fallback", "yes"), {"model.byte_fallback", "true or false"}},
      {"AddedNegative", set("/added_tokens/0/id", -1), {"added_tokens[0].id", "-1"}},
      {"AddedHuge", set("/added_tokens/0/id", 1e18), {"added_tokens[0].id"}},
      {"AddedTwice",
       set("/added_tokens/1", added(4, "<t>")),
       {"added_tokens[1].id", "'<s>'", "'<t>'", "same id 4"}},
      {"AddedIncomplete",
       [](Json& f) { f["added_tokens"][0].erase("lstrip"); },
       {"no key added_tokens[0].lstrip"}},
      {"AddedIsObject", set("/added_tokens", Json::object()), {"added_tokens", "expected a list"}},
      {"AddedVanishes",
       [](Json& f) {
         f["added_tokens"][0]["content"] = " ";
         f["added_tokens"][0]["normalized"] = true;
         f["normalizer"] = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}};
       },
       {"added_tokens[0]", "normalized to nothing"}},
      {"TemplateUnknown",
       set("/post_processor", {{"type", "TemplateProcessing"},
                               {"single", Json::array({{{"SpecialToken", {{"id", "<x>"}, {"type_id", 0}}}}})},
                               {"pair", Json::array()},
                               {"special_tokens", Json::object()}}),
       {"post_processor.single[0].SpecialToken.id", "'<x>' is not in special_tokens"}},
      {"TemplateSecondText",
       set("/post_processor", {{"type", "TemplateProcessing"},
                               {"single", Json::array({{{"Sequence", {{"id", "B"}, {"type_id", 0}}}}})},
                               {"pair", Json::array()},
                               {"special_tokens", Json::object()}}),
       {"post_processor.single[0].Sequence.id", "'B'"}},
      {"MetaspaceTwoCharacters",
       set("/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "ab"}}),
       {"pre_tokenizer.replacement", "one character", "\"ab\""}},
  };
}

TEST(TokenizerLoad, RefusesWhatIsMalformedByItsKeyPath) {
  ASSERT_EQ(complaint(small_tokenizer().dump()), "");
  for (const Damage& damage : damages()) {
    Json file = small_tokenizer();
    damage.apply(file);
    const std::string what = complaint(file.dump());
    EXPECT_NE(what, "") << damage.name << " was accepted";
    for (const auto& part : damage.says)
      EXPECT_NE(what.find(part), std::string::npos) << damage.name << ": " << what;
  }
}

TEST(TokenizerLoad, NamesTheLineOfBrokenJson) {
  const std::string what = complaint("{\n\"version\": \"1.0\",\n\"model\": {]\n}");
  EXPECT_NE(what.find(":3:"), std::string::npos) << what;
}

TEST(TokenizerLoad, NamesTheFileThatIsMissing) {
  try {
    Tokenizer::from_file("no/such/tokenizer.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("no/such/tokenizer.json"), std::string::npos);
  }
}

std::string golden(const char* name) {
  std::ifstream file(fs::path(HONE_TEST_DATA) / "tokenizers" / name / "tokenizer.json");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(TokenizerLoad, RefusesEveryTruncatedFile) {
  for (const char* name : {"llama3", "odd"}) {
    const std::string whole = golden(name);
    ASSERT_GT(whole.size(), 1000U);
    for (std::size_t size = 0; size + 2 < whole.size(); size += 101) {
      EXPECT_NE(complaint(whole.substr(0, size)), "") << name << " " << size;
    }
  }
}

/// Pointers to all values but those of the vocabulary and the merges, of which a few stand for all.
void collect(const Json& value, const std::string& path, std::vector<std::string>& out) {
  out.push_back(path);
  std::size_t taken = 0;
  if (value.is_object()) {
    for (const auto& [key, child] : value.items()) {
      if (path == "/model/vocab" && taken++ > 3) break;
      if (key.find_first_of("/~") == std::string::npos) collect(child, path + "/" + key, out);
    }
  } else if (value.is_array()) {
    for (std::size_t i = 0; i < value.size() && i < 4; ++i)
      collect(value[i], path + "/" + std::to_string(i), out);
  }
}

TEST(TokenizerLoad, NeverCrashesOnAChangedValue) {
  Json nested = 1;
  for (int i = 0; i < 300; ++i) nested = Json{{"type", "Sequence"}, {"normalizers", Json::array({nested})}};
  const std::vector<Json> strangers = {nullptr,
                                       true,
                                       -1,
                                       0,
                                       3.5,
                                       1e300,
                                       18446744073709551615U,
                                       "",
                                       "x",
                                       "\u00e9",
                                       Json::array(),
                                       Json::object(),
                                       Json::array({1, "a"}),
                                       nested};
  std::size_t refused = 0;
  std::size_t accepted = 0;
  testing::internal::CaptureStderr();  // warnings about ids
  for (const char* name : {"llama2", "odd", "clip"}) {
    const Json whole = Json::parse(golden(name));
    std::vector<std::string> pointers;
    collect(whole, "", pointers);
    ASSERT_GT(pointers.size(), 50U);
    for (const auto& pointer : pointers) {
      for (const Json& stranger : strangers) {
        Json changed = whole;
        changed[Json::json_pointer(pointer)] = stranger;
        const std::string text = changed.dump();
        if (complaint(text) != "") {
          ++refused;
          continue;
        }
        ++accepted;
        const Tokenizer tokenizer = Tokenizer::from_json(text, "changed");
        try {
          tokenizer.decode(tokenizer.encode("Hello <s> w\u00f6rld 12  \u6f22").ids, true);
        } catch (const Error&) {  // e.g. an unk_token that the vocabulary does not have
        }
      }
    }
  }
  testing::internal::GetCapturedStderr();
  EXPECT_GT(refused, 1000U);
  EXPECT_GT(accepted, 100U);
}

TEST(TokenizerLoad, AcceptsOldAndNewSpellings) {
  Json old = small_tokenizer();
  old["model"]["merges"] = Json::array({"#version: 0.2", "a b"});
  old["model"].erase("type");
  old.erase("version");
  EXPECT_EQ(load(old).encode("abc").ids, (Ids{3, 2}));
  EXPECT_EQ(load(small_tokenizer()).encode("abc").ids, (Ids{3, 2}));
}

TEST(TokenizerLoad, GivesAddedTokensTheIdsThatTheLibraryGives) {
  // The library goes by the vocabulary and the order, whatever the file says; it warns, and so does this.
  Json file = small_tokenizer();
  file["added_tokens"] = Json::array({added(100, "<x>"), added(50, "c"), added(7, "<y>")});
  testing::internal::CaptureStderr();
  const Tokenizer tokenizer = load(file);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("'<x>' has the id 4 instead of 100"),
            std::string::npos);
  EXPECT_EQ(tokenizer.token_to_id("<x>"), 4);
  EXPECT_EQ(tokenizer.token_to_id("c"), 2);
  EXPECT_EQ(tokenizer.token_to_id("<y>"), 5);
  EXPECT_EQ(tokenizer.vocab_size(), 6);
  EXPECT_EQ(tokenizer.encode("<y>ab<x>c").ids, (Ids{5, 3, 4, 2}));
}

TEST(TokenizerLoad, CountsHolesInTheIds) {
  Json file = small_tokenizer();
  file["model"]["vocab"]["c"] = 90;
  const Tokenizer tokenizer = load(file);
  EXPECT_EQ(tokenizer.vocab_size(), 5);
  EXPECT_EQ(tokenizer.id_limit(), 91);
  EXPECT_EQ(tokenizer.decode(Ids{90, 89, 0}), "c a");
}

TEST(Tokenizer, IgnoresTruncationAndPaddingAsTransformersDoes) {
  Json file = small_tokenizer();
  file["truncation"] = {
      {"direction", "Right"}, {"max_length", 2}, {"strategy", "LongestFirst"}, {"stride", 0}};
  file["padding"] = {
      {"strategy", {{"Fixed", 9}}}, {"direction", "Right"}, {"pad_to_multiple_of", nullptr}, {"pad_id", 0},
      {"pad_type_id", 0},           {"pad_token", "a"}};
  EXPECT_EQ(load(file).encode("abababc").ids, (Ids{3, 3, 3, 2}));
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  const Tokenizer tokenizer = load(small_tokenizer());
  for (const std::string bad : {"ab\xFF", "ab\xC3", "ab\xED\xA0\x80", "ab\xF5\x80\x80\x80", "ab\xC0\xAF"}) {
    try {
      tokenizer.encode(bad);
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("byte 2"), std::string::npos) << error.what();
    }
  }
}

TEST(Tokenizer, NamesTheUnknownTokenThatIsMissing) {
  Json file = small_tokenizer();
  file["model"]["unk_token"] = "<unk>";
  const Tokenizer tokenizer = load(file);  // many files name one that they never need
  EXPECT_EQ(tokenizer.encode("abc").ids, (Ids{3, 2}));
  EXPECT_THROW(tokenizer.encode("abz"), Error);
}

TEST(Tokenizer, SkipsIdsWithoutAToken) {
  const Tokenizer tokenizer = load(small_tokenizer());
  EXPECT_EQ(tokenizer.decode(Ids{}), "");
  EXPECT_EQ(tokenizer.decode(Ids{-1, 0, 77, 1, 2147483647}), "a b");
  EXPECT_EQ(tokenizer.decode(Ids{4, 0, 4}, true), "a");
}

TEST(StreamDecoder, HoldsBackAnUnfinishedCharacter) {
  Json file = small_tokenizer();
  file["model"]["vocab"] = {{"a", 0}, {"\u00c3", 1}, {"\u00a9", 2}};  // bytes 0xC3 0xA9 in the byte alphabet
  file["model"]["merges"] = Json::array();
  file["added_tokens"] = Json::array();
  file["decoder"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}};
  StreamDecoder stream(load(file));
  EXPECT_EQ(stream.push(0), "a");
  EXPECT_EQ(stream.push(1), "");
  EXPECT_EQ(stream.push(2), "\u00e9");
  EXPECT_EQ(stream.push(1), "");
  EXPECT_EQ(stream.push(0), "\ufffda");
  EXPECT_EQ(stream.push(1), "");
  EXPECT_EQ(stream.finish(), "\ufffd");
  EXPECT_EQ(stream.push(0), "a");
}

}  // namespace
}  // namespace hone::text
