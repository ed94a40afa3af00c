// matmul: the product with everything that may be added to it.
#pragma once

#include "kernels/cpu/fp8_kernels.h"
#include "kernels/cpu/matrix_kernels.h"
#include "kernels/cpu/product.h"

namespace hone::kernels::cpu {

/// Loads or stores n lanes, all of them without a mask.
template <class Isa, class S>
[[gnu::always_inline]] inline typename Isa::Vec load_lanes(const S* p, Index n) {
  return n == Isa::kLanes ? Isa::load(p) : Isa::load(p, n);
}
template <class Isa, class S>
[[gnu::always_inline]] inline void store_lanes(S* p, typename Isa::Vec v, Index n) {
  if (n == Isa::kLanes) {
    Isa::store(p, v);
  } else {
    Isa::store(p, v, n);
  }
}

/// Prefetches a panel's width.
template <class Isa, class S>
[[gnu::always_inline]] inline void prefetch_panel(const S* p) {
  const char* line = reinterpret_cast<const char*>(p);
  __builtin_prefetch(line);
  if (kPanel<Isa> * Index{sizeof(S)} > 64) __builtin_prefetch(line + 64);
}

/// Stores c = sum [+ bias] [+ residual] [+ c].
template <class Isa, class T, class C>
struct MatmulSink {
  C* c;
  Index stride;
  bool accumulate = false;
  bool stream = false;  // c goes past the caches: every panel of it must be aligned to 64 bytes
  const T* bias = nullptr;
  const float* residual_f32 = nullptr;  // at most one of the two
  const T* residual = nullptr;
  Index residual_stride = 0;

  [[gnu::always_inline]] bool direct(Index /*j*/, Index columns) const {
    return columns == kPanel<Isa> && !accumulate && bias == nullptr && residual_f32 == nullptr &&
           residual == nullptr;
  }
  [[gnu::always_inline]] TileOut<Isa, C> target(Index row, Index j) const {
    return {c + row * stride + j, stride, stream};
  }
  [[gnu::always_inline]] void prefetch(Index row, Index rows, Index j) const {
    for (Index i = row; i < row + rows; i++) {
      if (residual_f32 != nullptr) prefetch_panel<Isa>(residual_f32 + i * residual_stride + j);
      if (residual != nullptr) prefetch_panel<Isa>(residual + i * residual_stride + j);
      if (accumulate) prefetch_panel<Isa>(c + i * stride + j);
    }
  }
  void finish(Index row, Index rows, Index j, Index columns, float* tile) {
    for (Index h = 0; h < columns; h += Isa::kLanes) {
      const Index n = least(Isa::kLanes, columns - h), at = row * residual_stride + j + h;
      if (bias != nullptr) {
        const typename Isa::Vec v = load_lanes<Isa>(bias + j + h, n);
        for (Index i = 0; i < rows; i++) {
          float* sum = tile + i * kPanel<Isa> + h;
          Isa::store(sum, Isa::load(sum) + v);
        }
      }
      if (residual_f32 != nullptr) add<float>(tile + h, rows, residual_f32 + at, residual_stride, n);
      if (residual != nullptr) add<T>(tile + h, rows, residual + at, residual_stride, n);
      if (accumulate) add<C>(tile + h, rows, c + row * stride + j + h, stride, n);
    }
    for (Index i = 0; i < rows; i++) {
      C* out = c + (row + i) * stride + j;
      for (Index h = 0; h < columns; h += Isa::kLanes) {
        store_lanes<Isa>(out + h, Isa::load(tile + i * kPanel<Isa> + h), least(Isa::kLanes, columns - h));
      }
    }
  }

 private:
  template <class S>
  static void add(float* tile, Index rows, const S* from, Index from_stride, Index n) {
    for (Index i = 0; i < rows; i++, tile += kPanel<Isa>, from += from_stride) {
      Isa::store(tile, Isa::load(tile) + load_lanes<Isa>(from, n));
    }
  }
};

/// Whether panels of rows `stride` apart can go past the caches.
template <class C>
[[gnu::always_inline]] inline bool aligned_panels(const C* c, Index stride) {
  return reinterpret_cast<std::uintptr_t>(c) % 64 == 0 && stride * Index{sizeof(C)} % 64 == 0;
}
/// Results that nobody reads soon and of at least so many bytes go past the caches.
inline constexpr Index kStreamBytes = 1 << 20;

template <class Isa, class T, class C>
void matmul_as(const MatmulArgs& args, device::Stream& stream) {
  const Index m = args.c.rows, n = args.c.cols, k = args.transpose_a ? args.a.rows : args.a.cols;
  const auto* a = static_cast<const T*>(args.a.data);
  const auto* b = static_cast<const T*>(args.b.data);
  MatmulSink<Isa, T, C> sink{static_cast<C*>(args.c.data), args.c.stride};
  sink.accumulate = args.accumulate;
  if (args.has_bias) sink.bias = static_cast<const T*>(args.bias);
  if (args.residual.given() && args.residual.dtype == DType::kF32) {
    sink.residual_f32 = static_cast<const float*>(args.residual.data);
  } else if (args.residual.given()) {
    sink.residual = static_cast<const T*>(args.residual.data);
  }
  sink.residual_stride = args.residual.stride;
  // A product whose left operand is transposed is a weight's gradient: the optimizer reads it much later.
  sink.stream =
      args.transpose_a && m * n * Index{sizeof(C)} >= kStreamBytes && aligned_panels(sink.c, sink.stride);
  if (args.transpose_a) {
    const AcrossK<T> left{a, args.a.stride};
    if (args.transpose_b) {
      product<Isa, T>(left, AlongK<T>{b, args.b.stride}, m, n, k, sink, stream);
    } else {
      product<Isa, T>(left, AcrossK<T>{b, args.b.stride}, m, n, k, sink, stream);
    }
  } else {
    const AlongK<T> left{a, args.a.stride};
    if (args.transpose_b) {
      product<Isa, T>(left, AlongK<T>{b, args.b.stride}, m, n, k, sink, stream);
    } else {
      product<Isa, T>(left, AcrossK<T>{b, args.b.stride}, m, n, k, sink, stream);
    }
  }
}

template <class Isa>
void MatrixKernels<Isa>::matmul(const MatmulArgs& args, device::Stream& stream) {
  if (args.fp8) return Fp8Kernels<Isa>::matmul(args, stream);
  if (args.a.dtype == DType::kF32) {
    matmul_as<Isa, float, float>(args, stream);
  } else if (args.c.dtype == DType::kF32) {
    matmul_as<Isa, BFloat16, float>(args, stream);
  } else {
    matmul_as<Isa, BFloat16, BFloat16>(args, stream);
  }
}

}  // namespace hone::kernels::cpu
