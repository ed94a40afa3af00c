// Mutated safetensors files and JSON either parse or throw hone's Error of kind kUser, in one line; nothing
// else ever happens. Deterministic: the same mutations in every run.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "hub/safetensors.h"
#include "json/node.h"
#include "tests/fuzz/fuzz.h"

namespace hone::hub {
namespace {

using fuzz::MemoryFile;
using fuzz::survives;

std::string with_length(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string content(8, '\0');
  std::memcpy(content.data(), &length, 8);
  return content + header + data;
}

const std::string kHeader =
    R"({"__metadata__":{"format":"pt","note":"é \"quoted\" \\ \n"},"model.a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},)"
    R"("model.b":{"dtype":"F32","shape":[],"data_offsets":[12,16]},"model.c":{"dtype":"I64","shape":[0,7],"data_offsets":[16,16]},)"
    R"("model.d":{"dtype":"F8_E4M3","shape":[4,1],"data_offsets":[16,20]}})";
const std::string kData(20, 'd');

/// What a liar would put into a header.
const std::vector<std::string> kWords = fuzz::with_json_punctuation({"0",
                                                                     "1",
                                                                     "-1",
                                                                     "16",
                                                                     "18446744073709551615",
                                                                     "18446744073709551616",
                                                                     "9223372036854775807",
                                                                     "9223372036854775808",
                                                                     "4294967296",
                                                                     "1e3",
                                                                     "1.0",
                                                                     "NaN",
                                                                     "Infinity",
                                                                     "-Infinity",
                                                                     "null",
                                                                     "true",
                                                                     "{}",
                                                                     "[]",
                                                                     "[[]]",
                                                                     "\"\"",
                                                                     "\"F32\"",
                                                                     "\"F4\"",
                                                                     "\"F6_E2M3\"",
                                                                     "\"U64\"",
                                                                     "\"bf16\"",
                                                                     "\"dtype\"",
                                                                     "\"shape\"",
                                                                     "\"data_offsets\"",
                                                                     "\"__metadata__\"",
                                                                     "\"model.a\"",
                                                                     "[0,12]",
                                                                     "[12,0]",
                                                                     "[0,0]"});

TEST(SafetensorsFuzz, EveryMutatedFileParsesOrIsRefused) {
  std::mt19937_64 random(1);
  const MemoryFile file;
  int parsed = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string content = i % 4 == 0 ? fuzz::mutate(with_length(kHeader, kData), kWords,
                                                    random)  // the length and the data as well
                                     : with_length(fuzz::mutate(kHeader, kWords, random), kData);
    if (i % 16 == 1) content = with_length(kHeader, fuzz::mutate(kData, kWords, random));
    file.write(content);
    parsed += survives(
        [&] {
          const auto opened = SafetensorsFile::open(file.path());
          std::uint64_t total = 0;
          for (const auto& tensor : opened->tensors()) {
            const auto bytes = opened->bytes(tensor);
            ASSERT_EQ(bytes.size(), tensor.spec.size_bytes());
            for (const std::byte b : bytes) total += static_cast<std::uint64_t>(b);  // every byte can be read
            ASSERT_EQ(opened->find(tensor.spec.name), &tensor);
          }
          ASSERT_LE(total, 255U * content.size());
        },
        content);
  }
  // Both outcomes must be common, or the mutations test nothing.
  EXPECT_GT(parsed, 500);
  EXPECT_LT(parsed, 15'000);
}

TEST(SafetensorsFuzz, EveryMutatedTextIsJsonOrIsRefused) {
  const std::string text =
      "{\n  \"architectures\": [\"X\"],\n  \"rope_theta\": 1e6,\n  \"x\": [NaN, -Infinity, 1.5, -2, null, "
      "true],\n  \"é\": {\"a\": "
      "\"\\u00e9\\ud83d\\ude00\"}\n}\n";
  std::mt19937_64 random(2);
  int parsed = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::string mutated = fuzz::mutate(text, kWords, random);
    parsed += survives([&] { JsonNode::parse(mutated, "config.json").text(); }, mutated);
  }
  EXPECT_GT(parsed, 500);
  EXPECT_LT(parsed, 15'000);
}

}  // namespace
}  // namespace hone::hub
