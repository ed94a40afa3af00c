// Attention as a graph of cuDNN's backend API, and the plan that the library makes of it. Nothing here needs
// a card: scripts/check_cudnn_plans.sh has the real library plan these graphs for cards that are not there.
#pragma once

#if __has_include(<cudnn.h>)
#include <cudnn.h>
#define HONE_HAS_CUDNN 1
#else
#define HONE_HAS_CUDNN 0  // no headers: nothing to call it by
#endif

#if HONE_HAS_CUDNN

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace hone::kernels::cuda {

#define HONE_CUDNN_FUNCTIONS(X)    \
  X(cudnnCreate)                   \
  X(cudnnDestroy)                  \
  X(cudnnGetVersion)               \
  X(cudnnGetLastErrorString)       \
  X(cudnnSetStream)                \
  X(cudnnBackendCreateDescriptor)  \
  X(cudnnBackendDestroyDescriptor) \
  X(cudnnBackendFinalize)          \
  X(cudnnBackendSetAttribute)      \
  X(cudnnBackendGetAttribute)      \
  X(cudnnBackendExecute)

/// The library's functions; `missing` says why there are none.
struct CudnnLibrary {
#define HONE_FUNCTION(name) decltype(&::name) name = nullptr;
  HONE_CUDNN_FUNCTIONS(HONE_FUNCTION)
#undef HONE_FUNCTION
  std::string path, missing;
};
/// Of the process: loaded once, and kept. It needs cuBLASLt beside it, and NVRTC, by which it compiles.
const CudnnLibrary& cudnn_library();

/// A descriptor of the library's.
using CudnnDescriptor = std::shared_ptr<void>;

/// What plans differ in: sequences end to end, each seeing itself, causally.
struct SdpaShape {
  std::int64_t sequences = 0, max_length = 0;  // of the longest, rounded up as one likes
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t window = 0;  // keys that a query sees, its own too; 0: all
  std::int64_t q_stride = 0, k_stride = 0, v_stride = 0, out_stride = 0;  // numbers between two tokens
  bool wants_lse = false;
  auto operator<=>(const SdpaShape&) const = default;
};

/// The tensors that a plan is given, by these numbers. Data bf16; lengths int32; offsets int64, sequences + 1
/// of them, in numbers of the tensor that they are of; lse f32 (tokens, heads), the natural logarithm. The
/// scalars are f32 of the host's.
enum class SdpaTensor : std::int64_t {
  kQ = 1,
  kK,
  kV,
  kOut,
  kLse,
  kQOffsets,
  kKOffsets,
  kVOffsets,
  kOutOffsets,
  kLseOffsets,
  kQueryLengths,
  kKeyLengths,
  kScale,
  kMinusInfinity,
  kWindow,  // with a window only
};

struct SdpaPlan {
  CudnnDescriptor plan;
  std::vector<CudnnDescriptor> graph;  // what it was made of
  std::int64_t workspace = 0;          // bytes
  std::string refusal;                 // why there is none
};

/// A card to plan for, and the kernels that were compiled for it: a plan of a shape whose kernels are there
/// takes 12 ms, one that compiles 3 s.
class SdpaPlanner {
 public:
  /// card: a finalised CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR (of a handle, or read from text).
  explicit SdpaPlanner(CudnnDescriptor card) : card_(std::move(card)) {}
  /// The library's first choice among its engines that are deterministic and need no more workspace (bytes).
  SdpaPlan plan(const SdpaShape& shape, std::int64_t most_workspace);

 private:
  CudnnDescriptor card_;
  std::map<std::array<std::int64_t, 9>, CudnnDescriptor> kernels_;  // of shapes but for sequences and length
};

/// The properties of the card of a handle; throws Error where the library has none.
CudnnDescriptor cudnn_card_of(cudnnHandle_t handle);
/// The same from the library's own JSON (cuDNN's documentation, "Deviceless Ahead-of-time Compilation").
CudnnDescriptor cudnn_card_from(const std::string& json);

}  // namespace hone::kernels::cuda

#endif
