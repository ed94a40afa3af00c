#include "train/event_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>

#include "base/crc32c.h"
#include "base/error.h"

namespace hone::train {

namespace {

constexpr std::string_view kPrefix = "events.out.tfevents.";

std::string little_endian(std::uint64_t value, std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes; ++i) text += static_cast<char>((value >> (8 * i)) & 0xFFU);
  return text;
}

/// A message in protobuf's wire format, field by field.
class Message {
 public:
  Message& varint(std::uint32_t field, std::uint64_t value) {
    key(field, 0);
    put_varint(value);
    return *this;
  }
  Message& fixed64(std::uint32_t field, double value) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    key(field, 1);
    bytes_ += little_endian(bits, sizeof bits);
    return *this;
  }
  Message& text(std::uint32_t field, std::string_view value) {
    key(field, 2);
    put_varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& fixed32(std::uint32_t field, float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    key(field, 5);
    bytes_ += little_endian(bits, sizeof bits);
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void key(std::uint32_t field, std::uint32_t wire_type) { put_varint((field << 3U) | wire_type); }
  void put_varint(std::uint64_t value) {
    for (; value >= 0x80U; value >>= 7U) bytes_ += static_cast<char>((value & 0x7FU) | 0x80U);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

/// Event {1: wall_time, 2: step, …}.
Message event_at(std::int64_t step) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  Message event;
  event.fixed64(1, std::chrono::duration<double>(now).count());
  event.varint(2, static_cast<std::uint64_t>(step));
  return event;
}

/// Seconds since 1970, later than in the names of the files that are there: TensorBoard reads files in the
/// order of their names.
std::int64_t time_for_name(const std::filesystem::path& directory) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  std::int64_t time = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    std::int64_t other = 0;
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), other);
    time = std::max(time, other + 1);
  }
  return time;
}

std::string host_name() {
  char name[256] = "";
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

}  // namespace

EventFile::EventFile(const std::filesystem::path& directory, std::int64_t first_step) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) fail("{}: cannot be created: {}", directory.string(), error.message());
  path_ =
      directory / fmt::format("{}{:010}.{}.{}", kPrefix, time_for_name(directory), host_name(), ::getpid());
  out_.open(path_, std::ios::binary);
  if (!out_) fail("{}: cannot be written: {}", path_.string(), std::strerror(errno));
  write(event_at(0).text(3, "brain.Event:2").bytes());  // 3: file_version
  constexpr std::uint64_t kStart = 1;
  write(event_at(first_step).text(7, Message().varint(1, kStart).bytes()).bytes());  // 7: session_log
}

void EventFile::add_scalars(std::int64_t step, const std::vector<std::pair<std::string, double>>& scalars) {
  Message summary;
  for (const auto& [tag, value] : scalars)  // Summary {1: value {1: tag, 2: simple_value}}
    summary.text(1, Message().text(1, tag).fixed32(2, static_cast<float>(value)).bytes());
  write(event_at(step).text(5, summary.bytes()).bytes());
}

void EventFile::add_text(std::int64_t step, const std::string& tag, const std::string& text) {
  constexpr std::uint64_t kString = 7;      // DataType DT_STRING
  constexpr std::uint64_t kTensorData = 2;  // DATA_CLASS_TENSOR
  const Message one = Message().varint(1, 1);
  const Message tensor = Message()  // TensorProto {1: dtype, 2: shape {2: dim {1: size}}, 8: string_val}
                             .varint(1, kString)
                             .text(2, Message().text(2, one.bytes()).bytes())
                             .text(8, text);
  const Message metadata =  // SummaryMetadata {1: plugin_data {1: plugin_name}, 4: data_class}
      Message().text(1, Message().text(1, "text").bytes()).varint(4, kTensorData);
  const Message value = Message().text(1, tag).text(8, tensor.bytes()).text(9, metadata.bytes());
  write(event_at(step).text(5, Message().text(1, value.bytes()).bytes()).bytes());
}

void EventFile::write(const std::string& event) {
  const auto masked = [](const std::string& bytes) {
    const std::uint32_t crc = crc32c(bytes);
    return little_endian(((crc >> 15U) | (crc << 17U)) + 0xA282EAD8U, sizeof crc);
  };
  const std::string length = little_endian(event.size(), sizeof(std::uint64_t));
  out_ << length << masked(length) << event << masked(event) << std::flush;
  if (!out_) fail("{}: cannot be written: {}; is the disk full?", path_.string(), std::strerror(errno));
}

void EventFile::sync() {
  const int file = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  ::fsync(file);
  ::close(file);
}

}  // namespace hone::train
