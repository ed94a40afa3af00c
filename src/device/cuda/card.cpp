// Which cards there are, and what is said where one cannot be used.
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "device/cuda/check.h"

namespace hone::device {

namespace cuda {

namespace {

constexpr int kLeastMajor = 8;  // Ampere: the first with bf16 in hardware

/// Why nothing can run here; "" where it can.
std::string obstacle(cudaError_t status) {
  switch (status) {
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice: {
      int driver = 0, runtime = 0;
      (void)cudaDriverGetVersion(&driver);
      (void)cudaRuntimeGetVersion(&runtime);
      if (driver == 0)
        return "no NVIDIA driver is running here (nvidia-smi would say the same); use device cpu";
      if (driver / 1000 < runtime / 1000)
        return fmt::format("the driver runs CUDA {}, hone needs {}: install a newer driver",
                           version_text(driver), version_text(runtime));
      return "the driver shows no card; see CUDA_VISIBLE_DEVICES and nvidia-smi";
    }
    case cudaErrorDevicesUnavailable:
      return "the card is taken by another program in exclusive mode, or gone; see nvidia-smi";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return "hone was built without kernels for this card; configure with -DCMAKE_CUDA_ARCHITECTURES of it";
    case cudaErrorSystemNotReady:
      return "the cards are not ready: those that NVSwitch joins wait for nvidia-fabricmanager, which has to "
             "run";
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
      return "the driver's library and its kernel module are of different versions: restart after a "
             "driver's update, or take CUDA's compat folder out of LD_LIBRARY_PATH";
    default:
      return "";
  }
}

CudaCard card_at(int index) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  return {.index = index,
          .name = properties.name,
          .major = properties.major,
          .minor = properties.minor,
          .multiprocessors = properties.multiProcessorCount,
          .memory_bytes = properties.totalGlobalMem,
          .shared_bytes_per_block = properties.sharedMemPerBlockOptin};
}

}  // namespace

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

bool is_synchronous() {
  const char* asked = std::getenv("HONE_CUDA_SYNC");
  return asked != nullptr && std::string_view(asked) == "1";
}

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // what is not fatal to the process is told once
  if (const std::string why = obstacle(status); !why.empty()) fail("device cuda: {}", why);
  HONE_CHECK(false, "[cuda] {}: {}, {}", what, cudaGetErrorName(status), cudaGetErrorString(status));
}

void use_device(int index) {
  // Asked each time: what the thread was told here last is not current any more once a destructor, or another
  // user of CUDA in this process, has told it something else.
  int current = -1;
  check(cudaGetDevice(&current), "cudaGetDevice");
  if (current != index) check(cudaSetDevice(index), "cudaSetDevice");
}

CudaCard find_card(int index) {
  int count = 0;
  check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  if (index >= count)
    fail("device cuda:{}: there {} here, numbered from 0 (see CUDA_VISIBLE_DEVICES)", index,
         count == 1 ? "is one card" : fmt::format("are {} cards", count));
  const CudaCard card = card_at(index);
  if (card.major < kLeastMajor)
    fail("device cuda:{}: {} has compute capability {}.{}; hone needs {}.0 (bf16 in hardware)", index,
         card.name, card.major, card.minor, kLeastMajor);
  return card;
}

}  // namespace cuda

DeviceMemory cuda_memory(Device device) {
  (void)cuda::find_card(device.index);
  cuda::use_device(device.index);
  std::size_t free = 0, total = 0;
  cuda::check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return {static_cast<std::int64_t>(total), static_cast<std::int64_t>(free)};
}

CudaReport cuda_report() {
  CudaReport report{.built = true};
  int driver = 0, runtime = 0;
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  if (driver > 0) report.driver = cuda::version_text(driver);
  report.runtime = cuda::version_text(runtime);
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    (void)cudaGetLastError();
    report.why_none = cuda::obstacle(status);
    if (report.why_none.empty())
      report.why_none = fmt::format("{}, {}", cudaGetErrorName(status), cudaGetErrorString(status));
    return report;
  }
  for (int i = 0; i < count; ++i) report.cards.push_back(cuda::card_at(i));
  if (report.cards.empty()) report.why_none = cuda::obstacle(cudaErrorNoDevice);
  return report;
}

}  // namespace hone::device
