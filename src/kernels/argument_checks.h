// How the arguments of a kernel are checked, for validate_*.cpp.
#pragma once

#include <cmath>
#include <initializer_list>
#include <string_view>

#include "base/error.h"
#include "kernels/kernels.h"

namespace hone::kernels {

/// Whether two matrices share an element. Columns side by side of one matrix do not.
inline bool overlap(const Matrix& a, const Matrix& b) {
  if (a.data == nullptr || b.data == nullptr || a.rows == 0 || b.rows == 0) return false;
  struct Bytes {
    explicit Bytes(const Matrix& m)
        : size(static_cast<std::int64_t>(size_of(m.dtype))),
          begin(reinterpret_cast<std::intptr_t>(m.data)),
          row(m.cols * size),
          step(m.stride * size),
          end(begin + (m.rows - 1) * step + row) {}
    std::int64_t size, begin, row, step, end;
  };
  const Bytes x(a), y(b);
  if (x.end <= y.begin || y.end <= x.begin) return false;
  if (x.step != y.step || x.step == 0) return true;
  const std::int64_t apart = ((y.begin - x.begin) % x.step + x.step) % x.step;
  return apart < x.row || apart + y.row > x.step;
}

struct Named {
  std::string_view name;
  Matrix matrix;
};

/// The checks of one kernel's arguments.
class Arguments {
 public:
  template <typename Args>
  explicit Arguments(const Args&) : slot_(slot_of<Args>().name) {}

  void stored(std::string_view name, DType got) const {
    HONE_CHECK(got == DType::kF32 || got == DType::kBF16, "[kernels.{}] {} is {}, wanted f32 or bf16", slot_,
               name, name_of(got));
  }
  void same(std::string_view name, DType got, DType wanted) const {
    HONE_CHECK(got == wanted, "[kernels.{}] {} is {}, wanted {}", slot_, name, name_of(got), name_of(wanted));
  }
  void f32_or(std::string_view name, DType got, DType t) const {
    HONE_CHECK(got == DType::kF32 || got == t, "[kernels.{}] {} is {}, wanted f32 or {}", slot_, name,
               name_of(got), name_of(t));
  }
  void shape(std::string_view name, const Matrix& m, std::int64_t rows, std::int64_t cols) const {
    HONE_CHECK(m.rows == rows && m.cols == cols && rows >= 0 && cols >= 0 && (m.stride >= cols || rows <= 1),
               "[kernels.{}] {} is ({}, {}) with rows {} apart, wanted ({}, {})", slot_, name, m.rows, m.cols,
               m.stride, rows, cols);
  }
  void as(std::string_view name, const Matrix& m, const Matrix& other) const {
    shape(name, m, other.rows, other.cols);
  }
  void as_or_left_out(std::string_view name, const Matrix& m, const Matrix& other) const {
    if (m.given()) as(name, m, other);
  }
  void holds(bool condition, std::string_view what) const {
    HONE_CHECK(condition, "[kernels.{}] {}", slot_, what);
  }
  void sizes(std::initializer_list<std::int64_t> all) const {
    for (const auto n : all) HONE_CHECK(n >= 0, "[kernels.{}] a size is {}", slot_, n);
  }
  void number(std::string_view name, float got, float least, float below) const {
    HONE_CHECK(got >= least && got < below, "[kernels.{}] {} is {}", slot_, name, got);
  }
  /// A flag and its pointer agree. `operand`: one that is always there; null on the meta device.
  void flagged(std::string_view name, bool flag, const void* pointer, const void* operand) const {
    HONE_CHECK(flag || pointer == nullptr, "[kernels.{}] {} is given, its flag is not", slot_, name);
    HONE_CHECK(!flag || pointer != nullptr || operand == nullptr, "[kernels.{}] {} is null, its flag is set",
               slot_, name);
  }
  void apart(const Named& out, std::initializer_list<Named> others) const {
    for (const Named& other : others)
      HONE_CHECK(!overlap(out.matrix, other.matrix), "[kernels.{}] {} shares memory with {}", slot_, out.name,
                 other.name);
  }
  /// The same, but that the result may lie just where the operand does.
  void apart_or_in_place(const Named& out, const Named& other) const {
    const Matrix &a = out.matrix, &b = other.matrix;
    if (a.data == b.data && a.dtype == b.dtype && (a.stride == b.stride || a.rows <= 1)) return;
    apart(out, {other});
  }

 private:
  std::string_view slot_;
};

inline Matrix dense(const void* data, DType dtype, std::int64_t rows, std::int64_t cols) {
  return {const_cast<void*>(data), dtype, rows, cols, cols};
}

inline constexpr float kAny = INFINITY;  // above every number that is one

}  // namespace hone::kernels
