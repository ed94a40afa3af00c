// Rows of every kind as ids and labels, and every error a row can have.
#include "data/tokenize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/data/support.h"
#include "text/moment.h"
#include "text/pretrained_tokenizer.h"

namespace hone::data {
namespace {

using test::chatml;
using test::error_of;
using test::id_of;
using test::learnt_runs;
using test::TemporaryDirectory;
using ::testing::ElementsAre;

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Lt;
using ::testing::StartsWith;

text::PretrainedTokenizer tokenizer_with(const std::string& chat_template,
                                         const std::string& eos = "<|im_end|>", bool bos = false) {
  const TemporaryDirectory dir;
  test::write_tokenizer(dir, chat_template, eos, bos);
  return text::PretrainedTokenizer::from_pretrained(dir.path());
}

TokenizedRow tokenize(const std::string& json, const TokenizeOptions& options = {},
                      const text::PretrainedTokenizer& tokenizer = chatml()) {
  return RowTokenizer(&tokenizer, options).tokenize(json, "f.jsonl:7");
}

std::vector<std::string> learnt(const TokenizedRow& row) {
  return learnt_runs(row.ids, row.labels);
}

std::string decoded(const TokenizedRow& row) {
  return test::tiny_tokenizer().decode(row.ids);
}

TEST(TokenizeChat, LearnsAssistantTurns) {
  const auto row = tokenize(
      R"({"id": 3, "messages": [{"role":"user","content":"Hi"},{"role":"assistant","content":"Yo"}], "source": "x"})");
  EXPECT_EQ(row.kind, RowKind::kChat);
  EXPECT_EQ(row.text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n");
  EXPECT_EQ(decoded(row), row.text);
  EXPECT_THAT(learnt(row), ElementsAre("Yo<|im_end|>"));
  EXPECT_EQ(row.supervised(), 3);
}

TEST(TokenizeChat, HonoursTrainAndWeight) {
  const std::string chat =
      R"({"messages": [{"role":"user","content":"Hi"},{"role":"assistant","content":"A")" +
      std::string("%},") + R"({"role":"user","content":"?"},{"role":"assistant","content":"B"}]})";
  const auto with = [&](const std::string& flag) {
    std::string text = chat;
    return learnt(tokenize(text.replace(text.find('%'), 1, flag)));
  };
  EXPECT_THAT(with(""), ElementsAre("A<|im_end|>", "B<|im_end|>"));
  EXPECT_THAT(with(R"(,"train":false)"), ElementsAre("B<|im_end|>"));
  EXPECT_THAT(with(R"(,"weight":0)"), ElementsAre("B<|im_end|>"));
  EXPECT_THAT(with(R"(,"weight":1,"train":null)"), ElementsAre("A<|im_end|>", "B<|im_end|>"));
}

TEST(TokenizeChat, PassesToolsAndVariablesToTheTemplate) {
  const TemporaryDirectory dir;
  test::write_tokenizer(dir, "");
  dir.write("chat_template.jinja",
            "{{ tools | tojson }}|{{ mood }}|{{ strftime_now('%Y') }}|"
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}");
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(dir.path());
  TokenizeOptions options;
  options.now = text::parse_moment("1970-01-01 00:00:00", "test");
  const std::string messages = R"("messages": [{"role":"user","content":"Hi"}])";
  EXPECT_EQ(
      tokenize(R"({"tools": [{"z":1,"a":2}], "chat_template_kwargs": {"mood": "fine"}, )" + messages + "}",
               options, tokenizer)
          .text,
      R"([{"z": 1, "a": 2}]|fine|1970|<user>Hi)");
  EXPECT_EQ(tokenize(R"({"tools": "[{\"z\":1}]", )" + messages + "}", options, tokenizer).text,
            R"([{"z": 1}]||1970|<user>Hi)");
  EXPECT_EQ(tokenize(R"({"tools": null, )" + messages + "}", options, tokenizer).text, "null||1970|<user>Hi");
}

TEST(TokenizeChat, EndsWithTheGenerationPromptWhereAsked) {
  const auto row = tokenize(R"({"messages": [{"role":"user","content":"Hi"}]})", {.generation_prompt = true});
  EXPECT_EQ(row.text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_THAT(learnt(row), IsEmpty());
}

TEST(TokenizeChat, ReadsShareGpt) {
  const auto row = tokenize(
      R"({"system": "Be kind.", "conversations": [{"from":"human","value":"Hi"},{"from":"gpt","value":"Yo"},
          {"from":"Human","value":"?"},{"role":"assistant","content":"ok"}]})");
  EXPECT_EQ(row.kind, RowKind::kChat);
  EXPECT_EQ(row.text,
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
            "Yo<|im_end|>\n<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\nok<|im_end|>\n");
  EXPECT_THAT(learnt(row), ElementsAre("Yo<|im_end|>", "ok<|im_end|>"));
}

TEST(TokenizeChat, ReadsEverySpellingOfShareGpt) {
  const auto usual =
      tokenize(R"({"conversations": [{"from":"human","value":"Hi"},{"from":"gpt","value":"Yo"}]})");
  for (const auto* turns : {R"({"role":"user","content":"Hi"},{"role":"assistant","content":"Yo"})",
                            R"({"role":"human","value":"Hi"},{"role":"gpt","value":"Yo"})",
                            R"({"from":"user","content":"Hi"},{"from":"assistant","content":"Yo"})",
                            R"({"role":"User","content":"Hi"},{"role":"ChatGPT","content":"Yo"})"}) {
    const auto row = tokenize(R"({"conversations": [)" + std::string(turns) + "]}");
    EXPECT_EQ(row.text, usual.text) << turns;
    EXPECT_EQ(row.labels, usual.labels) << turns;
  }
  const auto qwen = tokenizer_with("qwen3");
  EXPECT_THAT(tokenize(R"({"conversations": [{"role":"user","content":"a"},
                           {"role":"function_call","content":"{\"name\": \"f\", \"arguments\": {}}"}]})",
                       {}, qwen)
                  .text,
              HasSubstr("<tool_call>\n{\"name\": \"f\""));
  const auto calls = tokenize(
      R"({"conversations": [{"role":"user","content":"a"},{"role":"assistant","content":null,
           "tool_calls":[{"type":"function","function":{"name":"f","arguments":{}}}]}]})",
      {}, qwen);
  EXPECT_THAT(calls.text, HasSubstr("<tool_call>\n{\"name\": \"f\""));
}

