// linear_cross_entropy: the language-model head, the loss and their gradients, over chunks of rows.
//
// Logits exist only a few rows times a group of panels at a time, in f32. What stays of them for the
// gradients is exp(logit - m) in the type that is multiplied, m the largest logit of the row within the
// group, next to m and the sum of the group. Once a row's groups are all there, its log-sum-exp follows, the
// stored numbers are scaled to gradients, and two products give the gradients of hidden and weight.
#pragma once

#include "kernels/cpu/experts_rows.h"
#include "kernels/cpu/matrix_kernels.h"
#include "kernels/cpu/product.h"

namespace hone::kernels::cpu {

/// What a row's logits within one group of panels amount to.
struct LogitGroup {
  float largest;
  float sum;  // of exp(logit - largest)
};

/// Takes the logits of a chunk of rows.
template <class Isa, class S>
struct LogitSink {
  const std::int32_t* targets;  // of each row
  float* target_logit;          // of each row
  LogitGroup* groups;           // (rows, group_count)
  Index group_count, group_columns;
  S* exponentials;  // (rows, stride): exp(logit - largest), or null
  Index stride;
  float* logits;  // (kTileRows, group_columns): the thread's own
  float logit_scale;

  [[gnu::always_inline]] bool direct(Index /*j*/, Index /*columns*/) const { return true; }
  [[gnu::always_inline]] TileOut<Isa, float> target(Index /*row*/, Index j) const {
    return {logits + j % group_columns, group_columns, false};
  }
  [[gnu::always_inline]] void prefetch(Index /*row*/, Index /*rows*/, Index /*j*/) const {}
  void finish(Index /*row*/, Index /*rows*/, Index /*j*/, Index /*columns*/, const float* /*tile*/) {}
  void row_done(Index row, Index rows, Index j, Index end) {
    for (Index i = 0; i < rows; i++) {
      float* x = logits + i * group_columns;
      if (logit_scale != 1) scale_logits(x, end - j);
      const Index wanted = targets[row + i] - j;
      if (wanted >= 0 && wanted < end - j) target_logit[row + i] = x[wanted];
      groups[(row + i) * group_count + j / group_columns] = take_exponentials(
          x, end - j, exponentials != nullptr ? exponentials + (row + i) * stride + j : nullptr);
    }
  }

 private:
  void scale_logits(float* x, Index n) const {
    for (Index c = 0; c < n; c += Isa::kLanes) Isa::store(x + c, Isa::load(x + c) * Isa::set(logit_scale));
  }
  static LogitGroup take_exponentials(const float* x, Index n, S* out) {
    using Vec = typename Isa::Vec;
    constexpr Index kLanes = Isa::kLanes;
    const Index whole = n / kLanes * kLanes, rest = n - whole;
    const Vec lowest = Isa::set(-__builtin_inff());
    Vec top = lowest;
    for (Index c = 0; c < whole; c += kLanes) top = Isa::max(top, Isa::load(x + c));
    if (rest > 0) top = Isa::max(top, Isa::blend(Isa::load(x + whole), lowest, rest));
    const float largest = Isa::max_of(top);
    const Vec at = Isa::set(largest);
    Vec sum = Isa::zero();
    for (Index c = 0; c < whole; c += kLanes) {
      const Vec e = Isa::exp(Isa::load(x + c) - at);
      sum = sum + e;
      if (out != nullptr) Isa::store(out + c, e);
    }
    if (rest > 0) {
      const Vec e = Isa::blend(Isa::exp(Isa::load(x + whole) - at), Isa::zero(), rest);
      sum = sum + e;
      if (out != nullptr) Isa::store(out + whole, e, rest);
    }
    return {largest, Isa::sum(sum)};
  }
};

/// Stores dhidden = sum + of_target * the target's row of the weight: the one large term of a row of the
/// vocabulary's sum comes last, so that no small term is rounded to it (and is f32 where the others are
/// bf16). With it inside, GradientGolden's whole gradient is 1.4 times as far from float64, model.norm's 4.7.
template <class Isa, class T, class C>
struct HiddenGradSink {
  MatmulSink<Isa, T, C> out;
  const std::int32_t* targets;  // of each row
  const float* of_target;       // of each row
  Matrix weight;

