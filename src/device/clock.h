// Times of a device's own clock.
#pragma once

#include <memory>

#include "device/stream.h"

namespace hone::device {

/// A place of a stream's order that keeps when the device came by.
class TimedEvent : public Event {
 public:
  /// From `earlier`, of the same stream, to this place. Waits for both.
  virtual double seconds_since(const TimedEvent& earlier) const = 0;
  /// Of a place in a graph: when the last launch that was put into the stream comes by, whatever is launched
  /// later. Of any other: itself.
  virtual std::shared_ptr<const TimedEvent> of_last_launch() const = 0;
};

/// Marks this place of the stream's order: what lies between two such places is timed without waiting for it.
/// Null where work is done on return, so that the host's clock tells.
std::shared_ptr<const TimedEvent> record_time(Stream& stream);

}  // namespace hone::device
