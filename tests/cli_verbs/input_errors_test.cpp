// Rows, prompts and command lines that are wrong: one clear line, exit code 2, nothing written.
#include "tests/cli_verbs/program.h"

namespace hone::test {
namespace {

// ---- rows of token ids, for `hone logits` ----

class BadTokenRows : public testing::Test {
 protected:
  BadTokenRows() { workspace_.golden("qwen3_moe-default"); }
  void expect_refused_row(const std::string& text, const std::vector<std::string>& parts) {
    write(workspace_ / "rows.jsonl", text);
    const auto before = workspace_.files();
    expect_refused(workspace_.hone({"logits", "model", "--ids", "rows.jsonl", "--out", "out.safetensors"}),
                   parts);
    EXPECT_EQ(workspace_.files(), before);
  }
  Workspace workspace_;
};

TEST_F(BadTokenRows, IdOutsideTheVocabulary) {
  expect_refused_row("{\"input_ids\": [1]}\n{\"input_ids\": [1, 128]}\n",
                     {"rows.jsonl:2", "input_ids[1]", "128"});
}

TEST_F(BadTokenRows, NegativeId) {
  expect_refused_row("{\"input_ids\": [-1]}\n", {"rows.jsonl:1", "input_ids[0]", "-1"});
}

TEST_F(BadTokenRows, IdThatOnlyFitsSixtyFourBits) {
  expect_refused_row("{\"input_ids\": [4294967297]}\n", {"rows.jsonl:1", "input_ids[0]", "4294967297"});
}

TEST_F(BadTokenRows, IdThatIsNoInteger) {
  expect_refused_row("{\"input_ids\": [1, 2.5]}\n", {"rows.jsonl:1", "input_ids"});
}

TEST_F(BadTokenRows, LabelOutsideTheVocabulary) {
  expect_refused_row("{\"input_ids\": [1, 2], \"labels\": [-100, -99]}\n",
                     {"rows.jsonl:1", "labels[1]", "-99"});
}

TEST_F(BadTokenRows, LabelsOfAnotherLength) {
  expect_refused_row("{\"input_ids\": [1, 2, 3], \"labels\": [1, 2]}\n",
                     {"rows.jsonl:1", "2 labels", "3 input_ids"});
}

TEST_F(BadTokenRows, WeightsThatAreNone) {
  expect_refused_row("{\"input_ids\": [1, 2], \"labels\": [1, 2], \"loss_weights\": [1]}\n",
                     {"rows.jsonl:1", "1 loss_weights", "2 labels"});
  expect_refused_row("{\"input_ids\": [1, 2], \"loss_weights\": [1, 1]}\n", {"rows.jsonl:1", "0 labels"});
  expect_refused_row("{\"input_ids\": [1, 2], \"labels\": [1, 2], \"loss_weights\": [1, -1]}\n",
                     {"rows.jsonl:1", "loss_weights[1] is -1"});
  expect_refused_row("{\"input_ids\": [1, 2], \"labels\": [1, 2], \"loss_weights\": [1, 0]}\n",
                     {"rows.jsonl", "of weight 0"});
}

TEST_F(BadTokenRows, LabelsInSomeRowsOnly) {
  expect_refused_row("{\"input_ids\": [1, 2], \"labels\": [1, 2]}\n{\"input_ids\": [1, 2]}\n",
                     {"rows.jsonl:2", "rows.jsonl:1"});
}

TEST_F(BadTokenRows, NoLabelIsSupervised) {
  expect_refused_row("{\"input_ids\": [1, 2], \"labels\": [1, -100]}\n", {"rows.jsonl", "-100"});
}

TEST_F(BadTokenRows, NoInputIds) {
  expect_refused_row("{\"ids\": [1]}\n", {"rows.jsonl:1", "input_ids"});
}

TEST_F(BadTokenRows, EmptyRow) {
  expect_refused_row("{\"input_ids\": []}\n", {"rows.jsonl:1", "empty"});
}

TEST_F(BadTokenRows, EmptyFile) {
  expect_refused_row("", {"rows.jsonl", "no rows"});
}

TEST_F(BadTokenRows, BadJsonNamesTheLine) {
  expect_refused_row("{\"input_ids\": [1]}\n\n{\"input_ids\": [1,\n", {"rows.jsonl:3:", "JSON"});
  expect_refused_row("{\"input_ids\": [1]}\n{\"input_ids\": [1,}\n", {"rows.jsonl:2:18: not valid JSON"});
}

TEST_F(BadTokenRows, RowLongerThanTheContext) {
  std::string ids = "1";
  for (int i = 0; i < 128; ++i) ids += ", 1";
  expect_refused_row("{\"input_ids\": [" + ids + "]}\n",
                     {"rows.jsonl:1", "129 tokens", "128", "max_position_embeddings"});
}

TEST_F(BadTokenRows, OutputDirectoryThatDoesNotExist) {
  write(workspace_ / "rows.jsonl", "{\"input_ids\": [1]}\n");
  expect_refused(workspace_.hone({"logits", "model", "--ids", "rows.jsonl", "--out", "no/where.safetensors"}),
                 {"no/where.safetensors"});
}

// ---- rows for `hone tokenize` ----

class BadTextRows : public testing::Test {
 protected:
  void expect_refused_row(const std::string& text, const std::vector<std::string>& parts) {
    const std::string model = std::string(HONE_SOURCE) + "/demo/model";
    write(workspace_ / "rows.jsonl", text);
    write(workspace_ / "out.jsonl", "as it was\n");
    const auto before = workspace_.files();
    expect_refused(workspace_.hone({"tokenize", model, "--in", "rows.jsonl", "--out", "out.jsonl"}), parts);
    EXPECT_EQ(workspace_.files(), before);
  }
  Workspace workspace_;
};

TEST_F(BadTextRows, RoleThatTheTemplateRejects) {
  expect_refused_row("{\"text\": \"a\"}\n{\"messages\": [{\"role\": \"wizard\", \"content\": \"a\"}]}\n",
                     {"rows.jsonl:2", "The roles are system, user and assistant, not wizard"});
}

TEST_F(BadTextRows, NoKnownKey) {
  expect_refused_row("{\"mesages\": []}\n",
                     {"rows.jsonl:1", "mesages", "messages", "prompt", "text", "input_ids"});
}

TEST_F(BadTextRows, BadJson) {
  expect_refused_row("{\"text\": \"a\"}\n{\"text\": \n", {"rows.jsonl:2", "JSON"});
}

TEST_F(BadTextRows, RowThatIsNoObject) {
  expect_refused_row("[1, 2]\n", {"rows.jsonl[0]"});
}

TEST_F(BadTextRows, TextThatIsNoString) {
  expect_refused_row("{\"text\": 3}\n", {"rows.jsonl:1", "text"});
}

TEST_F(BadTextRows, MessageWithoutARole) {
  expect_refused_row("{\"messages\": [{\"content\": \"a\"}]}\n", {"rows.jsonl:1", "role"});
}

// ---- tokenizers ----

TEST(BadTokenizer, NoTokenizerFile) {
  Workspace workspace;
  workspace.golden("qwen3_moe-default");
  expect_refused(workspace.hone({"generate", "model", "--prompt", "hello"}), {"model", "tokenizer.json"});
}

TEST(BadTokenizer, TokenizerThatIsNotJson) {
  Workspace workspace;
  std::filesystem::copy(Path(HONE_SOURCE) / "demo/model", workspace / "model");
  write(workspace / "model/tokenizer.json", "{\n\"model\": nope\n}");
  expect_refused(workspace.hone({"generate", "model", "--prompt", "hello"}), {"tokenizer.json:2"});
}

TEST(BadTokenizer, TemplateWithASyntaxErrorNamesItsLine) {
  Workspace workspace;
  std::filesystem::copy(Path(HONE_SOURCE) / "demo/model", workspace / "model");
  write(workspace / "model/chat_template.jinja", "{% for m in messages %}\n{{ m.content }\n{% endfor %}");
  expect_refused(workspace.hone({"generate", "model", "--prompt", "hello"}), {"chat_template.jinja:2"});
}

// ---- the command line ----

class BadCommandLine : public testing::Test {
 protected:
  void expect_refused_arguments(const std::vector<std::string>& args, const std::vector<std::string>& parts) {
    expect_refused(workspace_.hone(args), parts);
    EXPECT_TRUE(workspace_.files().empty());
  }
  Workspace workspace_;
};

TEST_F(BadCommandLine, NoVerb) {
  expect_refused_arguments({}, {"--help"});
}

TEST_F(BadCommandLine, MisspeltVerbNamesTheNearest) {
  expect_refused_arguments({"trian", "recipe.yaml"}, {"trian", "did you mean 'train'"});
}

TEST_F(BadCommandLine, UnknownVerbListsTheKnown) {
  expect_refused_arguments({"frobnicate-everything"},
                           {"frobnicate-everything", "train", "generate", "eval", "inspect", "logits",
                            "tokenize", "init", "bench", "check", "doctor"});
}

TEST_F(BadCommandLine, MisspeltOptionNamesTheNearest) {
  expect_refused_arguments({"logits", "model", "--idz", "rows.jsonl", "--out", "o"},
                           {"--idz", "did you mean '--ids'"});
}

TEST_F(BadCommandLine, UnknownBenchmarkListsTheKnown) {
  expect_refused_arguments({"bench", "everything-there-is"}, {"everything-there-is", "step", "kernels"});
}

TEST_F(BadCommandLine, ArgumentTooMany) {
  expect_refused_arguments({"inspect", "model", "another"}, {"another"});
}

TEST_F(BadCommandLine, DtypeThatDoesNotExist) {
  expect_refused_arguments({"logits", "model", "--ids", "i", "--out", "o", "--dtype", "f64"},
                           {"--dtype", "f64", "f32", "bf16"});
}

TEST_F(BadCommandLine, DevicesThatAreNotThere) {
  const std::string model = std::string(HONE_SOURCE) + "/demo/model";
  expect_refused(workspace_.hone({"bench", "step", model, "--device", "gpu"}),
                 {"unknown device 'gpu'", "cpu, cuda, cuda:N"});
  expect_refused(workspace_.hone({"bench", "step", model, "--device", "cuda:x"}),
                 {"cuda:x", "number of a card"});
  expect_refused(workspace_.hone({"bench", "step", model, "--device", "cuda:99"}), {"device cuda:99: "});
  expect_refused(workspace_.hone({"bench", "step", model}, "HONE_DEVICE=tpu; export HONE_DEVICE;"),
                 {"HONE_DEVICE", "unknown device 'tpu'"});
}

TEST_F(BadCommandLine, MissingOption) {
  expect_refused_arguments({"logits", "model", "--ids", "i"}, {"--out"});
}

TEST_F(BadCommandLine, NegativeSeed) {
  expect_refused_arguments({"init", "config", "out", "--seed", "-1"}, {"--seed"});
}

TEST_F(BadCommandLine, SeedThatIsNoNumber) {
  expect_refused_arguments({"init", "config", "out", "--seed", "abc"}, {"--seed", "abc"});
}

TEST_F(BadCommandLine, NumbersOutOfRange) {
  expect_refused_arguments({"generate", "m", "--prompt", "a", "--temperature", "nan"},
                           {"--temperature", "nan", "at least 0"});
  expect_refused_arguments({"generate", "m", "--prompt", "a", "--max-new-tokens", "0"},
                           {"--max-new-tokens", "at least 1"});
  expect_refused_arguments({"generate", "m", "--prompt", "a", "--top-k", "-1"}, {"--top-k", "at least 0"});
}

TEST_F(BadCommandLine, UnknownInstructionSetInTheEnvironment) {
  expect_refused(workspace_.hone({"doctor"}, "HONE_CPU_ISA=avx51; export HONE_CPU_ISA;"),
                 {"HONE_CPU_ISA", "avx51", "avx512"});
}

TEST_F(BadCommandLine, InitOverSomethingElse) {
  std::filesystem::create_directory(workspace_ / "out");
  write(workspace_ / "out/letter.txt", "dear");
  expect_refused(workspace_.hone({"init", std::string(HONE_SOURCE) + "/demo/model", "out", "--seed", "1"}),
                 {"out", "not empty"});
  EXPECT_EQ(workspace_.files("out").size(), 1U);
}

TEST_F(BadCommandLine, BenchmarkLongerThanTheContext) {
  expect_refused(
      workspace_.hone({"bench", "step", std::string(HONE_SOURCE) + "/demo/model", "--seq", "4096"}),
      {"4096", "512"});
}

}  // namespace
}  // namespace hone::test
