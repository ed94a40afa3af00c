// A directory that appears whole under its name, or not at all.
//
// Protocol. Everything is written to PARENT/.NAME.partial, which is locked (flock) for as long as its writer
// lives. publish() syncs every file and directory in it, and then
//   - TARGET absent or empty: rename(partial, TARGET);
//   - TARGET a directory to replace: swaps the two names in one step (renameat2 RENAME_EXCHANGE) and deletes
//   the old one; where
//     the file system cannot swap, rename(TARGET, PARENT/.NAME.previous), rename(partial, TARGET), delete the
//     previous one.
// A process killed at any instant leaves the old TARGET or the new one, and perhaps .NAME.partial or
// .NAME.previous; clean_up() (which the constructor also runs) removes those, and moves .NAME.previous back
// where TARGET is missing.
#pragma once

#include <cstdint>
#include <filesystem>

namespace hone::hub {

/// What publish() may do to a directory that already lies at the target.
enum class IfExists { kRefuse, kReplace };

/// A directory being assembled. Destroyed without publish(), it is removed. Throws Error(kUser) naming the
/// path and reason.
class StagedDirectory {
 public:
  /// Refuses at once a target that publish() would have to refuse: a file, or with kRefuse a directory that
  /// is not empty.
  StagedDirectory(const std::filesystem::path& target, IfExists if_exists);
  ~StagedDirectory();
  StagedDirectory(StagedDirectory&& other) noexcept;
  StagedDirectory& operator=(StagedDirectory&&) = delete;

  /// Where to write meanwhile.
  const std::filesystem::path& path() const { return staging_; }
  const std::filesystem::path& target() const { return target_; }

  /// Syncs everything and gives it the target's name. The object is then empty.
  void publish();

  /// Removes what a killed writer left beside `target` and restores a target that was being replaced. Leaves
  /// a live writer's files alone.
  static void clean_up(const std::filesystem::path& target);

 private:
  void discard() noexcept;

  std::filesystem::path target_;
  std::filesystem::path staging_;
  IfExists if_exists_ = IfExists::kRefuse;
  int lock_ = -1;
};

/// Rehearses a save before any work is lost to it: creates and removes a staged directory beside `target`,
/// and checks that the file system has `size_bytes` free. Throws Error(kUser) with both numbers.
void rehearse_save(const std::filesystem::path& target, std::uint64_t size_bytes, IfExists if_exists);

}  // namespace hone::hub
