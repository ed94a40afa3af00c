// A directory appears whole or not at all, whatever is killed when.
#include "hub/staged_directory.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <functional>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "hub/checkpoint_writer.h"
#include "tests/hub/support.h"

namespace hone::hub {
namespace {

using test::error_of;
using test::files_below;
using test::is_internal_error;
using test::names_in;
using test::read_text;
using test::TemporaryDirectory;
using test::write_text;

void publish(const fs::path& target, IfExists if_exists, const std::map<std::string, std::string>& files) {
  StagedDirectory staged(target, if_exists);
  for (const auto& [name, content] : files) write_text(staged.path() / name, content);
  staged.publish();
}

TEST(StagedDirectory, AppearsUnderItsNameOnlyWhenPublished) {
  const TemporaryDirectory directory;
  const fs::path target = directory / "new/deep/model";
  {
    StagedDirectory staged(target, IfExists::kRefuse);
    write_text(staged.path() / "a", "1");
    EXPECT_FALSE(fs::exists(target));
    staged.publish();
    EXPECT_TRUE(is_internal_error([&] { staged.publish(); }));
  }
  EXPECT_EQ(names_in(target.parent_path()), std::vector<std::string>{"model"});
  EXPECT_EQ(read_text(target / "a"), "1");
}

TEST(StagedDirectory, LeavesNothingWhereItIsNotPublished) {
  const TemporaryDirectory directory;
  publish(directory / "m", IfExists::kRefuse, {{"old", "1"}});
  {
    StagedDirectory staged(directory / "m", IfExists::kReplace);
    write_text(staged.path() / "sub/a", "1");
    const StagedDirectory moved = std::move(staged);
    EXPECT_TRUE(fs::exists(moved.path() / "sub/a"));
  }
  EXPECT_EQ(names_in(directory.path()), std::vector<std::string>{"m"});
  EXPECT_EQ(read_text(directory / "m/old"), "1");
}

TEST(StagedDirectory, ReplacesAWholeDirectory) {
  const TemporaryDirectory directory;
  publish(directory / "m", IfExists::kRefuse, {{"old", "1"}, {"both", "1"}});
  publish(directory / "m/", IfExists::kReplace, {{"new", "2"}, {"both", "2"}});
  EXPECT_EQ(names_in(directory.path()), std::vector<std::string>{"m"});
  EXPECT_EQ(files_below(directory / "m"), (std::map<std::string, std::string>{{"new", "2"}, {"both", "2"}}));
}

TEST(StagedDirectory, FollowsALinkToTheTarget) {
  const TemporaryDirectory directory;
  publish(directory / "real/m", IfExists::kRefuse, {{"old", "1"}});
  fs::create_directory_symlink(directory / "real/m", directory / "link");
  publish(directory / "link", IfExists::kReplace, {{"new", "2"}});
  EXPECT_TRUE(fs::is_symlink(directory / "link"));
  EXPECT_EQ(names_in(directory / "real"), std::vector<std::string>{"m"});
  EXPECT_EQ(read_text(directory / "real/m/new"), "2");
}

TEST(StagedDirectory, RefusesWhatItMustNotReplace) {
  const TemporaryDirectory directory;
  write_text(directory / "m/x", "1");
  write_text(directory / "file", "1");
  fs::create_directory(directory / "empty");
  EXPECT_CONTAINS(error_of([&] { StagedDirectory(directory / "m", IfExists::kRefuse); }),
                  "m: exists and is not empty");
  EXPECT_CONTAINS(error_of([&] { StagedDirectory(directory / "file", IfExists::kReplace); }),
                  "file: exists and is not a directory");
  EXPECT_CONTAINS(error_of([&] { StagedDirectory(directory / "file/m", IfExists::kReplace); }), "file/m: ");
  EXPECT_CONTAINS(error_of([&] { StagedDirectory("/", IfExists::kReplace); }),
                  "/: is not a directory that can be written");
  EXPECT_EQ(names_in(directory.path()), (std::vector<std::string>{"empty", "file", "m"}));
  publish(directory / "empty", IfExists::kRefuse, {{"a", "1"}});
  EXPECT_EQ(read_text(directory / "empty/a"), "1");
}

TEST(StagedDirectory, RefusesATargetThatFilledUpMeanwhile) {
  const TemporaryDirectory directory;
  StagedDirectory staged(directory / "m", IfExists::kRefuse);
  write_text(directory / "m/x", "1");
  EXPECT_CONTAINS(error_of([&] { staged.publish(); }), "exists and is not empty");
  EXPECT_EQ(read_text(directory / "m/x"), "1");
}

TEST(StagedDirectory, KeepsTwoWritersApart) {
  const TemporaryDirectory directory;
  StagedDirectory first(directory / "m", IfExists::kRefuse);
  write_text(first.path() / "a", "1");
  EXPECT_CONTAINS(error_of([&] { StagedDirectory(directory / "m", IfExists::kReplace); }),
                  "another process is writing it");
  StagedDirectory::clean_up(directory / "m");  // touches no live writer's work
  first.publish();
  EXPECT_EQ(read_text(directory / "m/a"), "1");
}

TEST(StagedDirectory, CleansUpAfterADeadWriter) {
  const TemporaryDirectory directory;
  write_text(directory / ".m.partial/half", "1");
  StagedDirectory::clean_up(directory / "m");
  EXPECT_TRUE(names_in(directory.path()).empty());
  // Killed between the two renames of a file system that cannot swap: the old one comes back.
  write_text(directory / ".m.previous/old", "1");
  write_text(directory / ".m.partial/new", "2");
  StagedDirectory::clean_up(directory / "m");
  EXPECT_EQ(names_in(directory.path()), std::vector<std::string>{"m"});
  EXPECT_EQ(read_text(directory / "m/old"), "1");
  // Killed after them.
  write_text(directory / ".m.previous/older", "0");
  publish(directory / "m", IfExists::kReplace, {{"new", "2"}});
  EXPECT_EQ(names_in(directory.path()), std::vector<std::string>{"m"});
  EXPECT_EQ(files_below(directory / "m"), (std::map<std::string, std::string>{{"new", "2"}}));
}

/// Publishes generation after generation until it is killed: every file says which one it belongs to. Writes
/// a byte to `progress` after each.
[[noreturn]] void publish_forever(const fs::path& target, int first_generation, int progress) {
  for (int generation = first_generation;; ++generation) {
    StagedDirectory staged(target, IfExists::kReplace);
    for (int file = 0; file < 5; ++file)
      write_text(staged.path() / std::to_string(file), std::to_string(generation) + std::string(20000, 'x'));
    staged.publish();
    if (::write(progress, "x", 1) != 1) ::_exit(1);
  }
}

TEST(StagedDirectory, SurvivesBeingKilledAtAnyInstant) {
  using Clock = std::chrono::steady_clock;
  const TemporaryDirectory directory;
  const fs::path target = directory / "m";
  std::uint32_t random = 12345;
  std::set<std::string> generations;
  for (int round = 0; round < 30; ++round) {
    std::array<int, 2> progress{};
    ASSERT_EQ(::pipe(progress.data()), 0);
    const auto started = Clock::now();
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) publish_forever(target, 1000 * (round + 1), progress[1]);
    char one = 0;
    ASSERT_EQ(::read(progress[0], &one, 1), 1);
    const auto one_publish = Clock::now() - started;  // then any moment of the next one or two
    random = random * 1664525U + 1013904223U;
    std::this_thread::sleep_for(one_publish * (random >> 8) / (1 << 23));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(progress[0]);
    ::close(progress[1]);
    StagedDirectory::clean_up(target);
    ASSERT_EQ(names_in(directory.path()), std::vector<std::string>{"m"}) << "round " << round;
    const auto files = files_below(target);
    ASSERT_EQ(files.size(), 5U) << "round " << round;
    for (const auto& [name, content] : files) ASSERT_EQ(content, files.begin()->second) << "round " << round;
    generations.insert(files.begin()->second);
  }
  EXPECT_EQ(generations.size(), 30U);
}

TEST(RehearseSave, ComparesTheSpaceAndLeavesNothing) {
  const TemporaryDirectory directory;
  rehearse_save(directory / "m", 1000, IfExists::kRefuse);
  const std::string what =
      error_of([&] { rehearse_save(directory / "m", std::uint64_t{1} << 60, IfExists::kRefuse); });
  EXPECT_CONTAINS(what, "m: saving takes 1152921504606846976 bytes");
  EXPECT_TRUE(names_in(directory.path()).empty());
}

/// Runs `body` in a child to which `mount_point` is a file system of 256 KiB; its answer comes back.
/// nullopt where this machine does not let us mount one.
std::optional<std::string> on_a_tiny_disk(const fs::path& mount_point,
                                          const std::function<std::string()>& body) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) return std::nullopt;
  const pid_t child = ::fork();
  if (child == 0) {
    const bool is_mounted = ::unshare(CLONE_NEWNS) == 0 &&
                            ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                            ::mount("tmpfs", mount_point.c_str(), "tmpfs", 0, "size=256k") == 0;
    const std::string answer = is_mounted ? "+" + body() : "-";
    const ssize_t written = ::write(ends[1], answer.data(), answer.size());
    ::_exit(written > 0 ? 0 : 1);
  }
  ::close(ends[1]);
  std::string answer;
  std::array<char, 4096> buffer;
  for (ssize_t n = 0; (n = ::read(ends[0], buffer.data(), buffer.size())) > 0;)
    answer.append(buffer.data(), static_cast<std::size_t>(n));
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  if (answer.empty() || answer[0] == '-') return std::nullopt;
  return answer.substr(1);
}

