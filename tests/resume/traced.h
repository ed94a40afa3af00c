// Runs a program call by call (ptrace), to kill it exactly before one of its changes to files.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace hone::test {

/// A system call that changes a file or writes to one, stderr included.
struct FileCall {
  enum class Kind { kCreate, kWrite, kSync, kRename, kRemove };
  Kind kind = Kind::kWrite;
  std::string path;  // what is changed; of a rename: the new name
  std::string text;  // of a write to stderr
};

struct Traced {
  bool was_killed = false;
  int code = -1;                // where it was not
  std::vector<FileCall> calls;  // the last one is the one before which it was killed
};

/// The program's memory and files, while it is stopped.
class Stopped {
 public:
  explicit Stopped(pid_t pid) : pid_(pid) {}
  std::string text_at(std::uint64_t address, std::size_t most) const {
    std::string text(most, '\0');
    const std::string name = "/proc/" + std::to_string(pid_) + "/mem";
    const int memory = ::open(name.c_str(), O_RDONLY | O_CLOEXEC);
    const auto got = ::pread(memory, text.data(), most, static_cast<off_t>(address));
    ::close(memory);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }
  std::string path_at(std::uint64_t address) const {
    const std::string text = text_at(address, 512);
    return text.substr(0, text.find('\0'));
  }
  std::string path_of(std::uint64_t file) const {
    std::error_code error;
    return std::filesystem::read_symlink("/proc/" + std::to_string(pid_) + "/fd/" + std::to_string(file),
                                         error)
        .string();
  }

 private:
  pid_t pid_;
};

/// What the call about to be made does to files; false where it changes none.
inline bool read_call(const Stopped& program, const __ptrace_syscall_info& info, FileCall& call) {
  using Kind = FileCall::Kind;
  const auto& args = info.entry.args;
  switch (info.entry.nr) {
    case SYS_openat:
      if ((args[2] & (O_CREAT | O_TRUNC)) == 0) return false;
      call = {Kind::kCreate, program.path_at(args[1]), ""};
      return true;
    case SYS_mkdirat:
      call = {Kind::kCreate, program.path_at(args[1]), ""};
      return true;
    case SYS_write:
    case SYS_writev:
    case SYS_pwrite64:
      call = {Kind::kWrite, program.path_of(args[0]), ""};
      if (info.entry.nr == SYS_write && args[0] == STDERR_FILENO)
        call.text = program.text_at(args[1], std::min<std::size_t>(args[2], 200));
      return true;
    case SYS_fsync:
    case SYS_fdatasync:
      call = {Kind::kSync, program.path_of(args[0]), ""};
      return true;
    case SYS_renameat:
      [[fallthrough]];
    case SYS_renameat2:
      call = {Kind::kRename, program.path_at(args[3]), ""};
      return true;
    case SYS_linkat:
      call = {Kind::kCreate, program.path_at(args[3]), ""};
      return true;
    case SYS_unlinkat:
      call = {Kind::kRemove, program.path_at(args[1]), ""};
      return true;
#ifdef SYS_rename
    case SYS_mkdir:
      call = {Kind::kCreate, program.path_at(args[0]), ""};
      return true;
    case SYS_rename:
      call = {Kind::kRename, program.path_at(args[1]), ""};
      return true;
    case SYS_unlink:
    case SYS_rmdir:
      call = {Kind::kRemove, program.path_at(args[0]), ""};
      return true;
#endif
    default:
      return false;
  }
}

/// Runs `argv` in `directory`, its output in NAME.out and NAME.err there, and kills it before the call that
/// `kill_before` (asked with every call and how many went before it) says yes to.
inline Traced run_traced(const std::filesystem::path& directory, const std::vector<std::string>& argv,
                         const std::string& name,
                         const std::function<bool(const FileCall&, std::size_t)>& kill_before) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    std::vector<char*> arguments;
    for (const auto& a : argv) arguments.push_back(const_cast<char*>(a.c_str()));
    arguments.push_back(nullptr);
    const auto redirect = [&](const std::string& file, int to) {
      ::dup2(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), to);
    };
    if (::chdir(directory.c_str()) != 0) ::_exit(126);
    redirect(name + ".out", STDOUT_FILENO);
    redirect(name + ".err", STDERR_FILENO);
    ::setenv("ASAN_OPTIONS", "detect_leaks=0", 1);  // the leak check needs to trace, too
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(125);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  Traced result;
  const Stopped program(pid);
  int status = 0;
  int signal = 0;
  for (bool is_new = true; ::waitpid(pid, &status, 0) == pid; is_new = false) {
    if (WIFEXITED(status) || WIFSIGNALED(status)) break;
    if (is_new) ::ptrace(PTRACE_SETOPTIONS, pid, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    const int stop = WSTOPSIG(status);
    signal = stop == (SIGTRAP | 0x80) || stop == SIGTRAP ? 0 : stop;
    if (stop == (SIGTRAP | 0x80)) {
      __ptrace_syscall_info info{};
      ::ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info);
      FileCall call;
      if (info.op == PTRACE_SYSCALL_INFO_ENTRY && read_call(program, info, call)) {
        result.calls.push_back(call);
        if (kill_before(call, result.calls.size() - 1)) {
          result.was_killed = true;
          ::kill(pid, SIGKILL);
        }
      }
    }
    if (!result.was_killed) ::ptrace(PTRACE_SYSCALL, pid, nullptr, signal);
  }
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace hone::test
