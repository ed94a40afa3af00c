// Memory for kernel tests: random inputs, outputs that start as garbage, and guards around both.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace hone::test {

using device::Stream;
using kernels::KernelTable;
using kernels::Matrix;

/// One result of a kernel, as numbers and as bytes.
struct Output {
  std::string name;
  std::vector<double> values;
  std::vector<unsigned char> bytes;
  double tolerance = 0;
};
using Outputs = std::vector<Output>;

/// Where an arena's memory is: of the host, or (set by the tests of a device) what host and device reach.
struct ArenaMemory {
  void* (*take)(std::size_t size_bytes);
  void (*give_back)(void* memory);
  /// Returns when the device has done what it was told.
  void (*settle)();
  /// Says that no kernel may touch these bytes.
  void (*forbid)(const void* from, std::size_t size_bytes);
  /// Says that these bytes mean nothing until a kernel has written them.
  void (*forget)(const void* from, std::size_t size_bytes);
};
extern ArenaMemory arena_memory;

/// Allocates from arena_memory.
template <typename T>
struct ArenaAllocator {
  using value_type = T;
  T* allocate(std::size_t n) { return static_cast<T*>(arena_memory.take(n * sizeof(T))); }
  void deallocate(T* memory, std::size_t) { arena_memory.give_back(memory); }
  bool operator==(const ArenaAllocator&) const { return true; }
};

/// Hands out matrices and vectors and remembers which are results. The same sequence of calls gives the same
/// random numbers, so that two kernels see the same inputs.
class Arena {
 public:
  explicit Arena(unsigned seed = 1) : random_(seed) {}

  /// Normal numbers of the given scale; the elements between cols and the stride hold garbage.
  Matrix input(std::int64_t rows, std::int64_t cols, DType dtype, std::int64_t stride_pad = 0,
               double scale = 1);
  /// Garbage (NaN) to be overwritten, or normal numbers to be added to. Without a name it is no result, but
  /// filled on the host for a kernel to read.
  Matrix output(std::string name, std::int64_t rows, std::int64_t cols, DType dtype, bool accumulate,
                double tolerance, std::int64_t stride_pad = 0);
  /// A matrix that is read and written: starts with normal numbers, or with |them| where positive is set.
  Matrix inout(std::string name, std::int64_t rows, std::int64_t cols, DType dtype, double tolerance,
               bool positive = false);
  /// A vector of integers to read.
  std::int32_t* integers(const std::vector<std::int32_t>& values);
  /// A vector of integers to be written; compared exactly.
  std::int32_t* integer_output(std::string name, std::int64_t n);
  float* floats(const std::vector<double>& values);
  /// The step's scalars, read and written.
  kernels::StepScalars& scalars(const kernels::StepScalars& values);
  /// n numbers in [0, below), all different where asked for.
  std::vector<std::int32_t> random_indices(std::int64_t n, std::int64_t below, bool distinct);
  std::mt19937& random() { return random_; }

  /// The results. Fails the running test where a guard or the space between rows was written to.
  Outputs outputs() const;

 private:
  struct Block {
    std::string name;  // "" for an input
    Matrix matrix;
    bool integers = false;
    double tolerance = 0;
    std::vector<unsigned char, ArenaAllocator<unsigned char>> memory;
    std::vector<unsigned char> before;
  };
  Block& add(std::string name, std::int64_t rows, std::int64_t cols, DType dtype, std::int64_t stride_pad);
  static void keep(Block& block);    // what is there before the kernel
  static void forget(Block& block);  // what is there, if it is a result
  void fill_normal(const Matrix& m, double scale);
  std::mt19937 random_;
  std::deque<Block> blocks_;
  std::deque<std::vector<kernels::StepScalars, ArenaAllocator<kernels::StepScalars>>> scalars_;
};

/// Fails the running test where an output of `got` is further from `want` than its tolerance, in the norm or
/// (by a wider margin) in one element.
void expect_near(const Outputs& got, const Outputs& want, const std::string& what);
/// Fails the running test where a byte differs.
void expect_equal(const Outputs& got, const Outputs& want, const std::string& what);

double get(const Matrix& m, std::int64_t row, std::int64_t col);
void set(const Matrix& m, std::int64_t row, std::int64_t col, double value);
std::vector<double> values_of(const Matrix& m);

/// A stream on the CPU.
device::CpuStream make_stream(int threads);

}  // namespace hone::test
