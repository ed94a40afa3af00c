#include "kernels/cuda/cudnn.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "device/cuda/cuda_stream.h"
#include "kernels/cuda/cudnn_graph.h"
#include "kernels/cuda/cuts.h"

namespace hone::kernels::cuda {

namespace {

/// Bytes of an array, so that the next begins at 256.
std::int64_t whole(std::int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

/// What a plan may take: they want 17 KiB, or 256 bytes a sequence and 1 KiB.
std::int64_t most_workspace(const AttentionArgs& a) {
  return (std::int64_t{64} << 10) + 1024 * a.sequences;
}

}  // namespace

std::int64_t cudnn_scratch_bytes(const AttentionArgs& a) {
  return 5 * whole((a.sequences + 1) * 8) + whole(a.sequences * 4) + most_workspace(a);
}

#if HONE_HAS_CUDNN

namespace {

/// Of a stream.
struct State {
  explicit State(Stream& stream) {
    const auto& library = cudnn_library();
    if (const cudnnStatus_t status = library.cudnnCreate(&handle); status != CUDNN_STATUS_SUCCESS) {
      missing = fmt::format("{} does not start: status {}", library.path, static_cast<int>(status));
      return;
    }
    HONE_CHECK(library.cudnnSetStream(handle, device::cuda_stream(stream)) == CUDNN_STATUS_SUCCESS,
               "[cudnn] no stream");
    planner.emplace(cudnn_card_of(handle));
  }
  ~State() {
    plans.clear();
    planner.reset();
    if (handle != nullptr) cudnn_library().cudnnDestroy(handle);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  cudnnHandle_t handle = nullptr;
  std::string missing;
  std::optional<SdpaPlanner> planner;
  std::map<SdpaShape, SdpaPlan> plans;
};

State& state_of(Stream& stream) {
  std::shared_ptr<void>& kept = device::library_states(stream).cudnn;
  if (kept == nullptr) kept = std::make_shared<State>(stream);
  return *static_cast<State*>(kept.get());
}

bool is_aligned(const Matrix& m) {  // by vectors of 16 bytes, which it does not check itself
  return reinterpret_cast<std::uintptr_t>(m.data) % 16 == 0 && m.stride % 8 == 0;
}

/// Why there is no library to ask; "" where there is one.
std::string missing_library() {
  if (const char* set = std::getenv("HONE_CUDNN"); set != nullptr && std::string_view(set) == "0")
    return "HONE_CUDNN=0";
  return cudnn_library().missing;
}

/// Why it is not asked, card and addresses looked at; "" where it is.
std::string refusal_of(const AttentionArgs& a, Stream& stream) {
  if (std::string refusal = cudnn_refusal(a); !refusal.empty()) return refusal;
  if (!is_aligned(a.q) || !is_aligned(a.k) || !is_aligned(a.v) || !is_aligned(a.out))
    return "its rows do not begin at multiples of 16 bytes";
  // it wins on Hopper, and loses to other kernels on 8.0, 8.6 and 12.0 (transformers#48163)
  if (const int major = device::card_of(stream).major; major != 9 && major != 10)
    return "the card is of another generation than Hopper and Blackwell";
  if (std::string missing = missing_library(); !missing.empty()) return missing;
  return state_of(stream).missing;
}

const SdpaPlan& plan_of(const AttentionArgs& a, State& state) {
  // The length bounds a grid, whose blocks beyond a sequence end at once: plans of nearly the same are one.
  const SdpaShape shape{.sequences = a.sequences,
                        .max_length = whole(a.max_queries),
                        .heads = a.heads,
                        .kv_heads = a.kv_heads,
                        .head_dim = a.head_dim,
                        .window = a.window < a.max_queries ? a.window : 0,
                        .q_stride = a.q.stride,
                        .k_stride = a.k.stride,
                        .v_stride = a.v.stride,
                        .out_stride = a.out.stride,
                        .wants_lse = a.wants_lse};
  if (const auto found = state.plans.find(shape); found != state.plans.end()) return found->second;
  if (state.plans.size() >= 1024) state.plans.clear();  // a run whose batches are all of different lengths
  return state.plans.emplace(shape, state.planner->plan(shape, most_workspace(a))).first->second;
}

/// Pieces of scratch memory, one after another.
class Pieces {
 public:
  explicit Pieces(void* from) : at_(static_cast<char*>(from)) {}
  template <typename T>
  T* take(std::int64_t count) {
    return reinterpret_cast<T*>(
        std::exchange(at_, at_ + whole(count * static_cast<std::int64_t>(sizeof(T)))));
  }

