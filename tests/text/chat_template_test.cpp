// What chat templates promise beside their text: where characters come from, spans of generation, errors with
// places, limits.
#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace hone::text {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

constexpr std::string_view kChat = R"([
  {"role": "system", "content": "Be brief."},
  {"role": "user", "content": "  Hi, you!  "},
  {"role": "assistant", "content": "<think>why</think>Hello", "calls": [{"name": "f", "args": {"x": 1, "y": [true, "z"]}}]}
])";

Rendered render(const std::string& source, std::string_view chat = kChat) {
  const Json messages = parse_chat_json(chat, "chat");
  ChatInput input;
  input.messages = &messages;
  return ChatTemplate::compile(source, "t.jinja").render(input);
}

/// The spans as "message.key:text" words.
std::vector<std::string> words(const Rendered& rendered) {
  std::vector<std::string> out;
  for (const MessageSpan& span : rendered.sources) {
    out.push_back(fmt::format("{}.{}:{}", span.message, span.key,
                              rendered.text.substr(span.begin, span.end - span.begin)));
  }
  return out;
}

std::vector<std::string> sources(const std::string& source) {
  return words(render(source));
}

std::vector<std::string> generated(const std::string& source) {
  const Rendered rendered = render(source);
  std::vector<std::string> out;
  for (const auto& [begin, end] : rendered.generation)
    out.push_back(rendered.text.substr(begin, end - begin));
  return out;
}

std::string error_of(const std::string& source) {
  try {
    render(source);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUser);
    return error.what();
  }
  return "";
}

using Words = std::vector<std::string>;

TEST(ChatProvenance, PlainCopiesAreExact) {
  EXPECT_EQ(sources("{% for m in messages %}<{{ m.role }}>{{ m['content'] }}{% endfor %}"),
            (Words{"0.role:system", "0.content:Be brief.", "1.role:user", "1.content:  Hi, you!  ",
                   "2.role:assistant", "2.content:<think>why</think>Hello"}));
}

TEST(ChatProvenance, ConcatenationKeepsPartsApart) {
  EXPECT_EQ(sources("{{ '<|' + messages[1].role + '|>' ~ messages[1].content ~ '<|end|>' }}"),
            (Words{"1.role:user", "1.content:  Hi, you!  "}));
}

TEST(ChatProvenance, NeighboursOfOneKeyAreOneSpan) {
  EXPECT_EQ(sources("{{ messages[1].content[:4] ~ messages[1].content[4:] }}"),
            (Words{"1.content:  Hi, you!  "}));
}

TEST(ChatProvenance, CuttingIsExact) {
  EXPECT_EQ(sources("[{{ messages[1].content | trim }}]"), (Words{"1.content:Hi, you!"}));
  EXPECT_EQ(sources("[{{ messages[1].content.strip()[4:-1] }}]"), (Words{"1.content:you"}));
  EXPECT_EQ(sources("{{ 'a' ~ messages[2].content.split('</think>')[-1] ~ 'b' }}"),
            (Words{"2.content:Hello"}));
  EXPECT_EQ(sources("{{ ('<' ~ messages[0].role ~ '>')[3:] }}"), (Words{"0.role:stem"}));
  EXPECT_EQ(sources("{{ ('<' ~ messages[0].role ~ '>')[::-1] }}"), (Words{"0.role:metsys"}));
}

TEST(ChatProvenance, JoinsAndReplacementsKeepTheRest) {
  EXPECT_EQ(sources("{{ messages | map(attribute='role') | join(', ') }}"),
            (Words{"0.role:system", "1.role:user", "2.role:assistant"}));
  EXPECT_EQ(sources("{{ ('x' ~ messages[0].role ~ 'x') | replace('x', 'yy') }}"), (Words{"0.role:system"}));
  EXPECT_EQ(sources("{{ messages[0].content | replace('brief', 'long') }}"), (Words{"0.content:Be long."}));
  EXPECT_EQ(sources("{{ 'a-b' | replace('-', messages[0].role) }}"), (Words{"0.role:system"}));
  EXPECT_EQ(sources("{{ '%s: %s' % (messages[0].role, messages[1].role) }}"),
            (Words{"0.role:system", "1.role:user"}));
}

