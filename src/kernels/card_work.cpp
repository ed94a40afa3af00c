// The work of each slot on a card, as the files of kernels/cuda cut it: whoever changes one of those changes
// its card_work() here (tests/cuda_emulation/work_test.cpp counts the launches).
#include "kernels/card_work.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/rng.h"
#include "kernels/card_paths.h"
#include "kernels/cuda/cuts.h"
#include "kernels/sizes.h"

namespace hone::kernels {

namespace {

using namespace paths;
using cuda::ceil_quotient;
using Count = std::int64_t;

// --- Sizes

using sizes::bytes, sizes::bytes_of, sizes::elements, sizes::real, sizes::weight_bytes, sizes::written;

Count rounded_up(Count n, Count step) {
  return ceil_quotient(n, step) * step;
}
double up_to(Count n, Count step) {
  return real(rounded_up(n, step));
}

/// One launch of all that its Cost says.
template <typename Args>
Work one_row_kernel(const Args& a, double kernels = 1) {
  const Cost c = cost(a);
  return {{.path = &kRows, .flops = c.flops, .done = c.flops, .bytes = c.bytes, .kernels = kernels}};
}

// --- Products

/// Our own tiles (gemm.cuh).
struct Tiling {
  const Path* path;
  Count rows, columns;
  Count depth;    // of k at a time
  Count at_once;  // blocks of a multiprocessor
};
Tiling tiling_of(DType dtype, bool large) {
  if (dtype != DType::kBF16) return {&kF32Tiles, 64, 64, 16, 4};
  return large ? Tiling{&kLargeTiles, 128, 128, 32, 2} : Tiling{&kSmallTiles, 64, 64, 32, 4};
}
/// The operations of so many tiles of this k. The buffers' filling and the results' writing are counted as
/// two more steps of k (assumed); where the last tiles are fewer than the card takes, its multiprocessors
/// wait for them.
double tile_flops(const Tiling& t, double tiles, Count k, const Card& card) {
  if (tiles == 0) return 0;
  const double once = card.multiprocessors;
  const double places = tiles <= once ? once : once * real(t.at_once);
  const double waves = (std::floor((tiles - 1) / places) + 1) * places;
  return 2 * real(t.rows) * real(t.columns) * (up_to(k, t.depth) + 2 * real(t.depth)) * waves;
}

/// Of tiles of such operations, one at a time on a multiprocessor.
void add_wgmma(Work& work, const Path& path, double flops, double done, Count tiles, double of_bytes,
               DType dtype, const Card& card) {
  const double waves = std::ceil(real(tiles) / card.multiprocessors) * card.multiprocessors;
  work.push_back({.path = &path,
                  .flops = flops,
                  .done = tiles > 0 ? done * waves / real(tiles) : 0,
                  .bytes = of_bytes,
                  .dtype = dtype});
}
/// Rows of each expert by its weight, a tile of up to so many rows; filling the buffers and writing the
/// results as in tile_flops.
struct RowTiles {
  Count tiles = 0;
  double done = 0;
  /// blocks: of a cluster, with as many tiles of lines.
  RowTiles(const std::vector<Count>& rows, Count padded_k, Count columns, Count most, Count depth,
           Count blocks = 1) {
    using Cut = cuda::HopperCut;
    const Count across = rounded_up(ceil_quotient(columns, Cut::kLines), blocks);
    for (const Count n : rows) {
      if (n == 0) continue;
      const Count parts = ceil_quotient(n, most);
      tiles += parts * across;
      done += 2 * real(parts * across) * up_to(ceil_quotient(n, parts), Cut::kTokenStep) * Cut::kLines *
              real(padded_k + 2 * depth);
    }
  }
};
/// The same by tensor cores for e4m3; k: padded by depth_of_blocks.
Count depth_of_blocks(Count k, Count parts) {
  return parts * ceil_quotient(k / parts, cuda::HopperCut::kFp8Depth) * cuda::HopperCut::kFp8Depth;
}
void add_e4m3(Work& work, const std::vector<Count>& rows, Count k, Count columns, double flops,
              double of_bytes, const Card& card) {
  using Cut = cuda::HopperCut;
  const RowTiles t(rows, k, columns, Cut::kFp8Tokens, Cut::kFp8Depth);
  add_wgmma(work, kWgmmaE4m3, flops, t.done, t.tiles, of_bytes, DType::kF8E4M3, card);
}

void add_product(Work& work, const MatmulArgs& a, const CardTarget& target) {
  const Cost c = cost(a);
  if (c.flops == 0) return;
  if (*cuda::e4m3_refusal(a) == '\0' && why_no_wgmma(target).empty()) {
    for (const Matrix* operand : {&a.a, &a.b})
      work.push_back({.path = &kRows, .bytes = bytes(*operand) + elements(*operand)});
    add_e4m3(work, {a.c.rows}, depth_of_blocks(cuda::depth_of(a), 1), a.c.cols, c.flops,
             c.bytes - (bytes(a.a) + bytes(a.b)) / 2, target.card);
    return;
  }
  if (a.fp8)
    for (const Matrix* operand : {&a.a, &a.b}) work.push_back({.path = &kRows, .bytes = 2 * bytes(*operand)});
  if (cuda::is_for_vendor(a) && target.no_cublaslt.empty() && *cuda::vendor_refusal(a) == '\0') {
    work.push_back(
        {.path = &kCublasLt, .flops = c.flops, .done = c.flops, .bytes = c.bytes, .dtype = c.dtype});
    return;
  }
  const cuda::ProductCut cut = cuda::cut_of(a);
  const Tiling t = tiling_of(a.a.dtype, cut.large);
  const Count tiles = ceil_quotient(cut.m, t.rows) * ceil_quotient(cut.n, t.columns) * cut.parts;
  const double sums = cut.parts > 1 ? 4 * real(cut.parts) * elements(a.c) : 0;  // of parts of k
  work.push_back({.path = t.path,
                  .flops = c.flops,
                  .done = tile_flops(t, real(tiles), cut.k_of_part, target.card),
                  .bytes = c.bytes + sums,
                  .dtype = c.dtype});
  if (cut.parts > 1) work.push_back({.path = &kRows, .bytes = sums});
}

// --- The head (head.cu)

struct HeadWork {
  const HeadOperands& head;
  const HeadGradients& to;
  const CardTarget& target;
  bool sums_dweight;  // in f32
  Work work = {};

