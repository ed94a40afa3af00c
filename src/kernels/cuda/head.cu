// The language-model head: linear_cross_entropy, head_statistics, head_grad, over pieces of the logits.
//
// Where as many rows of all words fit the limit as products want, logits are made once: summed up, turned
// into their gradients in place, and multiplied. Else they are made twice: first, by rows and ranges of
// words, to be summed up; then, by ranges of words of all rows, for the gradients. A bf16 gradient of the
// weight that several chunks of rows would add to would be rounded each time: the chunks' gradients are put
// side by side, for one product of all rows, or, where that is too much memory, added up in f32, or, where
// that is, too, logits are made twice.
#include "kernels/cuda/head.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows.cuh"

namespace hone::kernels::cuda {
namespace {

/// What makes a logit of a product.
struct LogitShape {
  float scale, cap;
  __device__ __forceinline__ float logit(float product) const {
    const float z = product * scale;
    return cap > 0 ? cap * tanhf(z / cap) : z;
  }
  /// d logit / d product.
  __device__ __forceinline__ float slope(float product) const {
    return cap > 0 ? scale * tanh_slope(product * scale / cap) : scale;
  }
};

/// Of a row: the largest logit and the sum of exp(logit - largest); the gradient of a logit is dlse
/// exp(logit) / sum of exp(logits), that of the target's dtarget more.
struct RowState {
  float largest, sum, dlse, dtarget;
};

/// A piece of the logits: the words from `first` on of some rows. targets, states: of its first row.
struct Piece {
  float* logits;  // products
  Index stride, words, first;
  const std::int32_t* targets;
  RowState* states;
  /// Of row i's target among the piece's words; not in [0, words) where it is none of them.
  __device__ __forceinline__ Index target_of(Index row) const { return targets[row] - first; }
};

__device__ float block_max(float value) {
  HONE_SHARED(float, of_warps, [32]);
  for (int lanes = 16; lanes > 0; lanes /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffU, value, lanes));
  __syncthreads();  // whoever still reads the last one
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
  __syncthreads();
  for (unsigned i = 0; i < blockDim.x / 32; ++i) value = fmaxf(value, of_warps[i]);
  return value;
}

/// One block a row: adds the piece to its state, unless it is the row's first; target_logit is 0 until the
/// target comes.
__global__ void sum_up_logits(Piece piece, LogitShape shape, float* target_logit, bool is_first) {
  begin_kernel();
  const Index row = blockIdx.x, target = piece.target_of(row);
  const float* logits = piece.logits + row * piece.stride;
  float largest = -INFINITY, sum = 0, v[kPack];
  for (Index col = threadIdx.x * kPack; col < piece.words; col += blockDim.x * kPack) {
    load(logits + col, piece.words - col, true, v);
    float most = largest;
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      if (col + i < piece.words) {
        v[i] = shape.logit(v[i]);
        most = fmaxf(most, v[i]);
        if (col + i == target) target_logit[row] = v[i];
      }
    sum *= expf(largest - most);
    largest = most;
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      if (col + i < piece.words) sum += expf(v[i] - largest);
  }
  RowState& state = piece.states[row];
  const float before = is_first ? -INFINITY : state.largest;
  const float all = fmaxf(before, block_max(largest));
  sum = block_sum(sum * expf(largest - all));
  if (threadIdx.x != 0) return;
  if (is_first && (target < 0 || target >= piece.words)) target_logit[row] = 0;
  state.sum = is_first ? sum : fmaf(state.sum, expf(before - all), sum);
  state.largest = all;
}

/// One block a row: from the products the gradients of theirs, in T. In place a row of bf16 lies where the
/// first half of its f32 was: threads write what all have read.
template <typename T>
__global__ void find_gradients(Piece piece, LogitShape shape, Rows<T> to, bool in_place) {
  begin_kernel();
  const Index row = blockIdx.x, target = piece.target_of(row);
  const RowState state = piece.states[row];
  const float factor = state.dlse / state.sum, log_sum = logf(state.sum);
  const float* logits = piece.logits + row * piece.stride;
  float v[kPack];
  for (Index base = 0; base < piece.words; base += blockDim.x * kPack) {
    const Index col = base + threadIdx.x * kPack, n = piece.words - col;
    if (n > 0) load(logits + col, n, true, v);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const float below = shape.logit(v[i]) - state.largest;
      float d = factor * expf(below);
      // p - 1 of the target: nearly all of it cancels where the model is sure
      if (col + i == target) d = fmaf(state.dlse, expm1f(below - log_sum), state.dlse + state.dtarget);
      v[i] = d * shape.slope(v[i]);
    }
    if (sizeof(T) < sizeof(float) && in_place) __syncthreads();
    if (n > 0) store(to.at(row, col), n, true, v);
  }
}

