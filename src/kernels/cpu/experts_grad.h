// experts_grad: the gradients of every expert's weights and biases, of the routing weights and of x.
//
// Three stages for each expert: (1) for its rows, the gradient of the activation, and from it and the kept
// pre-activation the activation itself, the gradient of the pre-activation and that of the routing weight
// (which is <d activation, activation>, before weighting, and <dy, down_bias> more); (2) the gradients of
// weights and biases, products and sums over all rows of the expert; (3) the rows' gradients of x. The rows'
// gradients are then summed by token. Where experts are small and many, one thread takes all stages of an
// expert, in its own caches; else every stage is cut on its own. Both ways compute the same numbers.
#pragma once

#include "kernels/cpu/activation.h"
#include "kernels/cpu/experts_rows.h"
#include "kernels/cpu/fp8_kernels.h"
#include "kernels/cpu/matrix_kernels.h"
#include "kernels/cpu/product.h"
#include "kernels/reference/reference.h"

namespace hone::kernels::cpu {

/// Takes tiles of the gradient of the unweighted activation.
template <class Isa, class T, class S, bool kGated>
struct ActivationGradSink {
  static constexpr Index kParts = kGated ? 2 : 1;
  Activation function;
  float alpha, limit;
  const T* pre;         // (rows, kParts * ffn): gate | up, or up alone
  const float* weight;  // of each row
  S* activation;        // (rows, ffn): weight * f(gate) * up
  Index activation_stride;
  S* dpre;  // as pre
  Index dpre_stride;
  float* dweight;  // (rows, 2, kLanes): lanes to be summed, of this chain and of those before; set by the
                   // first panel
  Index ffn;
  static constexpr Index kChainColumns = 64 * kPanel<Isa>;  // 128 additions to a lane

  [[gnu::always_inline]] bool direct(Index /*j*/, Index /*columns*/) const { return false; }
  [[gnu::always_inline]] TileOut<Isa, float> target(Index /*row*/, Index /*j*/) const { return {}; }
  [[gnu::always_inline]] void prefetch(Index row, Index rows, Index j) const {
    for (Index i = row; i < row + rows; i++) {
      prefetch_panel<Isa>(pre + i * kParts * ffn + j);
      if (kGated) prefetch_panel<Isa>(pre + i * kParts * ffn + ffn + j);
    }
  }
  void finish(Index row, Index rows, Index j, Index columns, const float* tile) {
    with_activation(function, [&](auto f) {
      finish_as(Activate<Isa, decltype(f)::value>(alpha, limit), row, rows, j, columns, tile);
    });
  }

 private:
  template <class Function>
  [[gnu::always_inline]] void finish_as(const Function& activate, Index row, Index rows, Index j,
                                        Index columns, const float* tile) {
    using Vec = typename Isa::Vec;
    Vec up = Isa::set(1.0F);
    for (Index i = row; i < row + rows; i++, tile += kPanel<Isa>) {
      const T* kept = pre + i * kParts * ffn + j;
      const Vec w = Isa::set(weight[i]);
      float* lanes = dweight + i * 2 * Isa::kLanes;
      Vec dot = Isa::zero();
      if (j % kChainColumns != 0) {
        dot = Isa::load(lanes);
      } else {
        Isa::store(lanes + Isa::kLanes, j == 0 ? dot : Isa::load(lanes + Isa::kLanes) + Isa::load(lanes));
      }
      for (Index h = 0; h < columns; h += Isa::kLanes) {
        const Index n = least(Isa::kLanes, columns - h);
        if constexpr (kGated) up = load_lanes<Isa>(kept + ffn + h, n);
        const Activated<Isa> at = activate(load_lanes<Isa>(kept + h, n), up);
        const Vec d = Isa::load(tile + h);
        dot = Isa::fma(n == Isa::kLanes ? d : Isa::blend(d, Isa::zero(), n), at.value, dot);
        const Vec dw = d * w;
        store_lanes<Isa>(activation + i * activation_stride + j + h, at.value * w, n);
        S* out = dpre + i * dpre_stride + j + h;
        store_lanes<Isa>(out, dw * at.of_gate, n);
        if constexpr (kGated) store_lanes<Isa>(out + ffn, dw * at.of_up, n);
      }
      Isa::store(lanes, dot);
    }
  }
};

template <class Isa, class T>
class ExpertsBackward {
 public:
  using E = Compute<Isa, T>;
  using S = Stored<E>;
  ExpertsBackward(const ExpertsGradArgs& args, device::Stream& stream)
      : args_(args),
        forward_(args.forward),
        stream_(stream),
        hidden_(forward_.x.cols),
        ffn_(forward_.ffn),
        inner_(forward_.inner()),
        rows_(forward_.x.rows * forward_.top_k) {}

