// Where the time of a program's kernels goes: each call's seconds, summed by slot, phase and path.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/stopwatch.h"
#include "device/clock.h"
#include "kernels/card_work.h"
#include "kernels/peak.h"

namespace hone::kernels {

/// What of a step a kernel is called for.
enum class Phase : std::uint8_t { kForward, kBackward, kOptimizer };
inline constexpr std::size_t kNumPhases = 3;
std::string_view name_of(Phase phase);

/// Times every kernel that a Context calls while it is given to it (Context::set_profile): by the device's
/// clock, without waiting for it, where it has one; by the host's where a call is done on return. On the meta
/// device nothing is timed: seconds are what a model of a card says (kernels/card_work.h).
class Profile {
 public:
  Profile() = default;
  /// For calls on `card`, or on the meta device in its stead. Its path is kept with each.
  explicit Profile(CardTarget card) : card_(std::move(card)) {}

  /// All calls of one slot that went one path.
  struct Slot {
    std::string_view name;
    std::string_view path;  // what took most of a call, of a card; "": another device
    std::int64_t calls = 0;
    std::array<double, kNumPhases> seconds_in{};
    double seconds = 0;
    double least_seconds = 0;     // the sum of each call's (peak.h)
    double flops = 0, bytes = 0;  // device::Cost
    WorkTime model = {};          // of a card's calls: what the model says
    std::array<WorkTime, kNumPhases> model_in{};
  };

  /// What is called from now on is for this phase.
  void begin(Phase phase) { phase_ = phase; }

  /// Runs `kernel()`, which puts a kernel of these arguments into the stream, and adds the seconds that it
  /// takes there.
  template <typename Args, typename F>
  void time(const Args& args, Stream& stream, F kernel) {
    Call call{.slot = slot_of<Args>().name, .cost = cost(args), .phase = phase_};
    if (card_) {
      const Work work = card_work(args, *card_);
      call.path = main_path(work, card_->card);
      call.model = work_time(work, call.cost, card_->card);
    }
    time(std::move(call), stream, kernel);
  }

  /// The slots that were called, those that took longest first. Waits for the last call.
  std::vector<Slot> slots(const Ceilings& ceilings) const;

 private:
  struct Call {
    std::string_view slot;
    Cost cost;
    Phase phase;
    std::string_view path = {};
    WorkTime model = {};
    double seconds = 0;
    std::shared_ptr<const device::TimedEvent> begin = {}, end = {};
  };

  template <typename F>
  void time(Call call, Stream& stream, const F& kernel) {
    if (stream.is_meta()) {
      kernel();
      call.seconds = call.model.total();
    } else if ((call.begin = device::record_time(stream)) != nullptr) {
      kernel();
      call.end = device::record_time(stream);
    } else {
      stream.synchronize();
      const Stopwatch watch;
      kernel();
      stream.synchronize();
      call.seconds = watch.seconds();
    }
    calls_.push_back(std::move(call));
  }

  std::optional<CardTarget> card_;
  Phase phase_ = Phase::kForward;
  std::vector<Call> calls_;
};

}  // namespace hone::kernels
