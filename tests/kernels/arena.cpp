#include "tests/kernels/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "tests/tolerance.h"

namespace hone::test {

namespace {

constexpr std::size_t kGuard = 128;
constexpr unsigned char kGarbage = 0xff;              // as f32 and bf16: not a number
constexpr std::int32_t kIntegerGarbage = 0x5a5a5a5a;  // -1 is a result

std::size_t element_size(const Matrix& m) {
  return size_of(m.dtype);
}

}  // namespace

ArenaMemory arena_memory{[](std::size_t size) { return ::operator new(size); },
                         [](void* memory) { ::operator delete(memory); }, [] {},
                         [](const void*, std::size_t) {}, [](const void*, std::size_t) {}};

double get(const Matrix& m, std::int64_t row, std::int64_t col) {
  const std::int64_t i = row * m.stride + col;
  if (m.dtype == DType::kF64) return static_cast<double*>(m.data)[i];
  return m.dtype == DType::kBF16 ? static_cast<double>(static_cast<float>(static_cast<BFloat16*>(m.data)[i]))
                                 : static_cast<double>(static_cast<float*>(m.data)[i]);
}

void set(const Matrix& m, std::int64_t row, std::int64_t col, double value) {
  const std::int64_t i = row * m.stride + col;
  if (m.dtype == DType::kBF16)
    static_cast<BFloat16*>(m.data)[i] = BFloat16(static_cast<float>(value));
  else
    static_cast<float*>(m.data)[i] = static_cast<float>(value);
}

std::vector<double> values_of(const Matrix& m) {
  std::vector<double> values;
  values.reserve(static_cast<std::size_t>(m.rows * m.cols));
  for (std::int64_t i = 0; i < m.rows; ++i)
    for (std::int64_t j = 0; j < m.cols; ++j) values.push_back(get(m, i, j));
  return values;
}

device::CpuStream make_stream(int threads) {
  return {device::make_allocator({}), threads};
}

Arena::Block& Arena::add(std::string name, std::int64_t rows, std::int64_t cols, DType dtype,
                         std::int64_t stride_pad) {
  Block& block = blocks_.emplace_back();
  block.name = std::move(name);
  const std::int64_t stride = cols + stride_pad;
  const std::size_t bytes = static_cast<std::size_t>(rows * stride) * size_of(dtype);
  block.memory.assign(bytes + 2 * kGuard + 64, kGarbage);
  // Aligned as the allocator aligns, so that kernels take the same path as in a run.
  const auto address = reinterpret_cast<std::uintptr_t>(block.memory.data()) + kGuard;
  block.matrix = {reinterpret_cast<void*>((address + 63) / 64 * 64), dtype, rows, cols, stride};
  // Kernels have the matrix alone: not the guards, nor what lies between two rows.
  const auto* begin = block.memory.data();
  for (std::int64_t i = 0; i <= rows; ++i) {
    const auto* next = i < rows ? static_cast<const unsigned char*>(block.matrix.data) +
                                      static_cast<std::size_t>(i * stride) * size_of(dtype)
                                : block.memory.data() + block.memory.size();
    if (next > begin) arena_memory.forbid(begin, static_cast<std::size_t>(next - begin));
    begin = next + static_cast<std::size_t>(cols) * size_of(dtype);
  }
  return block;
}

void Arena::fill_normal(const Matrix& m, double scale) {
  // A sweep makes the inputs of a case 21 times in a row: the numbers drawn last are kept, with what was
  // drawn from before and after. (Else they are half of its time.)
  struct Drawn {
    std::mt19937 before, after;
    double scale;
    std::vector<double> numbers;
  };
  static std::deque<Drawn> drawn;
  const auto count = static_cast<std::size_t>(m.rows * m.cols);
  auto it = std::find_if(drawn.begin(), drawn.end(), [&](const Drawn& d) {
    return d.numbers.size() == count && d.scale == scale && d.before == random_;
  });
  if (it == drawn.end()) {
    if (drawn.size() == 32) drawn.pop_back();
    it = drawn.insert(drawn.begin(), {random_, random_, scale, std::vector<double>(count)});
    std::normal_distribution<double> normal(0, scale);
    for (double& x : it->numbers) x = normal(it->after);
  }
  random_ = it->after;
  const double* next = it->numbers.data();
  for (std::int64_t i = 0; i < m.rows; ++i)
    for (std::int64_t j = 0; j < m.cols; ++j) set(m, i, j, *next++);
}

Matrix Arena::input(std::int64_t rows, std::int64_t cols, DType dtype, std::int64_t stride_pad,
                    double scale) {
  Block& block = add("", rows, cols, dtype, stride_pad);
  fill_normal(block.matrix, scale);
  keep(block);
  return block.matrix;
}

Matrix Arena::output(std::string name, std::int64_t rows, std::int64_t cols, DType dtype, bool accumulate,
                     double tolerance, std::int64_t stride_pad) {
  Block& block = add(std::move(name), rows, cols, dtype, stride_pad);
  block.tolerance = tolerance;
  if (accumulate) fill_normal(block.matrix, 1);
  keep(block);
  if (!accumulate) forget(block);
  return block.matrix;
}

Matrix Arena::inout(std::string name, std::int64_t rows, std::int64_t cols, DType dtype, double tolerance,
                    bool positive) {
  Block& block = add(std::move(name), rows, cols, dtype, 0);
  block.tolerance = tolerance;
  fill_normal(block.matrix, 1);
  if (positive)
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) set(block.matrix, i, j, std::fabs(get(block.matrix, i, j)));
  keep(block);
  return block.matrix;
}