  void run() {
    const int threads = stream_.num_threads();
    const ExpertPlan experts(forward_.offsets, forward_.experts, rows_, most(1, rows_));
    const bool whole = experts.balanced(threads) &&
                       experts.largest() * (hidden_ + ffn_ + inner_) * Index{sizeof(S)} <= kMaxThreadBytes;
    const ExpertPlan blocks(forward_.offsets, forward_.experts, rows_,
                            whole ? most(1, rows_) : most(128, least(1024, ceil_div(rows_, 3 * threads))));
    Carver count(nullptr);
    carve_shared(count, whole);
    Carver shared(stream_.shared_workspace(static_cast<std::size_t>(count.used())));
    carve_shared(shared, whole);
    Carver needed(nullptr);
    carve_thread(needed, blocks.largest(), experts.largest(), whole);
    const ThreadScratch<Isa> memory(stream_, threads, ceil_div(needed.used(), Index{sizeof(float)}));
    if (stream_.is_meta()) return;
    find_tokens<Isa>(forward_, token_of_);
    clear_lost_dweights();
    convert_dy();
    const auto memory_of = [&](int thread) {
      Carver carver(memory.of(thread));
      return carve_thread(carver, blocks.largest(), experts.largest(), whole);
    };
    if (whole) {
      run_experts(experts, memory_of);
    } else {
      run_stages(experts, blocks, memory_of);
    }
    clear_idle_experts(memory_of);
    if (args_.dx.given()) combine_dx();
  }

 private:
  /// The most work memory of a thread that takes whole experts.
  static constexpr Index kMaxThreadBytes = Index{32} << 20;
  /// The side of a block of a weight's gradient, where several threads share an expert.
  static constexpr Index kBlockSide = 256;
  using Scratch = GemmScratch<Isa, E>;
  using Left = AlongK<S>;
  using Tiled = AcrossK<S>;

  /// Where a stage's rows lie: row 0 of these is row `begin` of the plan.
  struct Rows {
    S* activation;
    S* dpre;
    Index begin;
  };
  struct Memory {
    float* product;
    S* dy;
    float* weight;
    float* dweight;
    Rows rows;  // of a whole expert
  };

  void carve_shared(Carver& shared, bool whole) {
    rows_out_ = shared.take<float>(args_.dx.given() ? rows_ * hidden_ : 0);
    token_of_ = shared.take<std::int32_t>(rows_);
    dy_converted_ = shared.take<S>(dy_in_place() ? 0 : forward_.x.rows * padded<S>(hidden_));
    if (whole) return;
    all_rows_.activation = shared.take<S>(rows_ * padded<S>(ffn_));
    all_rows_.dpre = shared.take<S>(rows_ * padded<S>(inner_));
    all_rows_.begin = 0;
  }
  /// `block`: rows of the largest block of stages 1 and 3; `expert`: rows of the largest expert.
  Memory carve_thread(Carver& carver, Index block, Index expert, bool whole) const {
    Memory m;
    const Index side = whole ? kMaxBlockRows : kBlockSide;
    m.product = carver.take<float>(most(
        most(Scratch::template size<Left>(block, ffn_, hidden_),
             Scratch::template size<Left>(block, hidden_, inner_)),
        Scratch::template size<Tiled>(side, weight_columns(most(hidden_, ffn_), expert, whole), expert)));
    m.dy = carver.take<S>(block * padded<S>(hidden_));
    m.weight = carver.take<float>(block);
    m.dweight = carver.take<float>(block * 2 * Isa::kLanes);
    m.rows.activation = carver.take<S>(whole ? expert * padded<S>(ffn_) : 0);
    m.rows.dpre = carver.take<S>(whole ? expert * padded<S>(inner_) : 0);
    m.rows.begin = 0;
    return m;
  }
  /// Columns of a block of a weight's gradient with n columns, summed over k rows.
  static Index weight_columns(Index n, Index k, bool whole) {
    const Index most_columns = KPieces<Isa, E>(k).count > 1 ? kMaxWaitingColumns<E> : n;
    return least(n, whole ? most_columns : least(most_columns, kBlockSide));
  }

