#include "tests/data/support.h"

#include <unistd.h>

#include <atomic>
#include <fstream>

#include "base/file.h"

namespace hone::data::test {

namespace {

std::string utf8(unsigned code) {
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

/// The character that stands for each byte, as GPT-2's byte level has it.
std::vector<std::string> byte_characters() {
  std::vector<std::string> characters(256);
  unsigned next = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    characters[byte] = utf8(printable ? byte : next++);
  }
  return characters;
}

}  // namespace

std::string tokenizer_json(bool bos) {
  Json vocab = Json::object();
  std::int64_t next = 0;
  for (const auto& character : byte_characters()) vocab[character] = next++;
  Json merges = Json::array();
  const std::vector<std::pair<std::string, std::string>> pairs{{"Ġ", "t"}, {"h", "e"}, {"Ġt", "he"},
                                                               {"Ġ", "P"}, {".", "Ċ"}, {"Ċ", "Ċ"}};
  for (const auto& [left, right] : pairs) {
    merges.push_back(Json::array({left, right}));
    vocab[left + right] = next++;
  }
  const std::vector<std::string> special{"<s>",
                                         "</s>",
                                         "<|endoftext|>",
                                         "<|im_start|>",
                                         "<|im_end|>",
                                         "<|eot_id|>",
                                         "<|end|>",
                                         "<|start_header_id|>",
                                         "<|end_header_id|>",
                                         "<start_of_turn>",
                                         "<end_of_turn>",
                                         "<|start|>",
                                         "<|channel|>",
                                         "<|message|>",
                                         "<|call|>",
                                         "<|return|>",
                                         "<|assistant|>",
                                         "<|user|>",
                                         "<|observation|>",
                                         "<|system|>",
                                         "[gMASK]",
                                         "[INST]",
                                         "[/INST]",
                                         "[TOOL_CALLS]",
                                         "[TOOL_RESULTS]",
                                         "[/TOOL_RESULTS]"};
  const std::vector<std::string> plain{"<think>",
                                       "</think>",
                                       "<tool_call>",
                                       "</tool_call>",
                                       "<tool_response>",
                                       "</tool_response>",
                                       "<｜User｜>",
                                       "<｜Assistant｜>",
                                       "<｜end▁of▁sentence｜>",
                                       "<｜tool▁call▁begin｜>",
                                       "<｜tool▁call▁end｜>",
                                       "<｜tool▁output▁begin｜>",
                                       "<｜tool▁output▁end｜>"};
  Json added = Json::array();
  const auto add = [&](const std::string& content, bool is_special) {
    added.push_back({{"id", next++},
                     {"content", content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", is_special}});
  };
  for (const auto& content : special) add(content, true);
  for (const auto& content : plain) add(content, false);
  Json post = nullptr;
  if (bos)
    post = {
        {"type", "TemplateProcessing"},
        {"single", Json::array({{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
                                {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}})},
        {"pair", Json::array({{{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                              {{"Sequence", {{"id", "B"}, {"type_id", 1}}}}})},
        {"special_tokens",
         {{"<s>", {{"id", "<s>"}, {"ids", Json::array({id_of("<s>")})}, {"tokens", Json::array({"<s>"})}}}}}};
  const Json byte_level{
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
  return Json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", added},
              {"normalizer", nullptr},
              {"pre_tokenizer", byte_level},
              {"post_processor", post},
              {"decoder", byte_level},
              {"model",
               {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", nullptr},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", false},
                {"byte_fallback", false},
                {"ignore_merges", false},
                {"vocab", vocab},
                {"merges", merges}}}}
      .dump();
}

const text::Tokenizer& tiny_tokenizer() {
  static const auto tokenizer = text::Tokenizer::from_json(tokenizer_json(false), "tiny");
  return tokenizer;
}

std::int32_t id_of(const std::string& token) {
  return tiny_tokenizer().token_to_id(token).value();
}

std::vector<std::string> learnt_runs(const std::vector<std::int32_t>& ids,
                                     const std::vector<std::int32_t>& labels) {
  std::vector<std::string> runs;
  std::vector<std::int32_t> run;
  for (std::size_t i = 0; i <= ids.size(); ++i) {
    if (i < ids.size() && labels.at(i) != kIgnoredLabel) {
      run.push_back(labels[i]);
    } else if (!run.empty()) {
      runs.push_back(tiny_tokenizer().decode(run));
      run.clear();
    }
  }
  return runs;
}

std::string chat_template_text(const std::string& name) {
  return read_file(std::filesystem::path(HONE_TEST_DATA) / "chats" / (name + ".jinja"));
}

void write_tokenizer(const TemporaryDirectory& directory, const std::string& chat_template,
                     const std::string& eos, bool bos) {
  directory.write("tokenizer.json", tokenizer_json(bos));
  Json config{{"bos_token", "<s>"}, {"eos_token", eos}, {"tokenizer_class", "PreTrainedTokenizerFast"}};
  directory.write("tokenizer_config.json", config.dump());
  if (!chat_template.empty()) directory.write("chat_template.jinja", chat_template_text(chat_template));
}

const text::PretrainedTokenizer& chatml() {
  static const auto tokenizer = [] {
    const TemporaryDirectory dir;
    write_tokenizer(dir, "chatml");
    return text::PretrainedTokenizer::from_pretrained(dir.path());
  }();
  return tokenizer;
}

}  // namespace hone::data::test
