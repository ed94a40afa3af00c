// experts: every expert's feed-forward network on the rows routed to it, then the sum of each token's rows.
//
// A piece of work is a block of rows of one expert: its tokens are gathered, multiplied by the gate and up
// rows (panels of half gate, half up, so that the activation is computed where the sums are), and by the down
// matrix. Where there is no gate, panels are up rows alone. The results wait in a row per (token, slot),
// because summing them in the order of slots is what makes the result independent of who computed what when.
// Where blocks are too few for the threads (a token being generated, few large experts), both products are
// cut by columns too.
#pragma once

#include "kernels/cpu/activation.h"
#include "kernels/cpu/experts_rows.h"
#include "kernels/cpu/fp8_kernels.h"
#include "kernels/cpu/matrix_kernels.h"
#include "kernels/cpu/product.h"

namespace hone::kernels::cpu {

/// Takes tiles of half gate, half up, or of up alone: adds the bias, keeps what comes of it, stores
/// activation = weight * f(gate) * up, or weight * f(up).
template <class Isa, class T, class S, bool kGated>
struct ActivationSink {
  static constexpr Index kParts = kGated ? 2 : 1;
  Activation function;
  float alpha, limit;
  const T* bias;  // (kParts * ffn), or null
  T* pre;         // (rows, kParts * ffn), or null
  S* activation;
  Index stride;  // of activation
  Index ffn;
  const float* weight;  // of each row

  [[gnu::always_inline]] bool direct(Index /*j*/, Index /*columns*/) const { return false; }
  [[gnu::always_inline]] TileOut<Isa, float> target(Index /*row*/, Index /*j*/) const { return {}; }
  [[gnu::always_inline]] void prefetch(Index /*row*/, Index /*rows*/, Index /*j*/) const {}
  void finish(Index row, Index rows, Index j, Index columns, const float* tile) {
    with_activation(function, [&](auto f) {
      const Activate<Isa, decltype(f)::value> activate(alpha, limit);
      if constexpr (kGated) {
        finish_lanes(activate, row, rows, j / 2, tile);
      } else {
        for (Index h = 0; h < columns; h += Isa::kLanes) finish_lanes(activate, row, rows, j + h, tile + h);
      }
    });
  }

 private:
  /// kLanes columns of the activation, from column `first` on.
  template <class Function>
  [[gnu::always_inline]] void finish_lanes(const Function& activate, Index row, Index rows, Index first,
                                           const float* tile) {
    using Vec = typename Isa::Vec;
    const Index n = least(Isa::kLanes, ffn - first);
    Vec gate_bias = Isa::zero(), up_bias = gate_bias, up = Isa::set(1.0F);
    if (bias != nullptr) {
      gate_bias = load_lanes<Isa>(bias + first, n);
      if constexpr (kGated) up_bias = load_lanes<Isa>(bias + ffn + first, n);
    }
    for (Index i = row; i < row + rows; i++, tile += kPanel<Isa>) {
      Vec gate = Isa::load(tile);
      if constexpr (kGated) up = Isa::load(tile + Isa::kLanes);
      if (bias != nullptr) {
        gate = gate + gate_bias;
        if constexpr (kGated) up = up + up_bias;
      }
      if (pre != nullptr) {
        store_lanes<Isa>(pre + i * kParts * ffn + first, gate, n);
        if constexpr (kGated) store_lanes<Isa>(pre + i * kParts * ffn + ffn + first, up, n);
      }
      store_lanes<Isa>(activation + i * stride + first, Isa::set(weight[i]) * activate(gate, up).value, n);
    }
  }
};

/// Stores every row's share of its token's result: c = sum [+ weight * bias].
template <class Isa, class T>
struct DownSink {
  float* c;
  Index stride;
  const T* bias;                    // or null
  const float* weights;             // of every (token, slot)
  const std::int32_t* permutation;  // of the rows

  [[gnu::always_inline]] bool direct(Index /*j*/, Index columns) const {
    return columns == kPanel<Isa> && bias == nullptr;
  }
  [[gnu::always_inline]] TileOut<Isa, float> target(Index row, Index j) const {
    return {c + row * stride + j, stride, false};
  }
  [[gnu::always_inline]] void prefetch(Index /*row*/, Index /*rows*/, Index /*j*/) const {}
  void finish(Index row, Index rows, Index j, Index columns, const float* tile) {
    for (Index h = 0; h < columns; h += Isa::kLanes) {
      const Index n = least(Isa::kLanes, columns - h);
      const typename Isa::Vec b = bias != nullptr ? load_lanes<Isa>(bias + j + h, n) : Isa::zero();
      for (Index i = row; i < row + rows; i++) {
        typename Isa::Vec v = Isa::load(tile + (i - row) * kPanel<Isa> + h);
        if (bias != nullptr) v = Isa::fma(Isa::set(weights[permutation[i]]), b, v);
        store_lanes<Isa>(c + i * stride + j + h, v, n);
      }
    }
  }
};

template <class Isa, class T>
class ExpertsForward {
 public:
  using E = Compute<Isa, T>;
  using S = Stored<E>;
  ExpertsForward(const ExpertsArgs& args, device::Stream& stream)
      : args_(args),
        stream_(stream),
        hidden_(args.x.cols),
        ffn_(args.ffn),
        rows_(args.x.rows * args.top_k),
        panel_columns_(args.gated ? 2 * round_up(ffn_, Isa::kLanes) : ffn_) {}

