// experts: every expert's SwiGLU network on the rows routed to it, then the sum of each token's rows.
//
// A piece of work is a block of rows of one expert: its tokens are gathered, multiplied by the gate and up
// rows (panels of half gate, half up, so that the activation is computed where the sums are), and by the down
// matrix. The results wait in a row per (token, slot), because summing them in the order of slots is what
// makes the result independent of who computed what when. Where blocks are too few for the threads (a token
// being generated, few large experts), both products are cut by columns too.
#pragma once

#include "kernels/cpu/experts_rows.h"
#include "kernels/cpu/matrix_kernels.h"
#include "kernels/cpu/product.h"

namespace hone::kernels::cpu {

/// Takes tiles of half gate, half up: keeps both, stores activation = weight * silu(gate) * up.
template <class Isa, class T, class S>
struct SwigluSink {
  T* pre;  // (rows, 2 * ffn), or null
  S* activation;
  Index stride;  // of activation
  Index ffn;
  const float* weight;  // of each row

  [[gnu::always_inline]] bool direct(Index /*j*/, Index /*columns*/) const { return false; }
  [[gnu::always_inline]] TileOut<Isa, float> target(Index /*row*/, Index /*j*/) const { return {}; }
  [[gnu::always_inline]] void prefetch(Index /*row*/, Index /*rows*/, Index /*j*/) const {}
  void finish(Index row, Index rows, Index j, Index /*columns*/, const float* tile) {
    const Index first = j / 2, n = least(Isa::kLanes, ffn - first);
    for (Index i = row; i < row + rows; i++, tile += kPanel<Isa>) {
      const typename Isa::Vec gate = Isa::load(tile), up = Isa::load(tile + Isa::kLanes);
      if (pre != nullptr) {
        store_lanes<Isa>(pre + i * 2 * ffn + first, gate, n);
        store_lanes<Isa>(pre + i * 2 * ffn + ffn + first, up, n);
      }
      store_lanes<Isa>(activation + i * stride + first,
                       Isa::set(weight[i]) * (gate * Isa::sigmoid(gate) * up), n);
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
        panel_columns_(2 * round_up(ffn_, Isa::kLanes)) {}

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
    find_tokens<Isa>(args_, rows_, token_of_);
    if (whole) {
      run_blocks(plan, memory);
    } else {
      run_columns(plan, memory);
    }
    combine_rows<Isa>(args_, rows_out_,
                      args_.residual.given() ? static_cast<const float*>(args_.residual.data) : nullptr,
                      args_.residual.stride, static_cast<float*>(args_.y.data), args_.y.stride, stream_);
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
  /// The block of thread scratch: products, gathered rows, activations, routing weights.
  struct Memory {
    float* product;
    S* x;
    S* activation;
    float* weight;
  };
  Memory carve_thread(Carver& carver, Index rows, bool whole) const {
    Memory m;
    m.product = carver.take<float>(most(Scratch::template size<Left>(rows, panel_columns_, hidden_),
                                        Scratch::template size<Left>(rows, hidden_, ffn_)));
    m.x = carver.take<S>(rows * padded<S>(hidden_));
    m.activation = carver.take<S>(whole ? rows * padded<S>(ffn_) : 0);
    m.weight = carver.take<float>(rows);
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
    T* pre = args_.wants_pre_activation ? static_cast<T*>(args_.pre_activation) : nullptr;
    SwigluSink<Isa, T, S> sink{pre != nullptr ? pre + block.begin * 2 * ffn_ : nullptr, activation,
                               padded<S>(ffn_), ffn_, m.weight};
    const T* weight = static_cast<const T*>(args_.gate_up) + block.expert * 2 * ffn_ * hidden_;
    multiply(Left{m.x, padded<S>(hidden_)}, GateUp<T>{weight, hidden_, ffn_}, block.rows(), columns,
             panel_columns_, hidden_, m.product, sink);
  }
  void down(const ExpertBlock& block, const Memory& m, const S* activation, Range columns) {
    MatmulSink<Isa, T, float> sink{rows_out_ + block.begin * hidden_, hidden_};
    const T* weight = static_cast<const T*>(args_.down) + block.expert * hidden_ * ffn_;
    multiply(Left{activation, padded<S>(ffn_)}, AlongK<T>{weight, ffn_}, block.rows(), columns, hidden_, ffn_,
             m.product, sink);
  }

  void run_blocks(const ExpertPlan& plan, const ThreadScratch<Isa>& memory) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(stream_.num_threads())
    for (Index i = 0; i < plan.size(); i++) {
      Carver carver(memory.of(omp_get_thread_num()));
      const Memory m = carve_thread(carver, plan.largest(), true);
      gate_up(plan[i], m, m.activation, Range{0, panel_columns_});
      down(plan[i], m, m.activation, Range{0, hidden_});
    }
  }
  void run_columns(const ExpertPlan& plan, const ThreadScratch<Isa>& memory) {
    const Index parts = ceil_div(4 * Index{stream_.num_threads()}, most(1, plan.size()));
#pragma omp parallel num_threads(stream_.num_threads())
    {
      Carver carver(memory.of(omp_get_thread_num()));
      const Memory m = carve_thread(carver, plan.largest(), false);
#pragma omp for schedule(dynamic, 1)
      for (Index i = 0; i < plan.size() * parts; i++) {
        const ExpertBlock& block = plan[i / parts];
        const Range columns = part_of(panel_columns_, i % parts, parts);
        if (columns.size() > 0) gate_up(block, m, activation_ + block.begin * padded<S>(ffn_), columns);
      }
#pragma omp for schedule(dynamic, 1)
      for (Index i = 0; i < plan.size() * parts; i++) {
        const ExpertBlock& block = plan[i / parts];
        const Range columns = part_of(hidden_, i % parts, parts);
        if (columns.size() > 0) down(block, m, activation_ + block.begin * padded<S>(ffn_), columns);
      }
    }
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
  if (args.x.dtype == DType::kF32) {
    ExpertsForward<Isa, float>(args, stream).run();
  } else {
    ExpertsForward<Isa, BFloat16>(args, stream).run();
  }
}

}  // namespace hone::kernels::cpu
