// What a chat template leaves out of a row, the forms that a chat is given for it, and turns without an end:
// for templates of the field (tests/data/templates/field) and for those that write little.
#include "data/chat_rendering.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "data/tokenize.h"
#include "tests/data/support.h"
#include "text/pretrained_tokenizer.h"

namespace hone::data {
namespace {

using test::learnt_runs;
using test::TemporaryDirectory;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

text::PretrainedTokenizer tokenizer_of(const std::string& template_text,
                                       const std::string& eos = "<|im_end|>") {
  const TemporaryDirectory dir;
  test::write_tokenizer(dir, "", eos);
  dir.write("chat_template.jinja", template_text);
  return text::PretrainedTokenizer::from_pretrained(dir.path());
}

text::PretrainedTokenizer of_the_field(const std::string& name) {
  const auto path = std::filesystem::path(HONE_TEST_DATA) / "templates/field" / (name + ".json");
  return tokenizer_of(Json::parse(read_file(path))["template"].get<std::string>());
}

TokenizedRow tokenize(const std::string& json, const text::PretrainedTokenizer& tokenizer) {
  return RowTokenizer(&tokenizer, {.for_training = true}).tokenize(json, "f.jsonl:7");
}

/// "kind what @ place" of every finding but notes and ends of turns.
std::vector<std::string> found(const TokenizedRow& row) {
  std::vector<std::string> list;
  for (const auto& f : row.findings)
    if (severity_of(f.kind) > Severity::kNote && f.kind != FindingKind::kNoStop &&
        f.kind != FindingKind::kOtherStop)
      list.push_back(std::string(name_of(f.kind)) + (f.what.empty() ? "" : " " + f.what) + " @ " + f.place);
  return list;
}

std::vector<std::string> found(const std::string& json, const text::PretrainedTokenizer& tokenizer) {
  return found(tokenize(json, tokenizer));
}

const std::string kTools =
    R"("tools": [{"type":"function","function":{"name":"lookup","description":"Looks up.","parameters":
       {"type":"object","properties":{"key":{"type":"string","description":"the key"}},"required":["key"]}}}], )";
const std::string kPlain =
    R"({"messages": [{"role":"user","content":"hello"},{"role":"assistant","content":"hi"},
  {"role":"user","content":"more"},{"role":"assistant","content":"<think>\nhm\n</think>\n\nbye"}]})";
const std::string kSystem =
    R"({"messages": [{"role":"system","content":"Be kind."},{"role":"user","content":"hello"},
  {"role":"assistant","content":"hi"},{"role":"user","content":"more"},{"role":"assistant","content":"bye"}]})";
const std::string kReasoning = R"({"messages": [{"role":"user","content":"2+2?"},
  {"role":"assistant","content":"4","reasoning_content":"two and two"},{"role":"user","content":"3+3?"},
  {"role":"assistant","content":"6","reasoning_content":"three twice"}]})";
const std::string kToolUse =
    "{" + kTools +
    R"("messages": [{"role":"user","content":"find"},{"role":"assistant","content":"","tool_calls":
  [{"id":"callabc01","type":"function","function":{"name":"lookup","arguments":{"key":"k1"}}}]},
  {"role":"tool","tool_call_id":"callabc01","name":"lookup","content":"seven"},
  {"role":"assistant","content":"It is seven."}]})";

/// What is lost in the chats above with a template of the field: plain, system, reasoning, tools.
struct FieldCase {
  std::string name;
  std::vector<std::string> system, reasoning, tools;
};

const std::vector<std::string> kReasoningLost{"dropped_reasoning reasoning @ messages[1]",
                                              "dropped_reasoning reasoning @ messages[3]"};
const std::vector<std::string> kReasoningOfHistory{"dropped_history reasoning @ messages[1]"};
const std::vector<std::string> kToolsLost{
    "silent_turn @ messages[1]", "dropped_call @ messages[1].tool_calls[0]", "dropped_tool @ tools[0]"};

class FieldTemplate : public ::testing::TestWithParam<FieldCase> {};

TEST_P(FieldTemplate, LosesOnlyWhatItLoses) {
  const FieldCase& c = GetParam();
  const auto tokenizer = of_the_field(c.name);
  EXPECT_THAT(found(kPlain, tokenizer), IsEmpty());
  EXPECT_THAT(found(kSystem, tokenizer), ElementsAreArray(c.system));
  EXPECT_THAT(found(kReasoning, tokenizer), ElementsAreArray(c.reasoning));
  EXPECT_THAT(found(kToolUse, tokenizer), ElementsAreArray(c.tools));
}

