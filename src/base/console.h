// What people read at the terminal: results, numbers written for them, tables, progress of long work.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/stopwatch.h"

namespace hone {

/// Prints to stdout at once. A terminal, pipe or disk that takes no more is no reason to end a run: errors
/// are ignored.
void say_text(std::string_view text);
template <typename... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  say_text(fmt::format(format, std::forward<Args>(args)...));
}

/// "1,234,567".
std::string with_commas(std::int64_t n);
/// "41.2k", "3.3B".
std::string short_count(double n);
/// "8m45s", "2h03m", "3d04h".
std::string duration(double seconds);
/// "93.1 MiB", "1.2 GiB".
std::string bytes_text(double bytes);

/// Two columns: a short label, and text wrapped under itself.
class Card {
 public:
  void row(const std::string& label, const std::string& text);
  /// A line of its own, unbroken, to be found by searching.
  void line(const std::string& text) { text_ += text + "\n"; }
  std::string str() const { return text_; }

 private:
  std::string text_;
};

/// Progress of something long on stderr: one line rewritten in place on a terminal, a line now and then
/// elsewhere. Shows an ETA.
class Progress {
 public:
  /// Nothing is printed where not `shown`.
  explicit Progress(std::string what, bool shown = true);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// share: 0 to 1 of the work done; detail: what to print beside it.
  void update(double share, const std::string& detail);

 private:
  std::string what_;
  Stopwatch watch_;
  double last_printed_ = 0;  // on watch_
  bool is_shown_ = true;
  bool on_terminal_ = false;
  bool printed_ = false;
};

}  // namespace hone
