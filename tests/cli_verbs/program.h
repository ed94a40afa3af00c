// Runs the real program as a user does, in a directory of its own: exit code, stdout, stderr. And small
// checkpoints, data and recipes for it to chew on.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/temporary_directory.h"

extern char** environ;

namespace hone::test {

using Json = nlohmann::ordered_json;
using Path = std::filesystem::path;

inline std::string read(const Path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write(const Path& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  ASSERT_TRUE(out.flush()) << path;
}

/// The first `count` lines.
inline std::string head(const std::string& text, int count) {
  std::size_t end = 0;
  for (int i = 0; i < count && end != std::string::npos; ++i) end = text.find('\n', end) + 1;
  return text.substr(0, end);
}

/// What a finished program left.
struct Outcome {
  int code = -1;  // 128 + N where signal N ended it
  std::string out, err;

  static std::string last_line(std::string text) {
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text.substr(text.rfind('\n') + 1);
  }
  std::string message() const { return last_line(err); }
  Json json() const { return Json::parse(last_line(out)); }
};

/// A directory that vanishes at the end, and the program run in it.
class Workspace {
 public:
  Path operator/(const std::string& name) const { return root_ / name; }

  /// Starts `hone ARGS` here, its output in the files `NAME.out` and `NAME.err`. `shell` is put before it,
  /// as in "ulimit -f 64;".
  pid_t start(const std::vector<std::string>& args, const std::string& name = "hone",
              const std::string& shell = "") const {
    // exec: the signals that a test sends reach the program itself.
    const std::string script =
        "cd \"$0\"; " + shell + " exec \"$@\" > " + name + ".out 2> " + name + ".err < /dev/null";
    std::vector<std::string> all{"/bin/sh", "-c", script, root_.string(), HONE_BINARY};
    all.insert(all.end(), args.begin(), args.end());
    std::vector<char*> argv;
    for (auto& a : all) argv.push_back(a.data());
    argv.push_back(nullptr);
    pid_t pid = -1;
    if (const int error = ::posix_spawn(&pid, "/bin/sh", nullptr, nullptr, argv.data(), environ))
      throw std::runtime_error(std::string("posix_spawn: ") + std::strerror(error));
    return pid;
  }
  Outcome wait(pid_t pid, const std::string& name = "hone") const {
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read(root_ / (name + ".out")),
            read(root_ / (name + ".err"))};
  }
  Outcome hone(const std::vector<std::string>& args, const std::string& shell = "") const {
    return wait(start(args, "hone", shell));
  }
  /// Runs what must succeed.
  Outcome succeed(const std::vector<std::string>& args) const {
    auto outcome = hone(args);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome;
  }

  /// Every file below `name` (all, by default) with its bytes, without the program's own output.
  std::map<std::string, std::string> files(const std::string& name = ".") const {
    std::map<std::string, std::string> result;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root_ / name)) {
      const auto path = std::filesystem::relative(entry.path(), root_ / name).string();
      if (path != "hone.out" && path != "hone.err")
        result[path] = entry.is_regular_file() ? read(entry.path()) : "(directory)";
    }
    return result;
  }

  /// A copy of a golden checkpoint under `name`.
  void golden(const std::string& which, const std::string& name = "model") const {
    std::filesystem::copy(Path(HONE_TEST_DATA) / "golden" / which, root_ / name);
  }
  /// A qwen3_moe checkpoint of 43 thousand parameters with the demo's tokenizer and template, under `name`.
  void chat_model(const std::string& name = "model") const {
    const Path demo = Path(HONE_SOURCE) / "demo" / "model";
    const Path config = root_ / (name + "-config");
    std::filesystem::copy(demo, config);
    auto json = Json::parse(read(demo / "config.json"));
    json.update({{"hidden_size", 32},
                 {"num_hidden_layers", 2},
                 {"num_attention_heads", 4},
                 {"num_key_value_heads", 2},
                 {"head_dim", 8},
                 {"moe_intermediate_size", 16},
                 {"num_experts", 4},
                 {"intermediate_size", 48},
                 {"max_window_layers", 2},
                 {"max_position_embeddings", 128}});
    write(config / "config.json", json.dump(1));
    succeed({"init", name + "-config", name, "--seed", "1"});
  }
  /// The first `rows` rows of one of the demo's files, as `name`.
  void chat_data(int rows, const std::string& name = "train.jsonl", const std::string& from = "train") const {
    write(root_ / name, head(read(Path(HONE_SOURCE) / "demo" / "data" / (from + ".jsonl")), rows));
  }

 private:
  TemporaryDirectory directory_;
  const Path& root_ = directory_.path();
};

/// A safetensors file taken apart: its header as JSON and the bytes behind it.
struct RawSafetensors {
  Json header;
  std::string data;

  explicit RawSafetensors(const Path& path) {
    const std::string bytes = read(path);
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof length);
    header = Json::parse(bytes.substr(8, length));
    data = bytes.substr(8 + length);
  }
  void save(const Path& path) const {
    const std::string text = header.dump();
    const std::uint64_t length = text.size();
    write(path, std::string(reinterpret_cast<const char*>(&length), sizeof length) + text + data);
  }
  std::vector<float> floats(const std::string& name) const {
    const auto offsets = header.at(name).at("data_offsets");
    const auto begin = offsets[0].get<std::size_t>();
    const auto size = offsets[1].get<std::size_t>() - begin;
    std::vector<float> values(size / sizeof(float));
    std::memcpy(values.data(), data.data() + begin, size);
    return values;
  }
};

/// Expects the one clear line of a bad input: exit 2, short, holding all of `parts`.
inline void expect_refused(const Outcome& outcome, const std::vector<std::string>& parts) {
  EXPECT_EQ(outcome.code, 2) << outcome.err;
  const std::string message = outcome.message();
  EXPECT_TRUE(message.starts_with("hone: error: ")) << message;
  EXPECT_LE(message.size(), 600U) << message;
  for (const auto& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' in: " << message;
}

}  // namespace hone::test
