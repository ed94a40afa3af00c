#include "kernels/cpu/attention_plan.h"

#include <algorithm>

namespace hone::kernels::cpu {

namespace {

/// Pairs of a query in [begin, end) and a key that it sees, roughly.
double pairs(const AttentionArgs& a, const AttentionSpan& span, Index begin, Index end) {
  const Index first = span.position(begin), last = span.position(end - 1);
  const auto seen = [&](Index position) {
    return static_cast<double>(position + 1 - first_seen(a.window, position));
  };
  return static_cast<double>(end - begin) * (seen(first) + seen(last)) / 2;
}

void longest_first(std::vector<AttentionPiece>& pieces) {
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const AttentionPiece& x, const AttentionPiece& y) { return x.cost > y.cost; });
}

/// Queries of a piece: the more, the less often keys are packed; the fewer, the more pieces there are.
Index piece_queries(const AttentionArgs& a, int threads) {
  const Index group = a.heads / a.kv_heads;
  Index queries = std::clamp<Index>(512 / group / kForwardRows * kForwardRows, 32, 256);
  const auto pieces = [&](Index size) {
    Index count = 0;
    for (Index s = 0; s < a.sequences; s++) count += ceil_div(AttentionSpan(a, s).queries, size) * a.kv_heads;
    return count;
  };
  while (queries > kForwardRows && pieces(queries) < Index{4} * threads) queries /= 2;
  return queries;
}

/// The pieces of a sequence of few queries.
void plan_few(const AttentionArgs& a, const AttentionSpan& span, AttentionPiece piece, ForwardPlan& plan) {
  const Index begin = first_seen(a.window, span.position(0));
  const Index length = kFewKeys * ceil_div(span.keys - begin, kFewKeys * kMaxFewPieces);
  const Index count = ceil_div(span.keys - begin, length);
  for (piece.kv_head = 0; piece.kv_head < a.kv_heads; piece.kv_head++) {
    piece.partial = count > 1 ? plan.partials : -1;
    for (Index i = 0; i < count; i++) {
      piece.key_begin = begin + i * length;
      piece.key_end = std::min(piece.key_begin + length, span.keys);
      piece.cost = static_cast<double>(piece.key_end - piece.key_begin);
      plan.few.push_back(piece);
      if (i == 0 && count > 1) plan.joins.push_back({piece, count});
      if (count > 1) piece.partial++;
    }
    if (count > 1) plan.partials += count;
  }
}

}  // namespace

ForwardPlan plan_forward(const AttentionArgs& a, int threads) {
  ForwardPlan plan;
  const Index queries = piece_queries(a, threads);
  AttentionPiece piece;
  for (piece.sequence = 0; piece.sequence < a.sequences; piece.sequence++) {
    const AttentionSpan span(a, piece.sequence);
    if (span.queries <= kFewQueries) {
      piece.query_begin = 0;
      piece.query_end = span.queries;
      if (span.queries > 0) plan_few(a, span, piece, plan);
      continue;
    }
    for (Index begin = 0; begin < span.queries; begin += queries) {
      piece.query_begin = begin;
      piece.query_end = std::min(begin + queries, span.queries);
      piece.cost = pairs(a, span, begin, piece.query_end);
      plan.most_queries = std::max(plan.most_queries, piece.query_end - begin);
      for (piece.kv_head = 0; piece.kv_head < a.kv_heads; piece.kv_head++) plan.blocks.push_back(piece);
    }
  }
  longest_first(plan.blocks);
  longest_first(plan.few);
  return plan;
}

namespace {

/// Products of a pair of a query and a key: scores and their gradient, and one for each of dq, dk, dv.
constexpr double kBoth = 5, kOnlyDkv = 4, kOnlyDq = 3;
/// The most that the sums of dq may take in one thread's scratch memory, in floats.
constexpr Index kMaxDqFloats = Index{1} << 21;

/// A piece for every sequence and kv head, which needs five products.
std::vector<AttentionPiece> whole_pieces(const AttentionArgs& a) {
  std::vector<AttentionPiece> pieces;
  AttentionPiece piece;
  piece.dq = piece.dkv = true;
  for (piece.sequence = 0; piece.sequence < a.sequences; piece.sequence++) {
    const AttentionSpan span(a, piece.sequence);
    if (span.queries == 0 && span.keys == 0) continue;
    piece.query_end = span.queries;
    piece.key_end = span.keys;
    // Keys without queries have gradients of 0, which somebody must write.
    piece.cost = span.queries > 0 ? kBoth * pairs(a, span, 0, span.queries) : 0;
    for (piece.kv_head = 0; piece.kv_head < a.kv_heads; piece.kv_head++) pieces.push_back(piece);
  }
  return pieces;
}

/// Cuts a whole piece into pieces for dk and dv by keys, and pieces for dq by queries: seven products.
void cut(const AttentionArgs& a, const AttentionPiece& whole, std::vector<AttentionPiece>& pieces) {
  const AttentionSpan span(a, whole.sequence);
  const Index chunk = backward_chunk(widest_head(a)), queries = 2 * kBackwardRows;
  const Index length = std::min(chunk, round_up(ceil_div(span.keys, 8), kBackwardKeys));
  AttentionPiece piece = whole;
  piece.dq = false;
  for (Index begin = 0; begin < span.keys; begin += length) {
    piece.key_begin = begin;
    piece.key_end = std::min(begin + length, span.keys);
    // The queries that see them: those from the first key's position on, up to a window after the last.
    const Index first = std::max<Index>(0, begin - span.position(0)) / kBackwardRows * kBackwardRows;
    const Index end = a.window > 0 ? piece.key_end - 1 + a.window - span.position(0) : span.queries;
    piece.query_begin = std::min(first, span.queries);
    piece.query_end = std::clamp(end, piece.query_begin, span.queries);
    piece.cost = kOnlyDkv * static_cast<double>(piece.key_end - begin) *
                 static_cast<double>(piece.query_end - piece.query_begin);
    pieces.push_back(piece);
  }
  piece.dq = true;
  piece.dkv = false;
  for (Index begin = 0; begin < span.queries; begin += queries) {
    piece.query_begin = begin;
    piece.query_end = std::min(begin + queries, span.queries);
    piece.key_begin = first_seen(a.window, span.position(begin)) / kBackwardKeys * kBackwardKeys;
    piece.key_end = span.position(piece.query_end - 1) + 1;
    piece.cost = kOnlyDq * pairs(a, span, begin, piece.query_end);
    pieces.push_back(piece);
  }
}

}  // namespace

std::vector<AttentionPiece> plan_backward(const AttentionArgs& a, int threads) {
  std::vector<AttentionPiece> pieces;
  const std::vector<AttentionPiece> whole = whole_pieces(a);
  double total = 0;
  for (const AttentionPiece& piece : whole) total += piece.cost;
  // A thread's share if everything is cut; whole pieces longer than that would keep the others waiting.
  const double share = total * (kOnlyDkv + kOnlyDq) / kBoth / threads;
  for (const AttentionPiece& piece : whole) {
    const bool fits = piece.key_end <= backward_chunk(widest_head(a)) ||
                      a.heads / a.kv_heads * piece.query_end * a.head_dim <= kMaxDqFloats;
    if (!fits || (piece.cost > share && piece.key_end > kBackwardKeys))
      cut(a, piece, pieces);
    else
      pieces.push_back(piece);
  }
  longest_first(pieces);
  return pieces;
}

}  // namespace hone::kernels::cpu
