// The language-model head: linear_cross_entropy, head_statistics, head_grad, over chunks of rows.
//
// Logits exist only a few rows times a group of panels at a time, in f32. What stays of them for the
// gradients is exp(logit - m) in the type that is multiplied, m the largest logit of the row within the
// group, next to m and the sum of the group. Once a row's groups are all there, its log-sum-exp follows, the
// stored numbers are scaled to gradients, and two products give the gradients of hidden and weight.
//
// A chunk has as many rows as memory allows, whatever the vocabulary. A bf16 gradient of the weight cannot be
// a sum over chunks, which would be rounded each time: where there are several, the logits are made once more
// by columns, all rows of some words at a time.
#pragma once

#include "kernels/cpu/experts_rows.h"
#include "kernels/cpu/head_sinks.h"
#include "kernels/cpu/matrix_kernels.h"
#include "kernels/cpu/product.h"

namespace hone::kernels::cpu {

/// The gradient of a row's logits: dlse * exp(logit - lse), and dtarget more of the target's.
struct LogitGradient {
  double lse, dlse, dtarget;
};

template <class Isa, class T>
class Head {
 public:
  using E = Compute<Isa, T>;
  using S = Stored<E>;
  /// The targets are words of a vocabulary of which the head has those from vocab_begin on.
  Head(const HeadOperands& head, const HeadGradients& gradients, const std::int32_t* targets,
       Index vocab_begin, device::Stream& stream)
      : p_(head),
        to_(gradients),
        targets_(targets),
        vocab_begin_(vocab_begin),
        stream_(stream),
        rows_(p_.hidden.rows),
        hidden_(p_.hidden.cols),
        vocab_(p_.weight.rows),
        group_columns_(group_panels<Isa, E>(KPieces<Isa, E>(hidden_).words()) * kPanel<Isa>),
        wants_gradient_(to_.wanted()) {
    const Index row_bytes = bytes_of_row(vocab_), fits = most(1, kMostBytes / row_bytes);
    const bool rounds = to_.wants_dweight && to_.dweight_dtype != DType::kF32;
    Index chunk =
        wants_gradient_ ? most(kMinChunkRows, kChunkBytes / (vocab_ * Index{sizeof(S)})) : kStatisticsRows;
    again_ = rounds && rows_ > fits;
    if (rounds && !again_) chunk = fits;
    chunks_ = most(1, ceil_div(rows_, least(chunk, fits)));
    chunk_rows_ = ceil_div(rows_, chunks_);
    if (again_) {
      const Index columns = chunk_rows_ * row_bytes / rows_ / bytes_of_row(group_columns_) * group_columns_;
      range_ = least(vocab_, most(group_columns_, columns));
    }
  }

  /// finish(row, lse, target's logit), any row once and in any order, says what the gradient of its logits
  /// is. The logit is 0 where the target is none of these words.
  template <class Finish>
  void run(const Finish& finish) {
    Carver count(nullptr);
    carve(count);
    Carver memory(stream_.shared_workspace(static_cast<std::size_t>(count.used())));
    carve(memory);
    if (stream_.is_meta()) return take_scratch();
    for (Index i = 0; i < rows_; i++) {
      const Index word = targets_[i] - vocab_begin_;
      words_[i] = word >= 0 && word < vocab_ ? static_cast<std::int32_t>(word) : -1;
    }
    for (Index chunk = 0; chunk < chunks_; chunk++) {
      const Range rows{least(rows_, chunk * chunk_rows_), least(rows_, (chunk + 1) * chunk_rows_)};
      find_logits(rows, all_words());
      finish_rows(rows, finish);
      if (!wants_gradient_) continue;
      scale_rows(rows, all_words());
      if (to_.dhidden.given()) find_dhidden(rows);
      if (to_.wants_dweight && !again_) find_dweight(rows, all_words(), chunk > 0);
    }
    for (Index column = 0; again_ && column < vocab_; column += range_) {
      const Range words{column, least(vocab_, column + range_)};
      find_logits({0, rows_}, words);
      scale_rows({0, rows_}, words);
      find_dweight({0, rows_}, words, false);
    }
  }

