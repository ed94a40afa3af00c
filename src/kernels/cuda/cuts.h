// How products are cut and who takes them, for the kernels and for the model of their time
// (kernels/card_work.h): told from shapes alone, on any machine.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "kernels/kernels.h"

namespace hone::kernels::cuda {

inline constexpr std::int64_t ceil_quotient(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// The k of a product.
inline std::int64_t depth_of(const MatmulArgs& a) {
  return a.transpose_a ? a.a.rows : a.a.cols;
}

/// Whether a product is of a size that cuBLASLt is asked for: below 2^29 multiply-adds (3 us of the tensor
/// cores) it gains nothing over our own tiles.
inline bool is_for_vendor(const MatmulArgs& a) {
  return static_cast<double>(a.c.rows) * static_cast<double>(a.c.cols) * static_cast<double>(depth_of(a)) >=
         0x1p29;
}
/// Why cuBLASLt cannot say what is asked; "" where it may.
inline const char* vendor_refusal(const MatmulArgs& a) {
  if (a.c.rows == 0 || a.c.cols == 0 || depth_of(a) == 0) return "the product is empty";
  if (a.accumulate && a.residual.given())
    return "it adds one matrix, and both c and a residual are asked for";
  if (a.residual.given() && a.residual.dtype != a.c.dtype) return "the residual is of another dtype than c";
  if (a.has_bias && a.a.dtype != a.c.dtype) return "the bias is of another dtype than c";
  // not documented; marian-nmt (src/tensors/gpu/prod.cpp) met misaligned reads by the epilogue on an A100
  if (a.has_bias && reinterpret_cast<std::uintptr_t>(a.bias) % 16 != 0)
    return "the bias does not begin at 16 bytes";
  return "";
}

/// Why tensor cores for e4m3 (rows_e4m3.cuh, on compute capability 9.0) do not take a dense product; "" where
/// they do.
inline const char* e4m3_refusal(const MatmulArgs& a) {
  if (!a.fp8) return "its operands are not rounded to FP8";
  if (a.a.dtype != DType::kBF16) return "the operands are not bf16";
  if (a.c.rows == 0 || a.c.cols == 0 || depth_of(a) == 0) return "the product is empty";
  return "";
}

/// How a dense product is cut where our own tiles take it. Few tiles with a long k are cut along k.
struct ProductCut {
  std::int64_t m, n, k;
  bool large;              // tiles of 128 x 128, else 64 x 64
  std::int64_t parts;      // of k
  std::int64_t k_of_part;  // a multiple of every kDepth
};
inline ProductCut cut_of(const MatmulArgs& a) {
  ProductCut cut{a.c.rows, a.c.cols, depth_of(a), false, 1, 0};
  // 96 tiles keep most of a card busy (an H200 has 132 multiprocessors, of two such blocks each)
  constexpr std::int64_t kLargeTiles = 96, kBlocks = 128, kLeastK = 256, kMostParts = 64;
  cut.large = a.a.dtype == DType::kBF16 && cut.m > 64 && cut.n > 64 &&
              ceil_quotient(cut.m, 128) * ceil_quotient(cut.n, 128) >= kLargeTiles;
  const std::int64_t tiles = ceil_quotient(cut.m, 64) * ceil_quotient(cut.n, 64);
  if (!cut.large && tiles > 0)
    cut.parts = std::max<std::int64_t>(1, std::min({kBlocks / tiles, cut.k / kLeastK, kMostParts}));
  cut.k_of_part = ceil_quotient(ceil_quotient(cut.k, cut.parts), 32) * 32;
  if (cut.k_of_part > 0) cut.parts = ceil_quotient(cut.k, cut.k_of_part);
  return cut;
}

/// Whether the average expert fills tiles of 128 rows. capacity: (token, slot) pairs.
inline bool takes_large_tiles(std::int64_t capacity, std::int64_t experts, std::int64_t columns) {
  return capacity >= 96 * experts && columns > 64;
}

/// What experts' products on compute capability 9.0 are cut into (expert_rows_hopper.cuh,
/// expert_weights_hopper.cuh): up to so many rows of an expert, in steps, by lines of its weight; and tiles
/// of a weight's gradient.
struct HopperCut {
  static constexpr int kTokens = 256, kTokenStep = 16, kLines = 128, kDepth = 64;
  static constexpr int kGradRows = 128, kGradColumns = 256;
  static constexpr int kBlocks = 2;  // of a cluster, whose tiles are neighbours
  // Of e4m3 (rows_e4m3.cuh): each sum is there twice, so a tile has fewer rows.
  static constexpr int kFp8Tokens = 128, kFp8Depth = 128;
  static constexpr int kMostExperts = 1024;  // whose tiles a block counts in shared memory
  /// Parts of the sum of the squares of one expert's gradient (rows, columns): one of each warp of each tile.
  static constexpr int kSquaresOfTile = 8;
  static std::int64_t square_parts(std::int64_t rows, std::int64_t columns) {
    return ceil_quotient(rows, kGradRows) * ceil_quotient(columns, kGradColumns) * kSquaresOfTile;
  }
};
/// Whether a weight's gradient c is stored by TMA while the next tile is multiplied: of bf16, to which
/// nothing is added. (Rows of c are multiples of 16 bytes: hopper_refusal.)
inline bool grad_goes_by_tma(bool is_bf16, const void* c, bool accumulate) {
  return is_bf16 && !accumulate && reinterpret_cast<std::uintptr_t>(c) % 16 == 0;
}
/// The most parts of that sum, whoever makes the gradient: of tiles of 64 x 64 one each.
inline std::int64_t most_square_parts(std::int64_t rows, std::int64_t columns) {
  return std::max(ceil_quotient(rows, 64) * ceil_quotient(columns, 64),
                  HopperCut::square_parts(rows, columns));
}
/// Why they do not take shapes and layouts; "" where they do.
inline std::string hopper_refusal(const ExpertsArgs& a) {
  const auto is_at_16 = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  if (a.x.dtype != DType::kBF16) return "the rows are " + std::string(name_of(a.x.dtype));
  if (a.gate_up.kind != WeightKind::kDense || a.down.kind != WeightKind::kDense)
    return "the weights are quantised";
  if (a.x.cols % 8 != 0) return "the hidden size, " + std::to_string(a.x.cols) + ", is no multiple of 8";
  if (a.ffn % 8 != 0) return "the experts' width, " + std::to_string(a.ffn) + ", is no multiple of 8";
  if (!is_at_16(a.x.data) || a.x.stride % 8 != 0) return "rows do not begin at multiples of 16 bytes";
  if (!is_at_16(a.gate_up.data) || !is_at_16(a.down.data))
    return "weights do not begin at multiples of 16 bytes";
  if (a.experts > HopperCut::kMostExperts)
    return std::to_string(a.experts) + " experts are more than " + std::to_string(HopperCut::kMostExperts);
  return "";
}
inline std::string hopper_refusal(const ExpertsGradArgs& g) {
  if (std::string why = hopper_refusal(g.forward); !why.empty()) return why;
  // of another dtype it is rounded to rows of our own
  if (g.dy.dtype == DType::kBF16 &&
      (reinterpret_cast<std::uintptr_t>(g.dy.data) % 16 != 0 || g.dy.stride % 8 != 0))
    return "rows of dy do not begin at multiples of 16 bytes";
  return "";
}

/// Why cuDNN is not asked for attention of this kind, told from its shapes; "" where it is.
inline std::string cudnn_refusal(const AttentionArgs& a) {
  if (a.q.dtype != DType::kBF16) return "it is not in bf16";
  if (a.has_sinks) return "it has sinks";
  if (a.softcap > 0) return "it has a softcap";
  if (a.value_dim() != a.head_dim) return "its values are of another size than its keys";
  if (a.head_dim % 8 != 0 || a.head_dim < 16 || a.head_dim > 256)
    return "heads are no multiple of 8 between 16 and 256";
  if (a.q.rows == 0) return "it is empty";
  if (!a.are_square) return "not every sequence has queries, and as many keys";
  return "";
}
/// Whether it is asked: for 2^30 multiply-adds and more (7 us of the tensor cores; it takes a launch of its
/// own before).
inline bool is_for_cudnn(const AttentionArgs& a) {
  return cudnn_refusal(a).empty() &&
         static_cast<double>(a.pairs) * static_cast<double>(a.heads * 2 * a.head_dim) >= 0x1p30;
}

/// Into how many parts the packed rows that see a tile of keys are cut for dk and dv, each of blocks of its
/// own: as many as make 1,024 blocks of 64 keys (a tile that all queries see has twice the work of the mean),
/// at most 8, each of at least 128 rows were all queries of one sequence. Of more than one the sums are f32,
/// and one launch more puts them together.
inline std::int64_t key_grad_parts(const AttentionArgs& a) {
  constexpr std::int64_t kBlocks = 1024, kKeys = 64, kLeastRows = 128, kMost = 8;
  if (a.k.rows == 0 || a.sequences == 0) return 1;
  const std::int64_t tiles = a.k.rows / kKeys + a.sequences;
  return std::max<std::int64_t>(
      1, std::min({kBlocks / (tiles * a.kv_heads), a.q.rows * (a.heads / a.kv_heads) / kLeastRows, kMost}));
}
/// The bytes of those sums: none of one part.
inline std::int64_t key_grad_part_bytes(const AttentionArgs& a) {
  const std::int64_t parts = key_grad_parts(a);
  return parts > 1 ? parts * a.k.rows * a.kv_heads * (a.head_dim + a.value_dim()) * 4 : 0;
}

/// What attention's gradient on compute capability 9.0 is cut into (attention_grad_hopper.cuh): a block has
/// so many keys, or packed rows, and takes so many at a time of the other, with a softcap half as many.
struct HopperAttentionCut {
  static constexpr int kOwn = 128, kRowsAtOnce = 64, kKeysAtOnce = 128;
  static constexpr int kMostHeadDim = 128;
};
/// Why those kernels do not take shapes and layouts; "" where they do.
inline std::string hopper_refusal(const AttentionGradArgs& g) {
  const AttentionArgs& a = g.forward;
  if (a.q.dtype != DType::kBF16) return "it is not in bf16";
  if (a.value_dim() != a.head_dim) return "its values are of another size than its keys";
  if (!(a.scale > 0)) return "its scale is not above 0";  // a key that is not seen has a product of -infinity
  if (a.head_dim % 8 != 0 || a.head_dim > HopperAttentionCut::kMostHeadDim)
    return "heads of " + std::to_string(a.head_dim) + " are no multiple of 8 up to " +
           std::to_string(HopperAttentionCut::kMostHeadDim);
  for (const Matrix* m : {&a.q, &a.k, &a.v, &g.dout, &g.dq, &g.dk, &g.dv})
    if (reinterpret_cast<std::uintptr_t>(m->data) % 16 != 0 || m->stride % 8 != 0)
      return "rows do not begin at multiples of 16 bytes";
  return "";
}

/// How much of the head's logits exists at once.
struct HeadLimits {
  /// Of f32 logits from which gradients are made. 640 MiB are 1,104 rows of Qwen 3's 151,936 words: the
  /// products' tiles are full, and a weight of 600 MB is read four times for 4,096 rows, in a tenth of the
  /// products' time.
  std::int64_t gradient_bytes = std::int64_t{640} << 20;
  /// Of logits that are only summed up: what stays in the L2 cache, or nearly.
  std::int64_t statistics_bytes = std::int64_t{64} << 20;
  /// Where fewer rows of all words than these fit gradient_bytes, words are cut as well, which makes the
  /// logits twice.
  std::int64_t least_rows = 256;
  /// Of the gradients of all rows' logits in the products' dtype, which are kept where chunks could not be
  /// summed in the weight's gradient without rounding each. That saves one of four products and a pass over
  /// the logits: of Qwen 3's 151,936 words and 4,096 rows, which are 1.16 GiB, 4 of 16 ms. With the next
  /// limit the head takes 0.95 GiB more than without, for 4,096 rows whose activations take 2.9 GiB in 12
  /// layers: more rows are not to double what a row takes.
  std::int64_t kept_bytes = std::int64_t{1280} << 20;
  /// Where they are not kept: of the weight's gradient in f32, to which chunks add, and which is rounded
  /// once. It takes less than they would (from twice as many rows as a row has numbers), and saves as much:
  /// of Qwen 3's 8,192 rows, for 1.16 GiB, 8 of 32 ms. 2 GiB: 128,256 words of 4,096 numbers (Llama 3 8B).
  std::int64_t summed_bytes = std::int64_t{2} << 30;
  /// Of f32 logits beside those that are kept: 512 rows of 151,936 words, in whose product's 0.40 ms the
  /// weight is read and the logits are written in 0.23; 320 rows of 262,144, of which 256 are whole tiles.
  std::int64_t beside_kept_bytes = std::int64_t{320} << 20;
  /// Rows whose logits are summed up at once, and the fewest words of a range: products smaller than that
  /// would wait for launches.
  std::int64_t statistics_rows = 8192, least_words = 128;
};
/// How the head's logits are cut into pieces.
struct HeadCut {
  /// Rows of logits lie at multiples of eight numbers: those of their bf16 gradients at such of 16 bytes.
  static std::int64_t stride_of(std::int64_t words) { return ceil_quotient(words, 8) * 8; }
  static std::int64_t bytes_of_row(std::int64_t words) { return stride_of(words) * 4; }
  /// Rows, less those beyond the last whole tile of a product.
  static std::int64_t whole_tiles(std::int64_t rows) { return rows > 128 ? rows / 128 * 128 : rows; }

  HeadCut(const HeadOperands& head, const HeadGradients& to, const HeadLimits& limits) {
    const std::int64_t rows = head.hidden.rows, vocab = head.weight.rows;
    const auto words_that_fit = [&](std::int64_t bytes, std::int64_t of_rows) {
      const std::int64_t words = bytes / 4 / std::max<std::int64_t>(1, of_rows) / 8 * 8;
      return std::min(vocab, std::max(words, limits.least_words));
    };
    const std::int64_t fit = limits.gradient_bytes / bytes_of_row(vocab);
    whole = to.wanted() && fit >= std::min(rows, limits.least_rows);
    if (whole) {
      const std::int64_t chunks =
          std::max<std::int64_t>(1, ceil_quotient(rows, std::max<std::int64_t>(1, fit)));
      chunk_rows = ceil_quotient(rows, chunks);
      chunk_words = vocab;
    } else {
      chunk_rows = std::min(rows, limits.statistics_rows);
      chunk_words = words_that_fit(limits.statistics_bytes, chunk_rows);
    }
    bool rounds = to.wants_dweight && to.dweight_dtype != DType::kF32 && chunk_rows < rows;
    const std::int64_t beside = whole_tiles(limits.beside_kept_bytes / bytes_of_row(vocab));
    const std::int64_t of_all =
        rows * stride_of(vocab) * static_cast<std::int64_t>(size_of(head.hidden.dtype));
    keeps = whole && rounds && beside >= limits.least_rows && of_all <= limits.kept_bytes;
    if (keeps) chunk_rows = std::min(rows, beside);
    sums_dweight =
        whole && rounds && !keeps && vocab * head.weight.cols * 4 <= std::min(limits.summed_bytes, of_all);
    rounds = rounds && !keeps && !sums_dweight;
    again = to.wanted() && (!whole || rounds);
    again_words = words_that_fit(limits.gradient_bytes, rows);
    sums_dhidden = to.dhidden.given() && !whole && to.dhidden.dtype != DType::kF32;
  }
  bool whole;                            // chunk_words are all, and gradients are made of those logits
  bool keeps;                            // which are kept: of all rows there is one product each
  bool sums_dweight;                     // over chunks of rows, in f32
  bool again;                            // logits are made once more, for gradients:
  std::int64_t again_words;              // of all rows, so many words at a time
  bool sums_dhidden;                     // over ranges of words, in f32
  std::int64_t chunk_rows, chunk_words;  // of the logits that are summed up
};

}  // namespace hone::kernels::cuda