  [[gnu::always_inline]] bool direct(Index /*j*/, Index /*columns*/) const { return false; }
  [[gnu::always_inline]] TileOut<Isa, C> target(Index row, Index j) const { return out.target(row, j); }
  [[gnu::always_inline]] void prefetch(Index row, Index rows, Index j) const {
    for (Index i = row; i < row + rows; i++) prefetch_panel<Isa>(row_of(i) + j);
  }
  void finish(Index row, Index rows, Index j, Index columns, float* tile) {
    for (Index i = 0; i < rows; i++) {
      const T* w = row_of(row + i) + j;
      const auto scale = Isa::set(of_target[row + i]);
      for (Index h = 0; h < columns; h += Isa::kLanes) {
        float* sum = tile + i * kPanel<Isa> + h;
        Isa::store(sum,
                   Isa::fma(scale, load_lanes<Isa>(w + h, least(Isa::kLanes, columns - h)), Isa::load(sum)));
      }
    }
    out.finish(row, rows, j, columns, tile);
  }

 private:
  [[gnu::always_inline]] const T* row_of(Index i) const {
    return static_cast<const T*>(weight.data) + targets[i] * weight.stride;
  }
};

template <class Isa, class T>
class CrossEntropy {
 public:
  using E = Compute<Isa, T>;
  using S = Stored<E>;
  CrossEntropy(const LinearCrossEntropyArgs& args, device::Stream& stream)
      : args_(args),
        stream_(stream),
        rows_(args.hidden.rows),
        hidden_(args.hidden.cols),
        vocab_(args.weight.rows),
        group_columns_(group_panels<Isa, E>(KPieces<Isa, E>(hidden_).words()) * kPanel<Isa>),
        group_count_(ceil_div(vocab_, group_columns_)),
        stride_(padded<S>(vocab_)) {
    const Index most_rows = most(kMinChunkRows, kChunkBytes / (vocab_ * Index{sizeof(S)}));
    chunks_ = most(1, ceil_div(rows_, wants_gradient() ? most_rows : kStatisticsRows));
    // Where several chunks would have to wait in f32 for a bf16 gradient, one may take less memory.
    const Index chunk_bytes = stride_ * Index{sizeof(S)} * ceil_div(rows_, chunks_);
    const Index sums_bytes = vocab_ * hidden_ * Index{sizeof(float)};
    if (chunks_ > 1 && rounds_dweight() && chunk_bytes * chunks_ <= chunk_bytes + sums_bytes) chunks_ = 1;
    chunk_rows_ = ceil_div(rows_, chunks_);
  }

  void run() {
    Carver count(nullptr);
    carve(count);
    Carver memory(stream_.shared_workspace(static_cast<std::size_t>(count.used())));
    carve(memory);
    if (stream_.is_meta()) return take_scratch();
    double loss = 0;
    for (Index chunk = 0; chunk < chunks_; chunk++) {
      const Range rows{least(rows_, chunk * chunk_rows_), least(rows_, (chunk + 1) * chunk_rows_)};
      const AlongK<T> hidden{static_cast<const T*>(args_.hidden.data) + rows.begin * args_.hidden.stride,
                             args_.hidden.stride};
      find_logits(hidden, rows);
      finish_rows(rows);
      for (Index row = rows.begin; row < rows.end; row++)
        loss += weight_of(row) * static_cast<double>(args_.nll[row]);
      if (args_.dhidden.given()) find_dhidden(rows);
      if (args_.wants_dweight) {
        put_targets(rows);
        find_dweight(rows, chunk);
      }
    }
    if (dweight_sums_ != nullptr) round_dweight();
    *args_.loss = static_cast<float>(static_cast<double>(args_.scale) * loss);
  }

 private:
  /// The gradients of a chunk's logits may take so much memory; but a chunk has so many rows, as every chunk
  /// reads the whole weight three times.
  static constexpr Index kChunkBytes = Index{32} << 20;
  static constexpr Index kMinChunkRows = 256;
  static constexpr Index kStatisticsRows = 4096;  // of a chunk, where no gradient is wanted
  static constexpr Index kRowsAtOnce = 8;         // of finish_rows
  /// Groups of columns that one block has: several where packing the left operand is dear.
  static constexpr Index kGroupsAtOnce = kSplit<E> ? 2 : 1;
  using Scratch = GemmScratch<Isa, E>;

  double weight_of(Index row) const {
    return args_.has_weights ? static_cast<double>(args_.weights[row]) : 1.0;
  }
  bool wants_gradient() const { return args_.dhidden.given() || args_.wants_dweight; }
  bool rounds_dweight() const { return args_.wants_dweight && args_.dweight_dtype != DType::kF32; }
  /// The scratch memory of every product of a chunk.
  void take_scratch() {
    const Range rows{0, chunk_rows_};
    find_logits(AlongK<T>{static_cast<const T*>(args_.hidden.data), args_.hidden.stride}, rows);
    if (args_.dhidden.given()) find_dhidden(rows);
    if (args_.wants_dweight) find_dweight(rows, 0);
  }