 private:
  /// The logits' gradients take so much memory, if a chunk of the fewest rows does not take more, and in no
  /// case more than the most. Every chunk reads the whole weight three times. The most lets 2,048 rows of
  /// Qwen 3's 151,936 words be one chunk: making their logits again would cost a third of the head's time.
  static constexpr Index kChunkBytes = Index{32} << 20, kMostBytes = Index{640} << 20;
  static constexpr Index kMinChunkRows = 256;
  static constexpr Index kStatisticsRows = 4096;  // of a chunk, where no gradient is wanted
  static constexpr Index kRowsAtOnce = 8;         // of finish_rows
  /// Groups of columns that one block has: several where packing the left operand is dear.
  static constexpr Index kGroupsAtOnce = kSplit<E> ? 2 : 1;
  using Scratch = GemmScratch<Isa, E>;

  Range all_words() const { return {0, vocab_}; }
  Index groups_of(Index columns) const { return ceil_div(columns, group_columns_); }
  /// The distance of rows of dlogits_.
  Index stride_of(Range words) const { return padded<S>(words.size()); }
  Index bytes_of_row(Index columns) const {
    const Index dlogits = wants_gradient_ ? padded<S>(columns) * Index{sizeof(S)} : 0;
    return dlogits + groups_of(columns) * Index{sizeof(LogitGroup)};
  }

  void carve(Carver& memory) {
    const Index all = wants_gradient_ ? chunk_rows_ * padded<S>(vocab_) : 0;
    dlogits_ = memory.take<S>(again_ ? most(all, rows_ * padded<S>(range_)) : all);
    const Index groups = chunk_rows_ * groups_of(vocab_);
    groups_ = memory.take<LogitGroup>(again_ ? most(groups, rows_ * groups_of(range_)) : groups);
    gradients_ = memory.take<LogitGradient>(rows_);
    words_ = memory.take<std::int32_t>(rows_);
    target_logit_ = memory.take<float>(rows_);
    of_target_ = memory.take<float>(rows_);
    if (!wants_gradient_) dlogits_ = nullptr;
  }
  /// The scratch memory of every product.
  void take_scratch() {
    const Range rows{0, chunk_rows_};
    find_logits(rows, all_words());
    if (to_.dhidden.given()) find_dhidden(rows);
    if (to_.wants_dweight && !again_) find_dweight(rows, all_words(), false);
    if (!again_) return;
    find_logits({0, rows_}, {0, range_});
    find_dweight({0, rows_}, {0, range_}, false);
  }

  /// exp(logit - m), m and the sum of every group of columns; the logits of the targets.
  void find_logits(Range rows, Range words) {
    const AlongK<T> hidden{static_cast<const T*>(p_.hidden.data) + rows.begin * p_.hidden.stride,
                           p_.hidden.stride};
    if constexpr (kInPlace<E, AlongK<T>>) {
      if (is_crowded<Isa>(hidden)) return find_logits_of(Crowded<T>{hidden.data, hidden.stride}, rows, words);
    }
    find_logits_of(hidden, rows, words);
  }
  template <class Left>
  void find_logits_of(const Left& hidden, Range rows, Range words) {
    const Index step = kInPlace<E, Left> && KPieces<Isa, E>(hidden_).count == 1 ? rows.size() : kMaxBlockRows;
    const Index row_blocks = ceil_div(rows.size(), most(1, step));
    const Index columns = kGroupsAtOnce * group_columns_, column_blocks = ceil_div(words.size(), columns);
    const int threads = stream_.num_threads();
    const Index floats = Scratch::template size<Left>(least(step, rows.size()), columns, hidden_);
    const ThreadScratch<Isa> memory(stream_, threads, floats + kTileRows<Isa, E> * group_columns_);
    if (stream_.is_meta()) return;
    const AlongK<T> weight{static_cast<const T*>(p_.weight.data), p_.weight.stride};
    stream_.team().parallel_for(threads, column_blocks * row_blocks, [&](Index i, int thread) {
      float* own = memory.of(thread);
      LogitSink<Isa, S> sink{words_ + rows.begin,
                             target_logit_ + rows.begin,
                             groups_,
                             groups_of(words.size()),
                             group_columns_,
                             words.begin,
                             dlogits_,
                             stride_of(words),
                             own + floats,
                             p_.logit_scale,
                             p_.softcap};
      const Index row = i % row_blocks * step, column = words.begin + i / row_blocks * columns;
      const Range block{row, least(rows.size(), row + step)};
      gemm_block<Isa, E>(hidden, weight, block, Range{column, least(words.end, column + columns)}, vocab_,
                         hidden_, Scratch::template carve<Left>(own, block.size(), hidden_), sink);
    });
  }

