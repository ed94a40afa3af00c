// The gradients of the experts of one layer. Of every row: d activation = dy down, and from it and the kept
// pre-activation at once d pre-activation, the weighted activation and the routing weight's gradient, which
// is <d activation, activation>; then dx = d pre-activation gate_up, and the weights' gradients over the rows
// of each expert.
#include <algorithm>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/expert_weights_hopper.cuh"
#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/fp8.h"
#include "kernels/cuda/hopper_path.h"
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows_e4m3.cuh"
#include "kernels/cuda/squares.cuh"

namespace hone::kernels::cuda {
namespace {

constexpr int kDotColumns = 32;  // ffn columns whose part of <d activation, activation> is one number

/// What becomes of d activation, a row's 8 columns at a time.
template <typename T>
struct ActivationGrad {
  const T* pre;   // (capacity, parts * ffn)
  T* dpre;        // the same; may be null
  T* activation;  // (capacity, ffn): weight * f(gate) * up; may be null
  float* dots;    // (capacity, dot_groups); may be null
  const float* weights;
  const std::int32_t* permutation;
  Index ffn, dot_groups;
  bool gated, vectors;
  Activation kind;
  float alpha, limit;

  __device__ __forceinline__ auto of(const ExpertRows& rows, Index first_column) const {
    return [*this, rows, first_column](int r, int c, float(&v)[kPack]) {
      const Index row = rows.first + r, j = first_column + c, n = ffn - j, inner = gated ? 2 * ffn : ffn;
      const bool there = row < rows.end && n > 0;
      float dot = 0;
      if (there) {
        float gate[kPack], up[kPack] = {1, 1, 1, 1, 1, 1, 1, 1}, h[kPack];
        load(pre + row * inner + j, n, vectors, gate);
        if (gated) load(pre + row * inner + ffn + j, n, vectors, up);
        const float weight = weights[permutation[row]];
        with_activation(kind, [&](auto k) {
#pragma unroll
          for (int i = 0; i < kPack; ++i) {
            const Activated a = activate<decltype(k)::value>(gate[i], up[i], alpha, limit);
            const float d = i < n ? v[i] : 0.0F;  // past the end the product has no number of its own
            dot = fmaf(d, a.value, dot);
            h[i] = weight * a.value;
            gate[i] = weight * d * a.of_gate;
            up[i] = weight * d * a.of_up;
          }
        });
        if (activation != nullptr) store(activation + row * ffn + j, n, vectors, h);
        if (dpre != nullptr) store(dpre + row * inner + j, n, vectors, gate);
        if (dpre != nullptr && gated) store(dpre + row * inner + ffn + j, n, vectors, up);
      }
      if (dots == nullptr) return;
      // four lanes have 32 columns of a row
      dot += __shfl_xor_sync(0xffffffffU, dot, 1);
      dot += __shfl_xor_sync(0xffffffffU, dot, 2);
      if (there && threadIdx.x % 4 == 0) dots[row * dot_groups + j / kDotColumns] = dot;
    };
  }
};

/// dweights of a pair: the sum of its row's dots [+ <dy, its expert's bias>]; 0 where it goes nowhere. A warp
/// a pair.
template <typename T, typename D>
__global__ void expert_weight_dots(const float* dots, Index dot_groups, Rows<const D> dy, const T* bias,
                                   Index hidden, const std::int32_t* inverse, const std::int32_t* offsets,
                                   int experts, int top_k, Index pairs, float* dweights) {
  begin_kernel();
  const Index pair = (static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (pair >= pairs) return;
  const Index row = inverse[pair];
  float sum = 0;
  if (row >= 0) {
    for (Index i = lane; i < dot_groups; i += 32) sum += dots[row * dot_groups + i];
    if (bias != nullptr) {
      int low = 0, high = experts;  // the last expert that begins at or before the row, of those with rows
      while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (offsets[middle] <= row)
          low = middle;
        else
          high = middle;
      }
      float product = 0;
      for (Index j = lane; j < hidden; j += 32)
        product = fmaf(to_float(*dy.at(pair / top_k, j)), to_float(bias[low * hidden + j]), product);
      sum += product;
    }
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, lanes);
  if (lane == 0) dweights[pair] = sum;
}

/// Of each expert e (block z): c_e = [c_e +] a^T b over its rows. a: (rows, c's rows), b: (rows, c's
/// columns), T. squares: of each block, in order; may be null.
template <typename Shape, bool kVectors>
__global__ void __launch_bounds__(Shape::kTileThreads)
    expert_weight_tiles(DenseLines<typename Shape::Number, kVectors> a,
                        DenseLines<typename Shape::Number, kVectors> b, const std::int32_t* offsets,
                        Output out, double* squares) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(unsigned char, memory);
  const Index expert = blockIdx.z;
  const Index row = static_cast<Index>(blockIdx.y) * Shape::kRows;
  const Index column = static_cast<Index>(blockIdx.x) * Shape::kColumns;
  out.c = out.c.from_row(expert * out.rows);
  double sum = 0;
  tile_product<Shape, false, false>(
      a, b, TileOf{row, out.rows, column, out.columns, offsets[expert], offsets[expert + 1]}, memory,
      [&](int r, int c, float(&v)[kPack]) {
        out.put_at(row + r, column + c, v);
        if (squares != nullptr) sum += squares_of_put(out, row + r, column + c, v);
      });
  if (squares == nullptr) return;
  sum = block_sum(sum);
  if (threadIdx.x == 0) squares[(expert * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

/// Of each expert (block x) and matrix (block y): the sum of its parts.
__global__ void sum_square_parts(SquareParts first, SquareParts second) {
  begin_kernel();
  const SquareParts mine = blockIdx.y == 0 ? first : second;
  const double* parts = mine.parts + blockIdx.x * mine.of_expert;
  double sum = 0;
  for (Index i = threadIdx.x; i < mine.of_expert; i += kThreads) sum += parts[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) mine.sums[blockIdx.x] = sum;
}

/// a and b: rows of T, of the plan or gathered by an index; c: of all experts, (experts * rows, columns).
/// multiprocessors: of a card whose kernels for compute capability 9.0 take it, else 0. squares: gets parts,
/// where they are wanted, and how many of an expert.
template <typename T>
void launch_weight_grad(const DenseLines<T, false>& a, const DenseLines<T, false>& b, bool vectors,
                        const ExpertsArgs& f, Index rows, void* c, Index columns, DType dtype,
                        bool accumulate, SquareParts& squares, int multiprocessors, cudaStream_t stream) {
  if (f.experts == 0 || rows == 0 || columns == 0) return;
  Output out{};
  out.c = either({c, dtype, f.experts * rows, columns, columns});
  out.rows = rows;
  out.columns = columns;
  out.accumulate = accumulate;
  if constexpr (sizeof(T) == 2)
    if (multiprocessors > 0) {
      const auto lines = [](const DenseLines<T, false>& from, Index width) {
        return PlanRows{from.data, from.stride, static_cast<int>(width), from.index, from.divisor};
      };
      squares.of_expert = HopperCut::square_parts(rows, columns);
      return launch_weight_hopper(lines(a, rows), lines(b, columns), f, out, squares.parts, multiprocessors,
                                  stream);
    }
  const auto go = [&](auto tile, auto has) {
    using Shape = TypeOf<decltype(tile)>;
    using Lines = DenseLines<T, decltype(has)::value>;
    const dim3 grid(static_cast<unsigned>(ceil_div(columns, Shape::kColumns)),
                    static_cast<unsigned>(ceil_div(rows, Shape::kRows)), static_cast<unsigned>(f.experts));
    squares.of_expert = Index{grid.x} * grid.y;
    HONE_LAUNCH((expert_weight_tiles<Shape, decltype(has)::value>), grid, Shape::kTileThreads,
                (tile_bytes<Shape, false, false>()), stream, Lines{a.data, a.stride, a.index, a.divisor},
                Lines{b.data, b.stride, b.index, b.divisor}, f.offsets, out, squares.parts);
  };
  if (!vectors) return go(Type<SmallTile<T>>{}, std::false_type{});
  if constexpr (sizeof(T) == 2)
    if (rows > 64 && columns > 64) return go(Type<LargeTile>{}, std::true_type{});
  go(Type<SmallTile<T>>{}, std::true_type{});
}

/// out_e = [out_e +] the sum over expert e's rows of [weight *] x. Blocks of (32, 8) threads: x 256 columns,
/// y an expert; pieces of 64 rows are summed first. x at row index[i] / divisor where there is an index.
constexpr int kSumRows = 8, kSumColumns = 32 * kPack;
template <typename X, typename Out>
__global__ void expert_bias_sums(Rows<const X> x, const std::int32_t* index, int divisor,
                                 const float* weights, const std::int32_t* offsets, Out* out, Index columns,
                                 bool accumulate, bool vectors) {
  begin_kernel();
  HONE_SHARED(float, sums, [kSumRows][kSumColumns]);
  const Index first = static_cast<Index>(blockIdx.x) * kSumColumns, col = first + threadIdx.x * kPack;
  const Index expert = blockIdx.y, end = offsets[expert + 1];
  float all[kPack] = {}, piece[kPack] = {}, v[kPack];
  int in_piece = 0;
  for (Index row = offsets[expert] + threadIdx.y; row < end && col < columns; row += kSumRows) {
    load(x.at(index != nullptr ? index[row] / divisor : row, col), columns - col, vectors, v);
    const float weight = weights != nullptr ? weights[index[row]] : 1.0F;
#pragma unroll
    for (int i = 0; i < kPack; ++i) piece[i] = fmaf(weight, v[i], piece[i]);
    if (++in_piece < 64) continue;
    in_piece = 0;
#pragma unroll
    for (int i = 0; i < kPack; ++i) all[i] += piece[i], piece[i] = 0;
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i) sums[threadIdx.y][threadIdx.x * kPack + i] = all[i] + piece[i];
  __syncthreads();
  const unsigned mine = threadIdx.y * 32 + threadIdx.x;  // a column
  if (first + mine >= columns) return;
  Out& to = out[expert * columns + first + mine];
  float sum = accumulate ? to_float(to) : 0.0F;
  for (int i = 0; i < kSumRows; ++i) sum += sums[i][mine];
  put(to, sum);
}
template <typename X>
void launch_bias_grad(const Matrix& x, const std::int32_t* index, const float* weights, const ExpertsArgs& f,
                      void* out, DType dtype, bool accumulate, cudaStream_t stream) {
  if (f.experts == 0 || x.cols == 0) return;
  const dim3 grid(static_cast<unsigned>(ceil_div(x.cols, kSumColumns)), static_cast<unsigned>(f.experts));
  with_dtype(dtype, [&](auto type) {
    using Out = TypeOf<decltype(type)>;
    HONE_LAUNCH((expert_bias_sums<X, Out>), grid, dim3(32, kSumRows), 0, stream, rows_of<const X>(x), index,
                static_cast<int>(f.top_k), weights, f.offsets, static_cast<Out*>(out), x.cols, accumulate,
                has_vectors(x));
  });
}

struct Scratch {
  Index dot_groups;
  bool wants_dpre, wants_rows;  // d activation is needed for the first or the dots
  std::int64_t dy, activation, dpre, dots, rows, bytes;
  std::int64_t dgate_up_squares, ddown_squares;
  std::int64_t of_tokens, of_dpre, weight;  // operands in FP8: dy; as bytes dpre; weights
};
Scratch scratch_of(const ExpertsGradArgs& g) {
  const ExpertsArgs& f = g.forward;
  const Index capacity = f.x.rows * f.top_k, size = static_cast<Index>(size_of(f.x.dtype));
  Pieces pieces;
  Scratch s{};
  s.dot_groups = ceil_div(f.ffn, kDotColumns);
  s.wants_dpre = g.wants_dgate_up || g.wants_dgate_up_bias || g.dx.given();
  s.wants_rows = s.wants_dpre || g.wants_ddown || g.wants_dweights;
  s.dy = pieces.take(g.dy.dtype != f.x.dtype && s.wants_rows ? f.x.rows * f.x.cols * size : 0);
  s.activation = pieces.take(g.wants_ddown ? capacity * f.ffn * size : 0);
  s.dpre = pieces.take(s.wants_dpre ? capacity * f.inner() * size : 0);
  s.dots = pieces.take(g.wants_dweights ? capacity * s.dot_groups * Index{sizeof(float)} : 0);
  s.rows = pieces.take(g.dx.given() ? capacity * f.x.cols * size : 0);
  const auto square_bytes = [&](bool wanted, Index of_rows, Index columns) {
    return wanted ? f.experts * most_square_parts(of_rows, columns) * Index{sizeof(double)} : 0;
  };
  s.dgate_up_squares = pieces.take(square_bytes(g.wants_dgate_up_squares, f.inner(), f.x.cols));
  s.ddown_squares = pieces.take(square_bytes(g.wants_ddown_squares, f.x.cols, f.ffn));
  if (f.fp8 && capacity > 0) {  // of either path
    constexpr Fp8Order kColumns = Fp8Order::kColumns;
    if (s.wants_rows)
      s.of_tokens = pieces.take(std::max(fp8_copy_bytes(f.x), fp8_rows_bytes(f.x.rows, f.x.cols, 1)));
    if (g.dx.given()) s.of_dpre = pieces.take(fp8_rows_bytes(capacity, f.inner(), f.parts()));
    std::int64_t weight = std::max(fp8_weight_bytes(f.experts, 1, f.x.cols, f.ffn),
                                   fp8_lines_bytes(f.experts, 1, f.x.cols, f.ffn, kColumns));
    if (g.dx.given())
      weight = std::max({weight, fp8_weight_bytes(f.experts, f.parts(), f.ffn, f.x.cols),
                         fp8_lines_bytes(f.experts, f.parts(), f.ffn, f.x.cols, kColumns)});
    if (s.wants_rows) s.weight = pieces.take(weight);
  }
  s.bytes = pieces.bytes;
  return s;
}

template <typename T>
void dweights_of(const ExpertsGradArgs& g, const float* dots, Index dot_groups, cudaStream_t stream) {
  const ExpertsArgs& f = g.forward;
  const Index pairs = f.x.rows * f.top_k;
  with_dtype(g.dy.dtype, [&](auto type) {
    using D = TypeOf<decltype(type)>;
    HONE_LAUNCH((expert_weight_dots<T, D>), blocks_for(pairs * 32), kThreads, 0, stream, dots, dot_groups,
                rows_of<const D>(g.dy), f.has_down_bias ? static_cast<const T*>(f.down_bias) : nullptr,
                f.x.cols, f.inverse, f.offsets, static_cast<int>(f.experts), static_cast<int>(f.top_k), pairs,
                g.dweights);
  });
}

template <typename T>
void experts_grad_of(const ExpertsGradArgs& g, unsigned char* memory, Stream& queue) {
  const ExpertsArgs& f = g.forward;
  const Scratch scratch = scratch_of(g);
  const cudaStream_t stream = cuda_stream(queue);
  const Index capacity = f.x.rows * f.top_k, hidden = f.x.cols;
  const int experts = static_cast<int>(f.experts), top_k = static_cast<int>(f.top_k);
  const device::CudaCard& card = device::card_of(queue);
  [[maybe_unused]] const bool hopper = why_not_hopper(g, card).empty();
  // rows of dy are gathered, those of d pre-activation are there in the plan's order
  const auto product = [&](auto gathered, const Matrix& x, const ExpertWeight& weight,
                           const WeightShape& shape, const RowProduct& p, const auto& finish) {
    constexpr bool kGather = decltype(gathered)::value;
    const std::int32_t* index = kGather ? f.permutation : nullptr;
    if constexpr (sizeof(T) == 2)
      if (hopper)
        return launch_row_hopper<false, kGather>(x, index, top_k, weight, shape, p, finish,
                                                 card.multiprocessors, stream);
    launch_row_product<T, false>(x, index, top_k, weight, shape, p, finish, stream);
  };
  // Of operands in FP8, by the tensor cores for it: rows as above, whose columns are `parts` of equally many,
  // by the transpose of weights (parts, of_rows, columns); false where they do not take it.
  const auto product_e4m3 = [&](auto gathered, const Matrix& x, Index parts, void* coded,
                                const ExpertWeight& weight, Index of_rows, Index columns, const RowProduct& p,
                                const auto& finish) {
    [[maybe_unused]] constexpr bool kGather = decltype(gathered)::value;
    if constexpr (sizeof(T) == 2) {
      if (!hopper || !f.fp8) return false;
      const Fp8Rows rows = encode_fp8_rows(x, parts, coded, queue, kGather ? nullptr : f.offsets + f.experts);
      const Fp8Lines lines = encode_fp8_lines(weight.data, f.x.dtype, columns, f.experts, parts, of_rows,
                                              columns, Fp8Order::kColumns, memory + scratch.weight, queue);
      launch_row_e4m3<kGather>({rows, kGather ? f.permutation : nullptr, top_k}, lines, p, finish,
                               card.multiprocessors, stream);
    }
    return sizeof(T) == 2;
  };
  Matrix dy = g.dy;
  if (g.dy.dtype != f.x.dtype && scratch.wants_rows) {
    dy = {memory + scratch.dy, f.x.dtype, f.x.rows, hidden, hidden};
    CopyArgs round{};
    round.x = g.dy;
    round.y = dy;
    copy(round, queue);
  }
  T* activation = g.wants_ddown ? reinterpret_cast<T*>(memory + scratch.activation) : nullptr;
  T* dpre = scratch.wants_dpre ? reinterpret_cast<T*>(memory + scratch.dpre) : nullptr;
  float* dots = g.wants_dweights ? reinterpret_cast<float*>(memory + scratch.dots) : nullptr;
  const Matrix of_dpre{dpre, f.x.dtype, capacity, f.inner(), f.inner()};
  if (scratch.wants_rows && capacity > 0) {
    ActivationGrad<T> grad{};
    grad.pre = static_cast<const T*>(f.pre_activation);
    grad.dpre = dpre;
    grad.activation = activation;
    grad.dots = dots;
    grad.weights = f.weights;
    grad.permutation = f.permutation;
    grad.ffn = f.ffn;
    grad.dot_groups = scratch.dot_groups;
    grad.gated = f.gated;
    grad.vectors = f.ffn * Index{sizeof(T)} % 16 == 0 && is_aligned(grad.pre);
    grad.kind = f.activation;
    grad.alpha = f.alpha;
    grad.limit = f.limit;
    const RowProduct to_ffn{f.offsets, experts, capacity, hidden, f.ffn};
    if (!product_e4m3(std::true_type{}, dy, 1, memory + scratch.of_tokens, f.down, hidden, f.ffn, to_ffn,
                      grad)) {
      Matrix rows = dy;
      ExpertWeight weight = f.down;
      if (f.fp8) {
        rows = fp8_copy_at(dy, memory + scratch.of_tokens);
        round_fp8(dy, rows, Fp8Blocks::kAlongRows, queue);
        weight =
            encode_fp8_weight(f.down, f.x.dtype, f.experts, 1, hidden, f.ffn, memory + scratch.weight, queue);
      }
      product(std::true_type{}, rows, weight, WeightShape{1, hidden, f.ffn, false}, to_ffn, grad);
    }
    if (g.wants_dweights) dweights_of<T>(g, dots, scratch.dot_groups, stream);
  }
  // An expert's rows of a matrix of tokens: gathered as they are multiplied.
  const auto rows_of_experts = [&](const Matrix& tokens) {
    return DenseLines<T, false>{static_cast<const T*>(tokens.data), tokens.stride, f.permutation, top_k};
  };
  const int multiprocessors = hopper ? card.multiprocessors : 0;
  const auto squares_at = [&](bool wanted, std::int64_t place, double* sums) {
    return SquareParts{wanted ? reinterpret_cast<double*>(memory + place) : nullptr, 0, sums};
  };
  SquareParts of_dgate_up =
                  squares_at(g.wants_dgate_up_squares, scratch.dgate_up_squares, g.dgate_up_squares),
              of_ddown = squares_at(g.wants_ddown_squares, scratch.ddown_squares, g.ddown_squares);
  if (g.wants_ddown)
    launch_weight_grad<T>(rows_of_experts(dy), DenseLines<T, false>{activation, f.ffn},
                          has_vectors(dy) && f.ffn * Index{sizeof(T)} % 16 == 0, f, hidden, g.ddown, f.ffn,
                          g.ddown_dtype, g.accumulate_ddown, of_ddown, multiprocessors, stream);
  if (g.wants_dgate_up)
    launch_weight_grad<T>(DenseLines<T, false>{dpre, f.inner()}, rows_of_experts(f.x),
                          has_vectors(f.x) && f.inner() * Index{sizeof(T)} % 16 == 0, f, f.inner(),
                          g.dgate_up, hidden, g.dgate_up_dtype, g.accumulate_dgate_up, of_dgate_up,
                          multiprocessors, stream);
  if (const int wanted = (g.wants_ddown_squares ? 1 : 0) + (g.wants_dgate_up_squares ? 1 : 0);
      wanted > 0 && experts > 0)
    HONE_LAUNCH(sum_square_parts, dim3(static_cast<unsigned>(experts), static_cast<unsigned>(wanted)),
                kThreads, 0, stream, g.wants_ddown_squares ? of_ddown : of_dgate_up, of_dgate_up);
  if (g.wants_dgate_up_bias)
    launch_bias_grad<T>(of_dpre, nullptr, nullptr, f, g.dgate_up_bias, g.dgate_up_bias_dtype,
                        g.accumulate_dgate_up_bias, stream);
  if (g.wants_ddown_bias)
    with_dtype(g.dy.dtype, [&](auto type) {
      launch_bias_grad<TypeOf<decltype(type)>>(g.dy, f.permutation, f.weights, f, g.ddown_bias,
                                               g.ddown_bias_dtype, g.accumulate_ddown_bias, stream);
    });
  if (!g.dx.given() || capacity == 0) return;
  StoreRows<T> store{};
  store.out = reinterpret_cast<T*>(memory + scratch.rows);
  store.columns = hidden;
  store.vectors = hidden * Index{sizeof(T)} % 16 == 0;
  const RowProduct to_hidden{f.offsets, experts, capacity, f.inner(), hidden};
  if (!product_e4m3(std::false_type{}, of_dpre, f.parts(), memory + scratch.of_dpre, f.gate_up, f.ffn, hidden,
                    to_hidden, store)) {
    ExpertWeight weight = f.gate_up;
    if (f.fp8) {  // gate and up apart: their columns as rows
      const Matrix part_rows{dpre, f.x.dtype, capacity * f.parts(), f.ffn, f.ffn};
      round_fp8(part_rows, part_rows, Fp8Blocks::kAlongRows, queue, f.offsets + f.experts,
                static_cast<int>(f.parts()));
      weight = encode_fp8_weight(f.gate_up, f.x.dtype, f.experts, f.parts(), f.ffn, hidden,
                                 memory + scratch.weight, queue);
    }
    product(std::false_type{}, of_dpre, weight, WeightShape{f.parts(), f.ffn, hidden, false}, to_hidden,
            store);
  }
  launch_combine<T>(store.out, f, nullptr, Matrix{}, g.dx, g.accumulate_dx, stream);
}

}  // namespace

std::int64_t scratch_bytes_of(const ExpertsGradArgs& g) {
  return scratch_of(g).bytes;
}

void experts_grad(const ExpertsGradArgs& g, Stream& stream) {
  auto* memory =
      static_cast<unsigned char*>(stream.shared_workspace(static_cast<std::size_t>(scratch_bytes_of(g))));
  with_dtype(g.forward.x.dtype, [&](auto t) { experts_grad_of<TypeOf<decltype(t)>>(g, memory, stream); });
}

}  // namespace hone::kernels::cuda