  bool dy_in_place() const {
    return args_.dy.dtype == (std::is_same_v<S, BFloat16> ? DType::kBF16 : DType::kF32);
  }
  const S* dy() const { return dy_in_place() ? static_cast<const S*>(args_.dy.data) : dy_converted_; }
  Index dy_stride() const { return dy_in_place() ? args_.dy.stride : padded<S>(hidden_); }
  /// dy in the type that is multiplied: f32 gradients of a bf16 model are rounded, bf16 ones widened where
  /// the processor does not multiply them.
  void convert_dy() {
    if (dy_in_place()) return;
    const Index tokens = forward_.x.rows;
    over_rows<Isa>(tokens, hidden_, stream_, [&](Index t) {
      S* out = dy_converted_ + t * padded<S>(hidden_);
      if (args_.dy.dtype == DType::kF32) {
        convert_rows<Isa>(static_cast<const float*>(args_.dy.data) + t * args_.dy.stride, 0, 1, hidden_, out,
                          0);
      } else {
        convert_rows<Isa>(static_cast<const BFloat16*>(args_.dy.data) + t * args_.dy.stride, 0, 1, hidden_,
                          out, 0);
      }
    });
  }

  /// The routing weight of a slot that goes nowhere has no gradient.
  void clear_lost_dweights() {
    if (!args_.wants_dweights) return;
    for (Index i = 0; i < rows_; i++) {
      if (forward_.inverse[i] < 0) args_.dweights[i] = 0;
    }
  }

  /// Stage 1 for the rows of a block.
  void activation_grad(const ExpertBlock& block, const Memory& m, const Rows& rows) {
    if (forward_.gated) {
      activation_grad<true>(block, m, rows);
    } else {
      activation_grad<false>(block, m, rows);
    }
  }
  template <bool kGated>
  void activation_grad(const ExpertBlock& block, const Memory& m, const Rows& rows) {
    const Index n = block.rows(), at = block.begin - rows.begin;
    gather_rows<Isa>(dy(), dy_stride(), token_of_ + block.begin, n, hidden_, m.dy, padded<S>(hidden_));
    for (Index i = 0; i < n; i++) m.weight[i] = forward_.weights[forward_.permutation[block.begin + i]];
    ActivationGradSink<Isa, T, S, kGated> sink{
        forward_.activation,
        forward_.alpha,
        forward_.limit,
        static_cast<const T*>(forward_.pre_activation) + block.begin * inner_,
        m.weight,
        rows.activation + at * padded<S>(ffn_),
        padded<S>(ffn_),
        rows.dpre + at * padded<S>(inner_),
        padded<S>(inner_),
        m.dweight,
        ffn_};
    const auto multiply_by = [&](const auto& down) {
      gemm_block<Isa, E>(Left{m.dy, padded<S>(hidden_)}, down, Range{0, n}, Range{0, ffn_}, ffn_, hidden_,
                         Scratch::template carve<Left>(m.product, n, hidden_), sink);
    };
    if (forward_.down.kind != WeightKind::kDense) {
      multiply_by(QuantisedAcrossK<T>{down_of(forward_, block.expert)});
    } else {
      multiply_by(
          AcrossK<T>{static_cast<const T*>(forward_.down.data) + block.expert * hidden_ * ffn_, ffn_});
    }
    if (!args_.wants_dweights) return;
    for (Index i = 0; i < n; i++) {
      float sum = Isa::sum(Isa::load(m.dweight + (2 * i + 1) * Isa::kLanes) +
                           Isa::load(m.dweight + 2 * i * Isa::kLanes));
      if (forward_.has_down_bias) sum += bias_dot(block.expert, m.dy + i * padded<S>(hidden_));
      args_.dweights[forward_.permutation[block.begin + i]] = sum;
    }
  }
  /// <dy, down_bias> of a row.
  float bias_dot(Index expert, const S* dy_row) const {
    const T* bias = static_cast<const T*>(forward_.down_bias) + expert * hidden_;
    return static_cast<float>(sum_lanes<Isa>(
        hidden_, [&](Index j, auto lanes, auto sum) __attribute__((always_inline)) {
          return Isa::fma(load<Isa>(dy_row + j, lanes), load<Isa>(bias + j, lanes), sum);
        }));
  }