INSTANTIATE_TEST_SUITE_P(
    Templates, FieldTemplate,
    ::testing::Values(
        FieldCase{"chatml", {}, kReasoningLost, kToolsLost}, FieldCase{"command_r", {}, kReasoningLost, {}},
        FieldCase{"deepseek_v3", {}, kReasoningLost, {"dropped_tool @ tools[0]"}},
        FieldCase{"glm4_5", {}, kReasoningOfHistory, {}}, FieldCase{"harmony", {}, kReasoningOfHistory, {}},
        FieldCase{"llama3_1", {}, kReasoningLost, {}},
        FieldCase{"mistral_v3",
                  {"dropped_system system, though the model is asked with it @ messages[0].content"},
                  kReasoningLost,
                  {}},
        FieldCase{"nemotron_nano", {}, kReasoningOfHistory, {}},
        FieldCase{"phi4", {}, kReasoningLost, kToolsLost}, FieldCase{"qwen2_5", {}, kReasoningLost, {}},
        FieldCase{"qwen3", {}, kReasoningOfHistory, {}}, FieldCase{"qwen3_coder", {}, kReasoningLost, {}},
        FieldCase{"zephyr",
                  {},
                  kReasoningLost,
                  {"silent_turn @ messages[1]", "dropped_call @ messages[1].tool_calls[0]",
                   "dropped_content tool @ messages[2].content", "dropped_tool @ tools[0]"}}),
    [](const auto& c) { return c.param.name; });

const std::string kChatml = test::chat_template_text("chatml");

/// A template that writes `body` for a message m.
text::PretrainedTokenizer writing(const std::string& body) {
  return tokenizer_of("{% for m in messages %}<|im_start|>{{ m.role }}\n" + body +
                      "<|im_end|>\n{% endfor %}");
}

TEST(Dropped, IsNothingWhoseCharactersMakeTheText) {
  const std::string chat = R"({"documents": [{"title":"T","text":"D"}], "messages": [
      {"role":"user","content":" hi "},{"role":"assistant","content":"yo","tool_calls":
      [{"function":{"name":"f","arguments":{"a":1,"b":"x","c":2.5,"d":true,"e":""}}}]}]})";
  const std::string rest = "{{ documents | tojson }}";
  for (const std::string body :
       {"{{ m.content | upper }}{{ m.tool_calls | string }}",
        "{{ (m.content ~ m.tool_calls) | replace('h', 'j') }}",
        "{{ m.content.strip()[1:] }}{{ (m.tool_calls or []) | tojson }}",
        "{{ m.content | trim }}{% for c in m.tool_calls %}{{ c.function.name }}"
        "{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}{% endfor %}",
        "{{ m.content | length }}{{ (m.tool_calls or []) | tojson | length }}",
        "{% set all = m | tojson %}{{ all }}"})
    EXPECT_THAT(found(chat, tokenizer_of("{{ documents | tojson }}{% for m in messages %}<|im_start|>" +
                                         body + "<|im_end|>\n{% endfor %}")),
                Not(Contains(HasSubstr("dropped"))))
        << body;
}

TEST(Dropped, IsWhatIsOnlyTested) {
  const auto tokenizer = writing("{{ m.content }}{% if m.tool_calls and tools %}[calls]{% endif %}");
  EXPECT_THAT(found(kToolUse, tokenizer),
              ElementsAre("silent_turn @ messages[1]", "dropped_call @ messages[1].tool_calls[0]",
                          "dropped_tool @ tools[0]"));
}

TEST(Dropped, ArgumentsAreToldFromTheCall) {
  const auto tokenizer =
      writing("{{ m.content }}{% for c in m.tool_calls %}[{{ c.function.name }}]{% endfor %}");
  EXPECT_THAT(
      found(kToolUse, tokenizer),
      ElementsAre("dropped_arguments arguments @ messages[1].tool_calls[0]", "dropped_tool @ tools[0]"));
}

TEST(Dropped, PartsAndDocumentsAndTurnsOfIgnoredRoles) {
  const auto tokenizer = tokenizer_of(
      "{% for m in messages %}{% if m.role != 'tool' %}<|im_start|>{{ m.role }}\n{{ m.content[0].text if "
      "m.content is not "
      "string else '' }}<|im_end|>\n{% endif %}{% endfor %}");
  const auto row = tokenize(R"({"documents": [{"title":"T","text":"D"}], "messages": [
      {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
      {"role":"tool","content":[{"type":"text","text":"t"}]},
      {"role":"assistant","content":[{"type":"text","text":"c"}]}]})",
                            tokenizer);
  EXPECT_THAT(found(row),
              ElementsAre("dropped_part user @ messages[0].content[1]", "dropped_document @ documents[0]",
                          "dropped_content tool @ messages[1].content"));
}

