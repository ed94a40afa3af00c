// A JSONL file with rows of steps, that grows as the run goes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json_fwd.hpp>

namespace hone::train {

/// Each row is handed to the system when its step ends.
class StepLog {
 public:
  /// Opens `path` for the steps after `last_step`: rows of later steps (of a run that was killed after its
  /// last checkpoint) and a broken last line are dropped.
  StepLog(const std::filesystem::path& path, std::int64_t last_step);
  /// Throws Error(kUser) where the row cannot be written.
  void write(const nlohmann::ordered_json& row);
  /// Waits until the rows are on the disk.
  void sync() const;

 private:
  std::filesystem::path path_;
  std::ofstream out_;
};

}  // namespace hone::train
