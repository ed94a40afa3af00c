// Symbolic links in checkpoint directories: the Hub's cache is made of them.
#pragma once

#include <filesystem>

namespace hone::hub {

/// Throws Error(kUser) that says where `path` leads, if it is a symbolic link to nothing
/// (but for that of a merge that was cut short: such a file is absent).
void check_link(const std::filesystem::path& path);

}  // namespace hone::hub