TEST(TokenizeChat, ReadsShareGptToolCalls) {
  const auto qwen = tokenizer_with("qwen3");
  const auto row = tokenize(
      R"({"conversations": [{"from":"user","value":"Weather?"},
          {"from":"function_call","value":"{\"name\": \"get\", \"arguments\": {\"city\": \"Rome\"}}"},
          {"from":"observation","value":"sunny"},{"from":"gpt","value":"Sunny."}]})",
      {}, qwen);
  EXPECT_THAT(
      row.text,
      HasSubstr("<tool_call>\n{\"name\": \"get\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>"));
  EXPECT_THAT(row.text, HasSubstr("<tool_response>\nsunny\n</tool_response>"));
}

TEST(TokenizeCompletion, ReadsAlpaca) {
  const auto row = tokenize(R"({"instruction": "Add.", "input": "", "output": "3"})");
  EXPECT_EQ(row.kind, RowKind::kCompletion);
  EXPECT_THAT(row.text, EndsWith("### Instruction:\nAdd.\n\n### Response:3"));
  EXPECT_THAT(learnt(row), ElementsAre("3<|im_end|>"));
}

TEST(TokenizeCompletion, LearnsTheCompletionAndOneEos) {
  const auto row = tokenize(R"({"prompt": "Q: the", "completion": " the A"})");
  EXPECT_EQ(row.kind, RowKind::kCompletion);
  EXPECT_EQ(row.text, "Q: the the A");
  EXPECT_EQ(decoded(row), "Q: the the A<|im_end|>");
  EXPECT_THAT(learnt(row), ElementsAre(" the A<|im_end|>"));
  EXPECT_THAT(learnt(tokenize(R"({"prompt": "Q", "completion": "A<|im_end|>"})")),
              ElementsAre("A<|im_end|>"));
  EXPECT_THAT(learnt(tokenize(R"({"prompt": "Q", "completion": ""})")), ElementsAre("<|im_end|>"));
}

