// The sizes of a tensor's dimensions, outermost first.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace hone {

/// A list of non-negative dimension sizes. An empty list is a scalar.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) : dims_(dims) {}
  explicit Shape(std::vector<std::int64_t> dims) : dims_(std::move(dims)) {}

  int rank() const { return static_cast<int>(dims_.size()); }
  /// Size of dimension i; negative i counts from the end. Throws on an index out of range.
  std::int64_t operator[](int i) const;
  const std::vector<std::int64_t>& dims() const { return dims_; }
  /// Product of the dimensions (1 for a scalar).
  std::int64_t numel() const;
  /// "(2, 3)"; "()" for a scalar.
  std::string str() const;
  bool operator==(const Shape&) const = default;

 private:
  std::vector<std::int64_t> dims_;
};

}  // namespace hone