  Matrix logits(Count rows, Count words, DType dtype) const { return {nullptr, dtype, rows, words, words}; }
  Matrix words_of(Count words) const {
    return {nullptr, head.weight.dtype, words, head.weight.cols, head.weight.cols};
  }
  Matrix rows_of(Count rows) const {
    return {nullptr, head.hidden.dtype, rows, head.hidden.cols, head.hidden.cols};
  }
  void find_logits(Count rows, Count words) {
    MatmulArgs a{};
    a.a = rows_of(rows);
    a.b = words_of(words);
    a.c = logits(rows, words, DType::kF32);
    a.transpose_b = true;
    add_product(work, a, target);
  }
  void read_logits(Count rows, Count words) {
    work.push_back({.path = &kRows, .bytes = 4 * real(rows) * real(words)});
  }
  void find_gradients(Count rows, Count words) {
    work.push_back({.path = &kRows, .bytes = (4 + bytes_of(head.hidden.dtype)) * real(rows) * real(words)});
  }
  void add_dhidden(Count rows, Count words, DType dtype, bool accumulate) {
    MatmulArgs a{};
    a.a = logits(rows, words, head.hidden.dtype);
    a.b = words_of(words);
    a.c = {nullptr, dtype, rows, head.hidden.cols, head.hidden.cols};
    a.accumulate = accumulate;
    add_product(work, a, target);
  }
  void add_dweight(Count rows, Count words, bool accumulate) {
    if (!to.wants_dweight) return;
    MatmulArgs a{};
    a.a = logits(rows, words, head.hidden.dtype);
    a.b = rows_of(rows);
    a.c = {nullptr, sums_dweight ? DType::kF32 : to.dweight_dtype, words, head.hidden.cols, head.hidden.cols};
    a.transpose_a = true;
    a.accumulate = accumulate || (to.accumulate_dweight && !sums_dweight);
    add_product(work, a, target);
  }
};
/// As Head::run. row_bytes: what else is moved for each row.
Work head_work(const HeadOperands& head, const HeadGradients& to, bool wants_statistics, double row_bytes,
               const CardTarget& target, const cuda::HeadLimits& limits) {
  const cuda::HeadCut cut(head, to, limits);
  HeadWork w{head, to, target, cut.sums_dweight};
  const Count rows = head.hidden.rows, vocab = head.weight.rows;
  if (rows == 0) return {};
  for (Count row = 0; row < rows; row += cut.chunk_rows) {
    const Count n = std::min(rows - row, cut.chunk_rows);
    for (Count word = 0; word < vocab && (wants_statistics || cut.whole); word += cut.chunk_words) {
      const Count words = std::min(vocab - word, cut.chunk_words);
      w.find_logits(n, words);
      if (wants_statistics) w.read_logits(n, words);
    }
    w.work.push_back({.path = &kRows, .bytes = real(n) * (row_bytes + 16)});
    if (!cut.whole) continue;
    w.find_gradients(n, vocab);
    if (cut.keeps) continue;
    if (to.dhidden.given()) w.add_dhidden(n, vocab, to.dhidden.dtype, false);
    if (!cut.again) w.add_dweight(n, vocab, row > 0);
  }
  if (cut.keeps) {
    if (to.dhidden.given()) w.add_dhidden(rows, vocab, to.dhidden.dtype, false);
    w.add_dweight(rows, vocab, false);
  }
  if (cut.sums_dweight) {
    const double numbers = elements(head.weight);
    w.work.push_back(
        {.path = &kRows,
         .bytes = 4 * numbers + written(numbers * bytes_of(to.dweight_dtype), to.accumulate_dweight)});
  }
  for (Count word = 0; word < vocab && cut.again; word += cut.again_words) {
    const Count words = std::min(vocab - word, cut.again_words);
    w.find_logits(rows, words);
    w.find_gradients(rows, words);
    w.add_dweight(rows, words, false);
    if (to.dhidden.given() && !cut.whole)
      w.add_dhidden(rows, words, cut.sums_dhidden ? DType::kF32 : to.dhidden.dtype, word > 0);
  }
  if (cut.sums_dhidden)
    w.work.push_back({.path = &kRows, .bytes = elements(to.dhidden) * (4 + bytes_of(to.dhidden.dtype))});
  return std::move(w.work);
}

// --- Experts (experts.cu, experts_grad.cu)

/// What the launches of a layer's experts are counted from.
struct ExpertWork {
  /// refusal: why the kernels by wgmma do not take it, "" where they do.
  ExpertWork(const ExpertsArgs& args, const CardTarget& at, const std::string& refusal)
      : a(args),
        target(at),
        by_wgmma(why_no_wgmma(at).empty() && refusal.empty()),
        rows(drawn_rows(a.x.rows, a.experts, a.top_k)),
        pairs(a.x.rows * a.top_k),
        hidden(a.x.cols),
        t(bytes_of(a.x.dtype)) {}

