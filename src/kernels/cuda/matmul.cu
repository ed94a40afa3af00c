// Dense products: those of a linear layer in FP8 by the tensor cores for it where there are such
// (rows_e4m3.cuh); of others large ones by cuBLASLt where there is one, the rest by our own tiles. Few tiles
// with a long k are cut along k: each part's sums go to scratch memory, and are added in the order of k.
#include "kernels/cuda/matmul.h"

#include <algorithm>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/fp8.h"
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/hopper_path.h"
#include "kernels/cuda/rows_e4m3.cuh"

namespace hone::kernels::cuda {
namespace {

/// Blocks: x a tile (eight tile rows go along all columns together, so that what they read stays in L2), y a
/// part of k, whose sums go to partial + y * rows * columns where there are several.
template <typename Shape, bool kTransposeA, bool kTransposeB, bool kVectors>
__global__ void __launch_bounds__(Shape::kTileThreads)
    matmul_tiles(DenseLines<typename Shape::Number, kVectors> a,
                 DenseLines<typename Shape::Number, kVectors> b, Output out, float* partial, Index k,
                 Index k_of_part) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(unsigned char, memory);
  constexpr Index kGroup = 8;
  const Index tile_rows = ceil_div(out.rows, Shape::kRows),
              tile_columns = ceil_div(out.columns, Shape::kColumns);
  const Index group = blockIdx.x / (kGroup * tile_columns), in_group = blockIdx.x % (kGroup * tile_columns);
  const Index left = tile_rows - group * kGroup, of_group = left < kGroup ? left : kGroup;
  const Index row = (group * kGroup + in_group % of_group) * Shape::kRows;
  const Index column = in_group / of_group * Shape::kColumns;
  const Index begin = blockIdx.y * k_of_part, end = begin + k_of_part < k ? begin + k_of_part : k;
  if (gridDim.y > 1) {
    partial += blockIdx.y * out.rows * out.columns;
    out.c = {partial, out.columns, false, out.columns % 4 == 0};
    out.bias.data = out.residual.data = nullptr;
    out.accumulate = false;
  }
  tile_product<Shape, !kTransposeA, kTransposeB>(
      a, b, TileOf{row, out.rows, column, out.columns, begin, end}, memory,
      [&](int r, int c, float(&v)[kPack]) { out.put_at(row + r, column + c, v); });
}

/// The sums of all parts, in their order; a thread has a pack of a row.
__global__ void matmul_sum_parts(const float* partial, int parts, Output out) {
  begin_kernel();
  const Index packs = ceil_div(out.columns, kPack);
  const Index thread = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  const Index row = thread / packs, col = thread % packs * kPack;
  if (row >= out.rows) return;
  const bool vectors = out.columns % 4 == 0;
  float sum[kPack] = {}, v[kPack];
  for (int part = 0; part < parts; ++part) {
    load(partial + (part * out.rows + row) * out.columns + col, out.columns - col, vectors, v);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum[i] += v[i];
  }
  out.put_at(row, col, sum);
}

template <typename Shape, bool kTransposeA, bool kTransposeB, bool kVectors>
void launch_tiles(const MatmulArgs& a, const ProductCut& cut, const Output& out, float* partial,
                  cudaStream_t stream) {
  using T = typename Shape::Number;
  const Index tiles = ceil_div(cut.m, Shape::kRows) * ceil_div(cut.n, Shape::kColumns);
  HONE_LAUNCH((matmul_tiles<Shape, kTransposeA, kTransposeB, kVectors>),
              dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(cut.parts)), Shape::kTileThreads,
              (tile_bytes<Shape, !kTransposeA, kTransposeB>()), stream,
              DenseLines<T, kVectors>{static_cast<const T*>(a.a.data), a.a.stride},
              DenseLines<T, kVectors>{static_cast<const T*>(a.b.data), a.b.stride}, out, partial, cut.k,
              cut.k_of_part);
}

template <typename Shape>
void with_layout(const MatmulArgs& a, const ProductCut& cut, const Output& out, float* partial,
                 cudaStream_t stream) {
  const bool vectors = has_vectors(a.a) && has_vectors(a.b);
  const auto go = [&](auto transpose_a, auto transpose_b) {
    constexpr bool kA = decltype(transpose_a)::value, kB = decltype(transpose_b)::value;
    if (vectors)
      launch_tiles<Shape, kA, kB, true>(a, cut, out, partial, stream);
    else
      launch_tiles<Shape, kA, kB, false>(a, cut, out, partial, stream);
  };
  using Yes = std::true_type;
  using No = std::false_type;
  if (a.transpose_a)
    a.transpose_b ? go(Yes{}, Yes{}) : go(Yes{}, No{});
  else
    a.transpose_b ? go(No{}, Yes{}) : go(No{}, No{});
}

