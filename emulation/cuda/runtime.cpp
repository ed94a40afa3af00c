// Launches, the machine, memory and copies. Streams: streams.cpp.
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>

#include "streams.h"

namespace cuda_emulation {

namespace {

void run(LaunchState& state) {
  Runtime& r = runtime();
  const Launch& launch = state.launch;
  const std::size_t blocks = static_cast<std::size_t>(launch.grid.x) * launch.grid.y * launch.grid.z;
  const auto together = static_cast<std::uint32_t>(state.cluster);
  const std::size_t clusters = blocks / together;
  if (blocks > UINT32_MAX - r.blocks) r.blocks = 1;
  state.first_block = r.blocks;
  r.blocks += static_cast<std::uint32_t>(blocks);
  std::vector<std::uint32_t> order(clusters);
  std::iota(order.begin(), order.end(), 0U);
  std::mt19937_64 random(state.seed);
  std::shuffle(order.begin(), order.end(), random);
  std::mutex failures;
  std::string first;
  const auto some = [&](std::size_t i) {
    if (state.failed.load()) return;
    std::string failure;
    if (run_cluster(state, order[i] * together, failure)) return;
    const std::lock_guard lock(failures);
    if (!state.failed.exchange(true)) first = failure;
  };
  const auto threads =
      static_cast<int>(std::min<std::size_t>(clusters, static_cast<std::size_t>(::omp_get_max_threads())));
  if (threads == 1) {
    for (std::size_t i = 0; i < clusters; ++i) some(i);
  } else {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (std::size_t i = 0; i < clusters; ++i) some(i);
  }
  if (!state.failed.load()) return;
  r.report = first;
  ++r.caught;
  fmt::print(stderr, "{}\n", first);
  r.sticky = cudaErrorIllegalAddress;
}

/// Whether a copy of a range may be made; else why not.
bool reaches(const void* at, std::size_t size, bool device, const char* what) {
  const bool ours = global_memory().holds(reinterpret_cast<std::uintptr_t>(at));
  if (!device && !ours) return true;
  if (is_allocated(at, size)) return true;
  Runtime& r = runtime();
  r.report = fmt::format("[cuda emulation] {} of {} bytes at {}: {}", what, size, fmt::ptr(at),
                         ours ? "outside of what is allocated" : "not device memory");
  ++r.caught;
  fmt::print(stderr, "{}\n", r.report);
  return false;
}

bool is_device(const void* at) {
  return global_memory().holds(reinterpret_cast<std::uintptr_t>(at));
}

void copy_now(void* to, const void* from, std::size_t size) {
  std::memmove(to, from, size);
  if (!is_device(to)) return;
  if (is_device(from))
    copy_written(from, to, size);
  else
    mark(global_memory(), to, size, true, true);
}

}  // namespace

namespace {

/// What is told of a card (CUDA programming guide, "Technical Specifications per Compute Capability").
struct Generation {
  std::string_view sm;
  int major, minor, multiprocessors, threads_per_multiprocessor;
  std::size_t shared_bytes_per_block;  // that a kernel may ask for
  int l2_bytes;
};
constexpr Generation kGenerations[] = {{"90", 9, 0, 132, 2048, 227 << 10, 50 << 20},
                                       {"80", 8, 0, 108, 2048, 163 << 10, 40 << 20},
                                       {"86", 8, 6, 84, 1536, 99 << 10, 6 << 20},
                                       {"120", 12, 0, 170, 1536, 99 << 10, 96 << 20}};
/// HONE_CUDA_EMULATED_SM's, or the first.
const Generation& generation() {
  if (const char* asked = std::getenv("HONE_CUDA_EMULATED_SM"))
    for (const Generation& g : kGenerations)
      if (g.sm == asked) return g;
  return kGenerations[0];
}
/// HONE_CUDA_EMULATED_CARDS, or one.
int number_of_cards() {
  const char* asked = std::getenv("HONE_CUDA_EMULATED_CARDS");
  return asked != nullptr ? std::atoi(asked) : 1;
}

}  // namespace

std::uint64_t seed() {
  static const std::uint64_t kSeed = [] {
    const char* value = std::getenv("HONE_CUDA_SEED");
    return value != nullptr ? std::strtoull(value, nullptr, 10) : 1ULL;
  }();
  return kSeed;
}

int caught() {
  return runtime().caught;
}
const char* last_report() {
  return runtime().report.c_str();
}

cudaError_t launch(const Launch& launch, std::shared_ptr<const void> arguments, std::size_t size,
                   void (*run_kernel)(const void*)) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  const dim3 &block = launch.block, &grid = launch.grid;
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  const auto asked_cluster = r.clusters.find(launch.kernel);
  const int cluster = asked_cluster != r.clusters.end() ? asked_cluster->second : 1;
  const bool forms_clusters = cluster == 1 || (generation().major >= 9 && cluster <= kMostBlocks &&
                                               grid.x % static_cast<unsigned>(cluster) == 0);
  const bool fits = forms_clusters && threads > 0 && threads <= kMaxThreads && block.x <= 1024 &&
                    block.y <= 1024 && block.z <= 64 && grid.x > 0 && grid.x < (1U << 31) && grid.y > 0 &&
                    grid.y <= 65535 && grid.z > 0 && grid.z <= 65535;
  if (launch.stream != nullptr && launch.stream->card != current_card)
    return note(cudaErrorInvalidResourceHandle);
  const auto allowed = r.dynamic_shared.find({current_card, launch.kernel});
  const bool asked = allowed != r.dynamic_shared.end();
  const std::size_t shared = asked ? static_cast<std::size_t>(allowed->second) : kStaticSharedLimit;
  if (!fits || launch.shared_bytes > shared) {
    r.report = fmt::format(
        "[cuda emulation] {}: no launch of ({}, {}, {}) blocks of ({}, {}, {}) threads and {} bytes of {}{}",
        launch.kernel_name, grid.x, grid.y, grid.z, block.x, block.y, block.z, launch.shared_bytes, shared,
        cluster > 1 ? fmt::format(", in clusters of {}", cluster) : "");
    ++r.caught;
    fmt::print(stderr, "{}\n", r.report);
    return note(cudaErrorInvalidConfiguration);
  }
  if (launch.early && generation().major < 9) return note(cudaErrorNotSupported);
  const std::size_t shared_limit = asked ? generation().shared_bytes_per_block : kStaticSharedLimit;
  const auto work = [=, seed = r.random()]() mutable {  // of a graph it runs more than once
    LaunchState state;
    state.launch = launch;
    state.arguments = arguments;
    state.size = size;
    state.run = run_kernel;
    state.shared_limit = shared_limit;
    state.cluster = cluster;
    state.seed = seed++;
    run(state);
  };
  return note(put(launch.stream, {work, nullptr, 0}));
}

