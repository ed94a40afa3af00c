// cuDNN's backend API: descriptors, whose attributes are held to what the documentation says of them; one
// engine, which takes graphs of attention; and the execution of a graph, as a kernel of one thread whose
// accesses are checked as any other's. It computes each operation by its own meaning and knows nothing of
// attention, so that a graph that says something else computes something else.
#include <cudnn.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "cudnn_graph.h"

struct cudnnContext {
  cudaStream_t stream = nullptr;
};

namespace cuda_emulation::cudnn {

namespace {

std::mutex mutex;
std::map<void*, std::shared_ptr<Descriptor>> alive;  // what users hold; others may hold them, too
thread_local std::string last_error;

std::shared_ptr<Descriptor> find(cudnnBackendDescriptor_t d) {
  const std::scoped_lock lock(mutex);
  const auto found = alive.find(d);
  require(found != alive.end(), CUDNN_STATUS_BAD_PARAM, "no such descriptor");
  return found->second;
}
cudnnBackendDescriptor_t hold(std::shared_ptr<Descriptor> d) {
  const std::scoped_lock lock(mutex);
  void* const key = d.get();
  alive[key] = std::move(d);
  return key;
}

/// What an attribute is of, and its type.
struct Rule {
  cudnnBackendDescriptorType_t of;
  cudnnBackendAttributeType_t type;
  bool is_needed = true;
};
const std::map<cudnnBackendAttributeName_t, Rule>& rules() {
  constexpr auto kDescriptor = CUDNN_TYPE_BACKEND_DESCRIPTOR;
  static const std::map<cudnnBackendAttributeName_t, Rule> kRules = {
      {CUDNN_ATTR_POINTWISE_MODE, {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_TYPE_POINTWISE_MODE}},
      {CUDNN_ATTR_POINTWISE_MATH_PREC, {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_TYPE_DATA_TYPE}},
      {CUDNN_ATTR_POINTWISE_AXIS, {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_TYPE_INT64, false}},
      {CUDNN_ATTR_ENGINEHEUR_MODE, {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_TYPE_HEUR_MODE}},
      {CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, kDescriptor}},
      {CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, kDescriptor, false}},
      {CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, kDescriptor}},
      {CUDNN_ATTR_EXECUTION_PLAN_KERNEL_CACHE, {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, kDescriptor, false}},
      {CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, kDescriptor, false}},
      {CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR,
       {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, kDescriptor}},
      {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, kDescriptor}},
      {CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
       {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, kDescriptor, false}},
      {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, kDescriptor}},
      {CUDNN_ATTR_OPERATION_POINTWISE_TDESC,
       {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, kDescriptor, false}},
      {CUDNN_ATTR_OPERATIONGRAPH_OPS, {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, kDescriptor}},
      {CUDNN_ATTR_OPERATIONGRAPH_IS_DYNAMIC_SHAPE_ENABLED,
       {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_TYPE_BOOLEAN, false}},
      {CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_INT64}},
      {CUDNN_ATTR_TENSOR_DATA_TYPE, {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_DATA_TYPE}},
      {CUDNN_ATTR_TENSOR_DIMENSIONS, {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_INT64}},
      {CUDNN_ATTR_TENSOR_STRIDES, {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_INT64}},
      {CUDNN_ATTR_TENSOR_UNIQUE_ID, {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_INT64}},
      {CUDNN_ATTR_TENSOR_IS_VIRTUAL, {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_BOOLEAN, false}},
      {CUDNN_ATTR_TENSOR_IS_BY_VALUE, {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_TYPE_BOOLEAN, false}},
      {CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC, {CUDNN_BACKEND_TENSOR_DESCRIPTOR, kDescriptor, false}},
      {CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_TYPE_INT64}},
      {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_TYPE_VOID_PTR}},
      {CUDNN_ATTR_VARIANT_PACK_WORKSPACE, {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_TYPE_VOID_PTR}},
      {CUDNN_ATTR_MATMUL_COMP_TYPE, {CUDNN_BACKEND_MATMUL_DESCRIPTOR, CUDNN_TYPE_DATA_TYPE}},
      {CUDNN_ATTR_OPERATION_MATMUL_ADESC, {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, kDescriptor}},
      {CUDNN_ATTR_OPERATION_MATMUL_BDESC, {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, kDescriptor}},
      {CUDNN_ATTR_OPERATION_MATMUL_CDESC, {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, kDescriptor}},
      {CUDNN_ATTR_OPERATION_MATMUL_DESC, {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, kDescriptor}},
      {CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC,
       {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, kDescriptor, false}},
      {CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC,
       {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, kDescriptor, false}},
      {CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC,
       {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, kDescriptor, false}},
      {CUDNN_ATTR_REDUCTION_OPERATOR,
       {CUDNN_BACKEND_REDUCTION_DESCRIPTOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE}},
      {CUDNN_ATTR_REDUCTION_COMP_TYPE, {CUDNN_BACKEND_REDUCTION_DESCRIPTOR, CUDNN_TYPE_DATA_TYPE}},
      {CUDNN_ATTR_OPERATION_REDUCTION_XDESC, {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, kDescriptor}},
      {CUDNN_ATTR_OPERATION_REDUCTION_YDESC, {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, kDescriptor}},
      {CUDNN_ATTR_OPERATION_REDUCTION_DESC, {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, kDescriptor}},
      {CUDNN_ATTR_KERNEL_CACHE_OPERATION_GRAPH, {CUDNN_BACKEND_KERNEL_CACHE_DESCRIPTOR, kDescriptor}},
      {CUDNN_ATTR_DEVICEPROP_HANDLE, {CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, CUDNN_TYPE_HANDLE}},
  };
  return kRules;
}

