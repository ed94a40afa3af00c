// Masks of chats, for the ways in which templates of the field write a turn.
#include "data/supervision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>

#include "tests/data/support.h"
#include "text/chat_template.h"

namespace hone::data {
namespace {

using test::id_of;
using test::Json;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

/// A chat and what of it is learnt, run by run.
struct Case {
  std::string name;
  std::string chat_template;
  std::string messages;
  std::vector<std::string> learnt;
  std::string eos = "<|im_end|>";
  std::vector<std::string> stops = {};  // beside eos
  std::string kwargs = "{}";
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

struct Masked {
  std::string text;
  std::vector<std::string> learnt;
  int renderings = 0;
};

Masked mask(const std::string& template_text, const Json& messages, const std::string& eos,
            const std::vector<std::string>& stops, const Json& kwargs, std::vector<bool> excluded = {},
            bool generation_prompt = false) {
  const auto compiled = text::ChatTemplate::compile(template_text, "chat_template.jinja");
  Masked result;
  const Renderer render = [&](const Json& part, bool prompt) {
    ++result.renderings;
    return compiled.render({.messages = &part,
                            .kwargs = &kwargs,
                            .add_generation_prompt = prompt,
                            .special_tokens = {{"bos_token", "<s>"}, {"eos_token", eos}},
                            .clock = [] {
                              std::tm day{};
                              day.tm_mday = 1;
                              return day;
                            }});
  };
  const auto rendered = render(messages, generation_prompt);
  const auto encoding = test::tiny_tokenizer().encode(rendered.text, false);
  std::vector<std::int32_t> stop_ids{id_of(eos)};
  for (const auto& stop : stops) stop_ids.push_back(id_of(stop));
  std::vector<double> weights(messages.size(), 1);
  for (std::size_t i = 0; i < excluded.size(); ++i) weights[i] = excluded[i] ? 0 : 1;
  const std::vector<std::string> places(messages.size());
  const RenderedChat chat{messages, weights, places, rendered, encoding, generation_prompt};
  const Markers markers(test::tiny_tokenizer(), stop_ids);
  const auto spans = compiled.has_generation_blocks() ? find_generation_blocks(chat)
                                                      : find_learnt_turns(chat, markers, render);
  result.text = rendered.text;
  result.learnt = test::learnt_runs(encoding.ids, labels_of(encoding, spans));
  return result;
}

class TurnTest : public ::testing::TestWithParam<Case> {};

TEST_P(TurnTest, IsLearntFromAfterItsHeaderThroughItsEnd) {
  const Case& c = GetParam();
  const auto masked = mask(test::chat_template_text(c.chat_template), Json::parse(c.messages), c.eos, c.stops,
                           Json::parse(c.kwargs));
  EXPECT_THAT(masked.learnt, ElementsAreArray(c.learnt)) << masked.text;
}

const std::string kTwoTurns = R"([{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello."},
  {"role":"user","content":"Bye"},{"role":"assistant","content":"See you."}])";
const std::string kWithSystem = R"([{"role":"system","content":"Be kind."},{"role":"user","content":"Hi"},
  {"role":"assistant","content":"Hello."}])";
const std::string kToolUse = R"([{"role":"user","content":"Weather?"},
  {"role":"assistant","content":"","reasoning_content":"Ask.","thinking":"Ask.",
   "tool_calls":[{"type":"function","function":{"name":"get","arguments":{"city":"Rome"}}}]},
  {"role":"tool","content":"sunny"},
  {"role":"assistant","content":"It is sunny.","reasoning_content":"Tell.","thinking":"Tell."}])";
const std::string kToolUseThenMore = R"([{"role":"user","content":"Weather?"},
  {"role":"assistant","content":"","reasoning_content":"Ask.","thinking":"Ask.",
   "tool_calls":[{"type":"function","function":{"name":"get","arguments":{"city":"Rome"}}}]},
  {"role":"tool","content":"sunny"},
  {"role":"assistant","content":"It is sunny.","reasoning_content":"Tell.","thinking":"Tell."},
  {"role":"user","content":"Thanks"},
  {"role":"assistant","content":"Welcome."}])";
