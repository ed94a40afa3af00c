// Mutated tokenizers, the files beside them, configs and indexes either work or throw hone's Error of
// kind kUser, in one line. Deterministic: the same mutations in every run.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "hub/checkpoint.h"
#include "hub/config.h"
#include "tests/fuzz/fuzz.h"
#include "tests/temporary_directory.h"
#include "text/pretrained_tokenizer.h"

namespace hone {
namespace {

namespace fs = std::filesystem;
using fuzz::mutate;
using fuzz::survives;

// The first 16 take the place of numbers.
const std::vector<std::string> kWords =
    fuzz::with_json_punctuation({"0",
                                 "1",
                                 "-1",
                                 "16",
                                 "16777215",
                                 "16777216",
                                 "4294967295",
                                 "18446744073709551616",
                                 "9223372036854775807",
                                 "1e3",
                                 "1.5",
                                 "NaN",
                                 "-Infinity",
                                 "null",
                                 "true",
                                 "{}",
                                 "[]",
                                 "[[]]",
                                 "\"\"",
                                 "\"BPE\"",
                                 "\"Sequence\"",
                                 "\"Split\"",
                                 "\"ByteLevel\"",
                                 "\"Metaspace\"",
                                 "\"NFC\"",
                                 "\"Replace\"",
                                 "\"Strip\"",
                                 "\"Prepend\"",
                                 "\"TemplateProcessing\"",
                                 "\"ByteFallback\"",
                                 "\"Fuse\"",
                                 "\"Regex\"",
                                 "\"String\"",
                                 "\"(a+)+$\"",
                                 "\"(?i:a|\\\\p{L}{1,9})+\"",
                                 "\"\\\\s+(?!\\\\S)\"",
                                 "\"[[a-z]&&[^b]]\"",
                                 "\"(((((((((((a{9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9})\"",
                                 "\"type\":",
                                 "\"content\":",
                                 "\"special\":",
                                 "\"id\":",
                                 "{\"A\":1}"});

const std::string kBytes = R"j({"version":"1.0","truncation":null,"padding":null,"added_tokens":[
{"id":12,"content":"<s>","single_word":false,"lstrip":false,"rstrip":true,"normalized":false,"special":true},
{"id":13,"content":"<x> ","single_word":true,"lstrip":true,"rstrip":false,"normalized":true,"special":false}],
"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "}]},
"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"(?i:'s|'t)|\\p{L}+|\\s+(?!\\S)|\\s+"},
"behavior":"Isolated","invert":false},{"type":"Digits","individual_digits":true},
{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]},
"post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],
"special_tokens":{"<s>":{"id":"<s>","ids":[12],"tokens":["<s>"]}}}]},
"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":false,
"byte_fallback":false,"ignore_merges":false,"vocab":{"a":0,"b":1,"c":2,"h":3,"e":4,"l":5,"o":6,"he":7,"ll":8,"hell":9,"hello":10,
"\u0120":11},"merges":[["h","e"],["l","l"],["he","ll"],["hell","o"]]}})j";

const std::string kPieces = R"j({"version":"1.0","added_tokens":[
{"id":0,"content":"<unk>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"},
{"type":"Strip","strip_left":true,"strip_right":false},{"type":"Lowercase"}]},
"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false},
"post_processor":{"type":"RobertaProcessing","sep":["</s>",2],"cls":["<s>",1],"trim_offsets":true,"add_prefix_space":false},
"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},
{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
"model":{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,"vocab":{"<unk>":0,"<s>":1,"</s>":2,"<0xC3>":3,
"<0xA9>":4,"▁":5,"h":6,"e":7,"l":8,"o":9,"he":10,"ll":11,"▁he":12},"merges":["h e","l l","▁ he"]}})j";

