#include "kernels/cuda/vendor_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <vector>

namespace hone::kernels::cuda {

namespace {

std::vector<std::filesystem::path> folders() {
  namespace fs = std::filesystem;
  std::vector<fs::path> roots, all;
  if (const char* named = std::getenv("HONE_CUDA_LIBRARIES")) {
    std::istringstream in(named);
    for (std::string folder; std::getline(in, folder, ':');)
      if (!folder.empty()) roots.emplace_back(folder);
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
  if (!error) roots.insert(roots.end(), {program / "lib", program.parent_path() / "lib"});
  for (const fs::path& root : roots)
    all.insert(all.end(),
               {root, root / "nvidia/cu13/lib", root / "nvidia/cublas/lib", root / "nvidia/cudnn/lib"});
  return all;
}

void load_beside(const std::filesystem::path& folder, const std::string& companions) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().filename().string().starts_with(companions))
      ::dlopen(entry.path().c_str(), RTLD_NOW | RTLD_LOCAL);
}

}  // namespace

VendorLibrary load_vendor_library(const std::string& file, const std::string& companions) {
  VendorLibrary library;
  std::string looked;
  for (const auto& folder : folders()) {
    library.path = (folder / file).string();
    if (std::error_code error; std::filesystem::exists(library.path, error))
      library.handle = ::dlopen(library.path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library.handle != nullptr) {
      if (!companions.empty()) load_beside(folder, companions);
      return library;
    }
    looked += folder.string() + ", ";
  }
  library.path = file;
  library.handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library.handle == nullptr)
    library.missing = file + " not found in " + looked + "nor where the system looks";
  return library;
}

}  // namespace hone::kernels::cuda
