// What one rendering may use of time and memory, whatever its template and its row make it do.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hone::text::jinja {

/// The budget of the rendering that runs on this thread, for as long as it lives. Statements, loop rounds,
/// comparisons and text written or read are counted as steps, so that no single operation escapes (comparing
/// lists that share their parts is exponential in their depth); texts, lists and dicts count with the bytes
/// they hold until they are dropped. Values outside of a rendering cost nothing.
class Budget {
 public:
  /// A step is some 50 ns at most, so that a rendering ends within about 10 s. Templates of the field take a
  /// few hundred steps a message.
  static constexpr std::uint64_t kMaxSteps = 100'000'000;
  static constexpr std::size_t kMaxHeldBytes = std::size_t{1} << 30;
  /// Bytes of text that are read or written in one step.
  static constexpr std::size_t kBytesPerStep = 64;

  Budget();
  ~Budget();
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  /// Throws Raise once there are more than kMaxSteps.
  static void spend(std::uint64_t steps);
  static void spend_on_text(std::size_t bytes) { spend(bytes / kBytesPerStep); }

 private:
  friend class Holding;
  Budget* outer_;
  std::uint64_t steps_ = 0;
  std::size_t held_ = 0;
};

/// The bytes that an object of a rendering holds, given back at its end at the latest.
class Holding {
 public:
  Holding() = default;
  ~Holding() { give_back(); }
  Holding(const Holding&) = delete;
  Holding& operator=(const Holding&) = delete;
  /// Throws Raise where the rendering would hold more than Budget::kMaxHeldBytes.
  void take(std::size_t bytes);
  void give_back();

 private:
  std::size_t bytes_ = 0;
};

}  // namespace hone::text::jinja
