// Experts whose products are of operands in FP8 (ExpertsArgs::fp8): expert by expert, each product on all
// threads. Every token has at most one row of an expert, so that each adds its rows to the sums of their
// tokens in turn, in the order of experts. Rounded weights are those of one expert at a time.
#pragma once

#include "kernels/cpu/activation.h"
#include "kernels/cpu/experts_rows.h"
#include "kernels/cpu/fp8_matmul.h"

namespace hone::kernels::cpu {

/// What both directions do.
template <class Isa, class T>
class Fp8Experts {
 public:
  Fp8Experts(const ExpertsArgs& args, device::Stream& stream)
      : args_(args),
        stream_(stream),
        tokens_(args.x.rows),
        hidden_(args.x.cols),
        ffn_(args.ffn),
        inner_(args.inner()),
        most_rows_(args.x.rows) {}

 protected:
  static constexpr DType kT = sizeof(T) == sizeof(float) ? DType::kF32 : DType::kBF16;

  /// Calls f(block) for every expert, those without rows too, in their order.
  template <class F>
  [[gnu::always_inline]] inline void over_experts(const F& f) {
    const Index evenly = tokens_ * args_.top_k / most(1, args_.experts);  // meta knows no better
    for (Index e = 0; e < args_.experts; e++) {
      const bool known = args_.offsets != nullptr;
      f(ExpertBlock{e, known ? args_.offsets[e] : 0, known ? args_.offsets[e + 1] : evenly});
    }
  }
  Index token_of(const ExpertBlock& block, Index row) const {
    return args_.permutation[block.begin + row] / args_.top_k;
  }
  float weight_of(const ExpertBlock& block, Index row) const {
    return args_.weights[args_.permutation[block.begin + row]];
  }

  // On the meta device none of these does anything.
  void round(const T* from, Index from_stride, Index rows, Index cols, Fp8Blocks blocks, T* to,
             Index to_stride) {
    if (stream_.is_meta()) return;
    round_fp8<Isa, T>(from, from_stride, rows, cols, blocks, to, to_stride, stream_);
  }
  /// An expert's rounded weight, part by part, `k` apart.
  const T* round_weight(const ExpertWeight& weight, Index expert, Index parts, Index rows, Index k, T* to) {
    for (Index part = 0; part < parts; part++) {
      const Index at = part * rows * k;
      round(static_cast<const T*>(weight.data) + expert * parts * rows * k + at, k, rows, k,
            Fp8Blocks::kSquares, to + at, k);
    }
    return to;
  }
  /// Row r of `to` is row token_of(r) of x.
  void gather(const ExpertBlock& block, const T* x, Index stride, T* to) {
    over_rows<Isa>(block.rows(), hidden_, stream_, [&](Index r) {
      __builtin_memcpy(static_cast<void*>(to + r * hidden_), x + token_of(block, r) * stride,
                       static_cast<std::size_t>(hidden_) * sizeof(T));
    });
  }
  /// sums of a row's token += [weight *] (row [+ bias]).
  void scatter(const ExpertBlock& block, const float* rows, const T* bias, bool weighted, float* sums) {
    over_rows<Isa>(block.rows(), hidden_, stream_, [&](Index r) {
      float* sum = sums + token_of(block, r) * hidden_;
      const auto weight = Isa::set(weighted ? weight_of(block, r) : 1.0F);
      for_lanes<Isa>(
          hidden_, [&](Index j, auto lanes) __attribute__((always_inline)) {
            auto v = load<Isa>(rows + r * hidden_ + j, lanes);
            if (bias != nullptr) v = v + load<Isa>(bias + j, lanes);
            store<Isa>(sum + j, Isa::fma(weight, v, load<Isa>(sum + j, lanes)), lanes);
          });
    });
  }
  void clear(float* sums) {
    over_rows<Isa>(tokens_, hidden_, stream_, [&](Index i) {
      __builtin_memset(sums + i * hidden_, 0, static_cast<std::size_t>(hidden_) * sizeof(float));
    });
  }
  /// out = sums [+ base].
  template <class B, class Y>
  void put(const float* sums, const B* base, Index base_stride, Y* out, Index stride) {
    over_rows<Isa>(tokens_, hidden_, stream_, [&](Index i) {
      for_lanes<Isa>(
          hidden_, [&](Index j, auto lanes) __attribute__((always_inline)) {
            auto v = load<Isa>(sums + i * hidden_ + j, lanes);
            if (base != nullptr) v = v + load<Isa>(base + i * base_stride + j, lanes);
            store<Isa>(out + i * stride + j, v, lanes);
          });
    });
  }
  /// c (m, n) = [c +] op(a) op(b), rows of all as long as they are.
  void multiply(const T* a, bool transpose_a, const T* b, bool transpose_b, Index m, Index n, Index k,
                void* c, DType dtype, bool accumulate = false) {
    MatmulArgs product;
    product.a = transpose_a ? dense(a, k, m) : dense(a, m, k);
    product.b = transpose_b ? dense(b, n, k) : dense(b, k, n);
    product.c = {c, dtype, m, n, n};
    product.transpose_a = transpose_a;
    product.transpose_b = transpose_b;
    product.accumulate = accumulate;
    MatrixKernels<Isa>::matmul(product, stream_);
  }
  static Matrix dense(const T* data, Index rows, Index cols) {
    return {const_cast<T*>(data), kT, rows, cols, cols};
  }