  bool by_e4m3() const { return by_wgmma && a.fp8; }
  /// Bytes of a number as it is multiplied.
  double of_operand() const { return by_e4m3() ? 1 : t; }
  double of_weight(const ExpertWeight& w) const { return by_e4m3() ? 1 : weight_bytes(w, a.x.dtype); }
  double matrix() const {
    return real(a.experts) * real(a.ffn) * real(hidden);
  }  // elements of all experts' one

  /// All rows by their experts' weights; gathered: the rows are in the tokens' order.
  void add_rows(Count k, Count columns, double of_bytes, bool gathered, Count parts = 1) {
    using Cut = cuda::HopperCut;
    const double flops = 2 * real(pairs) * real(k) * real(columns);
    if (by_e4m3())
      return add_e4m3(work, rows, depth_of_blocks(k, parts), columns, flops, of_bytes, target.card);
    if (by_wgmma) {
      const RowTiles made(rows, ceil_quotient(k, Cut::kDepth) * Cut::kDepth, columns, Cut::kTokens,
                          Cut::kDepth, gathered ? 1 : Cut::kBlocks);
      return add_wgmma(work, kWgmma, flops, made.done, made.tiles, of_bytes, a.x.dtype, target.card);
    }
    const Tiling tiling = tiling_of(a.x.dtype, cuda::takes_large_tiles(pairs, a.experts, columns));
    Count tiles = 0;
    for (const Count n : rows) tiles += ceil_quotient(n, tiling.rows);
    work.push_back(
        {.path = tiling.path,
         .flops = flops,
         .done = tile_flops(tiling, real(tiles * ceil_quotient(columns, tiling.columns)), k, target.card),
         .bytes = of_bytes,
         .dtype = a.x.dtype});
  }
  /// Of each expert a matrix, summed up over its rows; gathered_first: the operand that has its rows is
  /// gathered, not that which has its columns.
  void add_sums(Count of_rows, Count columns, double of_bytes, bool gathered_first, const void* c,
                DType dtype, bool accumulate, bool wants_squares) {
    using Cut = cuda::HopperCut;
    if (by_wgmma) {
      // Of a tile that goes by TMA the buffers are filled while the one before is rounded into shared memory,
      // which is 512 clocks for its stmatrix, half a step's time, and as much again for the last product
      // before and the first one after it (assumed); its storing costs no time of its own. Its squares are
      // 600 clocks of instructions, of a step's 1,024.
      const double waits = (cuda::grad_goes_by_tma(dtype == DType::kBF16, c, accumulate) ? 1 : 2) +
                           (wants_squares ? 600.0 / 1024 : 0);
      const Count tiles =
          rounded_up(ceil_quotient(of_rows, Cut::kGradRows), gathered_first ? Cut::kBlocks : 1) *
          rounded_up(ceil_quotient(columns, Cut::kGradColumns), gathered_first ? 1 : Cut::kBlocks);
      double done = 0;
      for (const Count n : rows)
        done += 2 * real(tiles) * Cut::kGradRows * Cut::kGradColumns *
                (up_to(n, Cut::kTokenStep) + waits * Cut::kDepth);
      return add_wgmma(work, kWgmma, 2 * real(pairs) * real(of_rows) * real(columns), done,
                       tiles * static_cast<Count>(rows.size()), of_bytes, a.x.dtype, target.card);
    }
    const Tiling tiling = tiling_of_sums(of_rows, columns);
    const Count tiles = ceil_quotient(of_rows, tiling.rows) * ceil_quotient(columns, tiling.columns);
    double done = 0;
    for (const Count n : rows)
      done += 2 * real(tiling.rows) * real(tiling.columns) *
              (up_to(n, tiling.depth) + 2 * real(tiling.depth)) * real(tiles);
    work.push_back({.path = tiling.path,
                    .flops = 2 * real(pairs) * real(of_rows) * real(columns),
                    .done = done,
                    .bytes = of_bytes,
                    .dtype = a.x.dtype});
  }
  Tiling tiling_of_sums(Count of_rows, Count columns) const {
    return tiling_of(a.x.dtype, of_rows > 64 && columns > 64);
  }
  /// Bytes of the parts of the sums of such matrices' squares, written and read.
  double square_bytes(Count of_rows, Count columns) const {
    const Tiling tiling = tiling_of_sums(of_rows, columns);
    const Count parts = by_wgmma
                            ? cuda::HopperCut::square_parts(of_rows, columns)
                            : ceil_quotient(of_rows, tiling.rows) * ceil_quotient(columns, tiling.columns);
    return 16 * real(a.experts) * real(parts);
  }
  void add_row_kernel(double of_bytes) { work.push_back({.path = &kRows, .bytes = of_bytes}); }
  /// To FP8, before a product: so many numbers, each read in T and written as it is multiplied.
  void add_coded_rows(double numbers) {
    if (a.fp8) add_row_kernel((t + of_operand()) * numbers);
  }
  /// Weights of so many matrices, coded in a byte a number.
  void add_coding(double matrices) {
    if (a.fp8) add_row_kernel(matrices * matrix() * (t + 1));
  }
  void add_combine(double of_bytes) { add_row_kernel(real(pairs) * (real(hidden) * t + 8) + of_bytes); }