void use(const text::Tokenizer& tokenizer) {
  for (const char* sample : {"hello  he'S 12\n é", "<s><x> h", ""}) {
    const text::Encoding encoding = tokenizer.encode(sample);
    ASSERT_EQ(encoding.ids.size(), encoding.offsets.size());
    tokenizer.decode(encoding.ids);
    tokenizer.decode(encoding.ids, true);
  }
}

TEST(TextFuzz, EveryMutatedTokenizerRunsOrIsRefused) {
  std::mt19937_64 random(1);
  int ran = 0;
  for (int i = 0; i < 8'000; ++i) {
    const std::string text = mutate(i % 2 == 0 ? kBytes : kPieces, kWords, random);
    ran += survives([&] { use(text::Tokenizer::from_json(text, "tokenizer.json")); }, text);
  }
  EXPECT_GT(ran, 400);
  EXPECT_LT(ran, 6'000);
}

const std::string kTemplate =
    "{% for m in messages %}{{ '<s>' + m.role + '\\n' }}{% if m.content is string %}{{ m.content | trim }}{% "
    "else %}"
    "{{ m.content | tojson }}{% endif %}{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson "
    "}}{% endfor %}"
    "{{ '<x>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}";

const std::vector<std::pair<std::string, std::string>> kFiles{
    {"tokenizer_config.json",
     R"({"tokenizer_class":"Qwen2TokenizerFast","bos_token":"<s>","eos_token":{"__type":"AddedToken","content":"<x>","lstrip":false},)"
     R"("add_prefix_space":false,"legacy":true,"split_special_tokens":false,"extra_special_tokens":["<tool>"],"added_tokens_decoder":)"
     R"({"12":{"content":"<s>","lstrip":false,"normalized":false,"rstrip":false,"single_word":false,"special":true}},"chat_template":)"
     R"([{"name":"default","template":"{{ messages[0].content }}"}]})"},
    {"special_tokens_map.json",
     R"({"eos_token":"<x>","additional_special_tokens":["<a>",{"content":"<b>","rstrip":true}]})"},
    {"added_tokens.json", R"({"<tool>":14,"<extra>":15})"},
    {"generation_config.json", R"({"eos_token_id":[10,12]})"},
    {"config.json", R"({"model_type":"llama","eos_token_id":2,"tokenizer_class":"LlamaTokenizer"})"}};

TEST(TextFuzz, EveryMutatedFileBesideATokenizerIsReadOrRefused) {
  std::mt19937_64 random(2);
  int ran = 0;
  const test::TemporaryDirectory directory;
  directory.write("chat_template.jinja", kTemplate);
  for (int i = 0; i < 5'000; ++i) {
    const auto& [name, content] = kFiles[static_cast<std::size_t>(i) % kFiles.size()];
    directory.write("tokenizer.json", i % 3 == 0 ? kPieces : kBytes);
    for (const auto& [other, text] : kFiles) directory.write(other, text);
    if (i % 2 == 0) directory.write("tokenizer_config.json", "{}");  // so that the older files count
    const std::string text = mutate(content, kWords, random);
    directory.write(name, text);
    ran += survives([&] { use(text::PretrainedTokenizer::from_pretrained(directory.path()).tokenizer()); },
                    text);
  }
  EXPECT_GT(ran, 400);
  EXPECT_LT(ran, 4'500);
}

TEST(TextFuzz, EveryMutatedConfigAndIndexIsReadOrRefused) {
  const std::string config =
      R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":16,"num_attention_heads":4,"num_key_value_heads":2,)"
      R"("num_hidden_layers":2,"intermediate_size":32,"vocab_size":99,"rms_norm_eps":1e-6,"tie_word_embeddings":false,"rope_theta":1e4,)"
      R"("rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":64},"torch_dtype":"bfloat16",)"
      R"("max_position_embeddings":256,"bos_token_id":1,"eos_token_id":[2,3],"layer_types":["full_attention","full_attention"]})";
  const std::string index =
      R"({"metadata":{"total_size":24},"weight_map":{"model.a":"model-00001-of-00002.safetensors",)"
      R"("model.b":"model-00002-of-00002.safetensors"}})";
  const test::TemporaryDirectory directory;
  const std::string header = R"({"model.a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  const std::uint64_t length = header.size();
  directory.write("model-00001-of-00002.safetensors",
                  std::string(reinterpret_cast<const char*>(&length), 8) + header + "datA");
  directory.write(
      "model-00002-of-00002.safetensors", std::string(reinterpret_cast<const char*>(&length), 8) + [&] {
        std::string other = header;
        other[8] = 'b';
        return other;
      }() + "datB");
  std::mt19937_64 random(4);
  int configs = 0;
  int indexes = 0;
  for (int i = 0; i < 4'000; ++i) {
    const std::string text = mutate(config, kWords, random);
    directory.write("config.json", text);
    configs += survives([&] { hub::ModelConfig::read(directory.path() / "config.json"); }, text);
    const std::string listing = mutate(index, kWords, random);
    directory.write("model.safetensors.index.json", listing);
    indexes += survives([&] { hub::Checkpoint::open(directory.path()); }, listing);
  }
  EXPECT_GT(configs, 200);
  EXPECT_GT(indexes, 50);
}

/// A tokenizer with one part replaced.
std::string with(const char* part, const std::string& json) {
  auto document = nlohmann::ordered_json::parse(kBytes);
  document[part] = nullptr;
  std::string text = document.dump();
  const std::string empty = fmt::format("\"{}\":null", part);
  return text.replace(text.find(empty), empty.size(), fmt::format("\"{}\":{}", part, json));
}

std::string nested(const std::string& type, const std::string& list, int depth) {
  std::string text;
  for (int i = 0; i < depth; ++i) text += fmt::format(R"({{"type":"{}","{}":[)", type, list);
  for (int i = 0; i < depth; ++i) text += "]}";
  return text;
}

TEST(TextFuzz, HostileTokenizersEndSoon) {
  const auto split = [](const std::string& regex) {
    return with("pre_tokenizer", R"({"type":"Split","pattern":{"Regex":)" + nlohmann::json(regex).dump() +
                                     R"(},"behavior":"Isolated","invert":false})");
  };
  std::string alternatives = "a";
  for (int i = 0; i < 20'000; ++i) alternatives += "|b" + std::to_string(i);
  const std::vector<std::string> all{
      with("pre_tokenizer", nested("Sequence", "pretokenizers", 33)),
      with("pre_tokenizer", nested("Sequence", "pretokenizers", 200)),
      with("pre_tokenizer", nested("Sequence", "pretokenizers", 100'000)),
      with("normalizer", nested("Sequence", "normalizers", 200)),
      with("decoder", nested("Sequence", "decoders", 200)),
      with("post_processor", nested("Sequence", "processors", 200)),
      split("(a+)+$"),
      split("(((a*)*)*)*b"),
      split("(a|a)*b"),
      split("(?=(a+))*b"),
      split("(a{1,1000}){1,1000}"),
      split(std::string(100'000, '(')),
      split(std::string(5'000, '(') + "a" + std::string(5'000, ')')),
      split(std::string(100'000, '[')),
      split("a" + std::string(50'000, '+')),
      split(alternatives),
      split("(?<x>a)\\g<x>"),
      with("model", R"({"type":"BPE","vocab":{"a":16777215},"merges":[]})"),
      with("model", R"({"type":"BPE","vocab":{"a":99999999999},"merges":[]})"),
      with("model", R"({"type":"BPE","vocab":{},"merges":[["a","b"]]})"),
      with("added_tokens", std::string(100'000, '[')),
  };
  const std::string victim(200'000, 'a');
  for (const std::string& text : all)
    survives(
        [&] {
          const auto tokenizer = text::Tokenizer::from_json(text, "tokenizer.json");
          tokenizer.decode(tokenizer.encode(victim).ids);
        },
        text.substr(0, 300));
}

}  // namespace
}  // namespace hone