TEST(FullDisk, LeavesTheOldCheckpointAndSaysSo) {
  const TemporaryDirectory directory;
  const auto answer = on_a_tiny_disk(directory.path(), [&]() -> std::string {
    const auto save = [&](std::int64_t elements, char fill) {
      const TensorSpec spec{"w", find_stored_type("U8"), Shape{elements}};
      auto writer = CheckpointWriter::fresh({{spec, 0}}, directory / "m", IfExists::kReplace);
      const std::string bytes(static_cast<std::size_t>(elements), fill);
      writer.write("w", std::as_bytes(std::span(bytes)));
      writer.publish();
    };
    try {
      save(100'000, 'a');
      const auto before = files_below(directory / "m");
      const auto fails = [](auto&& f) -> std::string {
        try {
          f();
        } catch (const Error& error) {
          return error.kind() == ErrorKind::kUser ? error.what() : "internal";
        }
        return "no error";
      };
      std::string said = fails([&] { save(200'000, 'b'); });
      said += "|" + fails([&] { rehearse_save(directory / "m", 200'000, IfExists::kReplace); });
      said += "|" + fails([&] {
                write_text(directory / "s/big.json", std::string(90'000, ' '));
                auto writer = CheckpointWriter::fresh({}, directory / "t");
                writer.add_files(OtherFiles::list(directory / "s"));
                writer.add_file("x", std::string(90'000, ' '));
              });
      fs::remove_all(directory / "s");
      const bool is_intact = files_below(directory / "m") == before;
      const bool is_clean = names_in(directory.path()) == std::vector<std::string>{"m"};
      return said + (is_intact ? "|intact" : "|damaged") + (is_clean ? "|clean" : "|dirty");
    } catch (const std::exception& error) {
      return error.what();
    }
  });
  if (!answer) GTEST_SKIP() << "this machine does not let tests mount a file system";
  EXPECT_CONTAINS(
      *answer, ".m.partial/model.safetensors: cannot reserve its space: No space left on device; free some");
  EXPECT_CONTAINS(*answer, "m: saving takes 200000 bytes");
  EXPECT_EQ(answer->find("no error"), std::string::npos) << *answer;
  EXPECT_EQ(answer->find("internal"), std::string::npos) << *answer;
  EXPECT_CONTAINS(*answer, "|intact|clean");
}

TEST(StagedDirectory, NamesADirectoryItMayNotWrite) {
  if (::geteuid() != 0) GTEST_SKIP() << "drops root's rights, so it needs them";
  const TemporaryDirectory directory;
  fs::create_directory(directory / "locked");
  fs::permissions(directory.path(), fs::perms(0755));
  fs::permissions(directory / "locked", fs::perms(0555));
  ASSERT_EQ(::seteuid(65534), 0);
  std::string what;
  try {
    StagedDirectory(directory / "locked/m", IfExists::kRefuse);
  } catch (const Error& error) {
    what = error.what();
  }
  ASSERT_EQ(::seteuid(0), 0);
  EXPECT_CONTAINS(what, "locked/m: cannot create .m.partial beside it: Permission denied");
}

}  // namespace
}  // namespace hone::hub