TEST(Dropped, CanBeAnErrorOrNothing) {
  const TemporaryDirectory dir;
  const auto file = dir.write("rows.jsonl", [] {
    std::string rows = kToolUse;
    std::erase(rows, '\n');
    return rows + "\n";
  }());
  const auto tokenizer = tokenizer_of(kChatml);
  const auto load = [&](OnDropped policy) {
    return Dataset::load(file, "train", tokenizer, {.seq_len = 512, .on_dropped = policy});
  };
  const auto warned = describe(load(OnDropped::kWarn).statistics().report, Severity::kDropped);
  EXPECT_THAT(warned,
              Contains("warning: 1 tool call that the chat template writes nowhere (tool_calls); first " +
                       file + ":1: messages[1].tool_calls[0]"));
  EXPECT_THAT(warned, Contains(HasSubstr("1 turn left to teach an immediate stop and nothing else")));
  EXPECT_THAT(describe(load(OnDropped::kIgnore).statistics().report, Severity::kDropped), IsEmpty());
  EXPECT_THAT(test::error_of([&] { load(OnDropped::kError); }), HasSubstr(file + ":1: 1 turn left to teach"));
  // What a template does by design is no error.
  std::string reasoning = kReasoning;
  std::erase(reasoning, '\n');
  dir.write("rows.jsonl", reasoning + "\n");
  const auto kept = Dataset::load(file, "train", of_the_field("qwen3"), {.on_dropped = OnDropped::kError});
  EXPECT_THAT(
      describe(kept.statistics().report, Severity::kNotice),
      ElementsAre(HasSubstr("1 earlier turn whose reasoning the chat template leaves out by design")));
}

std::vector<std::string> learnt(const TokenizedRow& row) {
  return learnt_runs(row.ids, row.labels);
}

TEST(Forms, PartsOfTextAreJoinedWhereATemplateTakesAString) {
  const std::string chat = R"({"messages": [{"role":"user","content":[{"type":"text","text":"hello"}]},
      {"role":"assistant","content":[{"type":"text","text":"sal"},"ut",{"type":"output_text","text":"!","image":null}]}]})";
  for (const std::string body : {"{{ m.content }}", "{{ m.content | trim }}", "{{ 'a' + m.content }}",
                                 "{% if m.content is string %}{{ m.content }}{% endif %}"}) {
    const auto row = tokenize(chat, writing(body));
    EXPECT_THAT(learnt(row).back(), HasSubstr("salut!<|im_end|>")) << body;
    EXPECT_THAT(found(row), Contains("joined_parts @ messages[1].content"));
  }
  const auto row =
      tokenize(chat, writing("{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content "
                             "%}{% if p.type == 'text' and 'image' not in p %}({{ p.text }}){% endif "
                             "%}{% endfor %}{% endif %}"));
  EXPECT_THAT(learnt(row), ElementsAre("(sal)(ut)(!)<|im_end|>"));
  EXPECT_THAT(found(row), IsEmpty());
}

TEST(Forms, PartsThatAreNoTextAreRefusedByName) {
  for (const std::string part :
       {R"({"type":"image_url","image_url":{"url":"x"}})", R"({"type":"image"})", R"({"image":"x.png"})",
        R"({"type":"input_audio","input_audio":{"data":"x"}})"})
    EXPECT_THAT(test::error_of([&] {
                  tokenize(R"({"messages": [{"role":"user","content":[{"type":"text","text":"a"},)" + part +
                               R"(]},{"role":"assistant","content":"b"}]})",
                           tokenizer_of(kChatml));
                }),
                testing::MatchesRegex("f.jsonl:7: messages\\[0\\].content\\[1\\] is a part of type "
                                      "'(image_url|image|input_audio)'; hone "
                                      "trains on text alone.*"));
}

