#include "base/log.h"

#include <atomic>
#include <cstdio>

namespace hone {

namespace {
std::atomic<LogLevel> g_level{LogLevel::kInfo};
}

void set_log_level(LogLevel level) {
  g_level = level;
}

void log_line(LogLevel level, std::string_view text) {
  if (level <= g_level.load()) fmt::print(stderr, "{}\n", text);
}

void log_warning_line(std::string_view text) {
  fmt::print(stderr, "warning: {}\n", text);
}

}  // namespace hone
