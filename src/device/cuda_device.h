// NVIDIA cards as devices, for whoever knows nothing of CUDA. In a build without CUDA (cuda_absent.cpp) each
// of these says so.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/clock.h"
#include "device/graph.h"
#include "device/memory_of.h"
#include "device/stream.h"

namespace hone::device {

/// What an NVIDIA card is.
struct CudaCard {
  int index = 0;
  std::string name = {};
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  std::size_t memory_bytes = 0;
  std::size_t shared_bytes_per_block = 0;  // the most a kernel may ask for
};

/// What there is of CUDA on this machine.
struct CudaReport {
  bool built = false;  // whether hone has kernels for cards
  std::string driver = {},
              runtime = {};          // CUDA's versions that the driver runs and hone was built with: "13.0"
  std::vector<CudaCard> cards = {};  // that this process sees
  std::string why_none = {};         // where there is no card to use: one line
};
CudaReport cuda_report();

// For make_stream and make_allocator alone. Throw Error(kUser) where there is no such card, or none that hone
// can use (bf16 came with compute capability 8.0).
std::unique_ptr<Stream> make_cuda_stream(Device device, int num_threads, int first_core);
std::shared_ptr<Allocator> make_cuda_allocator(Device device);
/// For record_time alone.
std::shared_ptr<const TimedEvent> record_cuda_time(Stream& stream);
/// For why_no_graph and capture alone.
std::string why_no_cuda_graph(const Stream& stream);
Captured capture_cuda_graph(Stream& stream, const std::function<void()>& work);
/// For memory_of alone.
DeviceMemory cuda_memory(Device device);

}  // namespace hone::device