TEST(ChatProvenance, CaseAndIndentationFollowTheirCharacters) {
  EXPECT_EQ(sources("{{ ('<' ~ messages[0].role ~ '>') | upper }}"), (Words{"0.role:SYSTEM"}));
  EXPECT_EQ(sources("{{ 'a\\n' ~ messages[0].role | indent(2) }}"), (Words{"0.role:system"}));
}

TEST(ChatProvenance, JsonOfACallIsTheCalls) {
  EXPECT_EQ(sources("call {{ messages[2].calls[0].args | tojson }}."),
            (Words{R"(2.calls:{"x": 1, "y": [true, "z"]})"}));
  EXPECT_EQ(sources("{{ messages[2].calls[0].name ~ '(' ~ messages[2].calls[0].args.x ~ ')' }}"),
            (Words{"2.calls:f", "2.calls:1"}));
  EXPECT_EQ(sources("{% for k, v in messages[2].calls[0].args.items() %}{{ k }}={{ v }};{% endfor %}"),
            (Words{"2.calls:x", "2.calls:1", "2.calls:y", "2.calls:[True, 'z']"}));
}

TEST(ChatProvenance, AWholeMessageHasNoSingleKey) {
  EXPECT_EQ(sources("{{ messages[1] | tojson }}"),
            (Words{"1.:{", "1.role:\"role\"", "1.:: ", "1.role:\"user\"", "1.:, ", "1.content:\"content\"",
                   "1.:: ", "1.content:\"  Hi, you!  \"", "1.:}"}));
}

TEST(ChatProvenance, WhatMixesMessagesSaysSo) {
  const Rendered rendered = render("{{ (messages[0].content | length) + (messages[1].content | length) }}");
  ASSERT_EQ(rendered.sources.size(), 1U);
  EXPECT_EQ(rendered.sources[0], (MessageSpan{0, 2, MessageSpan::kSeveralMessages, ""}));
}

TEST(ChatProvenance, MarksPassThroughMacrosSetsFiltersAndNamespaces) {
  EXPECT_EQ(sources("{% macro turn(m) %}<{{ m.content | trim }}>{% endmacro %}{% set x %}{{ "
                    "turn(messages[1]) }}{% endset %}"
                    "{% set ns = namespace(t='') %}{% set ns.t = ns.t + x %}{% filter upper %}{{ ns.t }}{% "
                    "endfilter %}"),
            (Words{"1.content:HI, YOU!"}));
}

TEST(ChatProvenance, LiteralTextOfTheTemplateHasNoSource) {
  EXPECT_EQ(sources("{% if messages[0].role == 'system' %}system{% endif %}{{ loop is defined }}"), Words{});
}

TEST(ChatGeneration, TopLevelBlocks) {
  EXPECT_EQ(
      generated("{% for m in messages %}{% generation %}{{ m.role }}!{% endgeneration %}\n{% endfor %}"),
      (Words{"system!", "user!", "assistant!"}));
}

TEST(ChatGeneration, BlocksInsideMacrosAndCapturesMoveWithTheirText) {
  EXPECT_EQ(
      generated(
          "{% macro turn(m) %}<{% generation %}{{ m.role }}{% endgeneration %}>{% endmacro %}"
          "{% set all %}{% for m in messages %}{{ turn(m) }}{% endfor %}{% endset %}>>{{ all | trim }}"),
      (Words{"system", "user", "assistant"}));
}

TEST(ChatGeneration, NeighbouringBlocksStayApartAndEmptyOnesVanish) {
  EXPECT_EQ(generated("{% generation %}a{% endgeneration %}{% generation %}{% endgeneration %}{% generation "
                      "%}b{% endgeneration %}"),
            (Words{"a", "b"}));
}

TEST(ChatGeneration, TheTemplateTellsWhetherItHasAny) {
  EXPECT_TRUE(ChatTemplate::compile("{%- generation -%}x{%- endgeneration -%}", "t").has_generation_blocks());
  EXPECT_FALSE(ChatTemplate::compile("{# {% generation %} #}{% raw %}{% generation %}{% endraw %}", "t")
                   .has_generation_blocks());
}