// Between the two, one thread a row; all pointers are of the first row.

__device__ __forceinline__ Index row_of_thread() {
  return static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
}

/// nll holds the target's logit.
__global__ void finish_cross_entropy(RowState* states, const float* weights, float scale, float* nll,
                                     Index rows) {
  begin_kernel();
  const Index row = row_of_thread();
  if (row >= rows) return;
  RowState& state = states[row];
  nll[row] = (state.largest - nll[row]) + logf(state.sum);
  state.dlse = weights != nullptr ? scale * weights[row] : scale;
  state.dtarget = -state.dlse;
}
__global__ void finish_statistics(const RowState* states, float* lse, Index rows) {
  begin_kernel();
  const Index row = row_of_thread();
  if (row < rows) lse[row] = states[row].largest + logf(states[row].sum);
}
__global__ void begin_gradients(RowState* states, const float* lse, const float* dlse, const float* dtarget,
                                Index rows) {
  begin_kernel();
  const Index row = row_of_thread();
  if (row < rows)
    states[row] = {lse[row], 1, dlse != nullptr ? dlse[row] : 0, dtarget != nullptr ? dtarget[row] : 0};
}
/// One block.
__global__ void sum_losses(const float* nll, const float* weights, float scale, float* loss, Index rows) {
  begin_kernel();
  double sum = 0;
  for (Index row = threadIdx.x; row < rows; row += blockDim.x)
    sum += static_cast<double>(weights != nullptr ? weights[row] : 1.0F) * static_cast<double>(nll[row]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) *loss = static_cast<float>(static_cast<double>(scale) * sum);
}
template <typename T>
__global__ void round_each_row(const float* from, Rows<T> to, Index cols, bool vectors) {
  begin_kernel();
  float v[kPack];
  for (Index col = threadIdx.x * kPack; col < cols; col += blockDim.x * kPack) {
    load(from + blockIdx.x * cols + col, cols - col, vectors, v);
    store(to.at(blockIdx.x, col), cols - col, vectors, v);
  }
}

struct Range {
  Index begin, end;
  Index size() const { return end - begin; }
};
Index least(Index a, Index b) {
  return a < b ? a : b;
}
Index most(Index a, Index b) {
  return a > b ? a : b;
}

/// Rows of a matrix; of none, none.
Matrix rows_in(const Matrix& m, Range rows) {
  if (!m.given()) return m;
  const Index offset = rows.begin * m.stride * static_cast<Index>(size_of(m.dtype));
  return {m.data == nullptr ? nullptr : static_cast<char*>(m.data) + offset, m.dtype, rows.size(), m.cols,
          m.stride};
}

