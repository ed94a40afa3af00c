// cuBLASLt's matrix product (column-major), as a kernel of one thread whose accesses are checked as any
// other's.
#include <cublasLt.h>
#include <cuda_bf16.h>

#include <algorithm>
#include <vector>

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  int transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  unsigned epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};
struct cublasLtMatrixLayoutOpaque {
  cudaDataType_t type;
  std::uint64_t rows, cols;
  std::int64_t ld;
};
struct cublasLtMatmulPreferenceOpaque {
  std::uint64_t workspace = 0;
  unsigned reductions = 7, alignments[4] = {256, 256, 256, 256};
};

namespace {

// What an algorithm's bits hold here: that it is one, what it takes of the workspace, and how the operands
// must be aligned.
constexpr std::uint64_t kAlgorithm = 0x63756c74;
constexpr std::size_t kWorkspace = std::size_t{64} << 10;

std::size_t size_of(cudaDataType_t type) {
  return type == CUDA_R_32F ? 4 : 2;
}

struct Product {
  cublasLtMatmulDescOpaque desc;
  cublasLtMatrixLayoutOpaque a, b, c, d;
};

/// The documented combinations of hone's types, and shapes that fit.
cublasStatus_t check_product(const Product& p) {
  const auto m = p.d.rows, n = p.d.cols;
  const auto k = p.desc.transpose_a == CUBLAS_OP_N ? p.a.cols : p.a.rows;
  for (const auto* layout : {&p.a, &p.b, &p.c, &p.d})
    if (layout->rows == 0 || layout->cols == 0 || layout->ld < static_cast<std::int64_t>(layout->rows))
      return CUBLAS_STATUS_INVALID_VALUE;
  if ((p.desc.transpose_a == CUBLAS_OP_N ? p.a.rows : p.a.cols) != m ||
      (p.desc.transpose_b == CUBLAS_OP_N ? p.b.cols : p.b.rows) != n ||
      (p.desc.transpose_b == CUBLAS_OP_N ? p.b.rows : p.b.cols) != k || p.c.rows != m || p.c.cols != n)
    return CUBLAS_STATUS_INVALID_VALUE;
  const bool f32 = p.a.type == CUDA_R_32F && p.d.type == CUDA_R_32F;
  const bool bf16 = p.a.type == CUDA_R_16BF && (p.d.type == CUDA_R_16BF || p.d.type == CUDA_R_32F);
  if (p.desc.compute != CUBLAS_COMPUTE_32F || p.desc.scale != CUDA_R_32F || p.a.type != p.b.type ||
      p.c.type != p.d.type || (!f32 && !bf16))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (p.desc.epilogue != CUBLASLT_EPILOGUE_DEFAULT && p.desc.epilogue != CUBLASLT_EPILOGUE_BIAS)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

bool is_aligned(const void* p, std::uint64_t bytes) {
  return reinterpret_cast<std::uintptr_t>(p) % bytes == 0;
}

/// The call, as the kernel has it.
struct Call {
  Product product;
  const void *a, *b, *c;
  void *d, *workspace;
  std::size_t workspace_bytes;
  float alpha, beta;
};

float get(const void* data, cudaDataType_t type, std::size_t i) {
  return type == CUDA_R_32F ? static_cast<const float*>(data)[i]
                            : static_cast<float>(static_cast<const __nv_bfloat16*>(data)[i]);
}
/// Reads or writes `size` bytes at a time, as a kernel would.
void touch(const void* data, std::uint64_t bytes, std::size_t size, cuda_emulation::Access access) {
  for (std::uint64_t at = 0; at < bytes; at += size)
    cuda_emulation::touch(static_cast<const char*>(data) + at, size, access);
}
void touch_columns(const void* data, const cublasLtMatrixLayoutOpaque& layout,
                   cuda_emulation::Access access) {
  const std::size_t size = size_of(layout.type);
  for (std::uint64_t j = 0; j < layout.cols; ++j)
    touch(static_cast<const char*>(data) + j * static_cast<std::uint64_t>(layout.ld) * size,
          layout.rows * size, size, access);
}

void run(const void* argument) {
  using cuda_emulation::Access;
  const Call& call = **static_cast<const Call* const*>(argument);
  const auto& [desc, a, b, c, d] = call.product;
  touch_columns(call.a, a, Access::kRead);
  touch_columns(call.b, b, Access::kRead);
  if (call.beta != 0) touch_columns(call.c, c, Access::kRead);
  if (desc.epilogue == CUBLASLT_EPILOGUE_BIAS)
    touch(desc.bias, d.rows * size_of(d.type), size_of(d.type), Access::kRead);
  if (call.workspace_bytes > 0) {  // it is the library's meanwhile
    touch(call.workspace, call.workspace_bytes, 16, Access::kWrite);
    std::fill_n(static_cast<unsigned char*>(call.workspace), call.workspace_bytes,
                static_cast<unsigned char>(0xff));
  }
  const std::uint64_t k = desc.transpose_a == CUBLAS_OP_N ? a.cols : a.rows;
  const auto lda = static_cast<std::uint64_t>(a.ld), ldb = static_cast<std::uint64_t>(b.ld),
             ldc = static_cast<std::uint64_t>(c.ld), ldd = static_cast<std::uint64_t>(d.ld);
  std::vector<float> of_b(k);
  for (std::uint64_t j = 0; j < d.cols; ++j) {
    for (std::uint64_t p = 0; p < k; ++p)
      of_b[p] = get(call.b, b.type, desc.transpose_b == CUBLAS_OP_N ? j * ldb + p : p * ldb + j);
    for (std::uint64_t i = 0; i < d.rows; ++i) {
      double sum = 0;
      for (std::uint64_t p = 0; p < k; ++p)
        sum += static_cast<double>(
                   get(call.a, a.type, desc.transpose_a == CUBLAS_OP_N ? p * lda + i : i * lda + p)) *
               static_cast<double>(of_b[p]);
      auto value = call.alpha * static_cast<float>(sum);
      if (call.beta != 0) value += call.beta * get(call.c, c.type, j * ldc + i);
      if (desc.epilogue == CUBLASLT_EPILOGUE_BIAS) value += get(desc.bias, d.type, i);
      if (d.type == CUDA_R_32F)
        static_cast<float*>(call.d)[j * ldd + i] = value;
      else
        static_cast<__nv_bfloat16*>(call.d)[j * ldd + i] = __nv_bfloat16(value);
    }
  }
  touch_columns(call.d, d, Access::kWrite);
}

template <typename T>
cublasStatus_t take(T& to, const void* value, std::size_t size) {
  if (value == nullptr || size != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::copy_n(static_cast<const char*>(value), size, reinterpret_cast<char*>(&to));
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
std::size_t cublasLtGetVersion() {
  return 130101;
}
const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
  }
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  *desc = new cublasLtMatmulDescOpaque{compute, scale};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              std::size_t size) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return take(desc->transpose_a, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return take(desc->transpose_b, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return take(desc->epilogue, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return take(desc->bias, value, size);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          std::uint64_t rows, std::uint64_t cols, std::int64_t ld) {
  *layout = new cublasLtMatrixLayoutOpaque{type, rows, cols, ld};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t size) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return take(preference->workspace, value, size);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return take(preference->reductions, value, size);
    default:
      return take(preference->alignments[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value,
                  size);
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* found) {
  *found = 0;
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
  const cublasStatus_t status = check_product({*desc, *a, *b, *c, *d});
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const unsigned(&alignments)[4] = preference->alignments;
  const cudaDataType_t types[4] = {a->type, b->type, c->type, d->type};
  for (int i = 0; i < 4; ++i)
    if (alignments[i] % size_of(types[i]) != 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0] = {};
  results[0].workspaceSize = preference->workspace >= kWorkspace ? kWorkspace : 0;
  results[0].algo.data[0] = kAlgorithm;
  results[0].algo.data[1] = results[0].workspaceSize;
  for (std::size_t i = 0; i < 4; ++i) results[0].algo.data[2 + i] = alignments[i];
  results[0].wavesCount = 1;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algo, void* workspace, std::size_t workspace_size,
                              cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const Product product{*desc, *a_layout, *b_layout, *c_layout, *d_layout};
  const cublasStatus_t status = check_product(product);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const float of_product = *static_cast<const float*>(alpha), of_c = *static_cast<const float*>(beta);
  if (algo == nullptr || algo->data[0] != kAlgorithm || workspace_size < algo->data[1] ||
      (algo->data[1] > 0 && (workspace == nullptr || !is_aligned(workspace, 256))))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (a == nullptr || b == nullptr || d == nullptr || (of_c != 0 && c == nullptr) ||
      (desc->epilogue == CUBLASLT_EPILOGUE_BIAS && desc->bias == nullptr))
    return CUBLAS_STATUS_INVALID_VALUE;
  // in place only with one layout
  if (c == d && (c_layout->ld != d_layout->ld || c_layout->type != d_layout->type))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (desc->epilogue == CUBLASLT_EPILOGUE_BIAS && !is_aligned(desc->bias, 16))
    return CUBLAS_STATUS_EXECUTION_FAILED;
  if (!is_aligned(a, algo->data[2]) || !is_aligned(b, algo->data[3]) ||
      (of_c != 0 && !is_aligned(c, algo->data[4])) || !is_aligned(d, algo->data[5]))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  auto call = std::make_shared<const Call>(
      Call{product, a, b, c, d, workspace, static_cast<std::size_t>(algo->data[1]), of_product, of_c});
  auto pointer =
      std::shared_ptr<const Call*>(new const Call*(call.get()), [call](const Call** p) { delete p; });
  const cudaError_t launched =
      cuda_emulation::launch({"cublasLtMatmul", reinterpret_cast<const void*>(&run), 1, 1, 0, stream, false},
                             std::shared_ptr<const void>(pointer, pointer.get()), sizeof(Call*), &run);
  return launched == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
