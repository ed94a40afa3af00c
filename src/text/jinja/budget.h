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
  /// Bytes of text that are read or written in one step.
  static constexpr std::size_t kBytesPerStep = 64;

  Budget(std::uint64_t max_steps, std::size_t max_held_bytes);
  ~Budget();
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  /// Throws Raise once there are more than max_steps.
  static void spend(std::uint64_t steps);
  static void spend_on_text(std::size_t bytes) { spend(bytes / kBytesPerStep); }

 private:
  friend class Holding;
  Budget* outer_;
  std::uint64_t max_steps_;
  std::size_t max_held_;
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
  /// Throws Raise where the rendering would hold more than max_held_bytes.
  void take(std::size_t bytes);
  void give_back();

 private:
  std::size_t bytes_ = 0;
};

}  // namespace hone::text::jinja
