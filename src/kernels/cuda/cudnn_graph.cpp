#include "kernels/cuda/cudnn_graph.h"

#if HONE_HAS_CUDNN

#include <dlfcn.h>
#include <fmt/format.h>

#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "kernels/cuda/vendor_library.h"

namespace hone::kernels::cuda {

namespace {

#if defined(CUDA_EMULATION_CUDNN)
CudnnLibrary load() {
  CudnnLibrary library;
#define HONE_FUNCTION(name) library.name = &::name;
  HONE_CUDNN_FUNCTIONS(HONE_FUNCTION)
#undef HONE_FUNCTION
  library.path = "emulated";
  return library;
}
#else
CudnnLibrary load() {
  CudnnLibrary library;
  // It opens them by name when it needs them, and ends the process where there is no cuBLASLt. NVRTC does the
  // same with its built-in headers, without which it compiles nothing.
  const VendorLibrary products = load_vendor_library("libcublasLt.so.13");
  const VendorLibrary compiler = load_vendor_library("libnvrtc.so.13", "libnvrtc-builtins.so.");
  const VendorLibrary found = load_vendor_library("libcudnn.so.9");
  library.path = found.path;
  for (const VendorLibrary* needed : {&found, &products, &compiler})
    if (library.missing.empty()) library.missing = needed->missing;
  if (!library.missing.empty()) return library;
#define HONE_FUNCTION(name)                                                              \
  library.name = reinterpret_cast<decltype(library.name)>(::dlsym(found.handle, #name)); \
  if (library.name == nullptr) library.missing = library.path + " has no " #name;
  HONE_CUDNN_FUNCTIONS(HONE_FUNCTION)
#undef HONE_FUNCTION
  // 9.18 mended what ragged offsets did to the workspace on Hopper (TransformerEngine#2186). 9.21 has
  // operations of its own for masks and softmax, and 9.28.1 no engine for this graph whose lengths are left
  // open; it takes it with lengths, but compiles for 3 s for each.
  if (const std::size_t version = library.missing.empty() ? library.cudnnGetVersion() : 0;
      version > 0 && (version < 91900 || version >= 92100))
    library.missing =
        fmt::format("{} is cuDNN {}, and attention is asked of 9.19 and 9.20", library.path, version);
  return library;
}
#endif

/// The library does not take a graph.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void check(cudnnStatus_t status, const char* what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 512> message{};
  cudnn_library().cudnnGetLastErrorString(message.data(), message.size());
  throw Refused(fmt::format("{}: status {}, {}", what, static_cast<int>(status), message.data()));
}

CudnnDescriptor make(cudnnBackendDescriptorType_t type) {
  cudnnBackendDescriptor_t made = nullptr;
  check(cudnn_library().cudnnBackendCreateDescriptor(type, &made), "descriptor");
  return {made, [](void* d) { cudnn_library().cudnnBackendDestroyDescriptor(d); }};
}

void set(const CudnnDescriptor& d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
         std::int64_t count, const void* values) {
  check(cudnn_library().cudnnBackendSetAttribute(d.get(), name, type, count, values), "attribute");
}
void set(const CudnnDescriptor& d, cudnnBackendAttributeName_t name, const CudnnDescriptor& value) {
  const cudnnBackendDescriptor_t one = value.get();
  set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &one);
}
template <typename T>
void set(const CudnnDescriptor& d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
         const T& value) {
  set(d, name, type, 1, &value);
}
void finish(const CudnnDescriptor& d, const char* what) {
  check(cudnn_library().cudnnBackendFinalize(d.get()), what);
}

using Dims = std::array<std::int64_t, 4>;

/// The graph as the library's engines of attention know it: operation after operation what their
/// documentation calls SDPA, masks as comparisons of indices. Tensors that exist in the graph only are
/// "virtual".
class Graph {
 public:
  explicit Graph(const SdpaShape& shape) : s_(shape) { build(); }

  CudnnDescriptor operations() {
    CudnnDescriptor graph = make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    std::vector<cudnnBackendDescriptor_t> all;
    for (const auto& one : operations_) all.push_back(one.get());
    set(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, std::ssize(all), all.data());
    // one compilation for every number and length of sequences
    set(graph, CUDNN_ATTR_OPERATIONGRAPH_IS_DYNAMIC_SHAPE_ENABLED, CUDNN_TYPE_BOOLEAN, true);
    finish(graph, "graph");
    return graph;
  }
  std::vector<CudnnDescriptor> take_parts() {
    parts_.insert(parts_.end(), operations_.begin(), operations_.end());
    return std::move(parts_);
  }