cudaError_t set_attribute(const void* kernel, cudaFuncAttribute, int value) {
  if (value < 0 || static_cast<std::size_t>(value) > generation().shared_bytes_per_block)
    return note(cudaErrorInvalidValue);
  const std::lock_guard lock(runtime().mutex);
  runtime().dynamic_shared[{current_card, kernel}] = value;
  return cudaSuccess;
}

cudaError_t blocks_per_multiprocessor(int* blocks, const void*, int threads, std::size_t shared_bytes) {
  cudaDeviceProp p;
  cudaGetDeviceProperties(&p, 0);
  const auto by_threads = p.maxThreadsPerMultiProcessor / std::max(threads, 1);
  const auto by_shared = static_cast<int>(p.sharedMemPerMultiprocessor / (shared_bytes + 1024));
  *blocks = std::min({by_threads, by_shared, 32});
  return cudaSuccess;
}

}  // namespace cuda_emulation

using namespace cuda_emulation;

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  attributes->ptxVersion = std::atoi(generation().sm.data());
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  const cudaError_t status = r.sticky != cudaSuccess ? r.sticky : r.last;
  r.last = cudaSuccess;
  return status;
}
cudaError_t cudaPeekAtLastError() {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  return r.sticky != cudaSuccess ? r.sticky : r.last;
}

