// Mutated safetensors files and JSON either parse or throw hone's Error of kind kUser, in one line; nothing
// else ever happens. Deterministic: the same mutations in every run.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "hub/safetensors.h"
#include "json/node.h"

namespace hone::hub {
namespace {

/// A file in memory that can be opened by path, so that 20,000 of them do not touch a disk.
class MemoryFile {
 public:
  MemoryFile() : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {}
  ~MemoryFile() { ::close(fd_); }
  void write(const std::string& content) const {
    ASSERT_EQ(::ftruncate(fd_, 0), 0);
    ASSERT_EQ(::pwrite(fd_, content.data(), content.size(), 0), static_cast<ssize_t>(content.size()));
  }
  std::string path() const { return fmt::format("/proc/self/fd/{}", fd_); }

 private:
  int fd_;
};

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
const std::vector<std::string> kWords{"0",
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
                                      ",",
                                      ":",
                                      "[",
                                      "]",
                                      "{",
                                      "}",
                                      "\"",
                                      "\\",
                                      "\\u0000",
                                      "\\ud800",
                                      "\xff",
                                      "\xed\xa0\x80",
                                      std::string(1, '\0'),
                                      "\n",
                                      "/*",
                                      "[0,12]",
                                      "[12,0]",
                                      "[0,0]"};

/// One random change, or up to four: bytes flipped, ranges removed, repeated or moved, words put in or over
/// numbers.
std::string mutate(std::string text, std::mt19937_64& random) {
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(random() % n); };
  for (std::size_t left = 1 + below(2) * below(4); left > 0; --left) {
    const std::size_t at = below(text.size());
    const std::size_t n = std::min(text.size() - at, 1 + below(24));
    switch (below(7)) {
      case 0:
        if (!text.empty()) text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, n);
        break;
      case 2:
        text.insert(at, text.substr(below(text.size()), n));
        break;
      case 3:
        text.insert(at, kWords[below(kWords.size())]);
        break;
      case 4:
        text.replace(at, n, kWords[below(kWords.size())]);
        break;
      case 5:
        text.resize(at);
        break;
      default: {  // a number becomes another word: these keep the JSON whole and lie in its content
        const auto digit = text.find_first_of("0123456789", at);
        if (digit == std::string::npos) break;
        const auto end = std::min(text.find_first_not_of("0123456789", digit), text.size());
        text.replace(digit, end - digit, kWords[below(16)]);
      }
    }
  }
  return text;
}

/// True where `f` returned, false where it threw as it should.
template <typename F>
bool survives(F&& f, const std::string& input) {
  try {
    f();
    return true;
  } catch (const Error& error) {
    const std::string what = error.what();
    EXPECT_EQ(error.kind(), ErrorKind::kUser) << what << "\n" << input;
    EXPECT_LE(what.size(), 600U) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
  } catch (const std::exception& other) {
    ADD_FAILURE() << "not an Error: " << other.what() << "\n" << input;
  }
  return false;
}

TEST(SafetensorsFuzz, EveryMutatedFileParsesOrIsRefused) {
  std::mt19937_64 random(1);
  const MemoryFile file;
  int parsed = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string content =
        i % 4 == 0 ? mutate(with_length(kHeader, kData), random)  // the length and the data as well
                   : with_length(mutate(kHeader, random), kData);
    if (i % 16 == 1) content = with_length(kHeader, mutate(kData, random));
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
    const std::string mutated = mutate(text, random);
    parsed += survives([&] { JsonNode::parse(mutated, "config.json").text(); }, mutated);
  }
  EXPECT_GT(parsed, 500);
  EXPECT_LT(parsed, 15'000);
}

}  // namespace
}  // namespace hone::hub
