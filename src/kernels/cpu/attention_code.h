// Attention as the driver (attention.cpp) sees one instruction set: functions that each do one piece of the
// work on one thread. They are defined in attention_forward.h, attention_few.h and attention_backward.h and
// instantiated in the units of src/kernels/cpu/units/.
#pragma once

#include "kernels/cpu/isa.h"
#include "kernels/kernels.h"

namespace hone::kernels::cpu {

/// Where one sequence lies. Positions count its keys from 0; its last query is at the last position.
struct AttentionSpan {
  Index query = 0, queries = 0;  // row of the first query, and their number
  Index key = 0, keys = 0;       // the same for keys

  AttentionSpan() = default;
  [[gnu::always_inline]] AttentionSpan(const AttentionArgs& a, Index sequence)
      : query(a.q_offsets[sequence]),
        queries(a.q_offsets[sequence + 1] - query),
        key(a.key_begin[sequence]),
        keys(a.key_length[sequence]) {}
  /// The position of a query, counted from the sequence's first.
  [[gnu::always_inline]] Index position(Index query_index) const { return keys - queries + query_index; }
};

/// The first position that a query at `position` sees; the last is its own.
[[gnu::always_inline]] constexpr Index first_seen(Index window, Index position) {
  return window > 0 ? most(0, position - window + 1) : 0;
}

/// A piece of work: queries [query_begin, query_end) (counted from the sequence's first) of all query heads
/// that share a kv head, and the keys at positions [key_begin, key_end).
struct AttentionPiece {
  Index sequence = 0, kv_head = 0;
  Index query_begin = 0, query_end = 0;
  Index key_begin = 0, key_end = 0;
  bool dq = false, dkv = false;  // backward: what to compute
  Index partial = -1;  // forward of few queries: the number of its partial result, or -1: all is here
  double cost = 0;     // roughly, in any unit
};

/// The block sizes. Sums over keys or queries are sums of chains that begin with these blocks or, in the
/// micro-kernel, within them, always at the same positions of a sequence.
inline constexpr Index kForwardRows = 64;    // forward: rows of a block of scores
inline constexpr Index kForwardKeys = 512;   // forward: keys between corrections of the running maximum
inline constexpr Index kFewQueries = 4;      // sequences with no more take the path of attention_few.h
inline constexpr Index kFewKeys = 512;       // there: keys between corrections
inline constexpr Index kMaxFewPieces = 64;   // there: pieces that a cache is cut into, at most
inline constexpr Index kBackwardRows = 128;  // backward: queries of a block, at most
inline constexpr Index kBackwardKeys = 64;   // backward: keys of a block
/// Sums of blocks of keys or queries that are added up one after another; then the sums of such groups are,
/// so that the rounding error hardly grows with the length of a sequence. On AMX tiles, where a block goes
/// on from the sum of those before it, a group is a chain of 256 additions of 32 products each, at most.
inline constexpr Index kGroupBlocks = 16;

/// The wider of q's and k's heads and v's.
[[gnu::always_inline]] inline Index widest_head(const AttentionArgs& a) {
  return most(a.head_dim, a.value_dim());
}

/// The gradient of sinks: queries whose terms are added up one after another.
inline constexpr Index kSinkQueries = 64;

/// Backward: the keys whose gradients are summed at once, so that they and what they need stay in L2.
[[gnu::always_inline]] constexpr Index backward_chunk(Index head_dim) {
  return most(1, 65536 / most(head_dim, 128) / kBackwardKeys) * kBackwardKeys;
}

/// Backward: the queries of a block. Long ones make long sums, but must leave room in L2.
[[gnu::always_inline]] constexpr Index backward_rows(Index head_dim) {
  return head_dim < 128 ? kBackwardRows : kBackwardRows / 2;
}

template <class Isa>
struct AttentionCode {
  /// The queries of a piece against all keys that they see.
  static void forward(const AttentionArgs& a, const AttentionPiece& piece, float* scratch);
  /// Floats of scratch memory for a piece of so many queries.
  static Index forward_scratch(const AttentionArgs& a, Index queries);

  /// All queries of a sequence of at most kFewQueries against the keys of the piece. The result, or with
  /// piece.partial >= 0 a partial one, which goes to partials + piece.partial * few_partial(a).
  static void few(const AttentionArgs& a, const AttentionPiece& piece, float* partials, float* scratch);
  /// Joins the `count` partial results of a sequence and kv head, the first of which is that of `piece`.
  static void join_few(const AttentionArgs& a, const AttentionPiece& piece, Index count, float* partials);
  static Index few_partial(const AttentionArgs& a);
  static Index few_scratch(const AttentionArgs& a);

  /// dq of the piece's queries and dk, dv of its keys, as far as these two see each other: whoever asks for
  /// dq gives all keys, and whoever asks for dk and dv all queries.
  static void backward(const AttentionGradArgs& g, const AttentionPiece& piece, float* scratch);
  static Index backward_scratch(const AttentionGradArgs& g, const AttentionPiece& piece);
  /// sums[head] = the sum over rows [begin, end) of q of the sink's probability times the product of out and
  /// dout: less what these add to its gradient. Scratch: whole vectors of heads.
  static void sink_sums(const AttentionGradArgs& g, Index begin, Index end, double* sums, float* scratch);
};

}  // namespace hone::kernels::cpu