TEST(TokenizeCompletion, LearnsATokenThatBeginsInThePrompt) {
  const auto row = tokenize(R"({"prompt": "A: ", "completion": "the"})");
  EXPECT_THAT(row.ids, ElementsAre(id_of("A"), id_of(":"), id_of("Ġthe"), id_of("<|im_end|>")));
  EXPECT_THAT(learnt(row), ElementsAre(" the<|im_end|>"));
}

TEST(TokenizeCompletion, BeginsWithWhatThePostProcessorAdds) {
  const auto llama = tokenizer_with("llama2", "</s>", true);
  const auto row = tokenize(R"({"prompt": "Q", "completion": "A"})", {}, llama);
  EXPECT_THAT(row.ids, ElementsAre(id_of("<s>"), id_of("Q"), id_of("A"), id_of("</s>")));
  EXPECT_THAT(row.labels, ElementsAre(-100, -100, id_of("A"), id_of("</s>")));
}

TEST(TokenizeCompletion, OfMessagesLearnsTheCompletionsTurns) {
  const auto row = tokenize(
      R"({"prompt": [{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}],
          "completion": [{"role":"assistant","content":"d"}]})");
  EXPECT_EQ(row.kind, RowKind::kCompletion);
  EXPECT_THAT(learnt(row), ElementsAre("d<|im_end|>"));
}

TEST(TokenizeText, IsLearntWholeAndEndsWithOneEos) {
  const auto row = tokenize(R"({"text": "ñ 🦤"})");
  EXPECT_EQ(row.kind, RowKind::kText);
  EXPECT_EQ(row.labels, row.ids);
  EXPECT_EQ(decoded(row), "ñ 🦤<|im_end|>");
  EXPECT_EQ(decoded(tokenize(R"({"text": "a<|im_end|>"})")), "a<|im_end|>");
}

TEST(TokenizeText, WithoutEosIsWhatTheTokenizerGives) {
  const auto llama = tokenizer_with("llama2", "</s>", true);
  EXPECT_THAT(tokenize(R"({"text": "ab"})", {.eos = false}, llama).ids,
              ElementsAre(id_of("<s>"), id_of("a"), id_of("b")));
  EXPECT_THAT(tokenize(R"({"text": "ab"})", {.special_tokens = false, .eos = false}, llama).ids,
              ElementsAre(id_of("a"), id_of("b")));
  EXPECT_THAT(tokenize(R"({"text": ""})", {.special_tokens = false, .eos = false}, llama).ids, IsEmpty());
}

TEST(TokenizeIds, TakesLabelsOrLearnsAll) {
  EXPECT_THAT(tokenize(R"({"input_ids": [5, 6, 7]})").labels, ElementsAre(5, 6, 7));
  EXPECT_THAT(tokenize(R"({"input_ids": [5, 6, 7], "labels": null, "text": "ignored"})").labels,
              ElementsAre(5, 6, 7));
  const auto row =
      tokenize(R"({"input_ids": [5, 6, 7], "labels": [-100, 6, 9], "attention_mask": [1, 1, 1]})");
  EXPECT_THAT(row.ids, ElementsAre(5, 6, 7));
  EXPECT_THAT(row.labels, ElementsAre(-100, 6, 9));
  EXPECT_EQ(row.kind, RowKind::kTokens);
}

TEST(TokenizeIds, DecodesWhereAsked) {
  const auto row = tokenize(
      "{\"input_ids\": [" + std::to_string(id_of("a")) + "," + std::to_string(id_of("<|im_end|>")) + "]}",
      {.decode = true});
  EXPECT_EQ(row.text, "a<|im_end|>");
}

TEST(TokenizeIds, NeedsNoTokenizer) {
  const RowTokenizer without(nullptr, {});
  EXPECT_THAT(without.tokenize(R"({"input_ids": [1, 2]})", "f:1").ids, ElementsAre(1, 2));
  EXPECT_EQ(error_of([&] { without.tokenize(R"({"text": "a"})", "f:1"); }),
            "f:1: the model has no tokenizer.json; only rows of input_ids can be used");
}

