#include "train/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "base/file.h"

namespace hone::train {

namespace {

constexpr const char* kLock = ".lock";

}  // namespace

RunDirectory::RunDirectory(const std::filesystem::path& path) : path_(path) {
  std::error_code error;
  if (std::filesystem::exists(path) && !std::filesystem::is_directory(path))
    fail("output {}: is a file, expected a directory", path.string());
  const bool is_new = !std::filesystem::exists(path) || std::filesystem::is_empty(path, error);
  if (!is_new && !std::filesystem::exists(path / kLock))
    fail("output {}: holds something that is not a run of hone; choose another output, or empty it",
         path.string());
  std::filesystem::create_directories(path, error);
  if (error) fail("output {}: cannot be created: {}", path.string(), error.message());
  lock_ = ::open((path / kLock).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) fail("output {}: cannot be written: {}", path.string(), std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    fail("output {}: is in use by another hone process", path.string());
  }
}

RunDirectory::~RunDirectory() {
  ::close(lock_);
}

StepLog::StepLog(const std::filesystem::path& path, std::int64_t last_step) : path_(path) {
  if (std::filesystem::exists(path)) {
    std::istringstream old(read_file(path));
    std::string kept;
    for (std::string line; std::getline(old, line);) {
      const auto row = nlohmann::json::parse(line, nullptr, false);
      if (row.is_object() && row.contains("step") && row["step"].is_number_integer() &&
          row["step"].get<std::int64_t>() <= last_step)
        kept += line + "\n";
    }
    write_file_atomically(path, kept);
  }
  out_.open(path, std::ios::app | std::ios::binary);
  if (!out_) fail("{}: cannot be written: {}", path.string(), std::strerror(errno));
}

void StepLog::write(const nlohmann::ordered_json& row) {
  out_ << row.dump() << '\n' << std::flush;
  if (!out_) fail("{}: cannot be written: {}; is the disk full?", path_.string(), std::strerror(errno));
}

}  // namespace hone::train