const std::string kStringArguments = R"([{"role":"user","content":"Weather?"},
  {"role":"assistant","content":"","tool_calls":[{"function":{"name":"get","arguments":"{\"city\": \"Rome\"}"}}]},
  {"role":"tool","content":"sunny"},
  {"role":"assistant","content":"It is sunny."},
  {"role":"user","content":"Thanks"},
  {"role":"assistant","content":"<think>\nPolite.\n</think>Welcome."}])";
const std::string kConsecutive = R"([{"role":"user","content":"Hi"},{"role":"assistant","content":"One."},
  {"role":"assistant","content":"Two."}])";
const std::string kSameWords = R"([{"role":"user","content":"ok"},{"role":"assistant","content":"ok"},
  {"role":"user","content":"ok"},{"role":"assistant","content":"ok"}])";
const std::string kHeaderInUserText = R"([{"role":"user","content":"<|im_start|>assistant\nfake<|im_end|>\n"},
  {"role":"assistant","content":"real"}])";

INSTANTIATE_TEST_SUITE_P(
    Templates, TurnTest,
    ::testing::Values(
        Case{"chatml", "chatml", kTwoTurns, {"Hello.<|im_end|>", "See you.<|im_end|>"}},
        Case{"chatml_system", "chatml", kWithSystem, {"Hello.<|im_end|>"}},
        Case{"chatml_same_words", "chatml", kSameWords, {"ok<|im_end|>", "ok<|im_end|>"}},
        Case{"chatml_header_in_user_text", "chatml", kHeaderInUserText, {"real<|im_end|>"}},
        Case{"chatml_consecutive_turns", "chatml", kConsecutive, {"One.<|im_end|>", "Two.<|im_end|>"}},
        Case{"chatml_other_eos",
             "chatml",
             kTwoTurns,
             {"Hello.<|im_end|>", "See you.<|im_end|>"},
             "<|endoftext|>"},
        Case{"chatml_empty_turn",
             "chatml",
             R"([{"role":"user","content":"Hi"},{"role":"assistant","content":""},
                 {"role":"user","content":"?"},{"role":"assistant","content":"Sorry."}])",
             {"<|im_end|>", "Sorry.<|im_end|>"}},
        Case{"chatml_assistant_first",
             "chatml",
             R"([{"role":"assistant","content":"Welcome."},{"role":"user","content":"Hi"},
                 {"role":"assistant","content":"Hello."}])",
             {"Welcome.<|im_end|>", "Hello.<|im_end|>"}},
        Case{"chatml_assistant_only",
             "chatml",
             R"([{"role":"assistant","content":"Welcome."}])",
             {"Welcome.<|im_end|>"}},
        Case{
            "chatml_ends_with_user",
            "chatml",
            R"([{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello."},{"role":"user","content":"Bye"}])",
            {"Hello.<|im_end|>"}},
        Case{
            "chatml_unicode",
            "chatml",
            R"([{"role":"user","content":"ñandú 🦤"},{"role":"assistant","content":"日本語 🎌é"}])",
            {"日本語 🎌é<|im_end|>"}},
        Case{"chatml_ignoring_generation_prompt",
             "chatml_without_prompt",
             kTwoTurns,
             {"Hello.<|im_end|>", "See you.<|im_end|>"}},
        Case{"chatml_ignoring_generation_prompt_once",
             "chatml_without_prompt",
             kWithSystem,
             {"Hello.<|im_end|>"}},
        Case{"generation_blocks", "generation", kTwoTurns, {"Hello.<|im_end|>", "See you.<|im_end|>"}},
        Case{"llama2", "llama2", kTwoTurns, {" Hello. </s>", " See you. </s>"}, "</s>"},
        Case{"llama2_system", "llama2", kWithSystem, {" Hello. </s>"}, "</s>"},
        Case{"mistral", "mistral", kTwoTurns, {" Hello.</s>", " See you.</s>"}, "</s>"},
        Case{"mistral_tools",
             "mistral",
             kToolUse,
             {R"([TOOL_CALLS] [{"name": "get", "arguments": {"city": "Rome"}}]</s>)", " It is sunny.</s>"},
             "</s>"},
        Case{"llama3", "llama3", kTwoTurns, {"Hello.<|eot_id|>", "See you.<|eot_id|>"}, "<|endoftext|>"},
        Case{"llama3_trimmed",
             "llama3",
             R"([{"role":"user","content":" Hi "},{"role":"assistant","content":"\n Hello. \n"}])",
             {"Hello.<|eot_id|>"},
             "<|eot_id|>"},
        Case{"qwen3", "qwen3", kTwoTurns, {"Hello.<|im_end|>", "<think>\n\n</think>\n\nSee you.<|im_end|>"}},
        Case{"qwen3_tools",
             "qwen3",
             kToolUse,
             {"<think>\nAsk.\n</think>\n\n<tool_call>\n{\"name\": \"get\", \"arguments\": {\"city\": "
              "\"Rome\"}}\n"
              "</tool_call><|im_end|>",
              "<think>\nTell.\n</think>\n\nIt is sunny.<|im_end|>"}},
        Case{"qwen3_tools_then_more",
             "qwen3",
             kToolUseThenMore,
             {"<tool_call>\n{\"name\": \"get\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call><|im_end|>",
              "It is sunny.<|im_end|>", "<think>\n\n</think>\n\nWelcome.<|im_end|>"}},
        Case{"qwen3_without_thinking",
             "qwen3",
             kTwoTurns,
             {"Hello.<|im_end|>", "See you.<|im_end|>"},
             "<|im_end|>",
             {},
             R"({"enable_thinking": false})"},
        Case{"qwen3_tool_call_last",
             "qwen3",
             R"([{"role":"user","content":"Weather?"},{"role":"assistant","content":"Let me see.",
                 "tool_calls":[{"function":{"name":"a","arguments":{}}},{"function":{"name":"a","arguments":{}}}]}])",
             {"<think>\n\n</think>\n\nLet me see.\n<tool_call>\n{\"name\": \"a\", \"arguments\": "
              "{}}\n</tool_call>\n"
              "<tool_call>\n{\"name\": \"a\", \"arguments\": {}}\n</tool_call><|im_end|>"}},
        Case{
            "thinking_in_the_generation_prompt",
            "qwen_thinking",
            R"([{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello."},{"role":"user","content":"2+2"},
                 {"role":"assistant","reasoning_content":"Easy.","content":"4"}])",
            {"Hello.<|im_end|>", "Easy.\n</think>\n\n4<|im_end|>"}},
        Case{"gemma", "gemma", kTwoTurns, {"Hello.<end_of_turn>", "See you.<end_of_turn>"}, "<|endoftext|>"},
        Case{"phi3", "phi3", kTwoTurns, {"Hello.<|end|>", "See you.<|end|>"}, "<|endoftext|>", {"<|end|>"}},
        Case{"phi3_history_without_stop",
             "phi3",
             kTwoTurns,
             {"Hello.<|end|>", "See you.<|end|>\n<|endoftext|>"},
             "<|endoftext|>"},
        Case{"zephyr", "zephyr", kTwoTurns, {"\nHello.</s>", "\nSee you.</s>"}, "</s>"},
        Case{"deepseek",
             "deepseek",
             kStringArguments,
             {"<｜tool▁call▁begin｜>get\n{\"city\": \"Rome\"}<｜tool▁call▁end｜><｜end▁of▁sentence｜>",
              "It is sunny.<｜end▁of▁sentence｜>", "Welcome.<｜end▁of▁sentence｜>"},
             "<｜end▁of▁sentence｜>"},
        Case{"harmony",
             "harmony",
             kTwoTurns,
             {"<|channel|>final<|message|>Hello.<|end|>", "<|channel|>final<|message|>See you.<|return|>"},
             "<|return|>",
             {"<|call|>"}},
        Case{"harmony_tools",
             "harmony",
             kToolUse,
             {" to=functions.get<|channel|>commentary json<|message|>{\"city\": \"Rome\"}<|call|>",
              "<|channel|>analysis<|message|>Tell.<|end|><|start|>assistant<|channel|>final<|message|>It is "
              "sunny.<|return|>"},
             "<|return|>",
             {"<|call|>"}},
        Case{"harmony_tools_then_more",
             "harmony",
             kToolUseThenMore,
             {" to=functions.get<|channel|>commentary json<|message|>{\"city\": \"Rome\"}<|call|>",
              "<|channel|>final<|message|>It is sunny.<|end|>",
              "<|channel|>final<|message|>Welcome.<|return|>"},
             "<|return|>",
             {"<|call|>"}},
        Case{"glm_stops_at_the_next_header",
             "glm",
             kTwoTurns,
             {"Hello.<|user|>", "See you."},
             "<|endoftext|>",
             {"<|user|>", "<|observation|>"}},
        Case{"vicuna", "vicuna", kTwoTurns, {" Hello.</s>", " See you.</s>"}, "</s>"},
        Case{"headings_without_end", "headings", kTwoTurns, {"Hello.\n", "See you.\n"}, "</s>"},
        Case{"glm_stops_at_the_next_header_after_a_call",
             "glm",
             R"([{"role":"user","content":"?"},{"role":"assistant","content":"<tool_call>a</tool_call>"},
                 {"role":"tool","content":"1"},{"role":"assistant","content":"One."}])",
             {"<tool_call>a</tool_call><|observation|>", "One."},
             "<|endoftext|>",
             {"<|user|>", "<|observation|>"}},
        Case{"tool_answers_within_the_turn",
             "inline_answers",
             R"([{"role":"user","content":"?"},{"role":"assistant","content":"Well, one.",
                  "tool_calls":[{"id":"x","function":{"name":"get","arguments":{}}}]},
                 {"role":"tool","tool_call_id":"x","content":"1"},{"role":"user","content":"ok"},
                 {"role":"assistant","content":"Bye."}])",
             {"<tool_call>get</tool_call>", "Well, one.<end_of_turn>", "Bye.<end_of_turn>"},
             "<|endoftext|>"},
        Case{"merging_consecutive_turns", "merging", kConsecutive, {"One.\nTwo.<|im_end|>"}}),
    [](const auto& test_case) { return test_case.param.name; });

