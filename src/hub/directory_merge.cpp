#include "hub/directory_merge.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <set>
#include <string>
#include <system_error>

#include "base/error.h"
#include "base/file.h"

namespace hone::hub {

namespace fs = std::filesystem;

namespace {

constexpr const char* kWorkspace = ".hone-save";
constexpr const char* kNew = "new";
constexpr const char* kOld = "old";
constexpr const char* kOldLinks =
    "links";  // the links of the target as they were written; old/ has them absolute
constexpr const char* kNow = "now";
constexpr const char* kSpare = "spare";

[[noreturn]] void give_up(const fs::path& path, const char* what) {
  const int reason = errno;
  fail("{}: cannot {}: {}", path.string(), what, std::strerror(reason));
}

/// A link to nothing counts. Throws where that cannot be told.
bool has_entry(const fs::path& path) {
  return fs::exists(fs::symlink_status(path));
}

/// Everything below `directory` that is no directory, by relative path; nothing where it is not a directory
/// itself.
std::set<fs::path> names_below(const fs::path& directory) {
  std::set<fs::path> names;
  if (!fs::is_directory(fs::symlink_status(directory))) return names;
  for (const auto& entry : fs::recursive_directory_iterator(directory))
    if (!fs::is_directory(entry.symlink_status())) names.insert(entry.path().lexically_relative(directory));
  return names;
}

/// One merge: its places.
class Merge {
 public:
  explicit Merge(const fs::path& target) : target_(target), workspace_(merge_workspace(target)) {}

  /// Refuses, before anything is touched, names at which the target has what no file may replace.
  void check(const std::set<fs::path>& names) const {
    for (const auto& name : names) {
      for (auto parent = name.parent_path(); !parent.empty(); parent = parent.parent_path()) {
        const auto status = fs::symlink_status(target_ / parent);
        if (fs::exists(status) && !fs::is_directory(status))
          fail("{}: is {}; {} cannot be written into it", (target_ / parent).string(),
               fs::is_symlink(status) ? "a link" : "not a directory", name.filename().string());
      }
      const auto status = fs::symlink_status(target_ / name);
      if (fs::exists(status) && !fs::is_regular_file(status) && !fs::is_symlink(status))
        fail("{}: is not a file; it is left as it is, choose another directory", (target_ / name).string());
    }
  }

  /// False where the file system has no links.
  bool begin() const {
    if (::symlink(kOld, (workspace_ / kNow).c_str()) != 0) {
      if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS) return false;
      give_up(target_, "be merged into");
    }
    return true;
  }

  void keep_old(const fs::path& name) const {
    const fs::path from = target_ / name;
    const fs::path to = workspace_ / kOld / name;
    if (!has_entry(from)) return;
    fs::create_directories(to.parent_path());
    if (fs::is_symlink(from)) {
      const fs::path as_written = workspace_ / kOldLinks / name;
      fs::create_directories(as_written.parent_path());
      const fs::path leads_to = fs::read_symlink(from);
      fs::create_symlink(leads_to, as_written);
      fs::create_symlink(fs::absolute(from).parent_path() / leads_to, to);
    } else if (::link(from.c_str(), to.c_str()) != 0) {
      fs::copy_file(from, to);  // another owner's file may not be linked to
    }
  }

  void link_to_now(const fs::path& name) const {
    fs::create_directories((target_ / name).parent_path());
    const fs::path spare = workspace_ / kSpare;
    fs::create_symlink(link_text(name), spare);
    if (::rename(spare.c_str(), (target_ / name).c_str()) != 0) give_up(target_ / name, "be replaced");
  }

  void commit() const {
    const fs::path spare = workspace_ / kSpare;
    fs::create_symlink(kNew, spare);
    if (::rename(spare.c_str(), (workspace_ / kNow).c_str()) != 0) give_up(target_, "be merged into");
  }

  /// Replaces the links by what they lead to, be it old or new.
  void settle() const {
    std::error_code none;
    const fs::path side = fs::read_symlink(workspace_ / kNow, none);  // empty: no link was made
    auto names = names_below(workspace_ / kNew);
    names.merge(names_below(workspace_ / kOld));
    for (const auto& name : names) {
      const fs::path at = target_ / name;
      if (!fs::is_symlink(fs::symlink_status(at)) || fs::read_symlink(at) != link_text(name)) continue;
      const fs::path as_written = workspace_ / kOldLinks / name;
      const fs::path from = side == kOld && has_entry(as_written) ? as_written : workspace_ / side / name;
      const bool is_done =
          has_entry(from) ? ::rename(from.c_str(), at.c_str()) == 0 : ::unlink(at.c_str()) == 0;
      if (!is_done) give_up(at, "be replaced");
    }
    sync(names);
  }

  /// The way without links.
  void rename_each(const std::set<fs::path>& fresh, const std::set<fs::path>& names) const {
    for (const auto& name : names) {
      fs::create_directories((target_ / name).parent_path());
      const bool is_done = fresh.contains(name)
                               ? ::rename((workspace_ / kNew / name).c_str(), (target_ / name).c_str()) == 0
                               : ::unlink((target_ / name).c_str()) == 0 || errno == ENOENT;
      if (!is_done) give_up(target_ / name, "be replaced");
    }
    sync(names);
  }

  void sync(const std::set<fs::path>& names) const {
    std::set<fs::path> directories{target_};
    for (const auto& name : names) directories.insert((target_ / name).parent_path());
    for (const auto& directory : directories) sync_directory(directory);
  }

  void remove_workspace() const {
    std::error_code ignored;
    fs::remove_all(workspace_, ignored);
    sync_directory(target_);
  }

 private:
  /// What target/NAME holds while the merge is under way.
  fs::path link_text(const fs::path& name) const {
    fs::path up;
    for (auto parent = name.parent_path(); !parent.empty(); parent = parent.parent_path()) up /= "..";
    return up / kWorkspace / kNow / name;
  }

  fs::path target_, workspace_;
};

}  // namespace

bool is_merge_link(const fs::path& path) {
  std::error_code ignored;
  for (const auto& part : fs::read_symlink(path, ignored))
    if (part == kWorkspace) return true;
  return false;
}

fs::path merge_workspace(const fs::path& target) {
  return target / kWorkspace;
}

void merge_directory(const fs::path& target, const std::vector<fs::path>& obsolete) {
  const Merge merge(target);
  const auto fresh = names_below(merge_workspace(target) / kNew);
  std::set<fs::path> names = fresh;
  std::copy_if(obsolete.begin(), obsolete.end(), std::inserter(names, names.end()),
               [&](const fs::path& name) { return has_entry(target / name); });
  merge.check(names);
  if (!merge.begin()) {
    merge.rename_each(fresh, names);
    return merge.remove_workspace();
  }
  try {
    for (const auto& name : names) merge.keep_old(name);
    for (const auto& name : names) merge.link_to_now(name);
    merge.sync(names);
    merge.commit();
  } catch (...) {
    finish_merge(target);  // takes it back
    throw;
  }
  sync_directory(merge_workspace(target));
  finish_merge(target);
}

void finish_merge(const fs::path& target) {
  // A link in a stranger's directory must not lead the renames elsewhere.
  if (!fs::is_directory(fs::symlink_status(merge_workspace(target))))
    fail("{}: is not a directory", merge_workspace(target).string());
  const Merge merge(target);
  merge.settle();
  merge.remove_workspace();
}

}  // namespace hone::hub
