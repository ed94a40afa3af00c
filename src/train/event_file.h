// TensorBoard's event files: TFRecords of Event protobufs, as far as scalars and texts need them.
//
// A record is its length (u64), the masked CRC-32C of that, the bytes, and the masked CRC-32C of these
// (tensorflow/core/lib/io/record_writer.h). The bytes are an Event (tensorflow/core/util/event.proto) in
// protobuf's wire format.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace hone::train {

/// One file of a run's events, to which it adds as it goes.
class EventFile {
 public:
  /// Creates a new file in `directory`, which TensorBoard reads after those that are there, and asks it to
  /// forget what these hold of the steps from `first_step` on (of a run that was killed after its last
  /// checkpoint). Throws Error(kUser) where it cannot be written.
  EventFile(const std::filesystem::path& directory, std::int64_t first_step);

  /// Figures of a step, by their tags ("train/loss"), stored as f32. Throws Error(kUser) for a disk that is
  /// full.
  void add_scalars(std::int64_t step, const std::vector<std::pair<std::string, double>>& scalars);
  /// A text, Markdown.
  void add_text(std::int64_t step, const std::string& tag, const std::string& text);
  /// Waits until all is on the disk.
  void sync();

 private:
  void write(const std::string& event);
  std::filesystem::path path_;
  std::ofstream out_;
};

}  // namespace hone::train