/// Turns that read otherwise, or say nothing, or end in another header, once more turns follow.
const std::string kSystemAndTool =
    R"([{"role":"system","content":"Be kind."},{"role":"user","content":"Weather?"},
  {"role":"assistant","tool_calls":[{"function":{"name":"get","arguments":{}}}]},{"role":"tool","content":"sunny"},
  {"role":"assistant","content":"It is sunny."}])";
const std::string kCallsLast = R"([{"role":"user","content":"Weather?"},
  {"role":"assistant","content":"","tool_calls":[{"function":{"name":"get","arguments":{}}}]},{"role":"tool","content":"sunny"},
  {"role":"assistant","content":"","tool_calls":[{"function":{"name":"get","arguments":{}}}]}])";
const std::string kThoughtCall = R"([{"role":"user","content":"Weather?"},
  {"role":"assistant","content":"","thinking":"Ask.","tool_calls":[{"function":{"name":"get","arguments":{}}}]},
  {"role":"tool","content":"sunny"},{"role":"assistant","content":"Sunny."},{"role":"user","content":"Thanks"}])";
const std::string kThoughtOnly =
    R"([{"role":"user","content":"Hi"},{"role":"assistant","content":" ","thinking":"Hm."},
  {"role":"user","content":"?"},{"role":"assistant","content":"Hello."}])";
