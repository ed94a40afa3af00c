// The moment that `strftime_now` of a chat template reads. It decides what chats become, so a training run
// reads the clock once, keeps the moment as text beside its state, and reads that text when it is continued.
#pragma once

#include <ctime>
#include <string>
#include <string_view>

namespace hone::text {

/// The local time.
std::tm local_time();

/// "2026-11-27 22:31:05".
std::string moment_text(const std::tm& moment);

/// The moment that `moment_text` wrote, its weekday and day of the year included. Throws Error(kUser) that
/// begins with `where`.
std::tm parse_moment(std::string_view text, std::string_view where);

}  // namespace hone::text