Fp8Order order_of(const MatmulArgs& a) {
  return a.transpose_b ? Fp8Order::kRows : Fp8Order::kColumns;
}
std::int64_t coded_rows_bytes(const MatmulArgs& a) {
  return fp8_rows_bytes(a.c.rows, depth_of(a), 1);
}
/// The coded operands of e4m3_refusal's products.
std::int64_t coded_bytes(const MatmulArgs& a) {
  if (*e4m3_refusal(a) != '\0') return 0;
  return coded_rows_bytes(a) + fp8_lines_bytes(1, 1, a.b.rows, a.b.cols, order_of(a));
}
void multiply_coded(const MatmulArgs& a, const Output& out, int multiprocessors, Stream& stream,
                    void* scratch) {
  auto* lines_at = static_cast<unsigned char*>(scratch) + coded_rows_bytes(a);
  const Fp8Rows rows = encode_fp8_rows(a.a, 1, scratch, stream);
  const Fp8Lines lines = encode_fp8_lines(a.b.data, a.b.dtype, a.b.stride, 1, 1, a.b.rows, a.b.cols,
                                          order_of(a), lines_at, stream);
  const RowProduct all{nullptr, 1, a.c.rows, depth_of(a), a.c.cols};
  launch_row_e4m3<false>({rows, nullptr, 1}, lines, all, PutRows{out}, multiprocessors, cuda_stream(stream));
}

/// The bytes of the rounded copies of operands; the product's own scratch memory follows.
std::int64_t rounded_bytes(const MatmulArgs& a) {
  return a.fp8 ? fp8_copy_bytes(a.a) + fp8_copy_bytes(a.b) : 0;
}
/// The product of the same operands rounded, which it puts into the stream before.
MatmulArgs with_rounded(const MatmulArgs& a, Stream& stream, void* memory) {
  MatmulArgs rounded = a;
  rounded.fp8 = false;
  rounded.a = fp8_copy_at(a.a, memory);
  rounded.b = fp8_copy_at(a.b, static_cast<unsigned char*>(memory) + fp8_copy_bytes(a.a));
  round_fp8(a.a, rounded.a, Fp8Blocks::kAlongRows, stream);
  round_fp8(a.b, rounded.b, Fp8Blocks::kSquares, stream);
  return rounded;
}

}  // namespace

std::int64_t scratch_bytes_of(const MatmulArgs& a) {
  const ProductCut cut = cut_of(a);
  const std::int64_t own =
      cut.parts > 1 ? cut.parts * cut.m * cut.n * static_cast<std::int64_t>(sizeof(float)) : 0;
  const std::int64_t plain = rounded_bytes(a) + std::max(own, is_for_vendor(a) ? kVendorScratchBytes : 0);
  return std::max(plain, coded_bytes(a));  // of either path
}

void matmul(const MatmulArgs& a, Stream& stream, void* scratch) {
  const ProductCut cut = cut_of(a);
  if (cut.m == 0 || cut.n == 0) return;
  Output out{either(a.c), {}, either(a.residual), cut.m, cut.n, a.accumulate};
  if (a.has_bias) out.bias = either({const_cast<void*>(a.bias), a.a.dtype, 1, cut.n, 0});
  const device::CudaCard& card = device::card_of(stream);
  if (*e4m3_refusal(a) == '\0' && why_not_hopper(card).empty())
    return multiply_coded(a, out, card.multiprocessors, stream, scratch);
  if (a.fp8)
    return matmul(with_rounded(a, stream, scratch), stream,
                  static_cast<unsigned char*>(scratch) + rounded_bytes(a));
  if (is_for_vendor(a) && vendor_matmul(a, stream, scratch)) return;
  auto* partial = static_cast<float*>(scratch);
  const cudaStream_t queue = cuda_stream(stream);
  check_row_dtype(a.a.dtype);
  if (a.a.dtype == DType::kF32)
    with_layout<SmallTile<float>>(a, cut, out, partial, queue);
  else if (cut.large)
    with_layout<LargeTile>(a, cut, out, partial, queue);
  else
    with_layout<SmallTile<__nv_bfloat16>>(a, cut, out, partial, queue);
  if (cut.parts > 1)
    HONE_LAUNCH(matmul_sum_parts, blocks_for(cut.m * ceil_div(cut.n, kPack)), kThreads, 0, queue, partial,
                static_cast<int>(cut.parts), out);
}

void matmul(const MatmulArgs& a, Stream& stream) {
  const std::int64_t bytes = scratch_bytes_of(a);
  matmul(a, stream, bytes > 0 ? stream.shared_workspace(static_cast<std::size_t>(bytes)) : nullptr);
}

}  // namespace hone::kernels::cuda