  void run() {
    const int threads = stream_.num_threads();
    const ExpertPlan plan(args_.offsets, args_.experts, rows_, block_rows(threads));
    const bool whole = plan.balanced(threads);
    Carver count(nullptr);
    carve_shared(count, whole);
    Carver shared(stream_.shared_workspace(static_cast<std::size_t>(count.used())));
    carve_shared(shared, whole);
    const ThreadScratch<Isa> memory(stream_, threads, scratch_floats(plan.largest(), whole));
    if (stream_.is_meta()) return;
    find_tokens<Isa>(args_, token_of_);
    if (whole) {
      run_blocks(plan, memory);
    } else {
      run_columns(plan, memory);
    }
    const auto* residual = args_.residual.given() ? static_cast<const float*>(args_.residual.data) : nullptr;
    with_f32_or<T>(args_.y.dtype, [&](auto y) {
      combine_rows<Isa>(args_, rows_out_, residual, args_.residual.stride,
                        static_cast<TypeOf<decltype(y)>*>(args_.y.data), args_.y.stride, stream_);
    });
  }

 private:
  using Scratch = GemmScratch<Isa, E>;
  using Left = AlongK<S>;

  /// Rows of a block: enough blocks for the threads, but not so few rows that packing the weights counts.
  Index block_rows(int threads) const {
    const Index share = ceil_div(rows_, 3 * threads), fits = most(128, (1 << 22) / (hidden_ + ffn_));
    return least(most(share, 128), least(1024, fits));
  }
  void carve_shared(Carver& shared, bool whole) {
    rows_out_ = shared.take<float>(rows_ * hidden_);
    token_of_ = shared.take<std::int32_t>(rows_);
    if (!whole) activation_ = shared.take<S>(rows_ * padded<S>(ffn_));
  }
  /// The block of thread scratch: products, gathered rows, activations, routing weights, rows of quantised
  /// weights.
  struct Memory {
    float* product;
    S* x;
    S* activation;
    float* weight;
    T* decoded;
  };
  Memory carve_thread(Carver& carver, Index rows, bool whole) const {
    Memory m;
    m.product = carver.take<float>(most(Scratch::template size<Left>(rows, panel_columns_, hidden_),
                                        Scratch::template size<Left>(rows, hidden_, ffn_)));
    m.x = carver.take<S>(rows * padded<S>(hidden_));
    m.activation = carver.take<S>(whole ? rows * padded<S>(ffn_) : 0);
    m.weight = carver.take<float>(rows);
    m.decoded = carver.take<T>(most(args_.gate_up.kind != WeightKind::kDense ? 4 * padded<T>(hidden_) : 0,
                                    args_.down.kind != WeightKind::kDense ? 4 * padded<T>(ffn_) : 0));
    return m;
  }
  Index scratch_floats(Index rows, bool whole) const {
    Carver count(nullptr);
    carve_thread(count, rows, whole);
    return ceil_div(count.used(), Index{sizeof(float)});
  }