std::size_t size_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
      return 1;
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
      return 8;
    default:
      return 4;
  }
}

void check_tensor(const Descriptor& d) {
  const Tensor t = tensor_of(d);
  require(
      d.numbers(CUDNN_ATTR_TENSOR_DIMENSIONS).size() == 4 && d.numbers(CUDNN_ATTR_TENSOR_STRIDES).size() == 4,
      CUDNN_STATUS_BAD_PARAM, "a tensor of attention has 4 dimensions");
  for (const std::int64_t n : t.dims) require(n > 0, CUDNN_STATUS_BAD_PARAM, "a dimension is not above 0");
  require(t.alignment > 0 && (t.alignment & (t.alignment - 1)) == 0, CUDNN_STATUS_BAD_PARAM, "alignment");
  require(!t.is_virtual || t.offsets == nullptr, CUDNN_STATUS_BAD_PARAM,
          "a virtual tensor has ragged offsets");
  if (t.offsets == nullptr) return;
  const Tensor o = tensor_of(*t.offsets);
  require(o.dtype == CUDNN_DATA_INT32 || o.dtype == CUDNN_DATA_INT64, CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE,
          "ragged offsets are int32 or int64");
  require(o.dims == Dims{t.dims[0] + 1, 1, 1, 1}, CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH,
          "there is one ragged offset more than sequences");
}

void finalize(const std::shared_ptr<Descriptor>& d) {
  require(!d->is_final, CUDNN_STATUS_BAD_PARAM, "is final");
  for (const auto& [name, rule] : rules())
    require(rule.of != d->type || !rule.is_needed || d->has(name) ||
                d->type == CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR,
            CUDNN_STATUS_BAD_PARAM, "attribute " + std::to_string(name) + " is not set");
  switch (d->type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
      check_tensor(*d);
      break;
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      check_graph(*d);
      break;
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
      check_attention(*d->one(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH));
      break;
    case CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR:
      require(d->has(CUDNN_ATTR_DEVICEPROP_HANDLE), CUDNN_STATUS_BAD_PARAM, "a card of no handle");
      break;
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
      require(d->numbers(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).size() ==
                  d->numbers(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).size(),
              CUDNN_STATUS_BAD_PARAM, "as many pointers as tensors");
      break;
    default:
      break;
  }
  d->is_final = true;
}

/// What it wants for a graph: 256 bytes for each sequence, or for each of 66 (cuDNN 9.19's plans for Hopper).
std::int64_t workspace_of(const Descriptor& graph) {
  return 256 + std::max<std::int64_t>(16896, 256 * (sequences_of(graph) + 2));
}

