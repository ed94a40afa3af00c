// A small run, its metrics, and what it means that two runs are the same.
#pragma once

#include <algorithm>
#include <csignal>
#include <sstream>

#include "device/device.h"
#include "tests/cli_verbs/program.h"

namespace hone::test {

/// A small packed chat data set: 12 steps are a little over one and a half of its epochs.
class Resume : public testing::Test {
 protected:
  Resume() {
    workspace_.chat_model();
    workspace_.chat_data(32);
    write(workspace_ / "recipe.yaml",
          "model: {path: model, dtype: f32}\n"
          "data: {train: train.jsonl, seq_len: 128}\n"
          "train: {steps: 12, global_batch: 2, micro_batch: 1, checkpoint_every: 2, seed: 3, threads: 1}\n"
          "output: run\n");
  }
  /// Steps that last long enough to be stopped midway; on an emulated card a step takes half a second.
  static int many_steps() { return device::default_device() == device::Device{} ? 250 : 10; }
  std::vector<std::string> args(const std::string& output, std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"train", "recipe.yaml", "output=" + output});
    return more;
  }
  /// The training data again and again.
  void many_rows(std::size_t count) const {
    std::string rows = read(workspace_ / "train.jsonl");
    for (std::size_t have = 32; have < count; have *= 2) rows += rows;
    write(workspace_ / "train.jsonl", rows);
  }
  /// Rows of a run's metrics.
  std::vector<Json> metrics(const std::string& output) const {
    std::vector<Json> rows;
    std::istringstream in(read(workspace_ / (output + "/metrics.jsonl")));
    for (std::string line; std::getline(in, line);) rows.push_back(Json::parse(line));
    return rows;
  }
  /// Until the metrics have so many rows. Throws where the program ended before.
  void wait_for_step(pid_t pid, const std::string& output, std::size_t step) const {
    const Path path = workspace_ / (output + "/metrics.jsonl");
    const auto rows = [&] {
      if (!std::filesystem::exists(path)) return std::size_t{0};
      const std::string text = read(path);
      return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
    };
    while (rows() < step) {
      siginfo_t ended{};
      if (::waitid(P_PID, static_cast<id_t>(pid), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
          ended.si_pid == pid && rows() < step)
        throw std::runtime_error("hone ended before step " + std::to_string(step) + ": " +
                                 read(workspace_ / "hone.err"));
      ::usleep(1000);
    }
  }
  /// The same weights, one row a step with the same figures, and nothing left over.
  void expect_same_run(const std::string& a, const std::string& b) const {
    EXPECT_TRUE(workspace_.files(a + "/model") == workspace_.files(b + "/model"));
    EXPECT_EQ(read(workspace_ / (a + "/experts.jsonl")), read(workspace_ / (b + "/experts.jsonl")));
    expect_same_checkpoint(a, b);
    const auto rows = metrics(a);
    const auto others = metrics(b);
    ASSERT_EQ(rows.size(), others.size());
    ASSERT_FALSE(rows.empty());
    const std::size_t first = rows.front().contains("loss") ? 1 : 0;  // 0: the evaluation before it
    for (std::size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(rows[i].at("step"), first + i);
      EXPECT_EQ(untimed(rows[i]), untimed(others[i])) << "step " << first + i;
    }
    for (const auto& [name, bytes] : workspace_.files(a)) {
      for (const char* leftover : {".lock", ".partial", ".previous", ".tmp"})
        EXPECT_EQ(name.find(leftover), std::string::npos) << name;
    }
  }
  /// The newest checkpoints: the same tensors and the same state, but for the times.
  void expect_same_checkpoint(const std::string& a, const std::string& b) const {
    const Path path = workspace_ / a / newest_checkpoint(a);
    const Path other = workspace_ / b / newest_checkpoint(b);
    EXPECT_EQ(path.filename(), other.filename());
    EXPECT_TRUE(read(path / kShard) == read(other / kShard));
    auto index = Json::parse(read(path / "index.json"));
    auto other_index = Json::parse(read(other / "index.json"));
    for (auto* i : {&index, &other_index})
      for (const char* time : {"seconds", "started"}) i->at("state").erase(time);
    EXPECT_EQ(index, other_index);
  }
  /// "checkpoints/step-N" with the greatest N.
  std::string newest_checkpoint(const std::string& output) const {
    int newest = -1;
    for (const auto& entry : std::filesystem::directory_iterator(workspace_ / (output + "/checkpoints")))
      if (const std::string name = entry.path().filename(); name.starts_with("step-"))
        newest = std::max(newest, std::stoi(name.substr(5)));
    EXPECT_GE(newest, 0) << output << " has no checkpoint";
    return "checkpoints/step-" + std::to_string(newest);
  }
  static Json untimed(Json row) {
    for (const char* time :
         {"time", "eta_s", "tok_s", "step_ms", "fwd_ms", "bwd_ms", "opt_ms", "sol", "mem_mib"})
      row.erase(time);
    return row;
  }
  static constexpr const char* kShard = "rank-00000-of-00001.safetensors";
  Workspace workspace_;
};

}  // namespace hone::test
