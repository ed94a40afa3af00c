// Ends a process at a system call of choice, so that a test of "killed at any instant" reaches every instant.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <optional>
#include <set>

namespace hone::test {

/// True for system calls that change what a directory holds.
inline bool changes_files(const __ptrace_syscall_info& call) {
  static const std::set<unsigned long long> kCalls{
      SYS_linkat,   SYS_symlinkat, SYS_unlinkat,  SYS_mkdirat, SYS_renameat, SYS_renameat2,
      SYS_pwrite64, SYS_ftruncate, SYS_fallocate,
#ifdef SYS_rename  // the older calls, which not every processor has
      SYS_link,     SYS_symlink,   SYS_unlink,    SYS_mkdir,   SYS_rmdir,    SYS_rename,
#endif
  };
  const bool creates = call.entry.nr == SYS_openat && (call.entry.args[2] & (O_CREAT | __O_TMPFILE)) != 0;
  return creates || kCalls.contains(call.entry.nr);
}

/// Runs `body` in a child process that is killed just before its `n`-th (from 0) such call. True where it was
/// killed, false where it ended before. nullopt where this machine does not let a process trace its child.
inline std::optional<bool> kill_before_call(int n, const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) ::_exit(77);
    ::raise(SIGSTOP);
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSTOPPED(status)) return std::nullopt;
  const auto end = [&](std::optional<bool> answer) {
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
    return answer;
  };
  if (::ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) != 0)
    return end(std::nullopt);
  for (int calls = 0;;) {
    if (::ptrace(PTRACE_SYSCALL, child, 0, 0) != 0) return end(std::nullopt);
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
      return false;
    }
    if (!WIFSTOPPED(status)) return std::nullopt;
    if (WSTOPSIG(status) != (SIGTRAP | 0x80)) continue;
    __ptrace_syscall_info call{};
    if (::ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof call, &call) <= 0) return end(std::nullopt);
    if (call.op == PTRACE_SYSCALL_INFO_ENTRY && changes_files(call) && calls++ == n) return end(true);
  }
}

}  // namespace hone::test