std::string call_of(const std::string& arguments) {
  return R"({"messages": [{"role":"user","content":"?"},{"role":"assistant","content":"","tool_calls":
      [{"function":{"name":"f","arguments":)" +
         arguments + "}}]}]}";
}

TEST(Forms, ArgumentsAreWhatTheTemplateTakes) {
  const std::string calls = "{{ m.content }}{% for c in m.tool_calls %}";
  const auto as_json = writing(calls + "{{ c.function.arguments | tojson }}{% endfor %}");
  const auto as_string = writing(calls + "{{ 'a:' + c.function.arguments }}{% endfor %}");
  const auto printed = writing(calls + "{{ c.function.arguments }}{% endfor %}");
  const auto by_item =
      writing(calls +
              "{% if c.function.arguments is mapping %}{% for k, v in c.function.arguments | items "
              "%}{{ k }}={{ v }};{% endfor %}{% endif %}{% endfor %}");
  const std::string object = R"({"city": "Rome", "n": 1})";
  const std::string text = R"("{\"city\": \"Rome\", \"n\": 1}")";
  const std::vector<std::string> json{R"({"city": "Rome", "n": 1}<|im_end|>)"};
  const std::string no_name = "dropped_call @ messages[1].tool_calls[0]";  // no template here writes it
  EXPECT_EQ(learnt(tokenize(call_of(object), as_json)), json);
  EXPECT_THAT(found(call_of(object), as_json), ElementsAre(no_name));
  EXPECT_EQ(learnt(tokenize(call_of(text), as_json)), json);
  EXPECT_THAT(found(call_of(text), as_json),
              ElementsAre("parsed_arguments @ messages[1].tool_calls[0]", no_name));
  EXPECT_THAT(learnt(tokenize(call_of(object), as_string)), ElementsAre("a:" + json[0]));
  EXPECT_THAT(found(call_of(object), as_string),
              ElementsAre("printed_arguments @ messages[1].tool_calls[0]", no_name));
  EXPECT_THAT(learnt(tokenize(call_of(text), as_string)), ElementsAre("a:" + json[0]));
  EXPECT_EQ(learnt(tokenize(call_of(object), printed)), json);
  EXPECT_THAT(learnt(tokenize(call_of(text), by_item)), ElementsAre("city=Rome;n=1;<|im_end|>"));
  EXPECT_THAT(found(call_of(R"("no JSON")"), as_json), ElementsAre(no_name));
}

TEST(Forms, NullArgumentsOfOtherToolsAreLeftOut) {
  const auto tokenizer = writing("{{ m.content }}{{ (m.tool_calls or []) | tojson }}");
  const auto with = [&](const std::string& parameters) {
    return tokenize(R"({"tools": [{"type":"function","function":{"name":"f","parameters":)" + parameters +
                        R"(,"strict":null}}], "messages": [{"role":"user","content":"?","tool_calls":null},
      {"role":"assistant","content":null,"tool_calls":[{"id":null,"function":{"name":"f","arguments":
      {"a":1,"b":null,"c":{"d":null,"e":2},"f":[{"g":null}]}}}]}]})",
                    tokenizer);
  };
  const auto bare = with("null");
  EXPECT_THAT(bare.text, HasSubstr(R"("arguments": {"a": 1, "c": {"e": 2}, "f": [{}]})"));
  EXPECT_THAT(found(bare), Contains("null_argument @ messages[1].tool_calls[0]"));
  EXPECT_THAT(with(R"({"properties": {"b": {"type": "string"}}})").text, HasSubstr(R"({"a": 1, "c")"));
  for (const std::string schema :
       {R"({"type": ["string", "null"]})", R"({"nullable": true, "type": "string"})",
        R"({"anyOf": [{"type": "string"}, {"type": "null"}]})", R"({"description": "any"})"})
    EXPECT_THAT(with(R"({"properties": {"b": )" + schema + "}}").text,
                HasSubstr(R"({"a": 1, "b": null, "c")"))
        << schema;
  EXPECT_THAT(found(with(R"({"properties": {"b": null, "a": {"type": "number", "default": null}}})")),
              Contains("null_in_tools @ tools"));
}

TEST(Forms, AnEmptyListOfToolCallsIsNone) {
  const auto tokenizer = writing("{{ m.content }}{% if 'tool_calls' in m %}[calls]{% endif %}");
  const auto row = tokenize(R"({"messages": [{"role":"user","content":"?"},
      {"role":"assistant","content":"a","tool_calls":[]}]})",
                            tokenizer);
  EXPECT_THAT(learnt(row), ElementsAre("a<|im_end|>"));
  EXPECT_THAT(found(row), IsEmpty());
}

TEST(Forms, RolesOfOtherSystemsAreKnownOrNamed) {
  const auto row = tokenize(R"({"messages": [{"role":"human","content":"a"},{"role":"gpt","content":"b"},
      {"role":"critic","content":"c"},{"role":"model","content":"d","train":false},{"role":"bot","content":"e"}]})",
                            tokenizer_of(kChatml));
  EXPECT_THAT(learnt(row), ElementsAre("b<|im_end|>", "e<|im_end|>"));
  EXPECT_THAT(found(row), ElementsAre("foreign_role 'human', taken as 'user' @ messages[0].role",
                                      "foreign_role 'gpt', taken as 'assistant' @ messages[1].role",
                                      "unknown_role critic @ messages[2].role",
                                      "foreign_role 'model', taken as 'assistant' @ messages[3].role",
                                      "foreign_role 'bot', taken as 'assistant' @ messages[4].role"));
}

