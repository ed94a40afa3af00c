// New files given to a directory that has others, all at one instant.
//
// Several files cannot be renamed in one step, but one link can. The workspace is a hidden directory inside
// the target:
//   workspace/new/X   the new files, complete
//   workspace/old/X   what lies at target/X now, once more (a hard link)
//   workspace/now     a link to "old"
// 1. Every target/X that will change becomes a link to workspace/now/X: the same content as before.
// 2. `now` is replaced by a link to "new": in this instant the target holds the new files, and what is
// obsolete is gone.
// 3. Every link is replaced by the file that it leads to; the workspace is removed.
// Killed anywhere, the target reads as the old files or as the new ones, whole; finish_merge() tidies up.
// Where the file system has no links (FAT), files are renamed one after the other instead, and a kill may
// leave both kinds.
#pragma once

#include <filesystem>
#include <vector>

namespace hone::hub {

/// Where the merge into a target works: target/.hone-save.
std::filesystem::path merge_workspace(const std::filesystem::path& target);

/// Gives the files below workspace/new their names in `target` and removes `obsolete` (relative paths; those
/// that are not there are ignored), then the workspace. What else lies in the target stays untouched. Parents
/// of names are made; none may be a link, so that nothing is written outside. Throws Error(kUser), and the
/// target is as before.
void merge_directory(const std::filesystem::path& target, const std::vector<std::filesystem::path>& obsolete);

/// After a kill: finishes the merge where it had passed step 2, else takes it back, and removes the
/// workspace.
void finish_merge(const std::filesystem::path& target);

/// Whether `path` is a link of a merge that is under way, or was cut short. One that leads nowhere is the
/// name of a file that is only in the other of the two models.
bool is_merge_link(const std::filesystem::path& path);

}  // namespace hone::hub
