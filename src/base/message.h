// Text from a file, made fit for a one-line message.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hone {

/// `text` cut to about `max_bytes` (on a character boundary, then "…"), with control characters shown as
/// "\n", "\x07" and bytes that are not UTF-8 as "\xff", so that a message stays one line whatever a file
/// contains.
std::string shown(std::string_view text, std::size_t max_bytes = 120);

/// Bytes of a Git LFS pointer, which is what lies in a clone made without git-lfs.
bool is_lfs_pointer(std::string_view content);

}  // namespace hone
