// The kernels for NVIDIA cards: what each slot's file has, and the table of them.
#pragma once

#include "kernels/kernels.h"

namespace hone::kernels {

namespace cuda {
// Of every slot, in the .cu file that has its kernel:
//   void NAME(const Args&, Stream&)               puts it into the stream;
//   std::int64_t scratch_bytes_of(const Args&)    what it takes of the stream's workspaces, known without
//                                                 reading a pointer. HONE_NO_SCRATCH(Args): nothing.
#define HONE_SLOT(name, ArgsOf)               \
  void name(const ArgsOf& a, Stream& stream); \
  std::int64_t scratch_bytes_of(const ArgsOf& a);
HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT

#define HONE_NO_SCRATCH(ArgsOf)                        \
  std::int64_t scratch_bytes_of(const ArgsOf& /*a*/) { \
    return 0;                                          \
  }
}  // namespace cuda

/// Of every slot.
const KernelTable& cuda_kernels();

// Of every slot: what its kernel takes of a stream's workspaces, for forecasts. Pointers may be null. 0
// in a build without CUDA.
#define HONE_SLOT(name, ArgsOf) std::int64_t cuda_scratch_bytes(const ArgsOf& a);
HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT

}  // namespace hone::kernels