  /// Stage 2: a block of an expert's weight gradient, [rows, columns] of left^t right.
  template <class B>
  void weight_grad(void* grad, DType dtype, bool accumulate, Index offset, const Tiled& left, const B& right,
                   Range rows, Range columns, Index n, Index k, const Memory& m) {
    const auto scratch = Scratch::template carve<Tiled>(m.product, rows.size(), k);
    const auto store = [&](auto* out) {
      using C = std::remove_pointer_t<decltype(out)>;
      MatmulSink<Isa, T, C> sink{out + offset, n};
      sink.accumulate = accumulate;
      sink.stream = aligned_panels<C>(sink.c, n);
      gemm_block<Isa, E>(left, right, rows, columns, n, k, scratch, sink);
    };
    if (dtype == DType::kF32) {
      store(static_cast<float*>(grad));
    } else {
      store(static_cast<BFloat16*>(grad));
    }
  }
  void down_grad(const ExpertBlock& expert, const Rows& rows, Range r, Range c, const Memory& m) {
    const Tiled left{dy(), dy_stride(), token_of_ + expert.begin};
    const AcrossK<S> right{rows.activation + (expert.begin - rows.begin) * padded<S>(ffn_), padded<S>(ffn_)};
    weight_grad(args_.ddown, args_.ddown_dtype, args_.accumulate_ddown, expert.expert * hidden_ * ffn_, left,
                right, r, c, ffn_, expert.rows(), m);
  }
  void gate_up_grad(const ExpertBlock& expert, const Rows& rows, Range r, Range c, const Memory& m) {
    const Tiled left{rows.dpre + (expert.begin - rows.begin) * padded<S>(inner_), padded<S>(inner_)};
    const AcrossK<T> right{static_cast<const T*>(forward_.x.data), forward_.x.stride,
                           token_of_ + expert.begin};
    weight_grad(args_.dgate_up, args_.dgate_up_dtype, args_.accumulate_dgate_up,
                expert.expert * inner_ * hidden_, left, right, r, c, hidden_, expert.rows(), m);
  }
  /// out[j] = [itself +] the sum over an expert's rows of add(row, j, lanes, sum), for columns j of a bias:
  /// in pieces of kPiece rows (rows.h).
  template <class Add>
  void bias_grad(void* grad, DType dtype, bool accumulate, Index offset, Range columns, Index rows,
                 const Add& add) {
    with_dtype(dtype, [&](auto tag) {
      auto* out = static_cast<TypeOf<decltype(tag)>*>(grad) + offset;
      for_lanes<Isa>(
          columns.size(), [&](Index at, auto lanes) __attribute__((always_inline)) {
            const Index j = columns.begin + at;
            auto total = Isa::wide_zero();
            for (Index begin = 0; begin < rows; begin += kPiece) {
              auto sum = Isa::zero();
              for (Index r = begin; r < least(rows, begin + kPiece); r++) sum = add(r, j, lanes, sum);
              total = Isa::add(total, sum);
            }
            auto sum = Isa::rounded(total);
            if (accumulate) sum = sum + load<Isa>(out + j, lanes);
            store<Isa>(out + j, sum, lanes);
          });
    });
  }
  void down_bias_grad(const ExpertBlock& expert, Range columns) {
    const std::int32_t* permutation = forward_.permutation + expert.begin;
    const std::int32_t* token_of = token_of_ + expert.begin;
    bias_grad(
        args_.ddown_bias, args_.ddown_bias_dtype, args_.accumulate_ddown_bias, expert.expert * hidden_,
        columns, expert.rows(), [&](Index r, Index j, auto lanes, auto sum) __attribute__((always_inline)) {
          const auto weight = Isa::set(forward_.weights[permutation[r]]);
          return Isa::fma(weight, load<Isa>(dy() + token_of[r] * dy_stride() + j, lanes), sum);
        });
  }
  void gate_up_bias_grad(const ExpertBlock& expert, const Rows& rows, Range columns) {
    const S* dpre = rows.dpre + (expert.begin - rows.begin) * padded<S>(inner_);
    bias_grad(
        args_.dgate_up_bias, args_.dgate_up_bias_dtype, args_.accumulate_dgate_up_bias,
        expert.expert * inner_, columns,
        expert.rows(), [&](Index r, Index j, auto lanes, auto sum) __attribute__((always_inline)) {
          return sum + load<Isa>(dpre + r * padded<S>(inner_) + j, lanes);
        });
  }

