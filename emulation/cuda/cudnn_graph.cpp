// Graphs of cuDNN: what is taken, and what they compute.
#include "cudnn_graph.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

namespace cuda_emulation::cudnn {

Tensor tensor_of(const Descriptor& d) {
  require(d.type == CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "no tensor");
  Tensor t;
  t.number = d.number(CUDNN_ATTR_TENSOR_UNIQUE_ID);
  t.alignment = d.number(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
  t.dtype = static_cast<cudnnDataType_t>(d.number(CUDNN_ATTR_TENSOR_DATA_TYPE));
  const auto dims = d.numbers(CUDNN_ATTR_TENSOR_DIMENSIONS), strides = d.numbers(CUDNN_ATTR_TENSOR_STRIDES);
  for (std::size_t i = 0; i < 4 && i < dims.size() && i < strides.size(); ++i)
    t.dims[i] = dims[i], t.strides[i] = strides[i];
  t.is_virtual = d.number(CUDNN_ATTR_TENSOR_IS_VIRTUAL) != 0;
  t.is_by_value = d.number(CUDNN_ATTR_TENSOR_IS_BY_VALUE) != 0;
  t.offsets = d.one(CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC);
  return t;
}

namespace {

constexpr auto kMatmul = CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR;
constexpr auto kPointwise = CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR;
constexpr auto kReduction = CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR;

const std::vector<std::shared_ptr<Descriptor>>& operations_of(const Descriptor& graph) {
  return graph.attributes.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).descriptors;
}

/// What an operation reads and makes.
struct Edges {
  std::vector<std::shared_ptr<Descriptor>> in;
  std::shared_ptr<Descriptor> out;
};
Edges edges_of(const Descriptor& op) {
  Edges edges;
  const auto add = [&](cudnnBackendAttributeName_t name) {
    if (auto d = op.one(name)) edges.in.push_back(std::move(d));
  };
  switch (op.type) {
    case kMatmul:
      for (const auto name : {CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_ATTR_OPERATION_MATMUL_BDESC,
                              CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC,
                              CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC,
                              CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC})
        add(name);
      edges.out = op.one(CUDNN_ATTR_OPERATION_MATMUL_CDESC);
      break;
    case kPointwise:
      for (const auto name : {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
                              CUDNN_ATTR_OPERATION_POINTWISE_TDESC})
        add(name);
      edges.out = op.one(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
      break;
    case kReduction:
      add(CUDNN_ATTR_OPERATION_REDUCTION_XDESC);
      edges.out = op.one(CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
      break;
    default:
      throw Failure{CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "no operation"};
  }
  return edges;
}

/// Of the data tensors q, k, v, out: what 16-byte loads want.
void check_data(const Tensor& t, std::int64_t dim, std::int64_t dim_stride, std::int64_t row_stride) {
  require(t.dtype == CUDNN_DATA_BFLOAT16, CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "data is bf16");
  require(dim % 8 == 0 && dim <= 256, CUDNN_STATUS_NOT_SUPPORTED_SHAPE,
          "heads are of a multiple of 8, up to 256");
  require(dim_stride == 1 && row_stride % 8 == 0 && t.strides[1] % 8 == 0 && t.alignment % 16 == 0,
          CUDNN_STATUS_NOT_SUPPORTED_LAYOUT, "rows of heads begin at 16 bytes");
  require(!t.is_virtual && t.offsets != nullptr, CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN,
          "all data is ragged");
}

}  // namespace

void check_graph(const Descriptor& graph) {
  std::map<std::int64_t, const Descriptor*> known;
  std::set<std::int64_t> made;
  const auto see = [&](const std::shared_ptr<Descriptor>& d) {
    const Tensor t = tensor_of(*d);
    require(known.emplace(t.number, d.get()).first->second == d.get(), CUDNN_STATUS_BAD_PARAM,
            "two tensors of number " + std::to_string(t.number));
    return t;
  };
  for (const auto& op : operations_of(graph)) {
    const Edges edges = edges_of(*op);
    for (const auto& in : edges.in) {
      const Tensor t = see(in);
      require(!t.is_virtual || made.count(t.number) == 1, CUDNN_STATUS_BAD_PARAM, "read before it is made");
      if (t.offsets != nullptr) see(t.offsets);
    }
    const Tensor out = see(edges.out);
    if (out.offsets != nullptr) see(out.offsets);
    require(made.insert(out.number).second, CUDNN_STATUS_BAD_PARAM, "made twice");
  }
}

void check_attention(const Descriptor& graph) {
  const auto& operations = operations_of(graph);
  require(operations.size() > 2 && operations.front()->type == kMatmul && operations.back()->type == kMatmul,
          CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "attention is all between two products");
  const auto tensor = [](const Descriptor& op, cudnnBackendAttributeName_t name) {
    const auto d = op.one(name);
    require(d != nullptr, CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN,
            "ragged offsets want lengths of sequences");
    return tensor_of(*d);
  };
  const Descriptor &first = *operations.front(), &last = *operations.back();
  const Tensor q = tensor(first, CUDNN_ATTR_OPERATION_MATMUL_ADESC),
               k = tensor(first, CUDNN_ATTR_OPERATION_MATMUL_BDESC),
               p = tensor(last, CUDNN_ATTR_OPERATION_MATMUL_ADESC),
               v = tensor(last, CUDNN_ATTR_OPERATION_MATMUL_BDESC),
               out = tensor(last, CUDNN_ATTR_OPERATION_MATMUL_CDESC);
  check_data(q, q.dims[3], q.strides[3], q.strides[2]);
  check_data(k, k.dims[2], k.strides[2], k.strides[3]);  // it is turned
  check_data(v, v.dims[3], v.strides[3], v.strides[2]);
  check_data(out, out.dims[3], out.strides[3], out.strides[2]);
  require(p.dtype == q.dtype, CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "probabilities are of the data's type");
  require(q.dims[1] % k.dims[1] == 0 && k.dims[1] == v.dims[1] && q.dims[1] == out.dims[1] &&
              k.dims[2] == q.dims[3],
          CUDNN_STATUS_NOT_SUPPORTED_SHAPE, "heads are no multiple of the keys'");
  for (const auto& [op, name] : {std::pair{&first, CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC},
                                 {&first, CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC},
                                 {&last, CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC},
                                 {&last, CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC}}) {
    const Tensor lengths = tensor(*op, name);
    require(lengths.dtype == CUDNN_DATA_INT32 && lengths.dims == Dims{q.dims[0], 1, 1, 1},
            CUDNN_STATUS_NOT_SUPPORTED_SHAPE, "a length for each sequence");
  }
}

std::int64_t sequences_of(const Descriptor& graph) {
  return tensor_of(*operations_of(graph).front()->one(CUDNN_ATTR_OPERATION_MATMUL_ADESC)).dims[0];
}

namespace {

/// A call, as the kernel has it.
struct Call {
  std::shared_ptr<Descriptor> graph;
  std::map<std::int64_t, void*> given;
  std::map<std::int64_t, float> scalars;  // of the host, read when it was called
  void* workspace;
  std::size_t workspace_bytes;
};

/// One head of one sequence of a tensor.
struct Values {
  std::int64_t rows = 0, cols = 0;
  std::vector<float> numbers;
  Values() = default;
  Values(std::int64_t r, std::int64_t c) : rows(r), cols(c), numbers(static_cast<std::size_t>(r * c)) {}
  float& at(std::int64_t i, std::int64_t j) { return numbers[static_cast<std::size_t>(i * cols + j)]; }
  /// A single row or column goes for all.
  float of(std::int64_t i, std::int64_t j) const {
    return numbers[static_cast<std::size_t>((rows == 1 ? 0 : i) * cols + (cols == 1 ? 0 : j))];
  }
};

template <typename T>
T read(const void* data, std::int64_t at) {
  const T* const from = static_cast<const T*>(data) + at;
  touch(from, sizeof(T), Access::kRead);
  return *from;
}

class Run {
 public:
  explicit Run(const Call& call) : call_(call) {}

  void head(std::int64_t sequence, std::int64_t head) {
    sequence_ = sequence, head_ = head;
    values_.clear();
    const auto& operations = operations_of(*call_.graph);
    // what is stored of a ragged tensor: the rows of its sequence
    rows_ = length(*operations.front(), CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, 0);
    for (const auto& op : operations)
      op->type == kMatmul ? matmul(*op) : op->type == kPointwise ? pointwise(*op) : reduce(*op);
  }

 private:
  std::int64_t length(const Descriptor& op, cudnnBackendAttributeName_t name, std::int64_t otherwise) {
    const auto d = op.one(name);
    return d == nullptr ? otherwise : read<std::int32_t>(call_.given.at(tensor_of(*d).number), sequence_);
  }
  /// Where element (i, j) lies, in numbers.
  std::int64_t place(const Tensor& t, std::int64_t heads, std::int64_t i, std::int64_t j) {
    std::int64_t from = (t.dims[0] == 1 ? 0 : sequence_) * t.strides[0];
    if (t.offsets != nullptr) {
      const Tensor o = tensor_of(*t.offsets);
      const void* const data = call_.given.at(o.number);
      const auto offset = [&](std::int64_t at) {
        return o.dtype == CUDNN_DATA_INT64 ? read<std::int64_t>(data, at) : read<std::int32_t>(data, at);
      };
      from = offset(sequence_);
      offset(sequence_ + 1);  // where the next begins, which an engine may read
    }
    const std::int64_t mine = t.dims[1] == 1 ? 0 : head_ / (heads / t.dims[1]);  // several may read one
    return from + mine * t.strides[1] + i * t.strides[2] + j * t.strides[3];
  }
  /// A tensor's part that is read: `rows` by `cols` of it.
  Values load(const Descriptor& d, std::int64_t heads, std::int64_t rows, std::int64_t cols) {
    const Tensor t = tensor_of(d);
    if (t.is_virtual) return values_.at(t.number);
    Values loaded(t.dims[2], t.dims[3]);
    if (t.is_by_value) {
      loaded.at(0, 0) = call_.scalars.at(t.number);
      return loaded;
    }
    const void* const data = call_.given.at(t.number);
    const std::int64_t from = place(t, heads, 0, 0);
    for (std::int64_t i = 0; i < std::min(rows, t.dims[2]); ++i)
      for (std::int64_t j = 0; j < std::min(cols, t.dims[3]); ++j) {
        const std::int64_t at = from + i * t.strides[2] + j * t.strides[3];
        loaded.at(i, j) = t.dtype == CUDNN_DATA_BFLOAT16 ? static_cast<float>(read<__nv_bfloat16>(data, at))
                          : t.dtype == CUDNN_DATA_INT32  ? static_cast<float>(read<std::int32_t>(data, at))
                                                         : read<float>(data, at);
      }
    return loaded;
  }
  void store(const Descriptor& d, Values values) {
    const Tensor t = tensor_of(d);
    if (t.is_virtual) {
      if (t.dtype == CUDNN_DATA_BFLOAT16)
        for (float& x : values.numbers) x = static_cast<float>(__nv_bfloat16(x));
      values_[t.number] = std::move(values);
      return;
    }
    void* const data = call_.given.at(t.number);
    const std::int64_t from = place(t, t.dims[1], 0, 0);
    for (std::int64_t i = 0; i < rows_; ++i)
      for (std::int64_t j = 0; j < t.dims[3]; ++j) {
        const std::int64_t at = from + i * t.strides[2] + j * t.strides[3];
        if (t.dtype == CUDNN_DATA_BFLOAT16) {
          touch(static_cast<__nv_bfloat16*>(data) + at, 2, Access::kWrite);
          static_cast<__nv_bfloat16*>(data)[at] = __nv_bfloat16(values.at(i, j));
        } else {
          touch(static_cast<float*>(data) + at, 4, Access::kWrite);
          static_cast<float*>(data)[at] = values.at(i, j);
        }
      }
  }

  void matmul(const Descriptor& op) {
    const auto c = op.one(CUDNN_ATTR_OPERATION_MATMUL_CDESC), a = op.one(CUDNN_ATTR_OPERATION_MATMUL_ADESC),
               b = op.one(CUDNN_ATTR_OPERATION_MATMUL_BDESC);
    const Tensor of_c = tensor_of(*c);
    const std::int64_t heads = of_c.dims[1];
    const std::int64_t m = length(op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, of_c.dims[2]);
    const std::int64_t n = length(op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, of_c.dims[3]);
    const std::int64_t k =
        length(op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, tensor_of(*a).dims[3]);
    Values left = load(*a, heads, m, k), right = load(*b, heads, k, n), product(of_c.dims[2], of_c.dims[3]);
    std::vector<double> sums(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < m; ++i) {
      std::fill(sums.begin(), sums.end(), 0);
      for (std::int64_t p = 0; p < k; ++p) {
        const double x = static_cast<double>(left.at(i, p));
        const float* const row = &right.at(p, 0);
        for (std::int64_t j = 0; j < n; ++j)
          sums[static_cast<std::size_t>(j)] += x * static_cast<double>(row[j]);
      }
      for (std::int64_t j = 0; j < n; ++j)
        product.at(i, j) = static_cast<float>(sums[static_cast<std::size_t>(j)]);
    }
    store(*c, std::move(product));
  }

  void pointwise(const Descriptor& op) {
    const auto how = op.one(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    const auto mode = static_cast<cudnnPointwiseMode_t>(how->number(CUDNN_ATTR_POINTWISE_MODE));
    const std::int64_t axis = how->number(CUDNN_ATTR_POINTWISE_AXIS, -1);
    const auto y = op.one(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    const Tensor of_y = tensor_of(*y);
    const auto operand = [&](cudnnBackendAttributeName_t name) {
      const auto d = op.one(name);
      return d == nullptr ? Values(1, 1) : load(*d, of_y.dims[1], of_y.dims[2], of_y.dims[3]);
    };
    const Values x = operand(CUDNN_ATTR_OPERATION_POINTWISE_XDESC),
                 b = operand(CUDNN_ATTR_OPERATION_POINTWISE_BDESC),
                 t = operand(CUDNN_ATTR_OPERATION_POINTWISE_TDESC);
    Values made(of_y.dims[2], of_y.dims[3]);
    for (std::int64_t i = 0; i < made.rows; ++i)
      for (std::int64_t j = 0; j < made.cols; ++j)
        made.at(i, j) =
            apply(mode, x.of(i, j), b.of(i, j), t.of(i, j), static_cast<float>(axis == 2 ? i : j));
    store(*y, std::move(made));
  }
  static float apply(cudnnPointwiseMode_t mode, float x, float b, float t, float index) {
    switch (mode) {
      case CUDNN_POINTWISE_ADD:
        return x + b;
      case CUDNN_POINTWISE_SUB:
        return x - b;
      case CUDNN_POINTWISE_MUL:
        return x * b;
      case CUDNN_POINTWISE_DIV:
        return x / b;
      case CUDNN_POINTWISE_EXP:
        return std::exp(x);
      case CUDNN_POINTWISE_LOG:
        return std::log(x);
      case CUDNN_POINTWISE_CMP_GT:
        return x > b ? 1.0F : 0.0F;
      case CUDNN_POINTWISE_CMP_GE:
        return x >= b ? 1.0F : 0.0F;
      case CUDNN_POINTWISE_CMP_LT:
        return x < b ? 1.0F : 0.0F;
      case CUDNN_POINTWISE_LOGICAL_AND:
        return x != 0 && b != 0 ? 1.0F : 0.0F;
      case CUDNN_POINTWISE_GEN_INDEX:
        return index;
      case CUDNN_POINTWISE_BINARY_SELECT:
        return t != 0 ? x : b;
    }
    return std::numeric_limits<float>::quiet_NaN();
  }

  void reduce(const Descriptor& op) {
    const auto how = op.one(CUDNN_ATTR_OPERATION_REDUCTION_DESC);
    const bool is_max = how->number(CUDNN_ATTR_REDUCTION_OPERATOR) == CUDNN_REDUCE_TENSOR_MAX;
    const auto y = op.one(CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
    const Tensor of_y = tensor_of(*y);
    Values x = load(*op.one(CUDNN_ATTR_OPERATION_REDUCTION_XDESC), of_y.dims[1], of_y.dims[2], of_y.dims[3]);
    Values made(of_y.dims[2], 1);
    for (std::int64_t i = 0; i < made.rows; ++i) {
      double sum = is_max ? -std::numeric_limits<double>::infinity() : 0;
      for (std::int64_t j = 0; j < x.cols; ++j) {
        const auto one = static_cast<double>(x.at(i, j));
        sum = is_max ? std::max(sum, one) : sum + one;
      }
      made.at(i, 0) = static_cast<float>(sum);
    }
    store(*y, std::move(made));
  }

  const Call& call_;
  std::int64_t sequence_ = 0, head_ = 0, rows_ = 0;
  std::map<std::int64_t, Values> values_;  // of virtual tensors
};

void run_call(const void* argument) {
  const Call& call = **static_cast<const Call* const*>(argument);
  for (std::size_t at = 0; at < call.workspace_bytes; at += 16)  // it is the library's meanwhile
    touch(static_cast<char*>(call.workspace) + at, 16, Access::kWrite);
  std::memset(call.workspace, 0xff, call.workspace_bytes);
  const Dims dims =
      tensor_of(*operations_of(*call.graph).front()->one(CUDNN_ATTR_OPERATION_MATMUL_ADESC)).dims;
  Run run(call);
  for (std::int64_t sequence = 0; sequence < dims[0]; ++sequence)
    for (std::int64_t head = 0; head < dims[1]; ++head) run.head(sequence, head);
}

}  // namespace

void run(const std::shared_ptr<Descriptor>& graph, const std::map<std::int64_t, void*>& given,
         void* workspace, std::size_t workspace_bytes, cudaStream_t stream) {
  auto call = std::make_shared<Call>(Call{graph, given, {}, workspace, workspace_bytes});
  const auto see = [&](const Tensor& t) {
    if (t.is_virtual) return;
    const auto found = given.find(t.number);
    require(found != given.end() && found->second != nullptr, CUDNN_STATUS_BAD_PARAM_NULL_POINTER,
            "tensor " + std::to_string(t.number) + " is not given");
    if (t.is_by_value) {
      call->scalars[t.number] = *static_cast<const float*>(found->second);
      return;
    }
    // The library computes wrongly where a pointer is not as aligned as its tensor says; here it says so.
    require(reinterpret_cast<std::uintptr_t>(found->second) % static_cast<std::uintptr_t>(t.alignment) == 0,
            CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER,
            "tensor " + std::to_string(t.number) + " is not aligned");
  };
  for (const auto& op : operations_of(*graph)) {
    Edges edges = edges_of(*op);
    edges.in.push_back(edges.out);
    for (const auto& d : edges.in) {
      const Tensor t = tensor_of(*d);
      see(t);
      if (t.offsets != nullptr) see(tensor_of(*t.offsets));
    }
  }
  require(reinterpret_cast<std::uintptr_t>(workspace) % 16 == 0, CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER,
          "workspace");
  auto pointer =
      std::shared_ptr<const Call*>(new const Call*(call.get()), [call](const Call** p) { delete p; });
  require(
      launch({"cudnnBackendExecute", reinterpret_cast<const void*>(&run_call), 1, 1, 0, stream, false},
             std::shared_ptr<const void>(pointer, pointer.get()), sizeof(Call*), &run_call) == cudaSuccess,
      CUDNN_STATUS_EXECUTION_FAILED, "launch");
}

}  // namespace cuda_emulation::cudnn