  const ExpertsArgs& args_;
  device::Stream& stream_;
  Index tokens_, hidden_, ffn_, inner_;
  Index most_rows_;  // of an expert
};

template <class Isa, class T>
class Fp8ExpertsForward : Fp8Experts<Isa, T> {
 public:
  using Base = Fp8Experts<Isa, T>;
  using Base::Base;

  void run() {
    Carver count(nullptr);
    carve(count);
    Carver carver(stream_.shared_workspace(static_cast<std::size_t>(count.used())));
    carve(carver);
    Base::round(static_cast<const T*>(args_.x.data), args_.x.stride, tokens_, hidden_, Fp8Blocks::kAlongRows,
                x_, hidden_);
    Base::clear(sums_);
    Base::over_experts([&](const ExpertBlock& block) { expert(block); });
    if (stream_.is_meta()) return;
    const auto* residual = args_.residual.given() ? static_cast<const float*>(args_.residual.data) : nullptr;
    with_f32_or<T>(args_.y.dtype, [&](auto y) {
      Base::put(sums_, residual, args_.residual.stride, static_cast<TypeOf<decltype(y)>*>(args_.y.data),
                args_.y.stride);
    });
  }

 private:
  using Base::args_, Base::stream_, Base::tokens_, Base::hidden_, Base::ffn_, Base::inner_, Base::most_rows_;

  void carve(Carver& carver) {
    x_ = carver.take<T>(tokens_ * hidden_);
    sums_ = carver.take<float>(tokens_ * hidden_);
    weight_ = carver.take<T>(inner_ * hidden_);
    rows_ = carver.take<T>(most_rows_ * hidden_);
    pre_ = carver.take<float>(most_rows_ * inner_);
    activation_ = carver.take<T>(most_rows_ * ffn_);
    out_ = carver.take<float>(most_rows_ * hidden_);
  }

  void expert(const ExpertBlock& block) {
    const Index n = block.rows();
    if (n == 0) return;
    Base::gather(block, x_, hidden_, rows_);
    const T* gate_up = Base::round_weight(args_.gate_up, block.expert, args_.parts(), ffn_, hidden_, weight_);
    Base::multiply(rows_, false, gate_up, true, n, inner_, hidden_, pre_, DType::kF32);
    activate(block);
    Base::round(activation_, ffn_, n, ffn_, Fp8Blocks::kAlongRows, activation_, ffn_);
    const T* down = Base::round_weight(args_.down, block.expert, 1, hidden_, ffn_, weight_);
    Base::multiply(activation_, false, down, true, n, hidden_, ffn_, out_, DType::kF32);
    const T* bias =
        args_.has_down_bias ? static_cast<const T*>(args_.down_bias) + block.expert * hidden_ : nullptr;
    Base::scatter(block, out_, bias, true, sums_);
  }