/// A row and what is said about it.
struct BadRow {
  std::string json;
  std::string message;  // the beginning of it, behind "f.jsonl:7: "
};

TEST(TokenizeErrors, NameLineFieldAndRemedy) {
  const std::string kinds =
      "messages | conversations | prompt + completion | instruction + output | text | input_ids (+ labels)";
  const std::vector<BadRow> rows{
      {R"({"messages": [)", "not valid JSON"},
      {R"([1])", "the row is a list, not an object; rows are " + kinds},
      {R"({})", "the row has none of the known keys (keys: none); rows are " + kinds},
      {R"({"id": 1, "question": "a"})",
       "the row has none of the known keys (keys: id, question); rows are " + kinds},
      {R"({"prompt": "a", "chosen": "b"})",
       "the row has a prompt but no completion (keys: prompt, chosen); rows are"},
      {R"({"completion": "b", "text": null})",
       "the row has a completion but no prompt (keys: completion, text)"},
      {R"({"text": "a", "messages": []})",
       "the row is of several kinds, messages and text (keys: text, messages); keep one of " + kinds},
      {R"({"prompt": "a", "completion": "b", "input_ids": [1]})",
       "the row is of several kinds, prompt + completion and input_ids"},
      {R"({"text": 5})", "text is a number, not a string"},
      {R"({"prompt": "a", "completion": 1})", "completion is a number, not a string"},
      {R"({"prompt": "a", "completion": [{"role":"assistant","content":"b"}]})",
       "prompt is a string and completion a list; both are strings, or both lists of messages"},
      {R"({"messages": "hi"})", "messages is a string, not a list of messages"},
      {R"({"messages": []})", "messages is empty"},
      {R"({"messages": ["hi"]})", "messages[0] is a string, not an object"},
      {R"({"messages": [{"content":"hi"}]})", "messages[0] has no role (keys: content)"},
      {R"({"messages": [{"from":"human","value":"hi"}]})",
       "messages[0] has no role (keys: from, value); lists of from and value belong under 'conversations'"},
      {R"({"messages": [{"role":1,"content":"hi"}]})", "messages[0].role is a number, not a string"},
      {R"({"messages": [{"role":"user"}]})", "messages[0] (user) has no content (keys: role)"},
      {R"({"messages": [{"role":"user","content":null,"name":"x"}]})",
       "messages[0] (user) has no content (keys: role, content, name)"},
      {R"({"messages": [{"role":"user","content":7}]})",
       "messages[0].content is a number, not a string or a list of parts"},
      {R"({"messages": [{"role":"assistant","content":"a","train":1}]})",
       "messages[0].train is a number, not true or false"},
      {R"({"messages": [{"role":"user","content":"a"}], "tools": 3})", "tools is a number, not a list"},
      {R"({"messages": [{"role":"user","content":"a"}], "tools": "{]"})", "tools, a string of JSON:"},
      {R"({"messages": [{"role":"user","content":"a"}], "chat_template_kwargs": []})",
       "chat_template_kwargs is a list, not an object"},
      {R"({"conversations": [{"from":"humam","value":"a"}]})",
       "conversations[0].from is 'humam'; known: human, user, gpt, assistant, chatgpt, bing, bard, claude, "
       "model, bot, chatbot, ai, "
       "system, developer, tool, observation, tool_response, function_response, function_call, tool_call; "
       "did you mean "
       "'human'?"},
      {R"({"conversations": [{"from":"human"}]})", "conversations[0] has no 'value' (keys: from)"},
      {R"({"conversations": [{"from":"human","value":[]}]})",
       "conversations[0].value is a list, not a string"},
      {R"({"conversations": [{"from":"function_call","value":"[]"}]})",
       "conversations[0].value is a list; a function call is JSON with name and arguments"},
      {R"({"input_ids": "1 2"})", "input_ids is a string, not a list of integers"},
      {R"({"input_ids": [1, "2"]})", "input_ids[1] is a string, not an integer"},
      {R"({"input_ids": [1, 2.5]})", "input_ids[1] is a number, not an integer"},
      {R"({"input_ids": [1, 400]})", "input_ids[1] is 400, outside the vocabulary of 400 ids (0 to 399)"},
      {R"({"input_ids": [-1]})", "input_ids[0] is -1, outside the vocabulary of 400 ids (0 to 399)"},
      {R"({"input_ids": [18446744073709551516]})",
       "input_ids[0] is 18446744073709551516, outside the vocabulary"},
      {R"({"input_ids": [1, 2], "labels": [1]})",
       "1 labels for 2 input_ids; labels are aligned with the ids, -100 where not learnt from"},
      {R"({"input_ids": [1], "labels": [-1]})",
       "labels[0] is -1, outside the vocabulary of 400 ids (0 to 399); -100 is a label that is not learnt "
       "from"},
      {R"({"input_ids": [1, 2], "loss_mask": [1]})",
       "1 values in loss_mask for 2 input_ids; it is aligned with the ids"},
      {R"({"input_ids": [1, 2], "completion_mask": [0, 0.5]})",
       "completion_mask[1] is 0.5; a token is learnt from (1) or not (0)"},
      {R"({"input_ids": [1, 2], "assistant_masks": "01"})", "assistant_masks is a string, not a list"},
      {R"({"input_ids": [1, 2], "position_ids": [0]})", "1 values in position_ids for 2 input_ids"},
      {R"({"input_ids": [1, 2], "seq_lengths": [1, 2]})",
       "the documents of seq_lengths have 3 tokens, the row 2 input_ids"},
      {R"({"input_ids": [1, 2], "seq_lengths": [2, 0]})",
       "seq_lengths has a document of 0 tokens in a row of 2 input_ids"},
      {R"({"input_ids": [1, 2], "cu_seqlens": [1, 2]})", "cu_seqlens does not begin with 0"},
      {R"({"input_ids": [1, 2, 3], "seq_lengths": [1, 2], "position_ids": [0, 1, 0]})",
       "position_ids and seq_lengths cut the row into different documents"},
      {R"({"input_ids": [1, 0], "attention_mask": [1]})",
       "1 values in attention_mask for 2 input_ids; it is aligned with the ids"},
      {R"({"input_ids": [1, 0], "attention_mask": [1, 0]})",
       "attention_mask has values other than 1; leave padding out of input_ids"}};
  for (const auto& row : rows) {
    const auto message = error_of([&] { tokenize(row.json, {.vocab = 400}); });
    EXPECT_THAT(message, AllOf(StartsWith("f.jsonl:7:"), HasSubstr(": " + row.message))) << row.json;
    EXPECT_THAT(message.size(), Lt(600U));
  }
}