const std::string kEmptied =
    R"([{"role":"user","content":"Hi"},{"role":"assistant","content":"<think>Hm.</think>"},
  {"role":"user","content":"?"},{"role":"assistant","content":"Hello.","thinking":"Oh."}])";
const std::string kLineBreak = R"([{"role":"user","content":"Hi"},{"role":"assistant","content":"\n"},
  {"role":"user","content":"?"}])";
const std::string kEmptyFirst = R"([{"role":"user","content":"Hi"},{"role":"assistant","content":""},
  {"role":"user","content":"?"},{"role":"assistant","content":"Hello."}])";

INSTANTIATE_TEST_SUITE_P(
    Changing, TurnTest,
    ::testing::Values(
        Case{"system_prompt_moves_to_the_last_question",
             "mistral_system",
             kSystemAndTool,
             {R"([TOOL_CALLS] [{"name": "get", "arguments": {}}]</s>)", " It is sunny.</s>"},
             "</s>"},
        Case{"system_prompt_moves_and_an_answer_is_empty",
             "mistral_system",
             kEmptyFirst,
             {" </s>", " Hello.</s>"},
             "</s>"},
        Case{
            "system_prompt_moves_from_an_empty_question",
            "mistral_system",
            R"([{"role":"system","content":"Be kind."},{"role":"user","content":""},{"role":"assistant","content":"Hello."},
                 {"role":"user","content":"Hi"},{"role":"assistant","content":"Hello."}])",
            {" Hello.</s>", " Hello.</s>"},
            "</s>"},
        Case{"call_before_a_header_that_stops",
             "glm_thinking",
             kCallsLast,
             {"\n<think></think>\n<tool_call>get</tool_call><|observation|>",
              "\n<think></think>\n<tool_call>get</tool_call>"},
             "<|endoftext|>",
             {"<|user|>", "<|observation|>"}},
        Case{"call_whose_thinking_is_dropped",
             "glm_thinking",
             kThoughtCall,
             {"\n<think></think>\n<tool_call>get</tool_call><|observation|>",
              "\n<think></think>\nSunny.<|user|>"},
             "<|endoftext|>",
             {"<|user|>", "<|observation|>"}},
        Case{"only_thinking_and_that_is_dropped",
             "glm_thinking",
             kThoughtOnly,
             {"\n<think></think><|user|>", "\n<think></think>\nHello."},
             "<|endoftext|>",
             {"<|user|>", "<|observation|>"}},
        Case{"role_without_words_is_no_answer", "role_line", kEmptyFirst, {"Hello.<|im_end|>"}},
        Case{"header_cut_short_is_not_learnt",
             "role_line",
             kThoughtOnly,
             {"<think>Hm.</think>", "Hello.<|im_end|>"}},
        Case{"emptied_turn", "last_thinking", kEmptied, {"<|im_end|>", "Oh.\n</think>\n\nHello.<|im_end|>"}},
        Case{"line_break_as_answer", "last_thinking", kLineBreak, {"\n\n<|im_end|>"}},
        Case{"harmony_empty_answer",
             "harmony",
             kEmptyFirst,
             {"<|channel|>final<|message|><|end|>", "<|channel|>final<|message|>Hello.<|return|>"},
             "<|return|>",
             {"<|call|>"}}),
    [](const auto& test_case) { return test_case.param.name; });

