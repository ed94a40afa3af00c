// matmul of operands in FP8: rounded copies of them, then the product as it is of any numbers.
#pragma once

#include "kernels/cpu/carver.h"
#include "kernels/cpu/fp8.h"
#include "kernels/cpu/fp8_kernels.h"
#include "kernels/cpu/matrix_kernels.h"

namespace hone::kernels::cpu {

/// k_down: k runs down its columns.
[[gnu::always_inline]] inline Fp8Blocks fp8_blocks_of(Rounding rounding, bool k_down) {
  if (rounding == Rounding::kFp8Squares) return Fp8Blocks::kSquares;
  return k_down ? Fp8Blocks::kDownColumns : Fp8Blocks::kAlongRows;
}

template <class Isa, class T>
void matmul_in_fp8(const MatmulArgs& args, device::Stream& stream) {
  MatmulArgs rounded = args;
  const auto carve = [&](Carver & carver) __attribute__((always_inline)) {
    const auto copy = [&](Matrix & m, Rounding rounding) __attribute__((always_inline)) {
      if (rounding == Rounding::kNone) return;
      m.data = carver.take<T>(m.rows * padded<T>(m.cols));
      m.stride = padded<T>(m.cols);
    };
    copy(rounded.a, args.round_a);
    copy(rounded.b, args.round_b);
    return carver.used();
  };
  Carver count(nullptr);
  Carver carver(stream.shared_workspace(static_cast<std::size_t>(carve(count))));
  carve(carver);
  if (!stream.is_meta()) {
    const auto round = [&](const Matrix& from, const Matrix& to, Rounding rounding, bool k_down) {
      if (rounding == Rounding::kNone) return;
      round_fp8<Isa, T>(static_cast<const T*>(from.data), from.stride, from.rows, from.cols,
                        fp8_blocks_of(rounding, k_down), static_cast<T*>(to.data), to.stride, stream);
    };
    round(args.a, rounded.a, args.round_a, args.transpose_a);
    round(args.b, rounded.b, args.round_b, !args.transpose_b);
  }
  rounded.round_a = rounded.round_b = Rounding::kNone;
  MatrixKernels<Isa>::matmul(rounded, stream);
}

template <class Isa>
void Fp8Kernels<Isa>::matmul(const MatmulArgs& args, device::Stream& stream) {
  if (args.a.dtype == DType::kF32) {
    matmul_in_fp8<Isa, float>(args, stream);
  } else {
    matmul_in_fp8<Isa, BFloat16>(args, stream);
  }
}

}  // namespace hone::kernels::cpu