TEST(TokenizeErrors, CarryTheTemplatesMessage) {
  const auto gemma = tokenizer_with("gemma", "<|endoftext|>");
  const auto message =
      error_of([&] { tokenize(R"({"messages": [{"role":"system","content":"a"}]})", {}, gemma); });
  EXPECT_THAT(message, StartsWith("f.jsonl:7: "));
  EXPECT_THAT(message, HasSubstr("chat_template.jinja:2: System role not supported"));
}

TEST(TokenizeErrors, StayOnOneLineOf600Bytes) {
  const TemporaryDirectory dir;
  test::write_tokenizer(dir, "");
  dir.write("chat_template.jinja", "{{ raise_exception('a\\nb' * 2000) }}");
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(dir.path());
  const auto message =
      error_of([&] { tokenize(R"({"messages": [{"role":"user","content":"a"}]})", {}, tokenizer); });
  EXPECT_THAT(message, HasSubstr("a ba b"));
  EXPECT_EQ(message.find('\n'), std::string::npos);
  EXPECT_LE(message.size(), 600U);
}

TEST(TokenizeErrors, NameTheMissingTemplate) {
  const auto plain = tokenizer_with("");
  EXPECT_THAT(error_of([&] { tokenize(R"({"messages": [{"role":"user","content":"a"}]})", {}, plain); }),
              HasSubstr("f.jsonl:7: "));
}

TEST(TokenizeErrors, NameTokensTheModelHasNoRowFor) {
  const auto message = error_of([&] { tokenize(R"({"text": "a<|im_end|>"})", {.vocab = 262}); });
  EXPECT_EQ(message, "f.jsonl:7: token 1 is '<|im_end|>' (id " + std::to_string(id_of("<|im_end|>")) +
                         "), outside the model's vocabulary of 262 ids; the tokenizer is not the model's");
}