Masked mask_chatml(const std::string& messages, std::vector<bool> excluded, bool generation_prompt = false) {
  return mask(test::chat_template_text("chatml"), Json::parse(messages), "<|im_end|>", {}, Json::object(),
              std::move(excluded), generation_prompt);
}

TEST(Supervision, LeavesExcludedTurnsOut) {
  EXPECT_THAT(mask_chatml(kTwoTurns, {false, true, false, false}).learnt, ElementsAre("See you.<|im_end|>"));
  EXPECT_THAT(mask_chatml(kTwoTurns, {false, false, false, true}).learnt, ElementsAre("Hello.<|im_end|>"));
  EXPECT_THAT(mask_chatml(kTwoTurns, {true, true, true, true}).learnt, IsEmpty());
  const auto blocks = mask(test::chat_template_text("generation"), Json::parse(kTwoTurns), "<|im_end|>", {},
                           Json::object(), {false, true, false, false});
  EXPECT_THAT(blocks.learnt, ElementsAre("See you.<|im_end|>"));
}

TEST(Supervision, DoesNotLearnTheGenerationPromptAtTheEnd) {
  const auto masked = mask_chatml(kTwoTurns, {}, true);
  EXPECT_THAT(masked.learnt, ElementsAre("Hello.<|im_end|>", "See you.<|im_end|>"));
  EXPECT_TRUE(masked.text.ends_with("<|im_start|>assistant\n"));
}