const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorDevicesUnavailable:
      return "cudaErrorDevicesUnavailable";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorNoKernelImageForDevice:
      return "cudaErrorNoKernelImageForDevice";
    case cudaErrorUnsupportedPtxVersion:
      return "cudaErrorUnsupportedPtxVersion";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    case cudaErrorSystemNotReady:
      return "cudaErrorSystemNotReady";
    case cudaErrorSystemDriverMismatch:
      return "cudaErrorSystemDriverMismatch";
    case cudaErrorCompatNotSupportedOnDevice:
      return "cudaErrorCompatNotSupportedOnDevice";
    case cudaErrorIllegalState:
      return "cudaErrorIllegalState";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureMerge:
      return "cudaErrorStreamCaptureMerge";
    case cudaErrorStreamCaptureUnmatched:
      return "cudaErrorStreamCaptureUnmatched";
    case cudaErrorStreamCaptureUnjoined:
      return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureIsolation:
      return "cudaErrorStreamCaptureIsolation";
    case cudaErrorStreamCaptureImplicit:
      return "cudaErrorStreamCaptureImplicit";
    case cudaErrorCapturedEvent:
      return "cudaErrorCapturedEvent";
    case cudaErrorStreamCaptureWrongThread:
      return "cudaErrorStreamCaptureWrongThread";
  }
  return "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorIllegalAddress || status == cudaErrorInvalidConfiguration
             ? last_report()
             : cudaGetErrorName(status);
}

namespace {
/// HONE_CUDA_EMULATED_MACHINE: what this machine lacks.
bool machine_is(std::string_view what) {
  const char* machine = std::getenv("HONE_CUDA_EMULATED_MACHINE");
  return machine != nullptr && machine == what;
}
/// Bytes.
std::size_t bytes_in(const char* variable, std::size_t if_absent) {
  const char* value = std::getenv(variable);
  return value != nullptr ? static_cast<std::size_t>(std::strtoull(value, nullptr, 10)) : if_absent;
}
}  // namespace

