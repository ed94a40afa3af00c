// What cudnn.cpp (descriptors) and cudnn_graph.cpp (graphs: what is taken, and what they compute) share.
#pragma once

#include <cudnn.h>

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace cuda_emulation::cudnn {

struct Failure {
  cudnnStatus_t status;
  std::string why;
};
inline void require(bool holds, cudnnStatus_t status, const std::string& why) {
  if (!holds) throw Failure{status, why};
}

struct Descriptor;
struct Attribute {
  std::vector<std::int64_t> numbers;  // enums, flags and pointers, too
  std::vector<std::shared_ptr<Descriptor>> descriptors;
};
struct Descriptor {
  explicit Descriptor(cudnnBackendDescriptorType_t of) : type(of) {}
  cudnnBackendDescriptorType_t type;
  bool is_final = false;
  std::map<cudnnBackendAttributeName_t, Attribute> attributes;
  std::shared_ptr<Descriptor> graph;  // of an engine's config

  bool has(cudnnBackendAttributeName_t name) const { return attributes.count(name) == 1; }
  std::vector<std::int64_t> numbers(cudnnBackendAttributeName_t name) const {
    return has(name) ? attributes.at(name).numbers : std::vector<std::int64_t>{};
  }
  std::int64_t number(cudnnBackendAttributeName_t name, std::int64_t otherwise = 0) const {
    return has(name) ? attributes.at(name).numbers.at(0) : otherwise;
  }
  std::shared_ptr<Descriptor> one(cudnnBackendAttributeName_t name) const {
    return has(name) ? attributes.at(name).descriptors.at(0) : nullptr;
  }
};

using Dims = std::array<std::int64_t, 4>;
struct Tensor {
  std::int64_t number = 0, alignment = 0;
  cudnnDataType_t dtype = CUDNN_DATA_FLOAT;
  Dims dims{}, strides{};
  bool is_virtual = false, is_by_value = false;
  std::shared_ptr<Descriptor> offsets;
};
Tensor tensor_of(const Descriptor& d);

/// Of any graph: operations, each tensor one thing, virtual ones made before they are read.
void check_graph(const Descriptor& graph);
/// What the engine of attention takes.
void check_attention(const Descriptor& graph);
std::int64_t sequences_of(const Descriptor& graph);

/// Puts a graph into a stream; tensors by their numbers.
void run(const std::shared_ptr<Descriptor>& graph, const std::map<std::int64_t, void*>& given,
         void* workspace, std::size_t workspace_bytes, cudaStream_t stream);

}  // namespace cuda_emulation::cudnn