  template <class Finish>
  void finish_rows(Range rows, const Finish& finish) {
    const Index blocks = ceil_div(rows.size(), kRowsAtOnce);
    stream_.team().parallel_for(stream_.num_threads(), blocks, [&](Index b, int) {
      for (Index i = b * kRowsAtOnce; i < least(rows.size(), (b + 1) * kRowsAtOnce); i++) {
        finish_row(rows.begin + i, groups_ + i * groups_of(vocab_), finish);
      }
    });
  }
  template <class Finish>
  void finish_row(Index row, const LogitGroup* groups, const Finish& finish) {
    const Index count = groups_of(vocab_);
    float largest = groups[0].largest;
    for (Index g = 1; g < count; g++) largest = groups[g].largest > largest ? groups[g].largest : largest;
    double sum = 0;
    for (Index g = 0; g < count; g++) {
      sum += static_cast<double>(__builtin_expf(groups[g].largest - largest)) *
             static_cast<double>(groups[g].sum);
    }
    const double lse = __builtin_log(sum) + static_cast<double>(largest);
    const bool here = words_[row] >= 0;
    const CappedLogit target(here ? static_cast<double>(target_logit_[row]) : 0,
                             static_cast<double>(p_.softcap));
    const LogitGradient gradient = finish(row, lse, target.value);
    gradients_[row] = gradient;
    // p - 1 of the target, not from a stored p: nearly all of it cancels where the model is sure.
    const double of_target =
        gradient.dlse * __builtin_expm1(target.value - gradient.lse) + (gradient.dlse + gradient.dtarget);
    of_target_[row] =
        here ? static_cast<float>(of_target * target.slope * static_cast<double>(p_.logit_scale)) : 0;
  }

  /// From exponentials to gradients. That of the target stays out: 0.
  void scale_rows(Range rows, Range words) {
    const Index blocks = ceil_div(rows.size(), kRowsAtOnce);
    stream_.team().parallel_for(stream_.num_threads(), blocks, [&](Index b, int) {
      for (Index i = b * kRowsAtOnce; i < least(rows.size(), (b + 1) * kRowsAtOnce); i++) {
        scale_row(i, gradients_[rows.begin + i], words);
        const Index target = words_[rows.begin + i] - words.begin;
        if (target >= 0 && target < words.size())
          Isa::store(dlogits_ + i * stride_of(words) + target, Isa::zero(), 1);
      }
    });
  }
  void scale_row(Index i, const LogitGradient& gradient, Range words) {
    const LogitGroup* groups = groups_ + i * groups_of(words.size());
    S* d = dlogits_ + i * stride_of(words);
    const double factor = gradient.dlse * static_cast<double>(p_.logit_scale);
    for (Index begin = 0; begin < words.size(); begin += group_columns_, groups++, d += group_columns_) {
      const double of_group = __builtin_exp(static_cast<double>(groups->largest) - gradient.lse);
      const typename Isa::Vec f = Isa::set(static_cast<float>(factor * of_group));
      const Index n = least(group_columns_, words.size() - begin);
      Index j = 0;
      for (; j + Isa::kLanes <= n; j += Isa::kLanes) Isa::store(d + j, Isa::load(d + j) * f);
      if (j < n) Isa::store(d + j, Isa::load(d + j, n - j) * f, n - j);
    }
  }

  void find_dhidden(Range rows) {
    const AlongK<S> left{dlogits_, stride_of(all_words())};
    const AcrossK<T> right{static_cast<const T*>(p_.weight.data), p_.weight.stride};
    const auto multiply = [&](auto* out) {
      using C = std::remove_pointer_t<decltype(out)>;
      const HiddenGradSink<Isa, T, C> sink{{out + rows.begin * to_.dhidden.stride, to_.dhidden.stride},
                                           words_ + rows.begin,
                                           of_target_ + rows.begin,
                                           p_.weight};
      product<Isa, T>(left, right, rows.size(), hidden_, vocab_, sink, stream_);
    };
    if (to_.dhidden.dtype == DType::kF32) {
      multiply(static_cast<float*>(to_.dhidden.data));
    } else {
      multiply(static_cast<BFloat16*>(to_.dhidden.data));
    }
  }