  /// Stage 3 for the rows of a block.
  void rows_grad(const ExpertBlock& block, const Memory& m, const Rows& rows) {
    const Index n = block.rows();
    const Left dpre{rows.dpre + (block.begin - rows.begin) * padded<S>(inner_), padded<S>(inner_)};
    MatmulSink<Isa, T, float> sink{rows_out_ + block.begin * hidden_, hidden_};
    const auto multiply_by = [&](const auto& weight) {
      gemm_block<Isa, E>(dpre, weight, Range{0, n}, Range{0, hidden_}, hidden_, inner_,
                         Scratch::template carve<Left>(m.product, n, inner_), sink);
    };
    if (forward_.gate_up.kind != WeightKind::kDense) {
      multiply_by(QuantisedAcrossK<T>{gate_up_of(forward_, block.expert)});
    } else {
      multiply_by(AcrossK<T>{static_cast<const T*>(forward_.gate_up.data) + block.expert * inner_ * hidden_,
                             hidden_});
    }
  }

  template <class MemoryOf>
  void run_experts(const ExpertPlan& experts, const MemoryOf& memory_of) {
    stream_.team().parallel_for(stream_.num_threads(), experts.size(), [&](Index i, int thread) {
      const Memory m = memory_of(thread);
      const ExpertBlock& expert = experts[i];
      Rows rows = m.rows;
      rows.begin = expert.begin;
      activation_grad(expert, m, rows);
      for_blocks(hidden_, ffn_, expert.rows(), args_.wants_ddown,
                 [&](Range r, Range c) { down_grad(expert, rows, r, c, m); });
      for_blocks(inner_, hidden_, expert.rows(), args_.wants_dgate_up,
                 [&](Range r, Range c) { gate_up_grad(expert, rows, r, c, m); });
      if (args_.wants_ddown_bias) down_bias_grad(expert, Range{0, hidden_});
      if (args_.wants_dgate_up_bias) gate_up_bias_grad(expert, rows, Range{0, inner_});
      if (args_.dx.given()) rows_grad(expert, m, rows);
    });
  }
  /// All blocks of a weight's gradient, one after another.
  template <class Call>
  void for_blocks(Index m, Index n, Index k, bool wanted, const Call& call) {
    if (!wanted) return;
    const Index columns = weight_columns(n, k, true);
    for (Index r = 0; r < m; r += kMaxBlockRows) {
      for (Index c = 0; c < n; c += columns)
        call(Range{r, least(m, r + kMaxBlockRows)}, Range{c, least(n, c + columns)});
    }
  }