cudaError_t cudaDriverGetVersion(int* version) {
  *version = machine_is("no-driver") ? 0 : machine_is("old-driver") ? 12080 : 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  return *version = 13000, cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (machine_is("no-driver") || machine_is("old-driver")) return note(cudaErrorInsufficientDriver);
  if (machine_is("no-card")) return note(cudaErrorNoDevice);
  if (machine_is("no-fabric")) return note(cudaErrorSystemNotReady);
  if (machine_is("half-updated")) return note(cudaErrorSystemDriverMismatch);
  return *count = number_of_cards(), cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= number_of_cards()) return note(cudaErrorInvalidDevice);
  return current_card = device, cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  return *device = current_card, cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (device < 0 || device >= number_of_cards()) return note(cudaErrorInvalidDevice);
  const Generation& g = generation();
  *p = {};
  std::strcpy(p->name, fmt::format("emulated sm_{}", g.sm).c_str());
  p->totalGlobalMem = bytes_in("HONE_CUDA_EMULATED_MEMORY", std::size_t{16} << 30);
  p->sharedMemPerBlock = kStaticSharedLimit;
  p->sharedMemPerBlockOptin = g.shared_bytes_per_block;
  p->sharedMemPerMultiprocessor = p->sharedMemPerBlockOptin + 1024;
  p->major = g.major, p->minor = g.minor;
  if (machine_is("turing")) p->major = 7, p->minor = 5;
  p->multiProcessorCount = g.multiprocessors;
  p->maxThreadsPerBlock = kMaxThreads;
  p->maxThreadsPerMultiProcessor = g.threads_per_multiprocessor;
  p->warpSize = 32;
  p->regsPerMultiprocessor = 65536;
  p->l2CacheSize = g.l2_bytes;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 0x7fffffff;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (const cudaError_t status = cudaGetDeviceProperties(&p, device); status != cudaSuccess) return status;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      return *value = p.multiProcessorCount, cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      return *value = p.major, cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      return *value = p.minor, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return *value = static_cast<int>(p.sharedMemPerBlockOptin), cudaSuccess;
  }
  return note(cudaErrorInvalidValue);
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  cudaDeviceProp p;
  cudaGetDeviceProperties(&p, 0);
  *total = p.totalGlobalMem;
  const std::size_t pinned = runtime().pinned_bytes;  // which are no memory of the card
  const std::size_t used = allocated_bytes() - pinned + bytes_in("HONE_CUDA_EMULATED_OTHERS", 0);
  *free = *total - std::min(*total, used);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  const std::lock_guard lock(runtime().mutex);
  if (const cudaError_t refused = refuse_unsafe(); refused != cudaSuccess) return refused;
  run_everything();
  return runtime().sticky;
}
cudaError_t cudaDeviceReset() {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  run_everything();
  r.sticky = r.last = cudaSuccess;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, std::size_t size) {
  const std::lock_guard lock(runtime().mutex);
  if (const cudaError_t refused = refuse_unsafe(); refused != cudaSuccess) return refused;
  std::size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  const std::size_t most = std::min(free, bytes_in("HONE_CUDA_EMULATED_LARGEST", SIZE_MAX));
  *pointer = size == 0 || size > most ? nullptr : allocate(size, false);
  return *pointer != nullptr || size == 0 ? cudaSuccess : note(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  const std::lock_guard lock(runtime().mutex);
  if (const cudaError_t refused = refuse_unsafe(); refused != cudaSuccess) return refused;
  run_everything();  // as the real one waits
  return release(pointer) ? cudaSuccess : note(cudaErrorInvalidValue);
}
cudaError_t cudaMallocAsync(void** pointer, std::size_t size, cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  if (stream != nullptr && stream->capture != nullptr) return refuse_query(stream);
  return cudaMalloc(pointer, size);
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  if (pointer == nullptr) return cudaSuccess;
  const std::lock_guard lock(runtime().mutex);
  if (stream != nullptr && stream->capture != nullptr) return refuse_query(stream);
  return put(stream, {[pointer] {
                        if (!release(pointer)) runtime().sticky = cudaErrorInvalidValue;
                      },
                      nullptr, 0});
}
cudaError_t cudaMallocManaged(void** pointer, std::size_t size, unsigned) {
  const std::lock_guard lock(runtime().mutex);
  *pointer = allocate(size, true);
  return *pointer != nullptr ? cudaSuccess : note(cudaErrorMemoryAllocation);
}
cudaError_t cudaHostAlloc(void** pointer, std::size_t size, unsigned) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (const cudaError_t refused = refuse_unsafe(); refused != cudaSuccess) return refused;
  const std::size_t most = bytes_in("HONE_CUDA_EMULATED_PINNED", SIZE_MAX);
  if (size > most - std::min(most, r.pinned_bytes)) return note(cudaErrorMemoryAllocation);
  const cudaError_t status = cudaMallocManaged(pointer, size);
  if (status == cudaSuccess) r.pinned_bytes += r.pinned[*pointer] = size;
  return status;
}
cudaError_t cudaMallocHost(void** pointer, std::size_t size) {
  return cudaHostAlloc(pointer, size, 0);
}
cudaError_t cudaFreeHost(void* pointer) {
  const std::lock_guard lock(runtime().mutex);
  if (pointer == nullptr) return cudaSuccess;
  const auto found = runtime().pinned.find(pointer);
  if (found == runtime().pinned.end()) return note(cudaErrorInvalidValue);
  runtime().pinned_bytes -= found->second;
  runtime().pinned.erase(found);
  return cudaFree(pointer);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const auto work = [=] {
    if (reaches(from, size, from_device, "copy from") && reaches(to, size, to_device, "copy to"))
      copy_now(to, from, size);
    else
      runtime().sticky = cudaErrorIllegalAddress;
  };
  if (stream != nullptr && stream->capture != nullptr)  // a graph reads and writes it when it runs
    return put(stream, {work, nullptr, 0});
  if (!is_device(from)) {  // pageable memory is the caller's again on return
    auto staged = std::make_shared<std::vector<char>>(static_cast<const char*>(from),
                                                      static_cast<const char*>(from) + size);
    return put(stream, {[=] {
                          if (reaches(to, size, to_device, "copy to"))
                            copy_now(to, staged->data(), size);
                          else
                            runtime().sticky = cudaErrorIllegalAddress;
                        },
                        nullptr, 0});
  }
  const cudaError_t status = put(stream, {work, nullptr, 0});
  if (!is_device(to)) return cudaStreamSynchronize(stream);  // to pageable memory nothing is late
  return status;
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t size, cudaMemcpyKind kind) {
  const std::lock_guard lock(runtime().mutex);
  if (const cudaError_t refused = refuse_unsafe(); refused != cudaSuccess) return refused;
  cudaMemcpyAsync(to, from, size, kind, nullptr);
  return runtime().sticky;
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t size, cudaStream_t stream) {
  return put(stream, {[=] {
                        if (!reaches(to, size, true, "fill")) {
                          runtime().sticky = cudaErrorIllegalAddress;
                          return;
                        }
                        std::memset(to, value, size);
                        mark(global_memory(), to, size, true, true);
                      },
                      nullptr, 0});
}
cudaError_t cudaMemset(void* to, int value, std::size_t size) {
  return cudaMemsetAsync(to, value, size, nullptr);
}