/// One call of a kernel of the head, in scratch_bytes() of memory. Without a stream it does nothing but count
/// those.
class Head {
 public:
  Head(const HeadOperands& head, const HeadGradients& to, const std::int32_t* targets, Index vocab_begin,
       bool wants_statistics, const HeadLimits& limits, Stream* stream, void* memory)
      : p_(head),
        to_(to),
        targets_(targets),
        vocab_begin_(vocab_begin),
        wants_statistics_(wants_statistics),
        stream_(stream),
        rows_(head.hidden.rows),
        vocab_(head.weight.rows),
        cut_(head, to, limits) {
    const Index at_once =
        most(wants_statistics_ || cut_.whole ? cut_.chunk_rows * HeadCut::bytes_of_row(cut_.chunk_words) : 0,
             cut_.again ? rows_ * HeadCut::bytes_of_row(cut_.again_words) : 0);
    auto* from = static_cast<char*>(memory);
    const auto take = [&](Index bytes) {
      char* at = from == nullptr ? nullptr : from + own_bytes_;
      own_bytes_ += ceil_div(bytes, 256) * 256;
      return at;
    };
    logits_ = reinterpret_cast<float*>(take(at_once));
    kept_ = take(
        cut_.keeps ? rows_ * HeadCut::stride_of(vocab_) * static_cast<Index>(size_of(head.hidden.dtype)) : 0);
    states_ = reinterpret_cast<RowState*>(take(rows_ * static_cast<Index>(sizeof(RowState))));
    dhidden_ = reinterpret_cast<float*>(
        take(cut_.sums_dhidden ? rows_ * head.hidden.cols * static_cast<Index>(sizeof(float)) : 0));
    dweight_ = reinterpret_cast<float*>(
        take(cut_.sums_dweight ? vocab_ * head.weight.cols * static_cast<Index>(sizeof(float)) : 0));
    products_ = take(0);
  }

  std::int64_t scratch_bytes() const { return own_bytes_ + product_bytes_; }
  RowState* states() const { return states_; }

  /// finish(rows): once a chunk's logits are summed up, says what their gradients are. target_logit: (rows),
  /// where the statistics are wanted.
  template <typename Finish>
  void run(float* target_logit, const Finish& finish) {
    for (Index row = 0; row < rows_; row += cut_.chunk_rows) {
      const Range rows{row, least(rows_, row + cut_.chunk_rows)};
      for (Index word = 0; word < vocab_ && (wants_statistics_ || cut_.whole); word += cut_.chunk_words) {
        const Range words{word, least(vocab_, word + cut_.chunk_words)};
        find_logits(rows, words);
        if (wants_statistics_ && stream_ != nullptr)
          HONE_LAUNCH(sum_up_logits, static_cast<unsigned>(rows.size()), threads_for_row(words.size()), 0,
                      cuda_stream(*stream_), piece(rows, words), shape(), target_logit + row, word == 0);
      }
      if (stream_ != nullptr) finish(rows);
      if (!cut_.whole) continue;
      find_logit_gradients(rows, {0, vocab_});
      if (cut_.keeps) continue;
      if (to_.dhidden.given()) add_dhidden(rows, {0, vocab_}, rows_in(to_.dhidden, rows), false);
      if (!cut_.again) add_dweight(rows, {0, vocab_}, row > 0);
    }
    const Range all{0, rows_};
    if (cut_.keeps) {
      if (to_.dhidden.given()) add_dhidden(all, {0, vocab_}, to_.dhidden, false);
      add_dweight(all, {0, vocab_}, false);
    }
    for (Index word = 0; word < vocab_ && cut_.again && rows_ > 0; word += cut_.again_words) {
      const Range words{word, least(vocab_, word + cut_.again_words)};
      find_logits(all, words);
      find_logit_gradients(all, words);
      add_dweight(all, words, false);
      if (to_.dhidden.given() && !cut_.whole)
        add_dhidden(all, words, cut_.sums_dhidden ? dhidden_sums() : to_.dhidden, word > 0);
    }
    if (rows_ == 0 && to_.wants_dweight && !to_.accumulate_dweight) add_dweight(all, {0, vocab_}, false);
    if (cut_.sums_dweight && stream_ != nullptr) {
      CopyArgs round{};
      round.x = dweight_sums();
      round.y = dweight();
      round.accumulate = to_.accumulate_dweight;
      copy(round, *stream_);
    }
    if (cut_.sums_dhidden && rows_ > 0 && stream_ != nullptr)
      HONE_LAUNCH(round_each_row<__nv_bfloat16>, static_cast<unsigned>(rows_),
                  threads_for_row(to_.dhidden.cols), 0, cuda_stream(*stream_), dhidden_,
                  rows_of<__nv_bfloat16>(to_.dhidden), to_.dhidden.cols,
                  has_vectors(dhidden_sums()) && has_vectors(to_.dhidden));
  }