  void carve(Carver& memory) {
    dlogits_ = memory.take<S>(wants_gradient() ? chunk_rows_ * stride_ : 0);
    groups_ = memory.take<LogitGroup>(chunk_rows_ * group_count_);
    target_logit_ = memory.take<float>(chunk_rows_);
    of_target_ = memory.take<float>(chunk_rows_);
    const bool rounded = rounds_dweight() && chunks_ > 1;
    dweight_sums_ = memory.take<float>(rounded ? vocab_ * hidden_ : 0);
    if (!wants_gradient()) dlogits_ = nullptr;
    if (!rounded) dweight_sums_ = nullptr;
  }

  /// exp(logit - m), m and the sum of every group of columns; the logits of the targets.
  void find_logits(const AlongK<T>& hidden, Range rows) {
    if constexpr (kInPlace<E, AlongK<T>>) {
      if (is_crowded<Isa>(hidden)) return find_logits_of(Crowded<T>{hidden.data, hidden.stride}, rows);
    }
    find_logits_of(hidden, rows);
  }
  template <class Left>
  void find_logits_of(const Left& hidden, Range rows) {
    const Index step = kInPlace<E, Left> && KPieces<Isa, E>(hidden_).count == 1 ? rows.size() : kMaxBlockRows;
    const Index row_blocks = ceil_div(rows.size(), most(1, step));
    const Index columns = kGroupsAtOnce * group_columns_, column_blocks = ceil_div(vocab_, columns);
    const int threads = stream_.num_threads();
    const Index floats = Scratch::template size<Left>(least(step, rows.size()), columns, hidden_);
    const ThreadScratch<Isa> memory(stream_, threads, floats + kTileRows<Isa, E> * group_columns_);
    if (stream_.is_meta()) return;
    const AlongK<T> weight{static_cast<const T*>(args_.weight.data), args_.weight.stride};
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (Index i = 0; i < column_blocks * row_blocks; i++) {
      float* own = memory.of(omp_get_thread_num());
      LogitSink<Isa, S> sink{args_.targets + rows.begin,
                             target_logit_,
                             groups_,
                             group_count_,
                             group_columns_,
                             dlogits_,
                             stride_,
                             own + floats,
                             args_.logit_scale};
      const Index row = i % row_blocks * step, column = i / row_blocks * columns;
      const Range block{row, least(rows.size(), row + step)};
      gemm_block<Isa, E>(hidden, weight, block, Range{column, least(vocab_, column + columns)}, vocab_,
                         hidden_, Scratch::template carve<Left>(own, block.size(), hidden_), sink);
    }
  }

  /// nll of every row, and the gradients of its logits.
  void finish_rows(Range rows) {
    const Index blocks = ceil_div(rows.size(), kRowsAtOnce);
#pragma omp parallel for schedule(dynamic, 1) num_threads(stream_.num_threads())
    for (Index b = 0; b < blocks; b++) {
      for (Index i = b * kRowsAtOnce; i < least(rows.size(), (b + 1) * kRowsAtOnce); i++) {
        finish_row(i, args_.targets[rows.begin + i],
                   static_cast<double>(args_.scale) * static_cast<double>(args_.logit_scale) *
                       weight_of(rows.begin + i),
                   args_.nll + rows.begin + i);
      }
    }
  }
  /// `scale`: of the row's loss in the whole, times that of the products in its logits.
  void finish_row(Index row, Index target, double scale, float* nll) {
    LogitGroup* groups = groups_ + row * group_count_;
    float largest = groups[0].largest;
    for (Index g = 1; g < group_count_; g++) {
      largest = groups[g].largest > largest ? groups[g].largest : largest;
    }
    double sum = 0;
    for (Index g = 0; g < group_count_; g++) {
      groups[g].largest = __builtin_expf(groups[g].largest - largest);  // the group's scale, from here on
      sum += static_cast<double>(groups[g].largest) * static_cast<double>(groups[g].sum);
    }
    const double loss =
        __builtin_log(sum) + static_cast<double>(largest) - static_cast<double>(target_logit_[row]);
    *nll = static_cast<float>(loss);
    if (dlogits_ == nullptr) return;
    const double factor = scale / sum;
    S* d = dlogits_ + row * stride_;
    for (Index g = 0; g < group_count_; g++) {
      const Index begin = g * group_columns_;
      scale_row(d + begin, least(group_columns_, vocab_ - begin),
                static_cast<float>(factor * static_cast<double>(groups[g].largest)));
    }
    // p - 1 of the target, not from a stored p: nearly all of it cancels where the model is sure.
    of_target_[row] = static_cast<float>(scale * __builtin_expm1(-loss));
    Isa::store(d + target, Isa::zero(), 1);
  }
  /// Puts the targets' gradients in their places among those of the logits.
  void put_targets(Range rows) {
    for (Index i = 0; i < rows.size(); i++) {
      Isa::store(dlogits_ + i * stride_ + args_.targets[rows.begin + i], Isa::set(of_target_[i]), 1);
    }
  }
  static void scale_row(S* d, Index n, float factor) {
    const typename Isa::Vec f = Isa::set(factor);
    Index j = 0;
    for (; j + Isa::kLanes <= n; j += Isa::kLanes) Isa::store(d + j, Isa::load(d + j) * f);
    if (j < n) Isa::store(d + j, Isa::load(d + j, n - j) * f, n - j);
  }

