#include "train/step_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "base/file.h"

namespace hone::train {

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

void StepLog::sync() const {
  const int file = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  ::fsync(file);
  ::close(file);
}

void StepLog::write(const nlohmann::ordered_json& row) {
  out_ << row.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n' << std::flush;
  if (!out_) fail("{}: cannot be written: {}; is the disk full?", path_.string(), std::strerror(errno));
}

}  // namespace hone::train