 private:
  LogitShape shape() const { return {p_.logit_scale, p_.softcap}; }
  Piece piece(Range rows, Range words) const {
    return {logits_,
            HeadCut::stride_of(words.size()),
            words.size(),
            vocab_begin_ + words.begin,
            targets_ + rows.begin,
            states_ + rows.begin};
  }
  Matrix dhidden_sums() const { return {dhidden_, DType::kF32, rows_, p_.hidden.cols, p_.hidden.cols}; }
  Matrix dweight() const { return {to_.dweight, to_.dweight_dtype, vocab_, p_.weight.cols, p_.weight.cols}; }
  Matrix dweight_sums() const { return {dweight_, DType::kF32, vocab_, p_.weight.cols, p_.weight.cols}; }
  Matrix logits_of(Range rows, Range words) const {
    return {logits_, DType::kF32, rows.size(), words.size(), HeadCut::stride_of(words.size())};
  }
  /// In the place of those logits, or where they are kept.
  Matrix gradients_of(Range rows, Range words) const {
    const DType dtype = p_.hidden.dtype;
    const Index stride = HeadCut::stride_of(words.size());
    if (cut_.keeps) return rows_in({kept_, dtype, rows_, vocab_, stride}, rows);
    const Index ratio = static_cast<Index>(sizeof(float) / size_of(dtype));
    return {logits_, dtype, rows.size(), words.size(), stride * ratio};
  }

  void multiply(const MatmulArgs& a) {
    product_bytes_ = most(product_bytes_, scratch_bytes_of(a));
    if (stream_ != nullptr) matmul(a, *stream_, products_);
  }
  void find_logits(Range rows, Range words) {
    multiply({.a = rows_in(p_.hidden, rows),
              .b = rows_in(p_.weight, words),
              .c = logits_of(rows, words),
              .transpose_b = true,
              .residual = {}});
  }
  void find_logit_gradients(Range rows, Range words) {
    if (stream_ == nullptr) return;
    with_dtype(p_.hidden.dtype, [&](auto t) {
      using T = TypeOf<decltype(t)>;
      HONE_LAUNCH(find_gradients<T>, static_cast<unsigned>(rows.size()), threads_for_row(words.size()), 0,
                  cuda_stream(*stream_), piece(rows, words), shape(), rows_of<T>(gradients_of(rows, words)),
                  !cut_.keeps);
    });
  }
  void add_dhidden(Range rows, Range words, const Matrix& to, bool accumulate) {
    multiply({.a = gradients_of(rows, words),
              .b = rows_in(p_.weight, words),
              .c = to,
              .residual = {},
              .accumulate = accumulate});
  }
  /// more: of rows before these there is some already.
  void add_dweight(Range rows, Range words, bool more) {
    if (!to_.wants_dweight) return;
    const Matrix all = cut_.sums_dweight ? dweight_sums() : dweight();
    multiply({.a = gradients_of(rows, words),
              .b = rows_in(p_.hidden, rows),
              .c = rows_in(all, words),
              .transpose_a = true,
              .residual = {},
              .accumulate = more || (to_.accumulate_dweight && !cut_.sums_dweight)});
  }

  const HeadOperands& p_;
  const HeadGradients& to_;
  const std::int32_t* targets_;
  Index vocab_begin_;
  bool wants_statistics_;
  Stream* stream_;
  Index rows_, vocab_;
  HeadCut cut_;
  float* logits_ = nullptr;
  void* kept_ = nullptr;  // gradients of all rows and words, of hidden's dtype
  RowState* states_ = nullptr;
  float *dhidden_ = nullptr, *dweight_ = nullptr;  // sums
  void* products_ = nullptr;                       // what they take, one after the other
  Index own_bytes_ = 0, product_bytes_ = 0;
};