std::int32_t* Arena::integers(const std::vector<std::int32_t>& values) {
  Block& block = add("", 1, static_cast<std::int64_t>(values.size()), DType::kI32, 0);
  block.integers = true;
  std::copy(values.begin(), values.end(), static_cast<std::int32_t*>(block.matrix.data));
  keep(block);
  return static_cast<std::int32_t*>(block.matrix.data);
}

std::int32_t* Arena::integer_output(std::string name, std::int64_t n) {
  Block& block = add(std::move(name), 1, n, DType::kI32, 0);
  block.integers = true;
  if (!block.name.empty()) std::fill_n(static_cast<std::int32_t*>(block.matrix.data), n, kIntegerGarbage);
  keep(block);
  forget(block);
  return static_cast<std::int32_t*>(block.matrix.data);
}

float* Arena::floats(const std::vector<double>& values) {
  Block& block = add("", 1, static_cast<std::int64_t>(values.size()), DType::kF32, 0);
  for (std::size_t j = 0; j < values.size(); ++j)
    set(block.matrix, 0, static_cast<std::int64_t>(j), values[j]);
  keep(block);
  return static_cast<float*>(block.matrix.data);
}

kernels::StepScalars& Arena::scalars(const kernels::StepScalars& values) {
  return scalars_.emplace_back(1, values).front();
}

void Arena::keep(Block& block) {
  block.before.assign(block.memory.begin(), block.memory.end());
}

void Arena::forget(Block& block) {
  const Matrix& m = block.matrix;
  const std::size_t size = element_size(m);
  for (std::int64_t i = 0; i < m.rows && !block.name.empty(); ++i)
    arena_memory.forget(
        static_cast<const unsigned char*>(m.data) + static_cast<std::size_t>(i * m.stride) * size,
        static_cast<std::size_t>(m.cols) * size);
}

std::vector<std::int32_t> Arena::random_indices(std::int64_t n, std::int64_t below, bool distinct) {
  std::vector<std::int32_t> indices(static_cast<std::size_t>(distinct ? below : n));
  if (distinct) {
    std::iota(indices.begin(), indices.end(), 0);
    std::shuffle(indices.begin(), indices.end(), random_);
    indices.resize(static_cast<std::size_t>(n));
  } else {
    std::uniform_int_distribution<std::int32_t> draw(0, static_cast<std::int32_t>(below - 1));
    for (auto& index : indices) index = draw(random_);
  }
  return indices;
}

Outputs Arena::outputs() const {
  arena_memory.settle();
  Outputs outputs;
  for (const Block& block : blocks_) {
    const Matrix& m = block.matrix;
    // Outside the matrix, nothing may have changed; of an input, nothing at all.
    std::vector<unsigned char> expected = block.before;
    const auto* base = block.memory.data();
    Output output{block.name, {}, {}, block.tolerance};
    for (std::int64_t i = 0; i < m.rows && !block.name.empty(); ++i) {
      const auto* row = static_cast<const unsigned char*>(m.data) +
                        static_cast<std::size_t>(i * m.stride) * element_size(m);
      const std::size_t size = static_cast<std::size_t>(m.cols) * element_size(m);
      std::memcpy(expected.data() + (row - base), row, size);
      output.bytes.insert(output.bytes.end(), row, row + size);
    }
    EXPECT_TRUE(std::ranges::equal(expected, block.memory))
        << (block.name.empty() ? "an input" : block.name) << ": written outside of it";
    if (block.name.empty()) continue;
    if (block.integers) {
      const auto* values = static_cast<const std::int32_t*>(m.data);
      output.values.assign(values, values + m.cols);
    } else {
      output.values = values_of(m);
    }
    outputs.push_back(std::move(output));
  }
  return outputs;
}

void expect_near(const Outputs& got, const Outputs& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const Output &a = got[i], &b = want[i];
    ASSERT_EQ(a.values.size(), b.values.size()) << what << " " << a.name;
    const double distance = relative_distance(a.values, b.values);
    EXPECT_TRUE(distance <= b.tolerance)  // not EXPECT_LE: a NaN must fail
        << what << ": " << a.name << " is off by " << distance << ", may be " << b.tolerance;
    // the scale of one element: of those that are something (an expert without tokens has gradients of 0)
    double squares = 0, count = 0;
    for (const double x : b.values) {
      squares += x * x;
      count += x != 0 ? 1 : 0;
    }
    const double rms = count > 0 ? std::sqrt(squares / count) : 0;
    for (std::size_t j = 0; j < a.values.size(); ++j) {
      const double allowed = 8 * b.tolerance * (std::fabs(b.values[j]) + rms);
      if (std::fabs(a.values[j] - b.values[j]) <= allowed) continue;
      ADD_FAILURE() << what << ": " << a.name << "[" << j << "] is " << a.values[j] << ", not "
                    << b.values[j];
      break;
    }
  }
}

void expect_equal(const Outputs& got, const Outputs& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_TRUE(got[i].bytes == want[i].bytes) << what << ": the bits of " << got[i].name << " differ";
}

}  // namespace hone::test