  const ExpertsArgs& a;
  const CardTarget& target;
  bool by_wgmma;
  std::vector<Count> rows;
  Count pairs, hidden;
  double t;
  Work work = {};
};

// --- Attention

struct HeadSize {
  Count q, v;
};
/// As with_head_size (attention.cuh).
HeadSize padded(Count q, Count v) {
  for (const HeadSize s : {HeadSize{32, 32}, HeadSize{64, 64}, HeadSize{128, 128}, HeadSize{192, 128}})
    if (q <= s.q && v <= s.v) return s;
  return {256, 256};
}
/// Pairs of all heads with those that fill up the last tile of keys of each query, half of them on average.
double tiled_pairs(const AttentionArgs& a, Count keys) {
  return (real(a.pairs) + real(a.q.rows) * real(keys) / 2) * real(a.heads);
}

}  // namespace

std::vector<std::int64_t> drawn_rows(std::int64_t tokens, std::int64_t experts, std::int64_t top_k) {
  HONE_CHECK(top_k <= experts, "{} of {} experts", top_k, experts);
  const CounterRng rng(1, RngPurpose::kBench, 1);
  std::vector<Count> rows(static_cast<std::size_t>(experts)), mine;
  std::uint64_t draw = 0;
  for (Count token = 0; token < tokens; ++token) {
    mine.clear();  // Floyd's sample: each set of top_k equally likely
    for (Count last = experts - top_k; last < experts; ++last) {
      auto expert = static_cast<Count>(rng.below(draw++, static_cast<std::uint64_t>(last + 1)));
      if (std::find(mine.begin(), mine.end(), expert) != mine.end()) expert = last;
      mine.push_back(expert);
      ++rows[static_cast<std::size_t>(expert)];
    }
  }
  return rows;
}

// --- The slots

#define HONE_ROW_KERNEL(ArgsOf, kernels)                      \
  Work card_work(const ArgsOf& a, const CardTarget& target) { \
    (void)target;                                             \
    return one_row_kernel(a, kernels);                        \
  }
HONE_ROW_KERNEL(EmbeddingGradArgs, a.accumulate ? 1 : 2)
HONE_ROW_KERNEL(RmsNormArgs, 1)
HONE_ROW_KERNEL(RmsNormGradArgs, (a.dx.given() ? 1 : 0) + (a.wants_dweight ? 2 : 0))
HONE_ROW_KERNEL(HeadNormRopeArgs, 1)
HONE_ROW_KERNEL(HeadNormRopeGradArgs, a.wants_dweight ? 2 : 1)
HONE_ROW_KERNEL(MlaKeysValuesArgs, 3)
HONE_ROW_KERNEL(MlaKeysValuesGradArgs, 3)
HONE_ROW_KERNEL(ActivationArgs, 1)
HONE_ROW_KERNEL(ActivationGradArgs, 1)
HONE_ROW_KERNEL(RowGateArgs, 1)
HONE_ROW_KERNEL(RowGateGradArgs, 1)
HONE_ROW_KERNEL(CopyArgs, 1)
HONE_ROW_KERNEL(ClampArgs, 1)
HONE_ROW_KERNEL(ClampGradArgs, 1)
HONE_ROW_KERNEL(TakeRowsArgs, 1)
HONE_ROW_KERNEL(PutRowsArgs, a.accumulate ? 1 : 2)
HONE_ROW_KERNEL(ColumnSumArgs, 2)
HONE_ROW_KERNEL(RouterArgs, 3)
HONE_ROW_KERNEL(RouterGradArgs, 1)
HONE_ROW_KERNEL(MoePlanArgs, 3)
HONE_ROW_KERNEL(LoadBalancingArgs, 1)
HONE_ROW_KERNEL(SumOfSquaresArgs, a.has_parts ? 1 : 2)
HONE_ROW_KERNEL(FinishNormArgs, 1)
HONE_ROW_KERNEL(NextStepArgs, 1)
HONE_ROW_KERNEL(SgdArgs, 1)
#undef HONE_ROW_KERNEL

Work card_work(const AdamWArgs& a, const CardTarget&) {
  Work work = one_row_kernel(a);
  if (a.moments == MomentKind::kDynamic8)
    work.front().path = a.master_dtype == DType::kBF16 ? &kCodedBf16Update : &kCodedUpdate;
  return work;
}

Work card_work(const MatmulArgs& a, const CardTarget& target) {
  Work work;
  add_product(work, a, target);
  return work;
}

Work card_work(const AttentionArgs& a, const CardTarget& target) {
  const Cost c = cost(a);
  if (a.pairs == 0) return {};
  if (why_no_cudnn(target).empty() && cuda::is_for_cudnn(a))
    return {{.path = &kRows, .bytes = real(a.sequences) * 44},
            {.path = &kCudnn, .flops = c.flops, .done = c.flops, .bytes = c.bytes, .dtype = c.dtype}};
  const HeadSize s = padded(a.head_dim, a.value_dim());
  const Count keys = s.q <= 128 ? 64 : 32;
  return {{.path = &kAttention,
           .flops = c.flops,
           .done = tiled_pairs(a, keys) * real(2 * s.q + 2 * s.v) + c.flops -
                   real(a.pairs * a.heads) * real(2 * a.head_dim + 2 * a.value_dim()),
           .bytes = c.bytes,
           .dtype = c.dtype}};
}

Work card_work(const AttentionGradArgs& g, const CardTarget& target) {
  const AttentionArgs& a = g.forward;
  if (a.pairs == 0) return {};
  const bool by_wgmma = why_no_wgmma(target).empty() && cuda::hopper_refusal(g).empty();
  HeadSize s = padded(a.head_dim, a.value_dim());
  if (by_wgmma && s.q < 64) s = {64, 64};
  const Path* path = &kAttentionGrad;
  if (by_wgmma) path = s.q <= 64 ? &kWgmmaAttentionGrad64 : &kWgmmaAttentionGrad;
  const double pairs = real(a.pairs) * real(a.heads), dq = real(a.head_dim), dv = real(a.value_dim());
  const double lse = real(a.q.rows) * real(a.heads) * 4, parts = real(cuda::key_grad_part_bytes(a));
  Work work{{.path = &kRows, .bytes = bytes(a.out) + bytes(g.dout) + lse}};
  if (g.wants_dsinks)
    work.push_back(
        {.path = &kRows, .flops = 2 * elements(a.out), .done = 2 * elements(a.out), .bytes = 2 * lse});
  // Scores and the gradients of probabilities are made by both: by keys they are multiplied by queries and by
  // the output's gradients, by queries by keys.
  const double in = bytes(a.q) + bytes(a.k) + bytes(a.v) + bytes(g.dout) + 2 * lse,
               softmax = a.softcap > 0 ? 15 : 10, out = bytes(g.dk) + bytes(g.dv);
  const Count keys = by_wgmma ? cuda::HopperAttentionCut::kKeysAtOnce : s.q <= 64 ? 64 : 32;
  work.push_back({.path = path,
                  .flops = pairs * (4 * dq + 4 * dv + softmax),
                  .done = tiled_pairs(a, 64) * (4 * real(s.q) + 4 * real(s.v) + softmax),
                  .bytes = in + (parts > 0 ? parts : out),
                  .dtype = a.q.dtype});
  if (parts > 0) work.push_back({.path = &kRows, .bytes = parts + out});
  work.push_back({.path = path,
                  .flops = pairs * (4 * dq + 2 * dv + softmax),
                  .done = tiled_pairs(a, keys) * (4 * real(s.q) + 2 * real(s.v) + softmax),
                  .bytes = in + bytes(g.dq),
                  .dtype = a.q.dtype});
  return work;
}

Work card_work(const ExpertsArgs& a, const CardTarget& target) {
  if (a.x.rows == 0) return {};
  ExpertWork w(a, target, cuda::hopper_refusal(a));
  const double of_activation = real(w.pairs) * real(a.ffn) * w.t;
  const double biases = (a.has_gate_up_bias ? real(a.experts) * real(a.inner()) : 0) * w.t;
  const double down_biases = (a.has_down_bias ? real(a.experts) * real(w.hidden) : 0) * w.t;
  w.add_coded_rows(elements(a.x));
  w.add_coding(real(a.parts()));
  w.add_rows(w.hidden, a.inner(),
             elements(a.x) * w.of_operand() + real(a.parts()) * w.matrix() * w.of_weight(a.gate_up) + biases +
                 real(w.pairs) * 4 + (a.wants_pre_activation ? real(w.pairs) * real(a.inner()) * w.t : 0) +
                 of_activation,
             true);
  w.add_coded_rows(real(w.pairs) * real(a.ffn));
  w.add_coding(1);
  w.add_rows(a.ffn, w.hidden,
             real(w.pairs) * real(a.ffn) * w.of_operand() + w.matrix() * w.of_weight(a.down) + down_biases +
                 real(w.pairs) * real(w.hidden) * w.t,
             false);
  w.add_combine(bytes(a.residual) + bytes(a.y));
  return std::move(w.work);
}

Work card_work(const ExpertsGradArgs& g, const CardTarget& target) {
  const ExpertsArgs& f = g.forward;
  if (f.x.rows == 0) return {};
  ExpertWork w(f, target, cuda::hopper_refusal(g));
  const double inner_numbers = real(w.pairs) * real(f.inner()), inner = inner_numbers * w.t,
               activation = real(w.pairs) * real(f.ffn) * w.t;
  const double dy = elements(g.dy) * w.t, pairs = real(w.pairs);
  const bool wants_dpre = g.wants_dgate_up || g.wants_dgate_up_bias || g.dx.given();
  if (wants_dpre || g.wants_ddown || g.wants_dweights) {
    if (g.dy.dtype != f.x.dtype) w.add_row_kernel(bytes(g.dy) + dy);
    const double dots = g.wants_dweights ? pairs * real(ceil_quotient(f.ffn, 32)) * 4 : 0;
    w.add_coded_rows(elements(g.dy));
    w.add_coding(1);
    w.add_rows(w.hidden, f.ffn,
               elements(g.dy) * w.of_operand() + w.matrix() * w.of_weight(f.down) + inner + pairs * 12 +
                   (wants_dpre ? inner : 0) + (g.wants_ddown ? activation : 0) + dots,
               true);
    if (g.wants_dweights)
      w.add_row_kernel(dots + pairs * 4 +
                       (f.has_down_bias ? bytes(g.dy) + real(f.experts) * real(w.hidden) * w.t : 0));
  }
  if (g.wants_ddown) {
    w.add_sums(w.hidden, f.ffn,
               dy + activation + written(w.matrix() * bytes_of(g.ddown_dtype), g.accumulate_ddown), true,
               g.ddown, g.ddown_dtype, g.accumulate_ddown, g.wants_ddown_squares);
  }
  if (g.wants_dgate_up) {
    w.add_sums(f.inner(), w.hidden,
               inner + bytes(f.x) +
                   written(real(f.parts()) * w.matrix() * bytes_of(g.dgate_up_dtype), g.accumulate_dgate_up),
               false, g.dgate_up, g.dgate_up_dtype, g.accumulate_dgate_up, g.wants_dgate_up_squares);
  }
  if (g.wants_ddown_squares || g.wants_dgate_up_squares)  // their parts' sums
    w.add_row_kernel((g.wants_ddown_squares ? w.square_bytes(w.hidden, f.ffn) : 0) +
                     (g.wants_dgate_up_squares ? w.square_bytes(f.inner(), w.hidden) : 0));
  if (g.wants_dgate_up_bias)
    w.add_row_kernel(inner + written(real(f.experts) * real(f.inner()) * bytes_of(g.dgate_up_bias_dtype),
                                     g.accumulate_dgate_up_bias));
  if (g.wants_ddown_bias)
    w.add_row_kernel(
        bytes(g.dy) + pairs * 8 +
        written(real(f.experts) * real(w.hidden) * bytes_of(g.ddown_bias_dtype), g.accumulate_ddown_bias));
  if (g.dx.given()) {
    w.add_coded_rows(inner_numbers);
    w.add_coding(real(f.parts()));
    w.add_rows(f.inner(), w.hidden,
               inner_numbers * w.of_operand() + real(f.parts()) * w.matrix() * w.of_weight(f.gate_up) +
                   pairs * real(w.hidden) * w.t,
               false, f.parts());
    w.add_combine(written(bytes(g.dx), g.accumulate_dx));
  }
  return std::move(w.work);
}

Work card_work(const LinearCrossEntropyArgs& a, const CardTarget& target, const cuda::HeadLimits& limits) {
  Work work = head_work(a.head, a.gradients, true, a.has_weights ? 12 : 8, target, limits);
  work.push_back({.path = &kRows, .bytes = real(a.head.hidden.rows) * 4});  // the losses' sum
  return work;
}
Work card_work(const HeadStatisticsArgs& a, const CardTarget& target, const cuda::HeadLimits& limits) {
  return head_work(a.head, {}, true, 12, target, limits);
}
Work card_work(const HeadGradArgs& a, const CardTarget& target, const cuda::HeadLimits& limits) {
  if (!a.gradients.wanted()) return {};
  return head_work(a.forward.head, a.gradients, false, 16, target, limits);
}
#define HONE_HEAD(ArgsOf)                                     \
  Work card_work(const ArgsOf& a, const CardTarget& target) { \
    return card_work(a, target, cuda::HeadLimits{});          \
  }
HONE_HEAD(LinearCrossEntropyArgs)
HONE_HEAD(HeadStatisticsArgs)
HONE_HEAD(HeadGradArgs)
#undef HONE_HEAD

}  // namespace hone::kernels