Head head_of(const LinearCrossEntropyArgs& a, const HeadLimits& limits, Stream* stream, void* memory) {
  return {a.head, a.gradients, a.targets, 0, true, limits, stream, memory};
}
Head head_of(const HeadStatisticsArgs& a, const HeadLimits& limits, Stream* stream, void* memory) {
  static const HeadGradients kNone{};
  return {a.head, kNone, a.targets, a.vocab_begin, true, limits, stream, memory};
}
Head head_of(const HeadGradArgs& a, const HeadLimits& limits, Stream* stream, void* memory) {
  const HeadStatisticsArgs& f = a.forward;
  return {f.head, a.gradients, f.targets, f.vocab_begin, false, limits, stream, memory};
}
template <typename Args>
Head head_of(const Args& a, const HeadLimits& limits, Stream& stream) {
  const std::int64_t bytes = scratch_bytes_of(a, limits);
  void* memory = bytes > 0 ? stream.shared_workspace(static_cast<std::size_t>(bytes)) : nullptr;
  return head_of(a, limits, &stream, memory);
}
template <typename Args>
std::int64_t count_scratch(const Args& a, const HeadLimits& limits) {
  Head head = head_of(a, limits, nullptr, nullptr);
  head.run(nullptr, [](Range) {});
  return head.scratch_bytes();
}

}  // namespace

void linear_cross_entropy(const LinearCrossEntropyArgs& a, Stream& stream, const HeadLimits& limits) {
  const float* weights = a.has_weights ? a.weights : nullptr;
  Head head = head_of(a, limits, stream);
  head.run(a.nll, [&](Range rows) {
    HONE_LAUNCH(finish_cross_entropy, blocks_for(rows.size()), kThreads, 0, cuda_stream(stream),
                head.states() + rows.begin, weights == nullptr ? nullptr : weights + rows.begin, a.scale,
                a.nll + rows.begin, rows.size());
  });
  HONE_LAUNCH(sum_losses, 1, 1024, 0, cuda_stream(stream), a.nll, weights, a.scale, a.loss,
              a.head.hidden.rows);
}
void head_statistics(const HeadStatisticsArgs& a, Stream& stream, const HeadLimits& limits) {
  Head head = head_of(a, limits, stream);
  head.run(a.target_logit, [&](Range rows) {
    HONE_LAUNCH(finish_statistics, blocks_for(rows.size()), kThreads, 0, cuda_stream(stream),
                head.states() + rows.begin, a.lse + rows.begin, rows.size());
  });
}
void head_grad(const HeadGradArgs& a, Stream& stream, const HeadLimits& limits) {
  if (!a.gradients.wanted()) return;
  const auto at = [](bool has, const float* p, Index row) { return has ? p + row : nullptr; };
  Head head = head_of(a, limits, stream);
  head.run(nullptr, [&](Range rows) {
    HONE_LAUNCH(begin_gradients, blocks_for(rows.size()), kThreads, 0, cuda_stream(stream),
                head.states() + rows.begin, a.forward.lse + rows.begin, at(a.has_dlse, a.dlse, rows.begin),
                at(a.has_dtarget_logit, a.dtarget_logit, rows.begin), rows.size());
  });
}

#define HONE_HEAD(name, ArgsOf)                                              \
  void name(const ArgsOf& a, Stream& stream) {                               \
    name(a, stream, HeadLimits{});                                           \
  }                                                                          \
  std::int64_t scratch_bytes_of(const ArgsOf& a, const HeadLimits& limits) { \
    return count_scratch(a, limits);                                         \
  }                                                                          \
  std::int64_t scratch_bytes_of(const ArgsOf& a) {                           \
    return count_scratch(a, HeadLimits{});                                   \
  }
HONE_HEAD(linear_cross_entropy, LinearCrossEntropyArgs)
HONE_HEAD(head_statistics, HeadStatisticsArgs)
HONE_HEAD(head_grad, HeadGradArgs)
#undef HONE_HEAD

}  // namespace hone::kernels::cuda