 private:
  struct Tensor {
    std::int64_t number;
    cudnnDataType_t dtype;
    Dims dims, strides;
    bool is_virtual = false, is_by_value = false;
    CudnnDescriptor offsets = {};
  };
  CudnnDescriptor add(const Tensor& t) {
    const CudnnDescriptor d = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, t.number);
    set(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, t.dtype);
    set(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, t.dims.data());
    set(d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, t.strides.data());
    set(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, std::int64_t{16});
    set(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, t.is_virtual);
    set(d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, t.is_by_value);
    if (t.offsets != nullptr) set(d, CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC, t.offsets);
    finish(d, "tensor");
    parts_.push_back(d);
    return d;
  }
  CudnnDescriptor integers(SdpaTensor which, cudnnDataType_t dtype, std::int64_t count) {
    return add({static_cast<std::int64_t>(which), dtype, {count, 1, 1, 1}, {1, 1, 1, 1}});
  }
  CudnnDescriptor scalar(SdpaTensor which) {
    return add({static_cast<std::int64_t>(which), CUDNN_DATA_FLOAT, {1, 1, 1, 1}, {1, 1, 1, 1}, false, true});
  }
  /// (sequences, heads, max_length, dim) whose sequences begin where the offsets say.
  CudnnDescriptor ragged(SdpaTensor which, SdpaTensor offsets, cudnnDataType_t dtype, std::int64_t heads,
                         std::int64_t dim, std::int64_t stride, bool turned) {
    Tensor t{static_cast<std::int64_t>(which),
             dtype,
             {s_.sequences, heads, s_.max_length, dim},
             {s_.max_length * stride, dim, stride, 1}};
    if (turned) {
      std::swap(t.dims[2], t.dims[3]);
      std::swap(t.strides[2], t.strides[3]);
    }
    t.offsets = integers(offsets, CUDNN_DATA_INT64, s_.sequences + 1);
    return add(t);
  }
  /// One number for each query and key, or (cols 1) for each query.
  CudnnDescriptor scores(cudnnDataType_t dtype = CUDNN_DATA_FLOAT) { return inner(dtype, s_.max_length); }
  CudnnDescriptor inner(cudnnDataType_t dtype, std::int64_t cols) {
    const std::int64_t rows = s_.max_length;
    return add({next_++,
                dtype,
                {s_.sequences, s_.heads, rows, cols},
                {s_.heads * rows * cols, rows * cols, cols, 1},
                true});
  }

