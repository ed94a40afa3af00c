// NVIDIA's libraries, which are loaded when they are first wanted: the same program runs where there are
// none.
#pragma once

#include <string>

namespace hone::kernels::cuda {

struct VendorLibrary {
  void* handle = nullptr;     // of dlopen; kept for good
  std::string path, missing;  // missing: why there is none, and where it was looked for
};

/// Looks for a file ("libcublasLt.so.13") in HONE_CUDA_LIBRARIES (folders, a colon between two), in lib/
/// beside the program and beside its folder, in each of them also where NVIDIA's wheels unpack to
/// (nvidia/cu13/lib, nvidia/cublas/lib, nvidia/cudnn/lib), then where the system looks. companions: what
/// begins so in the folder where it was found is loaded, too ("": nothing).
VendorLibrary load_vendor_library(const std::string& file, const std::string& companions = "");

}  // namespace hone::kernels::cuda
