#include "text/moment.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>

#include "base/error.h"

namespace hone::text {

std::tm local_time() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  localtime_r(&now, &parts);
  return parts;
}

std::string moment_text(const std::tm& moment) {
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", moment.tm_year + 1900, moment.tm_mon + 1,
                     moment.tm_mday, moment.tm_hour, moment.tm_min, moment.tm_sec);
}

std::tm parse_moment(std::string_view text, std::string_view where) {
  constexpr std::string_view kShape = "dddd-dd-dd dd:dd:dd";
  bool good = text.size() == kShape.size();
  for (std::size_t i = 0; good && i < text.size(); ++i)
    good = kShape[i] == 'd' ? text[i] >= '0' && text[i] <= '9' : text[i] == kShape[i];
  const auto number = [&](std::size_t at, std::size_t digits) {
    int value = 0;
    std::from_chars(text.data() + at, text.data() + at + digits, value);
    return value;
  };
  std::tm moment{};
  if (good) {
    using namespace std::chrono;
    const year_month_day date{year{number(0, 4)}, month{static_cast<unsigned>(number(5, 2))},
                              day{static_cast<unsigned>(number(8, 2))}};
    moment.tm_hour = number(11, 2);
    moment.tm_min = number(14, 2);
    moment.tm_sec = number(17, 2);
    good = date.ok() && moment.tm_hour < 24 && moment.tm_min < 60 && moment.tm_sec <= 60;
    if (good) {
      const sys_days days{date};
      moment.tm_year = static_cast<int>(date.year()) - 1900;
      moment.tm_mon = static_cast<int>(static_cast<unsigned>(date.month())) - 1;
      moment.tm_mday = static_cast<int>(static_cast<unsigned>(date.day()));
      moment.tm_wday = static_cast<int>(weekday{days}.c_encoding());
      moment.tm_yday = static_cast<int>((days - sys_days{date.year() / January / 1}).count());
      moment.tm_isdst = -1;
    }
  }
  if (!good) fail("{}: '{}' is not a moment such as 2026-11-27 22:31:05", where, text.substr(0, 40));
  return moment;
}

}  // namespace hone::text