TEST(TokenizeForTraining, SaysWhyARowHasNothingToLearn) {
  const auto reason = [&](const std::string& json) {
    EXPECT_EQ(tokenize(json).no_target, tokenize(json, {.for_training = true}).no_target);
    return tokenize(json).no_target;
  };
  EXPECT_EQ(reason(R"({"messages": [{"role":"user","content":"b"},{"role":"system","content":"a"}]})"),
            "it has no assistant message (roles: system, user)");
  EXPECT_EQ(
      reason(
          R"({"messages": [{"role":"user","content":"b"},{"role":"assistant","content":"c","train":false}]})"),
      "every assistant message says that it is not to be learnt from (train, weight)");
  EXPECT_EQ(reason(R"({"prompt": [{"role":"user","content":"a"},{"role":"assistant","content":"b"}],
                        "completion": [{"role":"user","content":"c"}]})"),
            "no message of the completion is an assistant's to learn from");
  EXPECT_EQ(reason(R"({"text": ""})"), "text is empty");
  EXPECT_EQ(reason(R"({"prompt": "", "completion": ""})"), "prompt and completion are empty");
  EXPECT_EQ(reason(R"({"input_ids": []})"), "input_ids is empty");
  EXPECT_EQ(reason(R"({"input_ids": [3]})"), "it has one token, which nothing predicts");
  EXPECT_EQ(reason(R"({"input_ids": [3, 4], "labels": [3, -100]})"),
            "every label but those of first tokens is -100");
  EXPECT_EQ(reason(R"({"input_ids": [3, 4], "labels": [-100, 4]})"), "");
  EXPECT_EQ(reason(R"({"prompt": "a", "completion": ""})"), "");  // its end is learnt
}

TEST(TokenizeForTraining, RefusesAMisspeltAssistant) {
  EXPECT_EQ(error_of([&] {
              tokenize(R"({"messages": [{"role":"user","content":"a"},{"role":"Assistant","content":"b"}]})",
                       {.for_training = true});
            }),
            "f.jsonl:7: messages[1].role is 'Assistant'; did you mean 'assistant'?");
}

/// The kinds of the findings of a row, with what they are about.
std::vector<std::string> found(const TokenizedRow& row) {
  std::vector<std::string> list;
  for (const auto& finding : row.findings)
    if (finding.kind != FindingKind::kTurns)
      list.push_back(std::string(name_of(finding.kind)) + (finding.what.empty() ? "" : ": " + finding.what));
  return list;
}

TEST(TokenizeCompletion, TakesAnEmptyPromptAndSaysSo) {
  const auto row = tokenize(R"({"prompt": "", "completion": "AB"})", {.for_training = true});
  EXPECT_THAT(learnt(row), ElementsAre("AB<|im_end|>"));
  EXPECT_THAT(found(row), ElementsAre("empty_prompt"));
  EXPECT_EQ(row.supervised(), 2);
}

TEST(TokenizeCompletion, TakesACompletionThatMergesWithTheWholePrompt) {
  const auto row = tokenize(R"({"prompt": "h", "completion": "e"})", {.for_training = true});
  EXPECT_THAT(row.ids, ElementsAre(id_of("he"), id_of("<|im_end|>")));
  EXPECT_EQ(row.labels, row.ids);
  EXPECT_EQ(row.supervised(), 1);
  EXPECT_THAT(found(row), ElementsAre("straddling_token"));
}

TEST(TokenizeCompletion, EndsWithEosWhateverTextDoes) {
  EXPECT_THAT(learnt(tokenize(R"({"prompt": "Q", "completion": "A"})", {.eos = false})),
              ElementsAre("A<|im_end|>"));
}

TEST(TokenizeIds, LearnsWhatMasksSay) {
  for (const std::string mask : {"completion_mask", "assistant_masks", "assistant_mask", "loss_mask"}) {
    const auto row = tokenize(R"({"input_ids": [5, 6, 7, 8], ")" + mask + R"(": [0, 0, 1, 1]})");
    EXPECT_THAT(row.labels, ElementsAre(-100, -100, 7, 8)) << mask;
    EXPECT_THAT(found(row), ElementsAre("mask_column: " + mask));
  }
  // Several count together, and labels stay what they are.
  EXPECT_THAT(tokenize(R"({"input_ids": [5, 6, 7, 8], "labels": [-100, 9, 9, 9],
                           "completion_mask": [1, 1, 0.0, true], "assistant_masks": [1, 1.0, 1, 1]})")
                  .labels,
              ElementsAre(-100, 9, -100, 9));
}

