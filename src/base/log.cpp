#include "base/log.h"

#include <atomic>
#include <cstdio>
#include <string>

namespace hone {

namespace {
std::atomic<LogLevel> g_level{LogLevel::kInfo};

/// Nobody may be listening any more; that is no reason to end the work.
void write_line(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace

void set_log_level(LogLevel level) {
  g_level = level;
}

void log_line(LogLevel level, std::string_view text) {
  if (level <= g_level.load()) write_line(fmt::format("{}\n", text));
}

void log_warning_line(std::string_view text) {
  write_line(fmt::format("warning: {}\n", text));
}

}  // namespace hone
