#include <cuda_runtime.h>

#include "tests/cuda/checks.h"

namespace hone::test {

void forbid_on_card(const void* from, std::size_t size_bytes) {
  cuda_emulation::forbid(from, size_bytes);
}
void forget_on_card(const void* from, std::size_t size_bytes) {
  cuda_emulation::forget(from, size_bytes);
}

}  // namespace hone::test
