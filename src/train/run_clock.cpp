#include "train/run_clock.h"

#include <array>

#include "base/error.h"

namespace hone::train {

namespace {

constexpr const char* kFormat = "%Y-%m-%dT%H:%M:%S";

}  // namespace

std::string local_time_text() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  std::array<char, 64> text{};
  const std::size_t size = std::strftime(text.data(), text.size(), kFormat, &local);
  return {text.data(), size};
}

std::function<std::tm()> clock_standing_at(const std::string& text, const std::string& where) {
  std::tm time{};
  const char* const end = ::strptime(text.c_str(), kFormat, &time);
  if (end == nullptr || *end != '\0') fail("{}: '{}' is not a time like 2026-11-27T22:30:14", where, text);
  ::timegm(&time);  // fills in the day of the week and of the year; the hours stay as they were read
  return [time] { return time; };
}

}  // namespace hone::train
