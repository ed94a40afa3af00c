#include "base/console.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace hone {

void say_text(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

std::string with_commas(std::int64_t n) {
  std::string digits = std::to_string(n);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > (n < 0 ? 1 : 0); at -= 3)
    digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

std::string short_count(double n) {
  if (!std::isfinite(n)) return "?";
  if (n < 999.5) return fmt::format("{:.0f}", n);
  constexpr const char* kUnits = "kMBT";
  int unit = -1;
  while (n >= 999.5 && unit < 3) {
    n /= 1000;
    ++unit;
  }
  return fmt::format("{:.{}f}{}", n, n < 100 ? 1 : 0, kUnits[unit]);
}

std::string duration(double seconds) {
  constexpr double kCenturies = 1e11;
  if (!(seconds < kCenturies)) return "?";
  const auto s = static_cast<std::int64_t>(std::llround(std::max(0.0, seconds)));
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return fmt::format("{}d{:02}h", s / 86400, s / 3600 % 24);
}

std::string bytes_text(double bytes) {
  if (bytes < 0x1p30) return fmt::format("{:.1f} MiB", bytes / 0x1p20);
  return fmt::format("{:.1f} GiB", bytes / 0x1p30);
}

void Card::row(const std::string& label, const std::string& text) {
  constexpr std::size_t kLabel = 9;
  constexpr std::size_t kWidth = 110;
  std::string line = fmt::format("{:<{}}", label, kLabel);
  std::size_t used = kLabel;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find(' ', at), text.size());
    if (used > kLabel && used + (end - at) > kWidth) {
      line += "\n" + std::string(kLabel, ' ');
      used = kLabel;
    }
    line += text.substr(at, end - at) + " ";
    used += end - at + 1;
    at = end + 1;
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  text_ += line + "\n";
}

Progress::Progress(std::string what, bool shown)
    : what_(std::move(what)), is_shown_(shown), on_terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (printed_ && on_terminal_) std::fputs("\r\033[K", stderr);
}

void Progress::update(double share, const std::string& detail) {
  const double now = watch_.seconds();
  if (!is_shown_ || now - last_printed_ < (on_terminal_ ? 0.2 : 10.0)) return;
  last_printed_ = now;
  std::string text = what_ + (detail.empty() ? "" : "  " + detail);
  if (share > 0) text += fmt::format("  {:.0f}%  eta {}", 100 * share, duration(now * (1 - share) / share));
  std::fputs(((on_terminal_ ? "\r\033[K" : "") + text + (on_terminal_ ? "" : "\n")).c_str(), stderr);
  printed_ = true;
}

}  // namespace hone
