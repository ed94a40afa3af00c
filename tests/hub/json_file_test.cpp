// JSON as Python reads it, with errors that say where.
#include "hub/json_file.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "hub/key_pattern.h"
#include "hub/message.h"
#include "tests/hub/support.h"

namespace hone::hub {
namespace {

using test::error_of;
using test::is_internal_error;

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

TEST(Message, ShowsAnyBytesOnOneLine) {
  EXPECT_EQ(shown("a\nb\tc\x7f"), "a\\nb\\x09c\\x7f");
  EXPECT_EQ(shown("é€😀"), "é€😀");
  EXPECT_EQ(shown("\xc3(\xed\xa0\x80\xff"), "\\xc3(\\xed\\xa0\\x80\\xff");
  EXPECT_EQ(shown("ééé", 4), "éé…");
  EXPECT_EQ(shown("éé", 4), "éé");
}

}  // namespace
}  // namespace hone::hub
