// The time that a run's chat templates read (strftime_now): its first start, so that a run that is continued
// on another day renders the same rows.
#pragma once

#include <ctime>
#include <functional>
#include <string>

namespace hone::train {

/// The local time as text that a checkpoint keeps: "2026-11-27T22:30:14".
std::string local_time_text();

/// A clock that stands at such a text, wherever it is read. Throws Error(kUser) for other text; `where` says
/// where it comes from.
std::function<std::tm()> clock_standing_at(const std::string& text, const std::string& where);

}  // namespace hone::train
