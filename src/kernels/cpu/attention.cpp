#include "kernels/cpu/attention.h"

#include <algorithm>

#include "kernels/cpu/attention_plan.h"

namespace hone::kernels::cpu {

namespace {

/// Calls body(i, scratch) for 0 … count-1 on `threads` threads, each with `floats` of scratch memory.
template <class Body>
void over_pieces(Index count, Index floats, int threads, Stream& stream, const Body& body) {
  if (count == 0) return;
  threads = static_cast<int>(std::min<Index>(threads, count));
  const std::size_t bytes = static_cast<std::size_t>(floats) * sizeof(float);
  // Taken before the threads start, where running out of memory can still be reported.
  for (int t = 0; t < threads; t++) stream.workspace(t, bytes);
  if (stream.is_meta()) return;
  stream.team().parallel_for(threads, count, [&](Index i, int thread) {
    body(static_cast<std::size_t>(i), static_cast<float*>(stream.workspace(thread, bytes)));
  });
}

/// On the meta device, where the lengths of sequences are not known: sequences of one length.
class EvenSequences {
 public:
  explicit EvenSequences(const AttentionArgs& a) : args(a) {
    for (Index s = 0; s <= a.sequences; s++) {
      q_offsets_.push_back(static_cast<std::int32_t>(a.q.rows * s / std::max<Index>(1, a.sequences)));
      key_begin_.push_back(static_cast<std::int32_t>(a.k.rows * s / std::max<Index>(1, a.sequences)));
    }
    for (std::size_t s = 0; s + 1 < q_offsets_.size(); s++) {
      key_length_.push_back(std::max(key_begin_[s + 1] - key_begin_[s], q_offsets_[s + 1] - q_offsets_[s]));
    }
    args.q_offsets = q_offsets_.data();
    args.key_begin = key_begin_.data();
    args.key_length = key_length_.data();
  }
  EvenSequences(const EvenSequences&) = delete;
  EvenSequences& operator=(const EvenSequences&) = delete;

  AttentionArgs args;

 private:
  std::vector<std::int32_t> q_offsets_, key_begin_, key_length_;
};

double total_cost(const std::vector<AttentionPiece>& pieces) {
  double sum = 0;
  for (const AttentionPiece& piece : pieces) sum += piece.cost;
  return sum;
}

/// The threads that so many pairs of a query and a key, for `heads` heads, are worth.
int threads_for(double pairs, const AttentionArgs& a, const Stream& stream) {
  const std::int64_t width = a.heads / a.kv_heads * widest_head(a);
  return pairs * static_cast<double>(width) < 1 << 16 ? 1 : stream.num_threads();
}

/// The gradient of the sinks, in f64: pieces of kSinkQueries queries, then these in order.
void sinks_grad(const AttentionFunctions& code, const AttentionGradArgs& g, Stream& stream) {
  const AttentionArgs& a = g.forward;
  const Index first = a.q_offsets[0], end = a.q_offsets[a.sequences];
  const Index pieces = ceil_div(end - first, kSinkQueries);
  const Index floats = round_up(a.heads, 16);
  auto* sums = static_cast<double*>(
      stream.shared_workspace(static_cast<std::size_t>(pieces * a.heads) * sizeof(double)));
  const double work = static_cast<double>(end - first) * static_cast<double>(a.out.cols);
  over_pieces(pieces, floats, work < 1 << 16 ? 1 : stream.num_threads(), stream,
              [&](std::size_t i, float* scratch) {
                const Index begin = first + static_cast<Index>(i) * kSinkQueries;
                code.sink_sums(g, begin, least(begin + kSinkQueries, end),
                               sums + static_cast<Index>(i) * a.heads, scratch);
              });
  if (stream.is_meta()) return;
  for (Index h = 0; h < a.heads; h++) {
    float before = 0;
    if (g.accumulate_dsinks) {
      convert(g.dsinks_dtype, static_cast<char*>(g.dsinks) + h * size_of(g.dsinks_dtype), DType::kF32,
              &before, 1);
    }
    double sum = 0;
    for (Index i = 0; i < pieces; i++) sum += sums[i * a.heads + h];
    const auto gradient = static_cast<float>(static_cast<double>(before) - sum);
    convert(DType::kF32, &gradient, g.dsinks_dtype,
            static_cast<char*>(g.dsinks) + h * size_of(g.dsinks_dtype), 1);
  }
}

}  // namespace

void attention(const AttentionFunctions& code, const AttentionArgs& a, Stream& stream) {
  if (stream.is_meta() && a.q_offsets == nullptr) return attention(code, EvenSequences(a).args, stream);
  const ForwardPlan plan = plan_forward(a, stream.num_threads());
  const int threads = threads_for(total_cost(plan.blocks) + total_cost(plan.few), a, stream);
  over_pieces(static_cast<Index>(plan.blocks.size()), code.forward_scratch(a, plan.most_queries), threads,
              stream, [&](std::size_t i, float* scratch) { code.forward(a, plan.blocks[i], scratch); });
  float* partials = nullptr;
  if (plan.partials > 0) {
    partials = static_cast<float*>(stream.shared_workspace(
        static_cast<std::size_t>(plan.partials * code.few_partial(a)) * sizeof(float)));
  }
  over_pieces(static_cast<Index>(plan.few.size()), code.few_scratch(a), threads, stream,
              [&](std::size_t i, float* scratch) { code.few(a, plan.few[i], partials, scratch); });
  over_pieces(static_cast<Index>(plan.joins.size()), 0, threads, stream, [&](std::size_t i, float*) {
    code.join_few(a, plan.joins[i].first, plan.joins[i].count, partials);
  });
}

void attention_grad(const AttentionFunctions& code, const AttentionGradArgs& g, Stream& stream) {
  if (stream.is_meta() && g.forward.q_offsets == nullptr) {
    const EvenSequences even(g.forward);
    AttentionGradArgs known = g;
    known.forward = even.args;
    return attention_grad(code, known, stream);
  }
  const std::vector<AttentionPiece> pieces = plan_backward(g.forward, stream.num_threads());
  Index floats = 0;
  for (const AttentionPiece& piece : pieces) floats = std::max(floats, code.backward_scratch(g, piece));
  over_pieces(static_cast<Index>(pieces.size()), floats, threads_for(total_cost(pieces), g.forward, stream),
              stream, [&](std::size_t i, float* scratch) { code.backward(g, pieces[i], scratch); });
  if (g.wants_dsinks) sinks_grad(code, g, stream);
}

}  // namespace hone::kernels::cpu