TEST(Forms, DeveloperIsSystemWhereTheTemplateDoesNotKnowIt) {
  const std::string chat =
      R"({"messages": [{"role":"developer","content":"Rules."},{"role":"user","content":"a"},
      {"role":"assistant","content":"b"}]})";
  EXPECT_THAT(found(chat, tokenizer_of(kChatml)), IsEmpty());
  EXPECT_THAT(found(chat, of_the_field("harmony")), IsEmpty());
  for (const auto* name : {"qwen3", "phi3", "glm4_5", "mistral_small"}) {
    const auto row = tokenize(chat, of_the_field(name));
    EXPECT_THAT(row.text, HasSubstr("Rules.")) << name;
    EXPECT_THAT(found(row), ElementsAre("developer_as_system @ messages[0].role"));
  }
}

TEST(Forms, MarksThatAreNotReadAreNamed) {
  const auto row =
      tokenize(R"({"messages": [{"role":"user","content":"a","train":true,"weight":0,"loss_weight":0.5},
      {"role":"assistant","content":"b","mask":1,"loss":false},{"role":"assistant","content":"c","loss":true}]})",
               tokenizer_of(kChatml));
  EXPECT_THAT(learnt(row), ElementsAre("c<|im_end|>"));
  EXPECT_THAT(found(row),
              ElementsAre("ignored_mark 'train' on a turn of role 'user' @ messages[0].train",
                          "ignored_mark 'loss_weight' on a turn of role 'user' @ messages[0].loss_weight",
                          "ignored_mark 'mask' on a turn of role 'assistant' @ messages[1].mask"));
}

/// The findings about ends of turns, with the number of learnt turns.
std::vector<std::string> ends(const std::string& template_text, const std::string& eos = "<|im_end|>") {
  std::string chat = kSystem;
  std::erase(chat, '\n');
  const TemporaryDirectory dir;
  const auto dataset = Dataset::load(dir.write("rows.jsonl", chat + "\n"), "train",
                                     tokenizer_of(template_text, eos), {.seq_len = 512});
  std::vector<std::string> lines;
  for (const auto& entry : dataset.statistics().report.entries())
    if (entry.kind == FindingKind::kNoStop || entry.kind == FindingKind::kOtherStop)
      lines.push_back(describe(entry, dataset.statistics().report.turns()));
  return lines;
}

TEST(TurnEnds, ThatLearnNoStopAreCounted) {
  EXPECT_THAT(ends(kChatml), IsEmpty());
  EXPECT_THAT(
      ends(kChatml, "<|endoftext|>"),
      ElementsAre(testing::StartsWith("2 learnt turns of 2 that '<|im_end|>' ends, which is no stop token")));
  const std::string role = "{% for m in messages %}<|im_start|>{{ m.role }}\n";
  EXPECT_THAT(
      ends(role + "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}"
                  "{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"),
      ElementsAre(HasSubstr("2 learnt turns of 2 without a stop token (eos) at the end")));
  EXPECT_THAT(
      ends(role + "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}"
                  "{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"),
      ElementsAre(HasSubstr("block ends before '<|im_end|>'")));
  EXPECT_THAT(
      ends(role + "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
                  "{% else %}{{ m.content }}{% endif %}\n{% endfor %}"),
      IsEmpty());
  EXPECT_THAT(ends("{% for m in messages %}\n\n{{ m.role }}: {{ m.content }}{% endfor %}"
                   "{% if add_generation_prompt %}\n\nassistant:{% endif %}"),
              ElementsAre(HasSubstr("the chat template writes no end of turn")));
  // One kind of turn alone: the last has no end.
  EXPECT_THAT(ends(role + "{{ m.content }}{% if not loop.last %}<|im_end|>{% endif %}\n{% endfor %}"
                          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"),
              ElementsAre(testing::StartsWith("1 learnt turn of 2 without a stop token")));
}

TEST(TurnEnds, TakeATemplatesOtherTokensWhereTheChatStops) {
  std::string text =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
      "{{ '<|im_end|>' if loop.last else '<|end|>' }}\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  EXPECT_THAT(ends(text), IsEmpty());
}

TEST(EmptyTurns, AreSaid) {
  EXPECT_THAT(found(R"({"messages": [{"role":"user","content":"a"},{"role":"assistant","content":""}]})",
                    tokenizer_of(kChatml)),
              ElementsAre("empty_turn @ messages[1]"));
}

}  // namespace
}  // namespace hone::data
