// JSON as Python reads it, with errors that say where.
#include "json/node.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/message.h"
#include "tests/hub/support.h"

namespace hone {
namespace {

using hub::test::error_of;
using hub::test::is_internal_error;

JsonNode parse(std::string_view text) {
  return JsonNode::parse(text, "f.json");
}

TEST(Json, ReadsEveryKindOfValueInOrder) {
  const auto node = parse(R"({"z": 1, "a": [true, null, "é\n", -2.5e3], "m": {"k": 18446744073709551615}})");
  EXPECT_EQ(node.keys(), (std::vector<std::string>{"z", "a", "m"}));
  EXPECT_EQ(node.at("z").as_integer(), 1);
  const auto list = node.at("a").elements();
  ASSERT_EQ(list.size(), 4U);
  EXPECT_TRUE(list[0].as_bool());
  EXPECT_TRUE(list[1].is_null());
  EXPECT_EQ(list[2].as_string(), "é\n");
  EXPECT_EQ(list[3].as_number(), -2500.0);
  EXPECT_EQ(list[3].as_integer(), -2500);
  EXPECT_EQ(list[3].key_path(), "a[3]");
  EXPECT_EQ(error_of([&] { node.at("m").at("k").as_integer(); }),
            "f.json: m.k is 18446744073709551615, expected an integer below 2^63");
}

TEST(Json, ReadsPythonsNumbers) {
  const auto node = parse(
      R"([NaN, Infinity, -Infinity,NaN,0e0,-0e000000,"NaN Infinity \"NaN", 0e000000, {"NaN":Infinity}])");
  EXPECT_TRUE(std::isnan(node[0].as_number()));
  EXPECT_EQ(node[1].as_number(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(node[2].as_number(), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(node[3].as_number()));
  EXPECT_EQ(node[4].as_number(), 0.0);
  EXPECT_EQ(node[5].as_number(), 0.0);
  EXPECT_EQ(node[6].as_string(), "NaN Infinity \"NaN");
  EXPECT_EQ(node[7].as_number(), 0.0);
  EXPECT_EQ(node[8].at("NaN").as_number(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(parse("-Infinity").as_number(), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(parse("NaN").as_number()));
  EXPECT_EQ(parse("NaN").text(), "nan");
}

TEST(Json, SaysWhereTheTextIsWrong) {
  const std::vector<std::pair<std::string, std::string>> wrong{
      {"", "f.json:1:1: not valid JSON"},
      {"{\n  \"a\": 1,\n  \"b\": x\n}", "f.json:3:8: not valid JSON"},
      {"{\n  \"é\": \"ü\", x}", "f.json:2:13: not valid JSON"},
      {"{\"a\": 1,}", "f.json:1:9: not valid JSON"},
      {"{\"a\": 1", "f.json:1:"},
      {"{\"a\": 1} {", "f.json:1:10: not valid JSON"},
      {"[01]", "f.json:1:3: not valid JSON"},
      {"{'a': 1}", "f.json:1:2: not valid JSON"},
      {"[-NaN]", "f.json:1:"},
      {"[Nan]", "f.json:1:"},
      {"[Infinit]", "f.json:1:"},
      {"[1e999]", "number overflow"},
      {"\"a\nb\"", "f.json:1:"},
      {std::string("{\"a\": 1}\0 ends here", 19), "f.json:1:9: not valid JSON: a zero byte"},
      {"\"\xc3\x28\"", "f.json:1:"},
      {"{\"a\": 1, \"b\": 2,\n \"a\": 3}", "f.json:2:2: key \"a\" appears twice in one object"},
      {"{\"x\": {\"a\": 1, \"a\": 1}}", "key \"a\" appears twice"},
      {std::string(501, '['), "nested more than 500 deep"},
      {"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
  };
  for (const auto& [text, message] : wrong) EXPECT_CONTAINS(error_of([&, &t = text] { parse(t); }), message);
  EXPECT_NO_THROW(
      parse("[{\"a\": {\"a\": 1}}, {\"a\": 2}]"));  // the same key in two objects is none of our business
  EXPECT_NO_THROW(parse(std::string(500, '[') + std::string(500, ']')));
}

TEST(Json, NamesTheKeyPathOfAWrongType) {
  const auto node =
      parse(R"({"num_attention_heads": "8", "rope": {"factor": [1, {"x": null}]}, "big": 1.5})");
  EXPECT_EQ(error_of([&] { node.at("num_attention_heads").as_integer(); }),
            "f.json: num_attention_heads is \"8\", expected an integer");
  EXPECT_EQ(error_of([&] { node.at("rope").at("factor")[1].at("x").as_string(); }),
            "f.json: rope.factor[1].x is null, expected a string");
  EXPECT_EQ(error_of([&] { node.at("big").as_integer(); }), "f.json: big is 1.5, expected an integer");
  EXPECT_EQ(error_of([&] { node.at("big").as_bool(); }), "f.json: big is 1.5, expected true or false");
  EXPECT_EQ(error_of([&] { node.at("rope").as_number(); }),
            "f.json: rope is {\"factor\":[1,{\"x\":null}]}, expected a number");
  EXPECT_EQ(error_of([&] { node.at("big").at("x"); }), "f.json: big is 1.5, expected an object");
  EXPECT_EQ(error_of([&] { node.at("big").size(); }), "f.json: big is 1.5, expected a list or an object");
  EXPECT_EQ(error_of([&] { node.elements(); }).substr(0, 23), "f.json: the document is");
  EXPECT_EQ(error_of([&] { node.at("rope").at("facto"); }),
            "f.json: no key rope.facto; did you mean 'factor'?");
  EXPECT_TRUE(is_internal_error([&] { (void)node.at("rope").at("factor")[2]; }));
}

TEST(Json, ReadsLargeObjectsInLinearTime) {
  std::string text = "{\"weight_map\":{";
  for (int i = 0; i < 200000; ++i)
    text += fmt::format("{}\"model.layers.{}.weight\":\"model-00001-of-00002\"", i ? "," : "", i);
  const auto node = parse(text + "}}");
  EXPECT_EQ(node.at("weight_map").size(), 200000U);
}

TEST(Json, NamesTheKeyPathOfWhatIsNoJson) {
  EXPECT_CONTAINS(error_of([] { parse(R"({"a": {"b": [1, 2, {"c": x}]}})"); }),
                  "f.json:1:26: not valid JSON in a.b[2].c:");
  EXPECT_CONTAINS(error_of([] { parse(R"({"a": [], "b" 1})"); }), "not valid JSON in b:");
  EXPECT_CONTAINS(error_of([] { parse(R"([[1], 2, }])"); }), "not valid JSON in [2]:");
}

TEST(Json, SaysWhatToWriteForOtherNotationsWords) {
  const std::vector<std::pair<std::string, std::string>> words{
      {"{\"a\": None}", "it says None, write null"},
      {"{\"a\": True}", "it says True, write true"},
      {"[nan]", "it says nan, which JSON does not have; write null"},
      {"[-inf]", "it says -inf, which JSON does not have; write null"},
      {"[-NaN]", "it says -NaN, which JSON does not have; write null"},
      {"{'a': 1}", "JSON has its strings in \"…\""},
      {"{\"a\": [1, 2", "the text ends early"}};
  for (const auto& [text, advice] : words) EXPECT_CONTAINS(error_of([&, &t = text] { parse(t); }), advice);
}

TEST(Json, TheLastOfEqualKeysWinsWhereAsked) {
  std::string text = "{\"k\": {\"deep\": 1}";
  for (int i = 0; i < 40; ++i) text += fmt::format(", \"m{}\": {}", i, i);
  const auto node = JsonNode::parse(text + R"(, "k": [2], "m0": {"m0": 1, "m0": 2}, "z": 3})", "f.json",
                                    {.repeated_keys = RepeatedKeys::kLastWins});
  EXPECT_EQ(node.keys().front(), "k");
  EXPECT_EQ(node.size(), 42U);
  EXPECT_EQ(node.at("k").text(), "[2]");
  EXPECT_EQ(node.at("m0").text(), R"({"m0":2})");
  EXPECT_EQ(node.keys().back(), "z");
}

TEST(Json, RowsKeepLongIntegersAndSayTheColumn) {
  const JsonOptions row{
      .repeated_keys = RepeatedKeys::kLastWins, .exact_integers = true, .name_has_line = true};
  const auto value = parse_json("[123456789012345678901234567890, -5, 1e3, NaN]", "rows.jsonl:7", row);
  ASSERT_TRUE(value[0].is_binary());
  EXPECT_EQ(value[0].get_binary().subtype(), kBigIntegerSubtype);
  EXPECT_EQ(std::string(value[0].get_binary().begin(), value[0].get_binary().end()),
            "123456789012345678901234567890");
  EXPECT_EQ(value[1].get<int>(), -5);
  EXPECT_TRUE(std::isnan(value[3].get<double>()));
  EXPECT_EQ(error_of([&] { parse_json("{\"é\": ]", "rows.jsonl:7", row); }).substr(0, 16),
            "rows.jsonl:7:7: ");
}

TEST(Json, FindsNumbersThatJsonDoesNotHave) {
  const auto value = parse_json(R"({"a": [1, {"b": 2.5}], "c": {"d": [0, -Infinity]}})", "f.json");
  EXPECT_EQ(find_non_finite(value, "row"), "row.c.d[1] is -Infinity");
  EXPECT_EQ(find_non_finite(value["a"], "row"), std::nullopt);
  EXPECT_EQ(find_non_finite(parse_json("NaN", "f.json"), "x"), "x is NaN");
}

TEST(Json, ReadsCharactersCountsAndNames) {
  const auto node = parse(R"({"c": "▁", "two": "ab", "n": 5, "name": "B", "off": null})");
  EXPECT_EQ(node.at("c").as_character(), U'▁');
  EXPECT_EQ(error_of([&] { node.at("two").as_character(); }),
            "f.json: two is \"ab\", expected one character");
  EXPECT_EQ(node.at("n").as_count(5), 5U);
  EXPECT_EQ(error_of([&] { node.at("n").as_count(4); }), "f.json: n is 5, expected an integer from 0 to 4");
  const std::vector<std::string> known{"A", "B"};
  EXPECT_EQ(node.at("name").one_of(known, "letter"), 1U);
  EXPECT_EQ(error_of([&] { node.at("two").one_of(known, "letter"); }),
            "f.json: two: unsupported letter 'ab'; supported: A, B");
  EXPECT_FALSE(node.find_given("off"));
  EXPECT_FALSE(node.find_given("absent"));
  EXPECT_TRUE(node.flag_or("off", true));
  EXPECT_EQ(node.members()[2].second.key_path(), "n");
}

TEST(Message, ShowsAnyBytesOnOneLine) {
  EXPECT_EQ(shown("a\nb\tc\x7f"), "a\\nb\\x09c\\x7f");
  EXPECT_EQ(shown("é€😀"), "é€😀");
  EXPECT_EQ(shown("\xc3(\xed\xa0\x80\xff"), "\\xc3(\\xed\\xa0\\x80\\xff");
  EXPECT_EQ(shown("ééé", 4), "éé…");
  EXPECT_EQ(shown("éé", 4), "éé");
}

}  // namespace
}  // namespace hone