  void activate(const ExpertBlock& block) {
    const T* bias =
        args_.has_gate_up_bias ? static_cast<const T*>(args_.gate_up_bias) + block.expert * inner_ : nullptr;
    T* kept =
        args_.wants_pre_activation ? static_cast<T*>(args_.pre_activation) + block.begin * inner_ : nullptr;
    with_activation(args_.activation, [&](auto f) {
      const Activate<Isa, decltype(f)::value> activate(args_.alpha, args_.limit);
      over_rows<Isa>(block.rows(), inner_, stream_, [&](Index r) {
        float* pre = pre_ + r * inner_;
        for_lanes<Isa>(
            inner_, [&](Index j, auto lanes) __attribute__((always_inline)) {
              auto v = load<Isa>(pre + j, lanes);
              if (bias != nullptr) v = v + load<Isa>(bias + j, lanes);
              store<Isa>(pre + j, v, lanes);
              if (kept != nullptr) store<Isa>(kept + r * inner_ + j, v, lanes);
            });
        for_lanes<Isa>(
            ffn_, [&](Index j, auto lanes) __attribute__((always_inline)) {
              const auto up = args_.gated ? load<Isa>(pre + ffn_ + j, lanes) : Isa::set(1.0F);
              store<Isa>(activation_ + r * ffn_ + j, activate(load<Isa>(pre + j, lanes), up).value, lanes);
            });
      });
    });
  }

  T* x_ = nullptr;           // (tokens, hidden), rounded
  float* sums_ = nullptr;    // (tokens, hidden)
  T* weight_ = nullptr;      // an expert's, rounded; gate_up's is the larger
  T* rows_ = nullptr;        // (rows, hidden)
  float* pre_ = nullptr;     // (rows, inner)
  T* activation_ = nullptr;  // (rows, ffn)
  float* out_ = nullptr;     // (rows, hidden)
};

template <class Isa, class T>
class Fp8ExpertsBackward : Fp8Experts<Isa, T> {
 public:
  using Base = Fp8Experts<Isa, T>;
  Fp8ExpertsBackward(const ExpertsGradArgs& args, device::Stream& stream)
      : Base(args.forward, stream), grad_(args) {}

  void run() {
    Carver count(nullptr);
    carve(count);
    Carver carver(stream_.shared_workspace(static_cast<std::size_t>(count.used())));
    carve(carver);
    if (!stream_.is_meta()) begin();
    Base::over_experts([&](const ExpertBlock& block) { expert(block); });
    if (stream_.is_meta() || !grad_.dx.given()) return;
    with_dtype(grad_.dx.dtype, [&](auto tag) {
      auto* dx = static_cast<TypeOf<decltype(tag)>*>(grad_.dx.data);
      Base::put(sums_, grad_.accumulate_dx ? dx : nullptr, grad_.dx.stride, dx, grad_.dx.stride);
    });
  }

 private:
  using Base::args_, Base::stream_, Base::tokens_, Base::hidden_, Base::ffn_, Base::inner_, Base::most_rows_;

  bool converts_dy() const { return grad_.dy.dtype != Base::kT; }
  void carve(Carver& carver) {
    dy_ = carver.take<T>(converts_dy() ? tokens_ * hidden_ : 0);
    dy_rounded_ = carver.take<T>(tokens_ * hidden_);
    sums_ = carver.take<float>(grad_.dx.given() ? tokens_ * hidden_ : 0);
    weight_ = carver.take<T>(inner_ * hidden_);
    rows_ = carver.take<T>(most_rows_ * hidden_);
    products_ = carver.take<float>(most_rows_ * most(hidden_, ffn_));
    activation_ = carver.take<T>(most_rows_ * ffn_);
    dpre_ = carver.take<T>(most_rows_ * inner_);
  }

  /// What is made once, of all tokens.
  void begin() {
    dy_stride_ = converts_dy() ? hidden_ : grad_.dy.stride;
    if (converts_dy()) {
      over_rows<Isa>(tokens_, hidden_, stream_, [&](Index i) {
        convert_rows<Isa>(static_cast<const float*>(grad_.dy.data) + i * grad_.dy.stride, 0, 1, hidden_,
                          dy_ + i * hidden_, 0);
      });
    } else {
      dy_ = static_cast<T*>(grad_.dy.data);
    }
    Base::round(dy_, dy_stride_, tokens_, hidden_, Fp8Blocks::kAlongRows, dy_rounded_, hidden_);
    if (grad_.dx.given()) Base::clear(sums_);
    for (Index i = 0; grad_.wants_dweights && i < tokens_ * args_.top_k; i++) {
      if (args_.inverse[i] < 0) grad_.dweights[i] = 0;  // a slot that goes nowhere
    }
  }