  /// Of some words, from the gradients of their logits; `more`: of rows before these there is some already.
  void find_dweight(Range rows, Range words, bool more) {
    if (!stream_.is_meta()) put_targets(rows, words);
    const AcrossK<S> left{dlogits_, stride_of(words)};
    const AcrossK<T> right{static_cast<const T*>(p_.hidden.data) + rows.begin * p_.hidden.stride,
                           p_.hidden.stride};
    const auto multiply = [&](auto* all) {
      using C = std::remove_pointer_t<decltype(all)>;
      C* out = all + words.begin * hidden_;
      MatmulSink<Isa, T, C> sink{out, hidden_};
      sink.accumulate = to_.accumulate_dweight || more;
      sink.stream =
          aligned_panels<C>(out, hidden_) && words.size() * hidden_ * Index{sizeof(C)} >= kStreamBytes;
      product<Isa, T>(left, right, words.size(), hidden_, rows.size(), sink, stream_);
    };
    if (to_.dweight_dtype == DType::kF32) {
      multiply(static_cast<float*>(to_.dweight));
    } else {
      multiply(static_cast<BFloat16*>(to_.dweight));
    }
  }
  /// Puts the targets' gradients in their places among those of the logits.
  void put_targets(Range rows, Range words) {
    for (Index i = 0; i < rows.size(); i++) {
      const Index target = words_[rows.begin + i] - words.begin;
      if (target >= 0 && target < words.size())
        Isa::store(dlogits_ + i * stride_of(words) + target, Isa::set(of_target_[rows.begin + i]), 1);
    }
  }

  const HeadOperands& p_;
  const HeadGradients& to_;
  const std::int32_t* targets_;
  Index vocab_begin_;
  device::Stream& stream_;
  Index rows_, hidden_, vocab_;
  Index group_columns_;  // of logits
  bool wants_gradient_;
  bool again_ = false;  // whether dweight has its logits made again,
  Index range_ = 0;     // so many columns at a time: whole groups
  Index chunks_ = 1, chunk_rows_ = 0;
  S* dlogits_ = nullptr;  // (chunk_rows, stride_of(all_words())) or (rows, that of a range); or null
  LogitGroup* groups_ = nullptr;
  // of all rows:
  LogitGradient* gradients_ = nullptr;
  std::int32_t* words_ = nullptr;  // the target's row of the weight, or -1
  float* target_logit_ = nullptr;  // before a softcap
  float* of_target_ = nullptr;     // the gradient of the target's logit; zero among dlogits_ until dhidden is
                                   // there
};

/// Head::run for the type of the operands; the other arguments as Head's.
template <class Isa, class Finish>
void run_head(const HeadOperands& head, const HeadGradients& gradients, const std::int32_t* targets,
              Index vocab_begin, device::Stream& stream, const Finish& finish) {
  if (head.hidden.dtype == DType::kF32) {
    Head<Isa, float>(head, gradients, targets, vocab_begin, stream).run(finish);
  } else {
    Head<Isa, BFloat16>(head, gradients, targets, vocab_begin, stream).run(finish);
  }
}

template <class Isa>
void MatrixKernels<Isa>::linear_cross_entropy(const LinearCrossEntropyArgs& a, device::Stream& stream) {
  const auto weight_of = [&](Index row) { return a.has_weights ? static_cast<double>(a.weights[row]) : 1.0; };
  run_head<Isa>(a.head, a.gradients, a.targets, 0, stream, [&](Index row, double lse, double target) {
    a.nll[row] = static_cast<float>(lse - target);
    const double scale = static_cast<double>(a.scale) * weight_of(row);
    return LogitGradient{lse, scale, -scale};
  });
  if (stream.is_meta()) return;
  double loss = 0;
  for (Index row = 0; row < a.head.hidden.rows; row++)
    loss += weight_of(row) * static_cast<double>(a.nll[row]);
  *a.loss = static_cast<float>(static_cast<double>(a.scale) * loss);
}

template <class Isa>
void MatrixKernels<Isa>::head_statistics(const HeadStatisticsArgs& a, device::Stream& stream) {
  run_head<Isa>(a.head, {}, a.targets, a.vocab_begin, stream, [&](Index row, double lse, double target) {
    a.lse[row] = static_cast<float>(lse);
    a.target_logit[row] = static_cast<float>(target);
    return LogitGradient{};
  });
}

template <class Isa>
void MatrixKernels<Isa>::head_grad(const HeadGradArgs& a, device::Stream& stream) {
  const HeadStatisticsArgs& f = a.forward;
  run_head<Isa>(f.head, a.gradients, f.targets, f.vocab_begin, stream, [&](Index row, double, double) {
    return LogitGradient{static_cast<double>(f.lse[row]), a.has_dlse ? static_cast<double>(a.dlse[row]) : 0,
                         a.has_dtarget_logit ? static_cast<double>(a.dtarget_logit[row]) : 0};
  });
}

}  // namespace hone::kernels::cpu