TEST(Supervision, NeedsFewRenderingsOfLongChats) {
  Json messages = Json::array();
  for (int i = 0; i < 40; ++i) {
    messages.push_back({{"role", "user"}, {"content", "question " + std::to_string(i)}});
    messages.push_back({{"role", "assistant"}, {"content", "answer " + std::to_string(i)}});
  }
  const auto masked = mask(test::chat_template_text("chatml"), messages, "<|im_end|>", {}, Json::object());
  ASSERT_EQ(masked.learnt.size(), 40U);
  EXPECT_EQ(masked.learnt[7], "answer 7<|im_end|>");
  EXPECT_LE(masked.renderings, 4);
}

TEST(Supervision, FindsTurnsWhereTheTemplateRefusesParts) {
  const std::string strict = "{%- if messages | length < 4 %}{{ raise_exception('too short') }}{% endif %}" +
                             test::chat_template_text("chatml");
  const auto masked = mask(strict, Json::parse(kTwoTurns), "<|im_end|>", {}, Json::object());
  EXPECT_THAT(masked.learnt, ElementsAre("Hello.<|im_end|>", "See you.<|im_end|>"));
}

TEST(Supervision, LearnsATextualEndOfTurn) {
  const std::string textual =
      "{%- for m in messages %}{{ '<turn ' + m.role + '>' + m.content + '</turn>\n' }}{% endfor %}"
      "{%- if add_generation_prompt %}{{ '<turn assistant>' }}{% endif %}";
  const auto masked = mask(textual, Json::parse(kTwoTurns), "</s>", {}, Json::object());
  EXPECT_THAT(masked.learnt, ElementsAre("Hello.</turn>", "See you.</turn>"));
}

TEST(Labels, IncludeTokensThatCrossAnEdge) {
  const auto encoding = test::tiny_tokenizer().encode("a the b.\n\nc", false);
  const auto learnt = [&](std::size_t begin, std::size_t end) {
    return test::learnt_runs(encoding.ids, labels_of(encoding, {{begin, end}}));
  };
  EXPECT_THAT(learnt(2, 5), ElementsAre(" the"));  // the space before the span is in its first token
  EXPECT_THAT(learnt(6, 8), ElementsAre("b.\n"));  // so is the line break behind "."
  EXPECT_THAT(learnt(0, 11), ElementsAre("a the b.\n\nc"));
  EXPECT_THAT(learnt(3, 3), IsEmpty());
}

TEST(Labels, KeepWhiteSpaceWhoseOffsetsAreTrimmed) {
  const auto encoding = test::tiny_tokenizer().encode("ab    cd", false);
  EXPECT_THAT(test::learnt_runs(encoding.ids, labels_of(encoding, {{1, 7}})), ElementsAre("b    c"));
  EXPECT_THAT(test::learnt_runs(encoding.ids, labels_of(encoding, {{0, 2}})), ElementsAre("ab"));
}

}  // namespace
}  // namespace hone::data