  template <class MemoryOf>
  void run_stages(const ExpertPlan& experts, const ExpertPlan& blocks, const MemoryOf& memory_of) {
    const int threads = stream_.num_threads();
    stream_.team().parallel_for(threads, blocks.size(), [&](Index i, int thread) {
      activation_grad(blocks[i], memory_of(thread), all_rows_);
    });
    const Index down_columns = ceil_div(ffn_, kBlockSide), gate_columns = ceil_div(hidden_, kBlockSide);
    const Index down_blocks = args_.wants_ddown ? ceil_div(hidden_, kBlockSide) * down_columns : 0;
    const Index gate_blocks = args_.wants_dgate_up ? ceil_div(inner_, kBlockSide) * gate_columns : 0;
    const Index down_biases = args_.wants_ddown_bias ? ceil_div(hidden_, kBlockSide) : 0;
    const Index gate_biases = args_.wants_dgate_up_bias ? ceil_div(inner_, kBlockSide) : 0;
    const Index weights = down_blocks + gate_blocks, each = weights + down_biases + gate_biases;
    const Index shared = experts.size() * each, row_blocks = args_.dx.given() ? blocks.size() : 0;
    // Stages 2 and 3 read what stage 1 wrote and nothing of each other: one loop.
    stream_.team().parallel_for(threads, shared + row_blocks, [&](Index i, int thread) {
      const Memory m = memory_of(thread);
      if (i >= shared) return rows_grad(blocks[i - shared], m, all_rows_);
      const ExpertBlock& expert = experts[i / each];
      const Index block = i % each;
      if (block < down_blocks) {
        down_grad(expert, all_rows_, side(hidden_, block / down_columns), side(ffn_, block % down_columns),
                  m);
      } else if (block < weights) {
        const Index b = block - down_blocks;
        gate_up_grad(expert, all_rows_, side(inner_, b / gate_columns), side(hidden_, b % gate_columns), m);
      } else if (block < weights + down_biases) {
        down_bias_grad(expert, side(hidden_, block - weights));
      } else {
        gate_up_bias_grad(expert, all_rows_, side(inner_, block - weights - down_biases));
      }
    });
  }
  static Range side(Index n, Index i) { return {i * kBlockSide, least(n, (i + 1) * kBlockSide)}; }

  /// Experts without rows have no gradient: zeros, unless they accumulate.
  template <class MemoryOf>
  void clear_idle_experts(const MemoryOf& memory_of) {
    stream_.team().parallel_for(stream_.num_threads(), forward_.experts, [&](Index e, int thread) {
      if (forward_.offsets[e] != forward_.offsets[e + 1]) return;
      const Memory m = memory_of(thread);
      const ExpertBlock idle{e, forward_.offsets[e], forward_.offsets[e]};
      if (!args_.accumulate_ddown) {
        for_blocks(hidden_, ffn_, 0, args_.wants_ddown,
                   [&](Range r, Range c) { down_grad(idle, all_rows_, r, c, m); });
      }
      if (!args_.accumulate_dgate_up) {
        for_blocks(inner_, hidden_, 0, args_.wants_dgate_up,
                   [&](Range r, Range c) { gate_up_grad(idle, all_rows_, r, c, m); });
      }
      if (args_.wants_ddown_bias) down_bias_grad(idle, Range{0, hidden_});
      if (args_.wants_dgate_up_bias) gate_up_bias_grad(idle, all_rows_, Range{0, inner_});
    });
  }

  void combine_dx() {
    const auto sum_to = [&](auto* dx) {
      combine_rows<Isa>(forward_, rows_out_, args_.accumulate_dx ? dx : nullptr, args_.dx.stride, dx,
                        args_.dx.stride, stream_);
    };
    if (args_.dx.dtype == DType::kF32) {
      sum_to(static_cast<float*>(args_.dx.data));
    } else {
      sum_to(static_cast<BFloat16*>(args_.dx.data));
    }
  }

  const ExpertsGradArgs& args_;
  const ExpertsArgs& forward_;
  device::Stream& stream_;
  Index hidden_, ffn_, inner_, rows_;
  float* rows_out_ = nullptr;         // (rows, hidden): every row's share of its token's dx
  std::int32_t* token_of_ = nullptr;  // (rows)
  S* dy_converted_ = nullptr;         // (tokens, padded hidden), where dy has another type
  Rows all_rows_{};                   // of all experts, where every stage is cut on its own
};

template <class Isa>
void MatrixKernels<Isa>::experts_grad(const ExpertsGradArgs& args, device::Stream& stream) {
  if (args.forward.fp8) {
    Fp8Kernels<Isa>::experts_grad(args, stream);
  } else if (args.forward.x.dtype == DType::kF32) {
    ExpertsBackward<Isa, float>(args, stream).run();
  } else {
    ExpertsBackward<Isa, BFloat16>(args, stream).run();
  }
  if (!stream.is_meta()) reference::sum_expert_squares(args, stream);
}

}  // namespace hone::kernels::cpu
