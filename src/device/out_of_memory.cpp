#include "device/out_of_memory.h"

#include <string>

#include "base/console.h"

namespace hone::device {

namespace {

std::string text(std::int64_t bytes) {
  return bytes_text(static_cast<double>(bytes));
}

std::string held_text(const OutOfMemory::Facts& facts) {
  std::string text;
  for (std::size_t i = 0; i < kNumPurposes; ++i)
    text += fmt::format("{}{} {:.1f}", i > 0 ? ", " : "", name_of(static_cast<Purpose>(i)),
                        static_cast<double>(facts.held.at(i)) / 0x1p20);
  return text;
}

std::string line_of(const OutOfMemory::Facts& facts) {
  const std::string state = state_text(facts);
  if (facts.pinned)
    return fmt::format(
        "out of memory of the host: {:.1f} MiB more of pinned memory for {} were refused ({:.1f} MiB are "
        "held "
        "so{}{}); free some, or raise its limit (ulimit -l, the container's)",
        static_cast<double>(facts.asked) / 0x1p20, name_of(facts.purpose),
        static_cast<double>(facts.taken) / 0x1p20, state.empty() ? "" : "; ", state);
  return fmt::format(
      "out of memory: {:.1f} MiB more for {} were refused (held, MiB: {}{}{}); use a smaller micro_batch or "
      "seq_len",
      static_cast<double>(facts.asked) / 0x1p20, name_of(facts.purpose), held_text(facts),
      state.empty() ? "" : "; ", state);
}

}  // namespace

std::int64_t OutOfMemory::Facts::others() const {
  // The driver's own of this program is in it, some 0.5 GiB.
  constexpr std::int64_t kMuch = std::int64_t{1} << 30;
  if (device.type != DeviceType::kCuda || pinned || memory.total == 0) return 0;
  const std::int64_t others = memory.total - memory.available - taken;
  return others >= kMuch ? others : 0;
}

std::array<std::int64_t, kNumPurposes> held_by_purpose(const MemoryLedger& ledger) {
  std::array<std::int64_t, kNumPurposes> held{};
  for (std::size_t i = 0; i < kNumPurposes; ++i) held.at(i) = ledger.current(static_cast<Purpose>(i));
  return held;
}

std::string state_text(const OutOfMemory::Facts& facts) {
  if (facts.memory.total == 0) return "";
  std::string state = fmt::format("{} has {}, {} free", facts.pinned ? "the host" : name_of(facts.device),
                                  text(facts.memory.total), text(facts.memory.available));
  if (const std::int64_t others = facts.others(); others > 0)
    state += fmt::format(", {} held by other programs (nvidia-smi lists them)", text(others));
  return state;
}

OutOfMemory::OutOfMemory(const Facts& facts) : Error(ErrorKind::kUser, line_of(facts)), facts_(facts) {}

}  // namespace hone::device