 private:
  char* at_;
};

void check(cudnnStatus_t status, const char* what) {
  HONE_CHECK(status == CUDNN_STATUS_SUCCESS, "[cudnn] {}: status {}", what, static_cast<int>(status));
}

void execute(const SdpaPlan& plan, cudnnHandle_t handle,
             const std::vector<std::pair<SdpaTensor, const void*>>& tensors, void* workspace) {
  const auto& library = cudnn_library();
  std::vector<std::int64_t> numbers;
  std::vector<const void*> pointers;
  for (const auto& [which, pointer] : tensors) {
    numbers.push_back(static_cast<std::int64_t>(which));
    pointers.push_back(pointer);
  }
  cudnnBackendDescriptor_t made = nullptr;
  check(library.cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &made), "tensors");
  const CudnnDescriptor pack(made, [&library](void* d) { library.cudnnBackendDestroyDescriptor(d); });
  const auto set = [&](cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
                       const void* values) {
    check(library.cudnnBackendSetAttribute(made, name, type, count, values), "tensors");
  };
  set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, std::ssize(numbers), numbers.data());
  set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, std::ssize(pointers), pointers.data());
  set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
  check(library.cudnnBackendFinalize(made), "tensors");
  check(library.cudnnBackendExecute(handle, plan.plan.get(), made), "attention");
}

}  // namespace

bool cudnn_attention(const AttentionArgs& a, Stream& stream, void* scratch) {
  if (!refusal_of(a, stream).empty()) return false;
  State& state = state_of(stream);
  const SdpaPlan& plan = plan_of(a, state);
  if (!plan.refusal.empty()) return false;
  Pieces pieces(scratch);
  const auto offsets = [&] { return pieces.take<std::int64_t>(a.sequences + 1); };
  const SequenceOffsets to{offsets(), offsets(), offsets(),
                           offsets(), offsets(), pieces.take<std::int32_t>(a.sequences)};
  write_sequence_offsets(a, to, stream);
  const float scale = a.scale, minus_infinity = -std::numeric_limits<float>::infinity(),
              window = static_cast<float>(a.window);
  using enum SdpaTensor;
  std::vector<std::pair<SdpaTensor, const void*>> tensors = {{kQ, a.q.data},
                                                             {kK, a.k.data},
                                                             {kV, a.v.data},
                                                             {kOut, a.out.data},
                                                             {kQOffsets, to.q},
                                                             {kKOffsets, to.k},
                                                             {kVOffsets, to.v},
                                                             {kOutOffsets, to.out},
                                                             {kQueryLengths, to.lengths},
                                                             {kKeyLengths, to.lengths},
                                                             {kScale, &scale},
                                                             {kMinusInfinity, &minus_infinity}};
  if (a.wants_lse) tensors.insert(tensors.end(), {{kLse, a.lse}, {kLseOffsets, to.lse}});
  if (a.window > 0 && a.window < a.max_queries) tensors.emplace_back(kWindow, &window);
  execute(plan, state.handle, tensors, pieces.take<char>(plan.workspace));
  return true;
}

std::string why_not_cudnn(const AttentionArgs& a, Stream& stream) {
  if (std::string refusal = refusal_of(a, stream); !refusal.empty()) return refusal;
  if (!is_for_cudnn(a)) return "too small for it to be faster";
  return plan_of(a, state_of(stream)).refusal;
}

std::string why_no_cudnn() {
  return missing_library();
}

std::string describe_cudnn() {
  if (std::string missing = missing_library(); !missing.empty()) return missing;
  const auto version = cudnn_library().cudnnGetVersion();  // 91900: 9.19.0
  return fmt::format("cuDNN {}.{}.{} ({})", version / 10000, version / 100 % 100, version % 100,
                     cudnn_library().path);
}

#else

bool cudnn_attention(const AttentionArgs&, Stream&, void*) {
  return false;
}
std::string why_no_cudnn() {
  return describe_cudnn();
}
std::string describe_cudnn() {
  return "this program was built without cudnn.h, and computes attention by its own kernels";
}
std::string why_not_cudnn(const AttentionArgs&, Stream&) {
  return describe_cudnn();
}

#endif

}  // namespace hone::kernels::cuda