TEST(TokenizeIds, CutsPackedRowsIntoTheirDocuments) {
  const std::string ids = R"({"input_ids": [1, 2, 3, 4, 5], )";
  for (const std::string column :
       {R"("position_ids": [0, 1, 0, 1, 2])", R"("seq_lengths": [2, 3])", R"("cu_seqlens": [0, 2, 5])",
        R"("document_ids": [7, 7, 0, 0, 0])", R"("position_ids": [0, 1, 0, 1, 2], "seq_lengths": [2, 3])"}) {
    const auto row = tokenize(ids + column + "}");
    EXPECT_THAT(row.documents, ElementsAre(2, 3)) << column;
    EXPECT_EQ(row.supervised(), 3);  // neither first token is predicted
    EXPECT_EQ(found(row).front().substr(0, 9), "prepacked");
  }
  for (const std::string column : {R"("position_ids": [0, 1, 2, 3, 4])", R"("seq_lengths": [5])",
                                   R"("document_ids": [1, 1, 1, 1, 1])"}) {
    const auto row = tokenize(ids + column + "}");
    EXPECT_THAT(row.documents, IsEmpty()) << column;
    EXPECT_THAT(row.findings, IsEmpty());
  }
  // What is no plain boundary is named: positions of another kind; a document's own id is just a column.
  EXPECT_THAT(found(tokenize(ids + R"("position_ids": [3, 4, 5, 6, 7]})")),
              ElementsAre("ignored_column: position_ids"));
  EXPECT_THAT(found(tokenize(ids + R"("document_ids": "a"})")), ElementsAre("unknown_column: document_ids"));
}

TEST(TokenizeIds, NamesColumnsThatItDoesNotRead) {
  EXPECT_THAT(found(tokenize(R"({"input_ids": [1, 2], "attention_mask": [1, 1], "token_type_ids": [0, 0],
                                 "source": "web", "loss_scale": 0.5, "text": "ab", "note": null})")),
              ElementsAre("unknown_column: source", "ignored_column: loss_scale"));
  EXPECT_THAT(found(tokenize(R"({"text": "ab", "loss_mask": [1, 0], "id": 3})")),
              ElementsAre("ignored_column: loss_mask", "unknown_column: id"));
  EXPECT_THAT(found(tokenize(R"({"prompt": "a", "completion": "b", "tools": []})")),
              ElementsAre("unknown_column: tools"));
}

TEST(TokenizeChat, ReadsASystemPromptInAColumnOfItsOwn) {
  const std::string rest = R"([{"role":"user","content":"Hi"},{"role":"assistant","content":"Yo"}])";
  EXPECT_EQ(tokenize(R"({"system": "Be kind.", "messages": )" + rest + "}").text,
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
            "Yo<|im_end|>\n");
  const auto both = tokenize(
      R"({"system": "Be kind.", "conversations": [{"from":"system","value":"S"},{"from":"gpt","value":"Yo"}]})");
  EXPECT_EQ(both.text, "<|im_start|>system\nS<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n");
  EXPECT_THAT(found(both), ElementsAre("ignored_column: system"));
}

TEST(Tokenize, SaysThatTwoBosTokensBeginARow) {
  const auto llama = tokenizer_with("llama2", "</s>", true);
  EXPECT_THAT(found(tokenize(R"({"text": "<s>ab"})", {}, llama)), ElementsAre("two_bos: <s>"));
  EXPECT_THAT(found(tokenize(R"({"text": "ab"})", {}, llama)), IsEmpty());
  const std::string bos = std::to_string(id_of("<s>"));
  EXPECT_THAT(found(tokenize("{\"input_ids\": [" + bos + "," + bos + ",5]}", {}, llama)),
              ElementsAre("two_bos: <s>"));
}

}  // namespace
}  // namespace hone::data