  void find_dhidden(Range rows) {
    const AlongK<S> left{dlogits_, stride_};
    const AcrossK<T> right{static_cast<const T*>(args_.weight.data), args_.weight.stride};
    const auto multiply = [&](auto* out) {
      using C = std::remove_pointer_t<decltype(out)>;
      const HiddenGradSink<Isa, T, C> sink{{out + rows.begin * args_.dhidden.stride, args_.dhidden.stride},
                                           args_.targets + rows.begin,
                                           of_target_,
                                           args_.weight};
      product<Isa, T>(left, right, rows.size(), hidden_, vocab_, sink, stream_);
    };
    if (args_.dhidden.dtype == DType::kF32) {
      multiply(static_cast<float*>(args_.dhidden.data));
    } else {
      multiply(static_cast<BFloat16*>(args_.dhidden.data));
    }
  }

  void find_dweight(Range rows, Index chunk) {
    const AcrossK<S> left{dlogits_, stride_};
    const AcrossK<T> right{static_cast<const T*>(args_.hidden.data) + rows.begin * args_.hidden.stride,
                           args_.hidden.stride};
    const auto multiply = [&](auto* out, bool accumulate) {
      using C = std::remove_pointer_t<decltype(out)>;
      MatmulSink<Isa, T, C> sink{out, hidden_};
      sink.accumulate = accumulate;
      sink.stream = aligned_panels<C>(out, hidden_) && vocab_ * hidden_ * Index{sizeof(C)} >= kStreamBytes;
      product<Isa, T>(left, right, vocab_, hidden_, rows.size(), sink, stream_);
    };
    if (dweight_sums_ != nullptr) {
      multiply(dweight_sums_, chunk > 0);
    } else if (args_.dweight_dtype == DType::kF32) {
      multiply(static_cast<float*>(args_.dweight), args_.accumulate_dweight || chunk > 0);
    } else {
      multiply(static_cast<BFloat16*>(args_.dweight), args_.accumulate_dweight);
    }
  }
  void round_dweight() {
    auto* out = static_cast<BFloat16*>(args_.dweight);
#pragma omp parallel for num_threads(stream_.num_threads())
    for (Index i = 0; i < vocab_; i++) {
      for (Index j = 0; j < hidden_; j += Isa::kLanes) {
        const Index n = least(Isa::kLanes, hidden_ - j), at = i * hidden_ + j;
        typename Isa::Vec v = load_lanes<Isa>(dweight_sums_ + at, n);
        if (args_.accumulate_dweight) v = v + load_lanes<Isa>(out + at, n);
        store_lanes<Isa>(out + at, v, n);
      }
    }
  }

  const LinearCrossEntropyArgs& args_;
  device::Stream& stream_;
  Index rows_, hidden_, vocab_;
  Index group_columns_, group_count_;  // of logits
  Index stride_;                       // of dlogits_
  Index chunks_ = 1, chunk_rows_ = 0;
  S* dlogits_ = nullptr;  // (chunk_rows, stride), or null
  LogitGroup* groups_ = nullptr;
  float* target_logit_ = nullptr;
  float* of_target_ = nullptr;     // the gradient of the target's logit, of each row; zero among dlogits_
                                   // until dhidden is there
  float* dweight_sums_ = nullptr;  // (vocab, hidden), where dweight is bf16 and comes in several chunks
};

template <class Isa>
void MatrixKernels<Isa>::linear_cross_entropy(const LinearCrossEntropyArgs& args, device::Stream& stream) {
  if (args.hidden.dtype == DType::kF32) {
    CrossEntropy<Isa, float>(args, stream).run();
  } else {
    CrossEntropy<Isa, BFloat16>(args, stream).run();
  }
}

}  // namespace hone::kernels::cpu