  struct Operands {
    CudnnDescriptor x, b = {}, t = {};
  };
  /// y = mode(x, b), or where t then x else b.
  CudnnDescriptor pointwise(cudnnPointwiseMode_t mode, cudnnDataType_t compute, const Operands& in,
                            const CudnnDescriptor& y, std::int64_t axis = -1) {
    const CudnnDescriptor how = make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
    set(how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, compute);
    if (axis >= 0) set(how, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, axis);
    finish(how, "pointwise");
    const CudnnDescriptor operation = make(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set(operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    set(operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, in.x);
    if (in.b != nullptr) set(operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, in.b);
    if (in.t != nullptr) set(operation, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, in.t);
    set(operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    finish(operation, "pointwise operation");
    parts_.push_back(how);
    operations_.push_back(operation);
    return y;
  }
  CudnnDescriptor index(const CudnnDescriptor& x, std::int64_t axis) {
    return pointwise(CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_INT32, {x}, scores(CUDNN_DATA_INT32), axis);
  }
  CudnnDescriptor compare(cudnnPointwiseMode_t mode, const CudnnDescriptor& x, const CudnnDescriptor& b) {
    return pointwise(mode, CUDNN_DATA_BOOLEAN, {x, b}, scores(CUDNN_DATA_BOOLEAN));
  }
  /// x where it is seen, else -infinity.
  CudnnDescriptor only(const CudnnDescriptor& x, const CudnnDescriptor& seen) {
    return pointwise(CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT, {x, minus_infinity_, seen}, scores());
  }
  CudnnDescriptor reduce(cudnnReduceTensorOp_t how_to, const CudnnDescriptor& x) {
    const CudnnDescriptor how = make(CUDNN_BACKEND_REDUCTION_DESCRIPTOR), y = inner(CUDNN_DATA_FLOAT, 1);
    set(how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, how_to);
    set(how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    finish(how, "reduction");
    const CudnnDescriptor operation = make(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    set(operation, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
    set(operation, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    set(operation, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    finish(operation, "reduction operation");
    parts_.push_back(how);
    operations_.push_back(operation);
    return y;
  }
  /// c = a b, of each sequence's own length along `second` (n or k) and the queries' along m.
  void matmul(const CudnnDescriptor& a, const CudnnDescriptor& b, const CudnnDescriptor& c,
              cudnnBackendAttributeName_t second) {
    const CudnnDescriptor how = make(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    set(how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    finish(how, "matmul");
    const CudnnDescriptor operation = make(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    set(operation, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    set(operation, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    set(operation, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    set(operation, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    set(operation, CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, queries_);
    set(operation, second, keys_);
    finish(operation, "matmul operation");
    parts_.push_back(how);
    operations_.push_back(operation);
  }

  void build() {
    using enum SdpaTensor;
    const auto f32 = CUDNN_DATA_FLOAT;
    const CudnnDescriptor q =
        ragged(kQ, kQOffsets, CUDNN_DATA_BFLOAT16, s_.heads, s_.head_dim, s_.q_stride, false);
    const CudnnDescriptor k =
        ragged(kK, kKOffsets, CUDNN_DATA_BFLOAT16, s_.kv_heads, s_.head_dim, s_.k_stride, true);
    const CudnnDescriptor v =
        ragged(kV, kVOffsets, CUDNN_DATA_BFLOAT16, s_.kv_heads, s_.head_dim, s_.v_stride, false);
    const CudnnDescriptor out =
        ragged(kOut, kOutOffsets, CUDNN_DATA_BFLOAT16, s_.heads, s_.head_dim, s_.out_stride, false);
    queries_ = integers(kQueryLengths, CUDNN_DATA_INT32, s_.sequences);
    keys_ = integers(kKeyLengths, CUDNN_DATA_INT32, s_.sequences);
    minus_infinity_ = scalar(kMinusInfinity);

    CudnnDescriptor x = scores();
    matmul(q, k, x, CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC);
    x = pointwise(CUDNN_POINTWISE_MUL, f32, {x, scalar(kScale)}, scores());
    // of its sequence
    CudnnDescriptor row = compare(CUDNN_POINTWISE_CMP_LT, index(x, 2), queries_);
    CudnnDescriptor col = compare(CUDNN_POINTWISE_CMP_LT, index(x, 3), keys_);
    x = only(x, compare(CUDNN_POINTWISE_LOGICAL_AND, row, col));
    // not after the query
    row = index(x, 2), col = index(x, 3);
    x = only(x, compare(CUDNN_POINTWISE_CMP_GE, row, col));
    if (s_.window > 0) {  // key + window > query
      row = index(x, 2), col = index(x, 3);
      col = pointwise(CUDNN_POINTWISE_ADD, f32, {col, scalar(kWindow)}, scores(), 3);
      x = only(x, compare(CUDNN_POINTWISE_CMP_GT, col, row));
    }
    const CudnnDescriptor most = reduce(CUDNN_REDUCE_TENSOR_MAX, x);
    x = pointwise(CUDNN_POINTWISE_SUB, f32, {x, most}, scores());
    x = pointwise(CUDNN_POINTWISE_EXP, f32, {x}, scores());
    const CudnnDescriptor sum = reduce(CUDNN_REDUCE_TENSOR_ADD, x);
    // the library knows the pattern by its lse, which may stay inside
    const CudnnDescriptor log = pointwise(CUDNN_POINTWISE_LOG, f32, {sum}, inner(f32, 1));
    pointwise(CUDNN_POINTWISE_ADD, f32, {most, log},
              s_.wants_lse ? ragged(kLse, kLseOffsets, f32, s_.heads, 1, s_.heads, false) : inner(f32, 1));
    x = pointwise(CUDNN_POINTWISE_DIV, f32, {x, sum}, scores(CUDNN_DATA_BFLOAT16));
    matmul(x, v, out, CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC);
  }

  SdpaShape s_;
  std::vector<CudnnDescriptor> parts_, operations_;
  std::int64_t next_ = 100;  // the numbers of virtual tensors
  CudnnDescriptor queries_, keys_, minus_infinity_;
};

/// As many descriptors of a type as an attribute holds.
std::vector<CudnnDescriptor> get(const CudnnDescriptor& d, cudnnBackendAttributeName_t name,
                                 cudnnBackendDescriptorType_t type) {
  const auto& library = cudnn_library();
  std::int64_t count = 0;
  check(library.cudnnBackendGetAttribute(d.get(), name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr),
        "count");
  std::vector<CudnnDescriptor> all;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (std::int64_t i = 0; i < count; ++i) raw.push_back(all.emplace_back(make(type)).get());
  check(library.cudnnBackendGetAttribute(d.get(), name, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count,
                                         raw.data()),
        "descriptors");
  all.resize(static_cast<std::size_t>(count));
  return all;
}

bool is_deterministic(const CudnnDescriptor& config) {
  const std::vector<CudnnDescriptor> engine =
      get(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  std::int64_t count = 0;
  check(cudnn_library().cudnnBackendGetAttribute(engine.at(0).get(), CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                                 CUDNN_TYPE_NUMERICAL_NOTE, std::ssize(notes), &count,
                                                 notes.data()),
        "notes of an engine");
  for (std::size_t i = 0; i < static_cast<std::size_t>(count) && i < notes.size(); ++i)
    if (notes.at(i) == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) return false;
  return true;
}

}  // namespace

const CudnnLibrary& cudnn_library() {
  static const CudnnLibrary kLibrary = load();
  return kLibrary;
}

CudnnDescriptor cudnn_card_of(cudnnHandle_t handle) try {
  const CudnnDescriptor card = make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  set(card, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, handle);
  finish(card, "card");
  return card;
} catch (const Refused& refused) {
  HONE_CHECK(false, "[cudnn] {}", refused.what());
}

CudnnDescriptor cudnn_card_from(const std::string& json) try {
  const CudnnDescriptor card = make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  set(card, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, std::ssize(json), json.data());
  finish(card, "card");
  return card;
} catch (const Refused& refused) {
  HONE_CHECK(false, "[cudnn] {}", refused.what());
}

SdpaPlan SdpaPlanner::plan(const SdpaShape& s, std::int64_t most_workspace) {
  SdpaPlan made;
  try {
    Graph parts(s);
    const CudnnDescriptor graph = parts.operations();
    CudnnDescriptor& kernels = kernels_[{s.heads, s.kv_heads, s.head_dim, s.window, s.q_stride, s.k_stride,
                                         s.v_stride, s.out_stride, s.wants_lse ? 1 : 0}];
    if (kernels == nullptr) {
      const CudnnDescriptor fresh = make(CUDNN_BACKEND_KERNEL_CACHE_DESCRIPTOR);
      set(fresh, CUDNN_ATTR_KERNEL_CACHE_OPERATION_GRAPH, graph);
      finish(fresh, "kernels");
      kernels = fresh;
    }
    const CudnnDescriptor choice = make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set(choice, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(choice, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
    set(choice, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, card_);
    finish(choice, "choice of engines");
    made.refusal = "it has no engine for this graph";
    for (const CudnnDescriptor& config :
         get(choice, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR))
      try {
        if (!is_deterministic(config)) throw Refused("its engines are not deterministic");
        const CudnnDescriptor plan = make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        set(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
        set(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, card_);
        set(plan, CUDNN_ATTR_EXECUTION_PLAN_KERNEL_CACHE, kernels);
        finish(plan, "plan");
        std::int64_t count = 0;
        check(cudnn_library().cudnnBackendGetAttribute(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                                       CUDNN_TYPE_INT64, 1, &count, &made.workspace),
              "workspace");
        if (made.workspace > most_workspace)
          throw Refused(
              fmt::format("it wants {} bytes of workspace, more than {}", made.workspace, most_workspace));
        made.plan = plan;
        made.refusal.clear();
        break;
      } catch (const Refused& refused) {
        made.refusal = refused.what();
      }
    made.graph = parts.take_parts();
    made.graph.push_back(graph);
  } catch (const Refused& refused) {
    made.refusal = refused.what();
  }
  return made;
}

}  // namespace hone::kernels::cuda

#endif
