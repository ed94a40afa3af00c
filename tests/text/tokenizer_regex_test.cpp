// Regexes mean what they mean to Oniguruma, or are refused. Expected matches were read off the `tokenizers`
// library.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "text/regex.h"

namespace hone::text::tok {
namespace {

using Parts = std::vector<std::string>;

Parts matches(const std::string& pattern, const std::string& text) {
  const Regex regex(pattern, "test");
  RegexScratch scratch;
  Parts found;
  const auto note = [&](std::size_t begin, std::size_t end) {
    if (begin != end) found.push_back(text.substr(begin, end - begin));
  };
  regex.for_each_match(text, scratch, note);
  return found;
}

TEST(TokenizerRegex, RepeatsAnIntervalWhereOthersMakeItPossessive) {
  EXPECT_EQ(matches(R"(\p{N}{1,3}+)", "1234567a"), (Parts{"1234567"}));
  EXPECT_EQ(matches(R"(a{2}?b)", "aab b"), (Parts{"aab", "b"}));
  EXPECT_EQ(matches(R"(a{,2})", "aaaa"), (Parts{"aa", "aa"}));
  EXPECT_EQ(matches(R"(a{2}{3})", "aaaaaaaaa"), (Parts{"aaaaaa"}));
  EXPECT_EQ(matches(R"(\d{2,3}?)", "12345"), (Parts{"12", "34"}));
}

TEST(TokenizerRegex, KeepsPossessiveMarks) {
  EXPECT_EQ(matches(R"(a*+a)", "aa a"), (Parts{}));
  EXPECT_EQ(matches(R"(a?+a)", "aa a"), (Parts{"aa"}));
  EXPECT_EQ(matches(R"(a+?+)", "aaa"), (Parts{"aaa"}));
}

TEST(TokenizerRegex, UnfoldsNestedAndIntersectedClasses) {
  EXPECT_EQ(matches(R"([^(\s|[.,])]+)", "ab(c).d|e f"), (Parts{"ab", "c", "d", "e", "f"}));
  EXPECT_EQ(matches(R"([a-z&&[^aeiou]]+)", "abcdefgh"), (Parts{"bcd", "fgh"}));
  EXPECT_EQ(matches(R"([\p{Lu}\p{Ll}&&[^\p{Han}]]+)", "aB漢c"), (Parts{"aB", "c"}));
  EXPECT_EQ(matches(R"([^a-c&&[b-e]])", "abcdef&"), (Parts{"a", "d", "e", "f", "&"}));
  EXPECT_EQ(matches(R"([^[^a]b]+)", "abac"), (Parts{"a", "a"}));
  EXPECT_EQ(matches(R"([^\P{L}]+)", "ab12"), (Parts{"ab"}));
  EXPECT_EQ(matches(R"([]a]+)", "]a"), (Parts{"]a"}));
  EXPECT_EQ(matches(R"([a-z-9]+)", "b-9c"), (Parts{"b-9c"}));
}

TEST(TokenizerRegex, HasTheUnicodeWhiteSpace) {
  EXPECT_EQ(matches(R"(\s+)", "a\u0085b\u00a0c\u2028d\u3000e\u180ef\u200bg").size(), 4U);
  EXPECT_EQ(matches(R"([^\S\n]+)", "a \u00a0\nb"), (Parts{" \u00a0"}));
  EXPECT_EQ(matches(R"(\h+)", "a\tfg 1"), (Parts{"a", "f", "1"}));
}

TEST(TokenizerRegex, HasTheWordCharactersOfOniguruma) {
  EXPECT_EQ(matches(R"(\w+)", "a²³¹¼_"), (Parts{"a²³¹¼_"}));
  EXPECT_EQ(matches(R"([\w]+)", "a²³¹¼_"), (Parts{"a", "_"}));
  EXPECT_EQ(matches(R"(\b.)", "²a b"), (Parts{"²", " ", "b"}));
}

TEST(TokenizerRegex, KnowsLettersThatAreNewerThanPcre2) {
  EXPECT_EQ(matches(R"(\p{L}+)", "\U0002ebf0\U00031350\U0001e030\ua7cb"),
            (Parts{"\U0002ebf0\U00031350\U0001e030\ua7cb"}));
  EXPECT_EQ(matches(R"([^\p{L}]+)", "\U0002ebf0."), (Parts{"."}));
  EXPECT_EQ(matches(R"(\p{Han}+)", "、\U0002ebf0。"),
            (Parts{"\U0002ebf0"}));  // Script, not Script_Extensions
}

TEST(TokenizerRegex, FoldsCaseAsUnicodeDoes) {
  EXPECT_EQ(matches(R"((?i:'s))", "'s 'S 'ſ"), (Parts{"'s", "'S", "'ſ"}));
  EXPECT_EQ(matches(R"((?i:a)b)", "ab AB Ab"), (Parts{"ab", "Ab"}));
  EXPECT_EQ(matches(R"(a(?i)b|c)", "ab aB aC c C"), (Parts{"ab", "aB", "aC"}));
  EXPECT_EQ(matches(R"((?i)\p{Lu})", "aA"), (Parts{"A"}));
}

TEST(TokenizerRegex, AnchorsAtLines) {
  EXPECT_EQ(matches(R"(^a)", "a\na\n"), (Parts{"a", "a"}));
  EXPECT_EQ(matches(R"(a$)", "a\na"), (Parts{"a", "a"}));
  EXPECT_EQ(matches(R"(\n^)", "a\n"), (Parts{}));
  EXPECT_EQ(matches(R"(.+)", "a\r\nb\u2028c"), (Parts{"a\r", "b\u2028c"}));
  EXPECT_EQ(matches(R"((?m:a.b))", "a\nb"), (Parts{"a\nb"}));
  EXPECT_EQ(matches(R"(a\Z)", "a\na\n"), (Parts{"a"}));
}

TEST(TokenizerRegex, MatchesRunsOfAMegabyte) {
  const std::string spaces(1 << 20, ' ');
  EXPECT_EQ(matches(R"(\s+(?!\S)|\s+)", spaces).size(), 1U);
  EXPECT_EQ(matches(R"((?:a|b)+)", std::string(1 << 20, 'a')).size(), 1U);  // deeper than the machine stack
}

TEST(TokenizerRegex, RefusesWhatItCannotRunExactly) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"((a)\1)", "'\\1'"},       {R"(a\Kb)", "'\\K'"},          {R"(\X)", "'\\X'"},
      {R"((?~ab))", "(?~a"},       {R"((?i)ss)", "ligature"},     {R"((?i)ß)", "ligature"},
      {R"((?i)[\p{Lu}])", "'Lu'"}, {R"(\p{Klingon})", "Klingon"}, {R"([z-a])", "empty range"},
      {R"([a)", "unfinished"},     {R"((a)", "unfinished"},       {R"(a))", "unmatched"},
      {R"(*a)", "nothing"},        {R"([\d-a])", "range"},        {R"(\x{D800})", "no character"},
      {R"(a{3,1})", "below"},      {R"([[:graph:]])", "graph"},   {R"(a{70000})", "65535"},
      {R"((?s:a))", "(?s:"},       {"\\", "unfinished"},          {R"(\p{L)", "unfinished"},
  };
  for (const auto& [pattern, says] : cases) {
    try {
      Regex(pattern, "file: key");
      FAIL() << pattern << " was accepted";
    } catch (const Error& error) {
      const std::string what = error.what();
      EXPECT_TRUE(what.starts_with("file: key: the regex '")) << what;
      EXPECT_NE(what.find(says), std::string::npos) << what;
    }
  }
  EXPECT_THROW(Regex(std::string(200, '(') + std::string(200, ')'), "x"), Error);
  EXPECT_THROW(Regex(std::string(200, '[') + "a" + std::string(200, ']'), "x"), Error);
}

}  // namespace
}  // namespace hone::text::tok
