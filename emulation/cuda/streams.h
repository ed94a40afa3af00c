// Streams' insides, for the runtime and for graphs: everything that is put into a stream runs late.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "state.h"

namespace cuda_emulation {

struct Operation {
  std::function<void()> run;         // as often as it is called: a graph does
  CUstream_st* waits_for = nullptr;  // that stream ...
  std::uint64_t until = 0;           // ... to have done so many
};

/// What is put into streams while a graph is captured (graph.cpp).
struct Capture;

}  // namespace cuda_emulation

struct CUstream_st {
  int card = 0;
  std::deque<cuda_emulation::Operation> queue;
  std::uint64_t put = 0, done = 0;
  bool destroyed = false;
  std::shared_ptr<cuda_emulation::Capture> capture;  // null: what is put here is done
  std::set<std::size_t> last;                        // nodes of it that the next one here comes after
};
struct CUevent_st {
  int card = 0;
  CUstream_st* stream = nullptr;  // null: never recorded
  std::uint64_t place = 0;
  bool keeps_time = true;
  std::uint64_t within = 0;                          // of a graph's event: nodes of it before that
  std::shared_ptr<cuda_emulation::Capture> capture;  // recorded there last: it marks no place of a stream
  std::set<std::size_t> last;
};

namespace cuda_emulation {

/// Of the whole process.
struct Runtime {
  std::recursive_mutex mutex;
  std::mt19937_64 random{seed()};
  std::vector<std::unique_ptr<CUstream_st>> streams;  // never freed: events may name them
  CUstream_st legacy;
  // cudaFuncAttributeMaxDynamicSharedMemorySize, of each card
  std::map<std::pair<int, const void*>, int> dynamic_shared;
  std::map<const void*, int> clusters;  // blocks of one, of the kernels that have some
  std::map<void*, std::size_t> pinned;  // their sizes
  std::size_t pinned_bytes = 0;         // their sum
  std::uint32_t blocks = 1;             // that ever ran, and 1
  cudaError_t sticky = cudaSuccess, last = cudaSuccess;
  std::string report;
  int caught = 0;
};
Runtime& runtime();

/// Of each host thread, as cudaSetDevice says.
extern thread_local int current_card;

/// Puts work into a stream, or into the graph that it is captured for. The mutex is locked here.
cudaError_t put(cudaStream_t stream, Operation operation);
/// Remembers it for cudaGetLastError.
cudaError_t note(cudaError_t status);
/// The next operation of a stream, and before it what that waits for; false where there is none.
bool run_one(CUstream_st& stream);
void run_all(CUstream_st& stream);
void run_everything();
void perhaps_run_some();

// --- Captures
// What may not be called meanwhile ends a capture: it is invalid from then on, and so told by its end.

/// Adds work to the capture of a stream.
cudaError_t put_captured(CUstream_st& stream, Operation operation);
cudaError_t record_captured(CUevent_st& event, CUstream_st& stream, unsigned flags);
/// For a wait where the stream or the event is of a capture.
cudaError_t wait_captured(CUstream_st& stream, const CUevent_st& event);
/// cudaErrorStreamCaptureUnsupported where this thread may not call what could wait for the card, as
/// cudaMalloc does: it has a capture that is not relaxed, or another has a global one.
cudaError_t refuse_unsafe();
/// The same for a call that waits for `stream` or asks for it.
cudaError_t refuse_query(CUstream_st* stream);

}  // namespace cuda_emulation
