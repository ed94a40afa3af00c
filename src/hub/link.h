// Symbolic links in checkpoint directories: the Hub's cache is made of them.
#pragma once

#include <filesystem>

namespace hone::hub {

/// Throws Error(kUser) that says where `path` leads, if it is a symbolic link to nothing.
void check_link(const std::filesystem::path& path);

}  // namespace hone::hub
