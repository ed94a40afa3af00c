#include "hub/link.h"

#include "base/error.h"
#include "base/message.h"
#include "hub/directory_merge.h"

namespace hone::hub {

void check_link(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_symlink(path, ignored) || std::filesystem::exists(path, ignored) ||
      is_merge_link(path))
    return;
  fail("{}: is a link to {}, which does not exist; finish the download", path.string(),
       shown(std::filesystem::read_symlink(path, ignored).string(), 200));
}

}  // namespace hone::hub