  void expert(const ExpertBlock& block) {
    const Index n = block.rows();
    const T* down = Base::round_weight(args_.down, block.expert, 1, hidden_, ffn_, weight_);
    Base::gather(block, dy_rounded_, hidden_, rows_);
    Base::multiply(rows_, false, down, false, n, ffn_, hidden_, products_, DType::kF32);
    activation_grad(block);
    if (grad_.wants_ddown_bias) down_bias_grad(block);
    if (grad_.wants_dgate_up_bias) gate_up_bias_grad(block);
    if (grad_.wants_ddown && (n > 0 || !grad_.accumulate_ddown)) {
      Base::gather(block, dy_, dy_stride_, rows_);
      Base::multiply(rows_, true, activation_, false, hidden_, ffn_, n,
                     expert_of(grad_.ddown, grad_.ddown_dtype, block, hidden_ * ffn_), grad_.ddown_dtype,
                     grad_.accumulate_ddown);
    }
    if (grad_.wants_dgate_up && (n > 0 || !grad_.accumulate_dgate_up)) {
      Base::gather(block, static_cast<const T*>(args_.x.data), args_.x.stride, rows_);
      Base::multiply(dpre_, true, rows_, false, inner_, hidden_, n,
                     expert_of(grad_.dgate_up, grad_.dgate_up_dtype, block, inner_ * hidden_),
                     grad_.dgate_up_dtype, grad_.accumulate_dgate_up);
    }
    if (!grad_.dx.given()) return;
    for (Index part = 0; part < inner_; part += ffn_)
      Base::round(dpre_ + part, inner_, n, ffn_, Fp8Blocks::kAlongRows, dpre_ + part, inner_);
    const T* gate_up = Base::round_weight(args_.gate_up, block.expert, args_.parts(), ffn_, hidden_, weight_);
    Base::multiply(dpre_, false, gate_up, false, n, hidden_, inner_, products_, DType::kF32);
    Base::scatter(block, products_, nullptr, false, sums_);
  }
  static void* expert_of(void* grad, DType dtype, const ExpertBlock& block, Index elements) {
    return static_cast<char*>(grad) + block.expert * elements * (dtype == DType::kF32 ? 4 : 2);
  }