  template <class B, class Sink>
  void multiply(const Left& a, const B& b, Index rows, Range columns, Index n, Index k, float* memory,
                Sink& sink) {
    if (rows <= kMaxDotRows) {
      alignas(64) float tile[kMaxDotRows * kPanel<Isa>];
      dot_block<Isa>(a, b, Range{0, rows}, columns, k, tile, sink);
    } else {
      gemm_block<Isa, E>(a, b, Range{0, rows}, columns, n, k, Scratch::template carve<Left>(memory, rows, k),
                         sink);
    }
  }
  void gate_up(const ExpertBlock& block, const Memory& m, S* activation, Range columns) {
    const auto* x = static_cast<const T*>(args_.x.data);
    gather_rows<Isa>(x, args_.x.stride, token_of_ + block.begin, block.rows(), hidden_, m.x,
                     padded<S>(hidden_));
    for (Index i = 0; i < block.rows(); i++) m.weight[i] = args_.weights[args_.permutation[block.begin + i]];
    if (args_.gated) {
      activate<true>(block, m, activation, columns);
    } else {
      activate<false>(block, m, activation, columns);
    }
  }
  template <bool kGated>
  void activate(const ExpertBlock& block, const Memory& m, S* activation, Range columns) {
    const Index inner = args_.inner();
    const T* bias = args_.has_gate_up_bias ? static_cast<const T*>(args_.gate_up_bias) : nullptr;
    T* pre = args_.wants_pre_activation ? static_cast<T*>(args_.pre_activation) : nullptr;
    ActivationSink<Isa, T, S, kGated> sink{args_.activation,
                                           args_.alpha,
                                           args_.limit,
                                           bias != nullptr ? bias + block.expert * inner : nullptr,
                                           pre != nullptr ? pre + block.begin * inner : nullptr,
                                           activation,
                                           padded<S>(ffn_),
                                           ffn_,
                                           m.weight};
    const auto multiply_by = [&](const auto& weight) {
      multiply(Left{m.x, padded<S>(hidden_)}, weight, block.rows(), columns, panel_columns_, hidden_,
               m.product, sink);
    };
    if (args_.gate_up.kind != WeightKind::kDense) {
      multiply_by(QuantisedAlongK<T>{gate_up_of(args_, block.expert), kGated, m.decoded, padded<T>(hidden_)});
      return;
    }
    const T* weight = static_cast<const T*>(args_.gate_up.data) + block.expert * inner * hidden_;
    if constexpr (kGated) {
      multiply_by(GateUp<T>{weight, hidden_, ffn_});
    } else {
      multiply_by(AlongK<T>{weight, hidden_});
    }
  }
  void down(const ExpertBlock& block, const Memory& m, const S* activation, Range columns) {
    const T* bias = args_.has_down_bias ? static_cast<const T*>(args_.down_bias) : nullptr;
    DownSink<Isa, T> sink{rows_out_ + block.begin * hidden_, hidden_,
                          bias != nullptr ? bias + block.expert * hidden_ : nullptr, args_.weights,
                          args_.permutation + block.begin};
    const auto multiply_by = [&](const auto& weight) {
      multiply(Left{activation, padded<S>(ffn_)}, weight, block.rows(), columns, hidden_, ffn_, m.product,
               sink);
    };
    if (args_.down.kind != WeightKind::kDense) {
      multiply_by(QuantisedAlongK<T>{down_of(args_, block.expert), false, m.decoded, padded<T>(ffn_)});
    } else {
      multiply_by(AlongK<T>{static_cast<const T*>(args_.down.data) + block.expert * hidden_ * ffn_, ffn_});
    }
  }

  void run_blocks(const ExpertPlan& plan, const ThreadScratch<Isa>& memory) {
    stream_.team().parallel_for(stream_.num_threads(), plan.size(), [&](Index i, int thread) {
      Carver carver(memory.of(thread));
      const Memory m = carve_thread(carver, plan.largest(), true);
      gate_up(plan[i], m, m.activation, Range{0, panel_columns_});
      down(plan[i], m, m.activation, Range{0, hidden_});
    });
  }
  void run_columns(const ExpertPlan& plan, const ThreadScratch<Isa>& memory) {
    const int threads = stream_.num_threads();
    const Index parts = ceil_div(4 * Index{threads}, most(1, plan.size()));
    const auto over_parts = [&](Index n, const auto& multiply_part) {
      stream_.team().parallel_for(threads, plan.size() * parts, [&](Index i, int thread) {
        Carver carver(memory.of(thread));
        const Memory m = carve_thread(carver, plan.largest(), false);
        const ExpertBlock& block = plan[i / parts];
        const Range columns = part_of(n, i % parts, parts);
        if (columns.size() > 0) multiply_part(block, m, activation_ + block.begin * padded<S>(ffn_), columns);
      });
    };
    over_parts(panel_columns_, [&](const auto&... part) { gate_up(part...); });
    over_parts(hidden_, [&](const auto&... part) { down(part...); });
  }
  /// Whole panels: part `part` of `parts` of n columns.
  static Range part_of(Index n, Index part, Index parts) {
    const Index panels = ceil_div(n, kPanel<Isa>);
    return {panels * part / parts * kPanel<Isa>, least(n, panels * (part + 1) / parts * kPanel<Isa>)};
  }

  const ExpertsArgs& args_;
  device::Stream& stream_;
  Index hidden_, ffn_, rows_, panel_columns_;
  float* rows_out_ = nullptr;         // (rows, hidden): every row's share of its token's result
  std::int32_t* token_of_ = nullptr;  // (rows)
  S* activation_ = nullptr;           // (rows, padded ffn), where products are cut by columns
};

template <class Isa>
void MatrixKernels<Isa>::experts(const ExpertsArgs& args, device::Stream& stream) {
  if (args.fp8) return Fp8Kernels<Isa>::experts(args, stream);
  if (args.x.dtype == DType::kF32) {
    ExpertsForward<Isa, float>(args, stream).run();
  } else {
    ExpertsForward<Isa, BFloat16>(args, stream).run();
  }
}

}  // namespace hone::kernels::cpu