TEST(ChatTemplateErrors, NamePlaceAndConstruct) {
  EXPECT_EQ(error_of("a\nb {{ messages[0].nope.deeper }}"),
            "t.jinja:2: 'dict object' has no attribute 'nope' (in {{ messages[0].nope.deeper }})");
  EXPECT_EQ(error_of("{% for m in messages %}\n{%- if m.role == 'user' %}\n  {{ raise_exception('No users, ' "
                     "~ m.role ~ '!') }}"
                     "{% endif %}{% endfor %}"),
            "t.jinja:3: No users, user! (in {{ raise_exception('No users, ' ~ m.role ~ '!') }})");
  EXPECT_THAT(error_of("\n\n{% if x %}"), HasSubstr("t.jinja:3: Unexpected end of template."));
  EXPECT_THAT(error_of("{% include 'other' %}"), HasSubstr("t.jinja:1: the tag 'include' is not supported"));
  EXPECT_THAT(error_of("{{ 'x' | urlize }}"), HasSubstr("the filter 'urlize' is not supported"));
  EXPECT_THAT(error_of("{{ messages | tojsom }}"),
              HasSubstr("No filter named 'tojsom'.; did you mean 'tojson'?"));
  EXPECT_THAT(error_of("{{ messages is sting }}"),
              HasSubstr("No test named 'sting'.; did you mean 'string'?"));
}

TEST(ChatTemplateErrors, StayShort) {
  const std::string error = error_of("{{ undefined_thing.x ~ '" + std::string(2000, 'y') + "' }}");
  EXPECT_LE(error.size(), 600U);
  EXPECT_EQ(error.find('\n'), std::string::npos);
}

TEST(ChatTemplateErrors, SourcesAndInputsMustBeUtf8) {
  EXPECT_THROW(ChatTemplate::compile("a\xff", "t"), Error);
  const Json messages = Json::array({{{"role", "user"}, {"content", "\xc3"}}});
  ChatInput input;
  input.messages = &messages;
  EXPECT_THROW(ChatTemplate::compile("{{ messages }}", "t").render(input), Error);
}

TEST(ChatTemplateLimits, RunawayTemplatesEndInAnError) {
  EXPECT_THAT(error_of("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), HasSubstr("recursion"));
  EXPECT_THAT(error_of("{{ 'x' * 1000000000000 }}"), HasSubstr("too long"));
  EXPECT_THAT(error_of("{{ range(100001) }}"), HasSubstr("Range too big"));
  EXPECT_THAT(error_of("{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(40) %}{% set ns.s = ns.s ~ "
                       "ns.s %}{% endfor %}"),
              HasSubstr("grew beyond"));
  EXPECT_THAT(
      error_of("{% set ns = namespace(l=[]) %}{% for i in range(1000) %}{% set ns.l = [ns.l] %}{% endfor %}"),
      HasSubstr("values nest more than"));
  EXPECT_THAT(error_of("{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}"),
              HasSubstr("nests too deeply"));
  EXPECT_THAT(error_of("{{ 2 ** 70 }}"), HasSubstr("64 bits"));
}

TEST(ChatTemplateLimits, HundredsOfLevelsOfRealRecursionAreFine) {
  EXPECT_EQ(
      render("{% macro f(n) %}{% if n > 0 %}({{ f(n - 1) }}){% endif %}{% endmacro %}{{ f(150) | length }}")
          .text,
      "300");
}

TEST(ChatJson, KeepsKeyOrderBigIntegersAndFloats) {
  const Json messages =
      parse_chat_json(R"([{"z": 1, "a": 12345678901234567890123, "f": 1e16, "g": 1.0, "z": 2}])", "chat");
  ChatInput input;
  input.messages = &messages;
  EXPECT_EQ(ChatTemplate::compile("{{ messages[0] | tojson }} {{ messages[0].a }}", "t").render(input).text,
            R"({"z": 2, "a": 12345678901234567890123, "f": 1e+16, "g": 1.0} 12345678901234567890123)");
}

TEST(ChatJson, NamesThePlaceOfAnError) {
  try {
    parse_chat_json("{\"a\": }", "rows.jsonl:3");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("rows.jsonl:3:7: not valid JSON"));
  }
}

TEST(ChatJson, NumbersThatJsonDoesNotHaveAreReadAndRefusedWhereTheyWouldBeWritten) {
  const Json messages = parse_chat_json(
      R"([{"role": "user", "content": "hi", "score": NaN, "args": {"t": [1, Infinity]}}])", "rows.jsonl:1");
  ChatInput input;
  input.messages = &messages;
  EXPECT_EQ(ChatTemplate::compile("{{ messages[0].content }}", "t").render(input).text, "hi");
  for (const char* source :
       {"{{ messages[0].score }}", "{{ messages[0].args | tojson }}", "{{ messages[0].args }}"}) {
    try {
      ChatTemplate::compile(source, "t").render(input);
      FAIL() << source;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("t:1: messages[0].score is NaN, which JSON does not have"));
      EXPECT_THAT(error.what(), HasSubstr("write null"));
    }
  }
}

