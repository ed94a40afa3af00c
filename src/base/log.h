// Messages for the person at the terminal, on stderr; stdout is for results. Levels are set once by the
// program.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace hone {

enum class LogLevel { kQuiet, kInfo, kDebug };

/// What is printed from now on; kInfo at the start. Warnings are always printed.
void set_log_level(LogLevel level);
void log_line(LogLevel level, std::string_view text);
void log_warning_line(std::string_view text);

template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_warning_line(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace hone