  /// From products_, the gradient of the activation: activation_ (with the routing weight), dpre_ and
  /// dweights.
  void activation_grad(const ExpertBlock& block) {
    if (stream_.is_meta()) return;
    const T* kept = static_cast<const T*>(args_.pre_activation) + block.begin * inner_;
    with_activation(args_.activation, [&](auto f) {
      const Activate<Isa, decltype(f)::value> activate(args_.alpha, args_.limit);
      over_rows<Isa>(block.rows(), inner_, stream_, [&](Index r) {
        const float* dact = products_ + r * ffn_;
        const T* pre = kept + r * inner_;
        T *h = activation_ + r * ffn_, *dpre = dpre_ + r * inner_;
        const auto weight = Isa::set(Base::weight_of(block, r));
        double dot = sum_lanes<Isa>(
            ffn_, [&](Index j, auto lanes, auto sum) __attribute__((always_inline)) {
              const auto up = args_.gated ? load<Isa>(pre + ffn_ + j, lanes) : Isa::set(1.0F);
              const auto at = activate(load<Isa>(pre + j, lanes), up);
              const auto d = load<Isa>(dact + j, lanes), dw = d * weight;
              store<Isa>(h + j, at.value * weight, lanes);
              store<Isa>(dpre + j, dw * at.of_gate, lanes);
              if (args_.gated) store<Isa>(dpre + ffn_ + j, dw * at.of_up, lanes);
              return Isa::fma(first_lanes<Isa>(d, Isa::zero(), lanes), at.value, sum);
            });
        if (!grad_.wants_dweights) return;
        if (args_.has_down_bias) dot += bias_dot(block, r);
        grad_.dweights[args_.permutation[block.begin + r]] = static_cast<float>(dot);
      });
    });
  }
  /// <dy, down_bias> of a row.
  double bias_dot(const ExpertBlock& block, Index r) const {
    const T* bias = static_cast<const T*>(args_.down_bias) + block.expert * hidden_;
    const T* dy = dy_ + Base::token_of(block, r) * dy_stride_;
    return sum_lanes<Isa>(
        hidden_, [&](Index j, auto lanes, auto sum) __attribute__((always_inline)) {
          return Isa::fma(load<Isa>(dy + j, lanes), load<Isa>(bias + j, lanes), sum);
        });
  }
  /// out[j] = [itself +] the sum over the expert's rows of term(row, j, lanes), in pieces of kPiece rows.
  template <class Term>
  void bias_grad(void* grad, DType dtype, bool accumulate, const ExpertBlock& block, Index cols,
                 const Term& term) {
    if (stream_.is_meta()) return;
    with_dtype(dtype, [&](auto tag) {
      auto* out = static_cast<TypeOf<decltype(tag)>*>(grad) + block.expert * cols;
      over_elements<Isa>(1, cols, true, stream_, [&](Index, Index first, Index end) {
        for_lanes<Isa>(
            end - first, [&](Index at, auto lanes) __attribute__((always_inline)) {
              const Index j = first + at;
              auto total = Isa::wide_zero();
              for (Index begin = 0; begin < block.rows(); begin += kPiece) {
                auto sum = Isa::zero();
                for (Index r = begin; r < least(block.rows(), begin + kPiece); r++)
                  sum = sum + term(r, j, lanes);
                total = Isa::add(total, sum);
              }
              auto sum = Isa::rounded(total);
              if (accumulate) sum = sum + load<Isa>(out + j, lanes);
              store<Isa>(out + j, sum, lanes);
            });
      });
    });
  }
  void down_bias_grad(const ExpertBlock& block) {
    bias_grad(
        grad_.ddown_bias, grad_.ddown_bias_dtype, grad_.accumulate_ddown_bias, block,
        hidden_, [&](Index r, Index j, auto lanes) __attribute__((always_inline)) {
          return Isa::set(Base::weight_of(block, r)) *
                 load<Isa>(dy_ + Base::token_of(block, r) * dy_stride_ + j, lanes);
        });
  }
  void gate_up_bias_grad(const ExpertBlock& block) {
    bias_grad(
        grad_.dgate_up_bias, grad_.dgate_up_bias_dtype, grad_.accumulate_dgate_up_bias, block,
        inner_, [&](Index r, Index j, auto lanes) __attribute__((always_inline)) {
          return load<Isa>(dpre_ + r * inner_ + j, lanes);
        });
  }

  const ExpertsGradArgs& grad_;
  Index dy_stride_ = 0;
  T* dy_ = nullptr;            // (tokens, hidden) in T
  T* dy_rounded_ = nullptr;    // along its rows
  float* sums_ = nullptr;      // (tokens, hidden): dx
  T* weight_ = nullptr;        // an expert's, rounded
  T* rows_ = nullptr;          // (rows, hidden)
  float* products_ = nullptr;  // (rows, ffn) or (rows, hidden)
  T* activation_ = nullptr;    // (rows, ffn)
  T* dpre_ = nullptr;          // (rows, inner)
};

template <class Isa>
void Fp8Kernels<Isa>::experts(const ExpertsArgs& args, device::Stream& stream) {
  if (args.x.dtype == DType::kF32) {
    Fp8ExpertsForward<Isa, float>(args, stream).run();
  } else {
    Fp8ExpertsForward<Isa, BFloat16>(args, stream).run();
  }
}
template <class Isa>
void Fp8Kernels<Isa>::experts_grad(const ExpertsGradArgs& args, device::Stream& stream) {
  if (args.forward.x.dtype == DType::kF32) {
    Fp8ExpertsBackward<Isa, float>(args, stream).run();
  } else {
    Fp8ExpertsBackward<Isa, BFloat16>(args, stream).run();
  }
}

}  // namespace hone::kernels::cpu
