// The one exception type, and the two ways to raise it: fail() for what the user can fix, HONE_CHECK for what
// is our fault.
#pragma once

#include <fmt/format.h>

#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>

namespace hone {

/// Who can act on an error. The CLI exits with 2 for kUser and with 1 for kInternal.
enum class ErrorKind { kUser, kInternal };

/// The only exception hone throws. what() is one line: what is wrong, where (file:line or key path), and how
/// to mend it.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

/// Throws an Error that the user can fix: fail("{}: row {} has no messages", path, row).
template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorKind::kUser, fmt::format(format, std::forward<Args>(args)...));
}

/// Throws an Error of kind kInternal that names the source line.
[[noreturn]] void fail_check(std::source_location where, const char* condition, const std::string& message);

}  // namespace hone

/// A promise of our own code, always checked. The message is a fmt format: HONE_CHECK(n > 0, "n is {}", n).
#define HONE_CHECK(condition, ...)                                                                 \
  do {                                                                                             \
    if (!(condition)) [[unlikely]]                                                                 \
      ::hone::fail_check(std::source_location::current(), #condition, ::fmt::format(__VA_ARGS__)); \
  } while (false)