std::int64_t get_attribute(Descriptor& d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                           std::int64_t requested, void* values) {
  require(d.is_final || name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_STATUS_NOT_INITIALIZED,
          "is not final");
  switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:  // of one engine
      require(type == CUDNN_TYPE_BACKEND_DESCRIPTOR, CUDNN_STATUS_BAD_PARAM, "type");
      if (requested > 0) {
        const auto config = find(*static_cast<cudnnBackendDescriptor_t*>(values));
        require(config->type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, CUDNN_STATUS_BAD_PARAM,
                "no place for a config");
        config->is_final = true;
        config->graph = d.one(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
      }
      return 1;
    case CUDNN_ATTR_ENGINECFG_ENGINE:
      if (requested > 0) find(*static_cast<cudnnBackendDescriptor_t*>(values))->is_final = true;
      return 1;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
      require(type == CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_STATUS_BAD_PARAM, "type");
      if (requested > 0)
        *static_cast<cudnnBackendNumericalNote_t*>(values) = CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
      return 1;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      require(type == CUDNN_TYPE_INT64 && requested == 1, CUDNN_STATUS_BAD_PARAM, "type");
      *static_cast<std::int64_t*>(values) =
          workspace_of(*d.one(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->graph);
      return 1;
    default:
      throw Failure{CUDNN_STATUS_NOT_SUPPORTED, "attribute"};
  }
}

void execute(cudnnHandle_t handle, const Descriptor& plan, const Descriptor& pack) {
  require(handle != nullptr, CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no handle");
  require(plan.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR && plan.is_final &&
              pack.type == CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR && pack.is_final,
          CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "not final");
  const std::shared_ptr<Descriptor> graph = plan.one(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->graph;
  const auto numbers = pack.numbers(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = pack.numbers(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  std::map<std::int64_t, void*> given;
  for (std::size_t i = 0; i < numbers.size(); ++i)
    require(given.emplace(numbers[i], reinterpret_cast<void*>(pointers[i])).second, CUDNN_STATUS_BAD_PARAM,
            "a tensor is given twice");
  auto* const workspace = reinterpret_cast<void*>(pack.numbers(CUDNN_ATTR_VARIANT_PACK_WORKSPACE).at(0));
  require(workspace != nullptr, CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no workspace");
  run(graph, given, workspace, static_cast<std::size_t>(workspace_of(*graph)), handle->stream);
}

template <typename F>
cudnnStatus_t guarded(const F& f) {
  try {
    f();
    return CUDNN_STATUS_SUCCESS;
  } catch (const Failure& failure) {
    last_error = failure.why;
    return failure.status;
  }
}

}  // namespace

}  // namespace cuda_emulation::cudnn

extern "C" {

using namespace cuda_emulation::cudnn;

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  *handle = new cudnnContext;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  delete handle;
  return CUDNN_STATUS_SUCCESS;
}
std::size_t cudnnGetVersion() {
  return 91900;
}
void cudnnGetLastErrorString(char* message, std::size_t max_size) {
  const std::size_t size = std::min(last_error.size(), max_size - 1);
  std::copy_n(last_error.data(), size, message);
  message[size] = 0;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
  *descriptor = hold(std::make_shared<Descriptor>(type));
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  const std::scoped_lock lock(mutex);
  return alive.erase(descriptor) == 1 ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  return guarded([&] { finalize(find(descriptor)); });
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, std::int64_t count,
                                       const void* values) {
  return guarded([&] {
    const auto d = find(descriptor);
    require(!d->is_final, CUDNN_STATUS_NOT_INITIALIZED, "is final already");
    const auto rule = rules().find(name);
    require(rule != rules().end() && rule->second.of == d->type, CUDNN_STATUS_BAD_PARAM,
            "no attribute of this");
    require(rule->second.type == type, CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "another type");
    require(count > 0 && values != nullptr, CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no values");
    Attribute set;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
      for (std::int64_t i = 0; i < count; ++i) {
        set.descriptors.push_back(find(static_cast<const cudnnBackendDescriptor_t*>(values)[i]));
        require(set.descriptors.back()->is_final, CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "not final");
      }
    } else {
      const std::size_t size = size_of(type);
      for (std::int64_t i = 0; i < count; ++i) {
        std::int64_t number = 0;
        std::memcpy(&number, static_cast<const char*>(values) + static_cast<std::size_t>(i) * size, size);
        set.numbers.push_back(number);
      }
    }
    d->attributes[name] = std::move(set);
  });
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, std::int64_t requested,
                                       std::int64_t* count, void* values) {
  return guarded([&] { *count = get_attribute(*find(descriptor), name, type, requested, values); });
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
  return guarded([&] { execute(handle, *find(plan), *find(pack)); });
}

}  // extern "C"
