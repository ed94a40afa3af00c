// matmul of operands in FP8: rounded copies of them, then the product as it is of any numbers.
#pragma once

#include "kernels/cpu/carver.h"
#include "kernels/cpu/fp8.h"
#include "kernels/cpu/fp8_kernels.h"
#include "kernels/cpu/matrix_kernels.h"

namespace hone::kernels::cpu {

template <class Isa, class T>
void matmul_in_fp8(const MatmulArgs& args, device::Stream& stream) {
  MatmulArgs rounded = args;
  const auto carve = [&](Carver & carver) __attribute__((always_inline)) {
    for (Matrix* m : {&rounded.a, &rounded.b}) {
      m->data = carver.take<T>(m->rows * padded<T>(m->cols));
      m->stride = padded<T>(m->cols);
    }
    return carver.used();
  };
  Carver count(nullptr);
  Carver carver(stream.shared_workspace(static_cast<std::size_t>(carve(count))));
  carve(carver);
  if (!stream.is_meta()) {
    const auto round = [&](const Matrix& from, const Matrix& to, Fp8Blocks blocks) {
      round_fp8<Isa, T>(static_cast<const T*>(from.data), from.stride, from.rows, from.cols, blocks,
                        static_cast<T*>(to.data), to.stride, stream);
    };
    round(args.a, rounded.a, Fp8Blocks::kAlongRows);
    round(args.b, rounded.b, Fp8Blocks::kSquares);
  }
  rounded.fp8 = false;
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