// Copies of a message recurse: without the reader's limit, a row of a few hundred kilobytes ends the program.
TEST(ChatJson, RefusesRowsThatNestWithoutEnd) {
  for (const char* opening : {"[", "{\"a\":"}) {
    std::string text = "{\"messages\": [{\"role\": \"user\", \"content\": ";
    for (int i = 0; i < 200000; ++i) text += opening;
    try {
      parse_chat_json(text, "rows.jsonl:3");
      FAIL();
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("rows.jsonl:3:"));
      EXPECT_THAT(error.what(), HasSubstr("nested more than 500 deep"));
    }
  }
}

TEST(ChatTemplateInputs, KwargsHideSpecialTokensButNotMessages) {
  const Json messages = parse_chat_json(kChat, "chat");
  const Json kwargs = {{"bos_token", "[B]"}, {"messages", "no"}, {"range", "mine"}};
  ChatInput input;
  input.messages = &messages;
  input.kwargs = &kwargs;
  input.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  EXPECT_EQ(ChatTemplate::compile(
                "{{ bos_token }}{{ eos_token }}{{ messages | length }}{{ range }}{{ tools is none }}", "t")
                .render(input)
                .text,
            "[B]</s>3mineTrue");
}

TEST(Trace, NamesValuesThatLeaveNoCharacter) {
  const Json messages = parse_chat_json(
      R"([{"role": "user", "content": " a ", "name": "n"},
          {"role": "assistant", "content": "", "tool_calls": [{"id": "i", "function": {"name": "f", "arguments": {"x": 1, "y": true, "z": "q"}}}]}])",
      "chat");
  const Json tools = parse_chat_json(R"([{"name": "f", "parameters": {"type": "object"}}])", "tools");
  const auto unwritten = [&](const std::string& source) {
    ChatInput input;
    input.messages = &messages;
    input.tools = &tools;
    input.trace = true;
    return ChatTemplate::compile(source, "t").render(input).unwritten;
  };
  EXPECT_EQ(unwritten("{{ messages | tojson }}{{ tools }}"), (std::vector<std::string>{}));
  EXPECT_EQ(
      unwritten(
          "{% for m in messages %}{{ m.role ~ (m.content | trim) }}{% for c in m.tool_calls %}"
          "{{ c.function.name }}{{ c.function.arguments.x + 1 }}{% endfor %}{% endfor %}{{ tools[0].name }}"),
      (std::vector<std::string>{"/messages/0/name", "/messages/1/tool_calls/0/id",
                                "/messages/1/tool_calls/0/function/arguments/z",
                                "/tools/0/parameters/type"}));
  EXPECT_EQ(unwritten("{% if messages[0].content and tools %}x{% endif %}{{ messages[1:] | tojson }}").size(),
            5U);
}

TEST(Trace, NamesContentThatIsWrittenAsAList) {
  const Json messages = parse_chat_json(
      R"([{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "user", "content": "b"}])",
      "chat");
  const auto lists = [&](const std::string& source) {
    ChatInput input;
    input.messages = &messages;
    input.trace = true;
    return ChatTemplate::compile(source, "t").render(input).written_containers;
  };
  EXPECT_EQ(lists("{% for m in messages %}{{ m.content }}{% endfor %}"), (std::vector<std::size_t>{0}));
  EXPECT_EQ(lists("{% for m in messages %}{{ m.content[0] }}{% endfor %}"), (std::vector<std::size_t>{0}));
  EXPECT_EQ(lists("{{ messages[0].content[0].text }}{{ messages[1].content }}"),
            (std::vector<std::size_t>{}));
}

}  // namespace
}  // namespace hone::text
