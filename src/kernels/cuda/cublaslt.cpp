#include "kernels/cuda/cublaslt.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <vector>

#include "base/error.h"
#include "device/cuda/cuda_stream.h"
#include "kernels/cuda/vendor_library.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#define HONE_HAS_CUBLASLT 1
#else
#define HONE_HAS_CUBLASLT 0  // a toolkit without it: nothing to call it by
#endif

namespace hone::kernels::cuda {

#if HONE_HAS_CUBLASLT

namespace {

#define HONE_CUBLASLT_FUNCTIONS(X)   \
  X(cublasLtCreate)                  \
  X(cublasLtDestroy)                 \
  X(cublasLtGetVersion)              \
  X(cublasLtMatmul)                  \
  X(cublasLtMatmulAlgoGetHeuristic)  \
  X(cublasLtMatmulDescCreate)        \
  X(cublasLtMatmulDescDestroy)       \
  X(cublasLtMatmulDescSetAttribute)  \
  X(cublasLtMatrixLayoutCreate)      \
  X(cublasLtMatrixLayoutDestroy)     \
  X(cublasLtMatmulPreferenceCreate)  \
  X(cublasLtMatmulPreferenceDestroy) \
  X(cublasLtMatmulPreferenceSetAttribute)

/// The library's functions; `missing` says why there are none.
struct Library {
#define HONE_FUNCTION(name) decltype(&::name) name = nullptr;
  HONE_CUBLASLT_FUNCTIONS(HONE_FUNCTION)
#undef HONE_FUNCTION
  std::string path, missing;
};

#if defined(CUDA_EMULATION_CUBLASLT)
Library load() {
  Library library;
#define HONE_FUNCTION(name) library.name = &::name;
  HONE_CUBLASLT_FUNCTIONS(HONE_FUNCTION)
#undef HONE_FUNCTION
  library.path = "emulated";
  return library;
}
#else
Library load() {
  Library library;
  const VendorLibrary found = load_vendor_library("libcublasLt.so.13");
  library.path = found.path;
  library.missing = found.missing;
  if (found.handle == nullptr) return library;
#define HONE_FUNCTION(name)                                                              \
  library.name = reinterpret_cast<decltype(library.name)>(::dlsym(found.handle, #name)); \
  if (library.name == nullptr) library.missing = library.path + " has no " #name;
  HONE_CUBLASLT_FUNCTIONS(HONE_FUNCTION)
#undef HONE_FUNCTION
  return library;
}
#endif

/// Of the process: loaded once, and kept.
const Library& library() {
  static const Library kLibrary = load();
  return kLibrary;
}

void check(cublasStatus_t status, const char* what) {
  HONE_CHECK(status == CUBLAS_STATUS_SUCCESS, "[cublaslt] {}: status {}", what, static_cast<int>(status));
}

/// An object of the library's.
template <typename T>
using Owned = std::shared_ptr<std::remove_pointer_t<T>>;
Owned<cublasLtMatrixLayout_t> layout_of(const Matrix& m) {  // its transpose, as columns lie there
  cublasLtMatrixLayout_t layout = nullptr;
  check(library().cublasLtMatrixLayoutCreate(&layout, m.dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F,
                                             static_cast<std::uint64_t>(m.cols),
                                             static_cast<std::uint64_t>(m.rows), m.stride),
        "layout");
  return {layout, library().cublasLtMatrixLayoutDestroy};
}

/// How a product is called; algorithm absent: `refusal` says why.
struct Plan {
  Owned<cublasLtMatmulDesc_t> desc;
  Owned<cublasLtMatrixLayout_t> a, b, c, d;
  cublasLtMatmulAlgo_t algorithm{};
  std::size_t workspace = 0;
  std::string refusal;
};

/// What plans differ in.
using Key = std::array<std::int64_t, 12>;

/// Of a stream.
struct State {
  State() { check(library().cublasLtCreate(&handle), "cublasLtCreate"); }
  ~State() { library().cublasLtDestroy(handle); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  cublasLtHandle_t handle = nullptr;
  std::map<Key, Plan> plans;
};

State& state_of(Stream& stream) {
  std::shared_ptr<void>& kept = device::library_states(stream).cublaslt;
  if (kept == nullptr) kept = std::make_shared<State>();
  return *static_cast<State*>(kept.get());
}

/// The largest power of two, up to 256, that divides an address.
unsigned alignment_of(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p) | 256;
  return static_cast<unsigned>(address & ~(address - 1));
}

/// What is added to the product times one: c itself, or the residual.
const Matrix& addend_of(const MatmulArgs& a) {
  return a.residual.given() ? a.residual : a.c;
}
bool has_addend(const MatmulArgs& a) {
  return a.accumulate || a.residual.given();
}

Plan make_plan(const MatmulArgs& a, State& state) {
  const Library& lt = library();
  Plan plan;
  // Rows are columns there: c^T = op(b)^T op(a)^T, whose first operand is b.
  plan.a = layout_of(a.b);
  plan.b = layout_of(a.a);
  plan.c = layout_of(addend_of(a));
  plan.d = layout_of(a.c);
  cublasLtMatmulDesc_t desc = nullptr;
  // f32 stays f32: no TF32
  check(lt.cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "description");
  plan.desc = {desc, lt.cublasLtMatmulDescDestroy};
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check(lt.cublasLtMatmulDescSetAttribute(desc, attribute, &value, sizeof value), "attribute");
  };
  const std::int32_t first = a.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const std::int32_t second = a.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  const std::uint32_t epilogue = a.has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  set(CUBLASLT_MATMUL_DESC_TRANSA, first);
  set(CUBLASLT_MATMUL_DESC_TRANSB, second);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  if (a.has_bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, a.bias);

  cublasLtMatmulPreference_t preference = nullptr;
  check(lt.cublasLtMatmulPreferenceCreate(&preference), "preference");
  const Owned<cublasLtMatmulPreference_t> owner(preference, lt.cublasLtMatmulPreferenceDestroy);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check(lt.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value), "preference");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(kVendorScratchBytes));
  // parts of k are added in a step of their own, in their order: the same bits each time
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE) | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(a.b.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(a.a.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(addend_of(a).data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(a.c.data));
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status =
      lt.cublasLtMatmulAlgoGetHeuristic(state.handle, desc, plan.a.get(), plan.b.get(), plan.c.get(),
                                        plan.d.get(), preference, 1, &found, &count);
  if (status != CUBLAS_STATUS_SUCCESS || count == 0 || found.state != CUBLAS_STATUS_SUCCESS)
    plan.refusal =
        "it has no algorithm for these shapes (status " + std::to_string(static_cast<int>(status)) + ")";
  plan.algorithm = found.algo;
  plan.workspace = found.workspaceSize;
  return plan;
}

const Plan& plan_of(const MatmulArgs& a, State& state) {
  const auto flag = [](bool b, int place) { return std::int64_t{b ? 1 : 0} << place; };
  const std::int64_t flags = flag(a.transpose_a, 0) | flag(a.transpose_b, 1) | flag(a.has_bias, 2) |
                             flag(has_addend(a), 3) | flag(a.a.dtype == DType::kBF16, 4) |
                             flag(a.b.dtype == DType::kBF16, 5) | flag(a.c.dtype == DType::kBF16, 6) |
                             flag(addend_of(a).data == a.c.data, 7);
  const Key key{a.c.rows,
                a.c.cols,
                depth_of(a),
                a.a.stride,
                a.b.stride,
                a.c.stride,
                addend_of(a).stride,
                flags,
                alignment_of(a.a.data),
                alignment_of(a.b.data),
                alignment_of(addend_of(a).data),
                alignment_of(a.c.data)};
  // a run whose batches are all of different lengths: some 600 bytes a plan
  if (state.plans.size() >= 4096) state.plans.clear();
  const auto found = state.plans.find(key);
  return found != state.plans.end() ? found->second
                                    : state.plans.emplace(key, make_plan(a, state)).first->second;
}

}  // namespace

bool vendor_matmul(const MatmulArgs& a, Stream& stream, void* scratch) {
  if (!library().missing.empty() || *vendor_refusal(a) != '\0') return false;
  State& state = state_of(stream);
  const Plan& plan = plan_of(a, state);
  if (!plan.refusal.empty()) return false;
  if (a.has_bias)
    check(library().cublasLtMatmulDescSetAttribute(plan.desc.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                   &a.bias, sizeof a.bias),
          "bias");
  const float alpha = 1, beta = has_addend(a) ? 1.0F : 0.0F;
  check(library().cublasLtMatmul(state.handle, plan.desc.get(), &alpha, a.b.data, plan.a.get(), a.a.data,
                                 plan.b.get(), &beta, addend_of(a).data, plan.c.get(), a.c.data, plan.d.get(),
                                 &plan.algorithm, scratch, plan.workspace, device::cuda_stream(stream)),
        "cublasLtMatmul");
  return true;
}

std::string why_not_vendor(const MatmulArgs& a, Stream& stream) {
  if (!is_for_vendor(a)) return "too small for it to be faster";
  if (!library().missing.empty()) return library().missing;
  if (const char* refusal = vendor_refusal(a); *refusal != '\0') return refusal;
  return plan_of(a, state_of(stream)).refusal;
}

std::string why_no_vendor_library() {
  return library().missing;
}

std::string describe_vendor_library() {
  if (!library().missing.empty()) return library().missing;
  const auto version = library().cublasLtGetVersion();  // 130101: 13.1.1
  return "cuBLASLt " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100) + " (" + library().path + ")";
}

#else

bool vendor_matmul(const MatmulArgs&, Stream&, void*) {
  return false;
}
std::string why_no_vendor_library() {
  return "this program was built without cublasLt.h, and multiplies by its own kernels";
}
std::string describe_vendor_library() {
  return why_no_vendor_library();
}
std::string why_not_vendor(const MatmulArgs&, Stream&) {
  return why_no_vendor_library();
}

#endif

}  // namespace hone::kernels::cuda
