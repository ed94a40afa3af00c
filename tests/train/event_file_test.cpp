// TensorBoard's event files, read back record by record.
#include "train/event_file.h"
#include "tests/temporary_directory.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <variant>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/file.h"

namespace hone::train {
namespace {

namespace fs = std::filesystem;

std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i > 0; --i)
    value = (value << 8U) | static_cast<unsigned char>(bytes[i - 1]);
  return value;
}

/// The payloads of a TFRecord file whose checksums all hold.
std::vector<std::string> records_of(const std::string& file) {
  const auto expect_checked = [&](std::size_t at, std::size_t size) {
    const std::uint32_t crc = crc32c(std::string_view(file).substr(at, size));
    const auto stored =
        static_cast<std::uint32_t>(little_endian(std::string_view(file).substr(at + size, 4)));
    const std::uint32_t rotated = stored - 0xA282EAD8U;
    EXPECT_EQ((rotated >> 17U) | (rotated << 15U), crc) << "at " << at;
  };
  std::vector<std::string> records;
  for (std::size_t at = 0; at < file.size();) {
    const std::uint64_t size = little_endian(std::string_view(file).substr(at, 8));
    expect_checked(at, 8);
    expect_checked(at + 12, size);
    records.push_back(file.substr(at + 12, size));
    at += 12 + size + 4;
    EXPECT_LE(at, file.size());
  }
  return records;
}

/// A protobuf message's fields by number: integers, and bytes for the other wire types.
std::multimap<std::uint64_t, std::variant<std::uint64_t, std::string>> fields_of(std::string_view bytes) {
  std::multimap<std::uint64_t, std::variant<std::uint64_t, std::string>> fields;
  std::size_t at = 0;
  const auto varint = [&] {
    std::uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes.at(at++));
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if ((byte & 0x80U) == 0) return value;
    }
  };
  while (at < bytes.size()) {
    const std::uint64_t key = varint();
    if ((key & 7U) == 0) {
      fields.emplace(key >> 3U, varint());
      continue;
    }
    const std::uint64_t size = (key & 7U) == 1 ? 8 : (key & 7U) == 5 ? 4 : varint();
    fields.emplace(key >> 3U, std::string(bytes.substr(at, size)));
    at += size;
  }
  return fields;
}

std::string bytes_in(std::string_view message, std::uint64_t field) {
  const auto fields = fields_of(message);
  return std::get<std::string>(fields.find(field)->second);
}

std::uint64_t number_in(std::string_view message, std::uint64_t field) {
  const auto fields = fields_of(message);
  return std::get<std::uint64_t>(fields.find(field)->second);
}

class EventFileTest : public testing::Test {
 protected:
  /// In the order in which TensorBoard reads them.
  std::vector<fs::path> files() const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(directory_)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
  }
  const test::TemporaryDirectory temporary_;
  const fs::path& directory_ = temporary_.path();
};

TEST_F(EventFileTest, HoldsScalars) {
  EventFile events(directory_, 5);
  events.add_scalars(300, {{"train/loss", 1.25}, {"train/learning_rate", 1e-5}});
  ASSERT_EQ(files().size(), 1U);
  const auto records = records_of(read_file(files()[0]));
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(bytes_in(records[0], 3), "brain.Event:2");
  EXPECT_EQ(number_in(records[1], 2), 5U);               // forget what is from step 5 on:
  EXPECT_EQ(number_in(bytes_in(records[1], 7), 1), 1U);  // SessionLog START
  EXPECT_EQ(number_in(records[2], 2), 300U);
  const std::string summary = bytes_in(records[2], 5);
  std::map<std::string, float> values;
  for (const auto& [field, value] : fields_of(summary)) {
    EXPECT_EQ(field, 1U);
    const auto& message = std::get<std::string>(value);
    const std::string raw = bytes_in(message, 2);
    ASSERT_EQ(raw.size(), sizeof(float));
    std::memcpy(&values[bytes_in(message, 1)], raw.data(), sizeof(float));
  }
  EXPECT_EQ(values, (std::map<std::string, float>{{"train/loss", 1.25F}, {"train/learning_rate", 1e-5F}}));
}

TEST_F(EventFileTest, HoldsTexts) {
  EventFile events(directory_, 1);
  const std::string text = "**why?**\n\nä" + std::string(300, 'x');  // a length of two bytes
  events.add_text(7, "eval/samples", text);
  const std::string value = bytes_in(bytes_in(records_of(read_file(files()[0])).back(), 5), 1);
  EXPECT_EQ(bytes_in(value, 1), "eval/samples");
  const std::string tensor = bytes_in(value, 8);
  EXPECT_EQ(number_in(tensor, 1), 7U);  // DT_STRING
  EXPECT_EQ(bytes_in(tensor, 8), text);
  EXPECT_EQ(bytes_in(bytes_in(bytes_in(value, 9), 1), 1), "text");
}

TEST_F(EventFileTest, OfALaterStartIsReadLater) {
  std::vector<std::string> last;
  for (std::int64_t start = 0; start < 12; ++start) {  // within a second, as after quick kills
    EventFile events(directory_, start);
    last.push_back(read_file(files().back()));
    EXPECT_EQ(number_in(records_of(last.back()).at(1), 2), static_cast<std::uint64_t>(start));
  }
  EXPECT_EQ(files().size(), 12U);
}

TEST_F(EventFileTest, ThatCannotBeMadeNamesThePath) {
  const fs::path file = directory_ / "file";
  write_file_atomically(file, "");
  try {
    EventFile events(file / "tensorboard", 1);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUser);
    EXPECT_THAT(e.what(), testing::HasSubstr("tensorboard"));
  }
}

}  // namespace
}  // namespace hone::train
