// What is said, and known, where memory was asked for that there is not.
#pragma once

#include <array>
#include <cstdint>

#include "base/error.h"
#include "device/memory.h"
#include "device/memory_of.h"

namespace hone::device {

/// A kUser error whose line says what was asked for, by whom, what is held and what is free. For who knows
/// more of the program than the allocator does, the same as numbers.
class OutOfMemory : public Error {
 public:
  struct Facts {
    Device device = {};
    bool pinned = false;  // it was memory of the host that the device reaches
    Purpose purpose = Purpose::kActivations;
    std::int64_t asked = 0;                         // bytes
    std::array<std::int64_t, kNumPurposes> held{};  // by purpose, of the device (of the host, where pinned)
    std::int64_t taken = 0;                         // of the system by the allocator: in use and kept
    DeviceMemory memory = {};                       // of the device (of the host, where pinned)
    /// What is neither free nor taken, where that is much: on a card the memory of other programs. 0: little,
    /// or not known.
    std::int64_t others() const;
  };
  explicit OutOfMemory(const Facts& facts);
  const Facts& facts() const { return facts_; }

 private:
  Facts facts_;
};

/// By purpose.
std::array<std::int64_t, kNumPurposes> held_by_purpose(const MemoryLedger& ledger);

/// "cuda:0 has 79.1 GiB, 3.2 GiB free, 12.3 GiB held by other programs (nvidia-smi lists them)"; "" where
/// nothing is known.
std::string state_text(const OutOfMemory::Facts& facts);

}  // namespace hone::device
