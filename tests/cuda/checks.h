// What the emulated card can be told about memory, and a real one cannot.
#pragma once

#include <cstddef>

namespace hone::test {

/// No kernel may touch these bytes.
void forbid_on_card(const void* from, std::size_t size_bytes);
/// These bytes count as uninitialised.
void forget_on_card(const void* from, std::size_t size_bytes);

}  // namespace hone::test
