// A directory that appears whole under its name, or not at all.
//
// Protocol. Everything is written to PARENT/.NAME.partial, which is locked (flock) for as long as its writer
// lives. publish() syncs every file and directory in it, and then
//   - TARGET absent or empty: rename(partial, TARGET);
//   - TARGET a directory to replace: swaps the two names in one step (renameat2 RENAME_EXCHANGE) and deletes
//   the old one; where
//     the file system cannot swap, rename(TARGET, PARENT/.NAME.previous), rename(partial, TARGET), delete the
//     previous one.
//   - kMerge, and TARGET is a directory: everything is written to TARGET/.hone-save/new instead, and
//   publish() merges it
//     into TARGET (directory_merge.h), whose other files and whose place (a mount, a working directory) stay.
// A process killed at any instant leaves the old TARGET or the new one, and perhaps .NAME.partial,
// .NAME.previous or .hone-save; clean_up() (which the constructor also runs) removes those, and moves
// .NAME.previous back where TARGET is missing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace hone::hub {

/// What publish() may do to a directory that already lies at the target: refuse one that is not empty;
/// replace it whole (only for what hone alone writes, the checkpoints of a run); or merge, as Transformers'
/// save_pretrained does: files of the same names are replaced, no others touched.
enum class IfExists { kRefuse, kReplace, kMerge };

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

  /// Syncs everything and gives it the target's name. The object is then empty. `obsolete`: relative paths
  /// that a merge removes in the same instant.
  void publish(const std::vector<std::filesystem::path>& obsolete = {});

  /// Whether publish() will merge: the target was a directory already.
  bool merges() const { return merges_; }

  /// Removes what a killed writer left beside `target` and restores a target that was being replaced. Leaves
  /// a live writer's files alone.
  static void clean_up(const std::filesystem::path& target);

 private:
  void discard() noexcept;

  std::filesystem::path target_;
  std::filesystem::path workspace_;  // locked, and removed at the end
  std::filesystem::path staging_;    // the same, or below it
  IfExists if_exists_ = IfExists::kRefuse;
  bool merges_ = false;
  int lock_ = -1;
};

/// Rehearses a save before any work is lost to it: creates and removes a staged directory beside `target`,
/// and checks that the file system has `size_bytes` free. Throws Error(kUser) with both numbers.
void rehearse_save(const std::filesystem::path& target, std::uint64_t size_bytes, IfExists if_exists);

}  // namespace hone::hub
