// Attention, forward, for sequences of very few queries (a token being generated): keys and values stream
// through once and nothing is packed. A long cache is cut into pieces of keys; their results are joined in
// order.
#pragma once

#include "kernels/cpu/attention_rows.h"

namespace hone::kernels::cpu {

template <class Isa, class T>
class AttentionFew {
  static constexpr Index kLanes = Isa::kLanes;
  static constexpr Index kScoreStride = kFewKeys + 16;

 public:
  AttentionFew(const AttentionArgs& a, const AttentionPiece& piece, float* partials, float* memory)
      : a_(a),
        piece_(piece),
        span_(a, piece.sequence),
        group_(a.heads / a.kv_heads),
        dim_(a.head_dim),
        v_dim_(a.value_dim()) {
    width_ = row_width(a);
    rows_ = group_ * span_.queries;
    carve(memory);
    if (piece.partial >= 0) rows_memory_ = partials + piece.partial * partial_size(a);
  }
  static Index scratch(const AttentionArgs& a) { return AttentionFew(a).carve(nullptr); }
  static Index partial_size(const AttentionArgs& a) {
    return a.heads / a.kv_heads * kFewQueries * row_width(a);
  }

  void run() {
    load_queries();
    for (Index r = 0; r < rows_; r++) {
      fill_zero(sums(r), width_);
      state(r) = RowState{};
    }
    for (Index k = piece_.key_begin; k < piece_.key_end; k += kFewKeys) {
      for (Index r = 0; r < rows_; r += 4) batch(r, {k, least(k + kFewKeys, piece_.key_end)});
    }
    if (piece_.partial < 0) store();
  }
  /// Joins the partial results of this piece and the next ones, neighbours first.
  void join(Index count) {
    const Index size = partial_size(a_);
    for (Index step = 1; step < count; step *= 2) {
      for (Index c = 0; c + step < count; c += 2 * step) {
        for (Index r = 0; r < rows_; r++) {
          float* to = sums(r) + c * size;
          const float* other = to + step * size;
          join_row<Isa>(state_of(to), to, state_of(other), other, width_ - 16);
        }
      }
    }
    store();
  }

 private:
  explicit AttentionFew(const AttentionArgs& a)
      : a_(a),
        group_(a.heads / a.kv_heads),
        dim_(a.head_dim),
        v_dim_(a.value_dim()),
        rows_(group_ * kFewQueries) {
    width_ = row_width(a);
  }
  /// A row's sums in whole vectors, and its state at the end.
  static Index row_width(const AttentionArgs& a) { return round_up(a.value_dim(), 16) + 16; }
  Index carve(float* memory) {
    Carver c(memory);
    queries_ = c.take<T>(rows_ * query_stride());
    scores_ = c.take<float>(4 * kScoreStride);
    rows_memory_ = c.take<float>(rows_ * width_);
    return c.used_floats();
  }

  /// Row r is query r / group_ of the sequence, head r % group_ of the group.
  float* sums(Index r) const { return rows_memory_ + r * width_; }
  RowState& state(Index r) const { return state_of(sums(r)); }
  RowState& state_of(float* sums) const { return reinterpret_cast<RowState*>(sums + width_)[-1]; }
  const RowState& state_of(const float* sums) const {
    return reinterpret_cast<const RowState*>(sums + width_)[-1];
  }
  Index query_stride() const { return round_up(dim_, 16); }

  void load_queries() {
    for (Index i = 0; i < span_.queries; i++) {
      const T* q = static_cast<const T*>(a_.q.data) + (span_.query + i) * a_.q.stride;
      for (Index h = 0; h < group_; h++) {
        __builtin_memcpy(queries_ + (i * group_ + h) * query_stride(),
                         q + (piece_.kv_head * group_ + h) * dim_,
                         static_cast<std::size_t>(dim_) * sizeof(T));
      }
    }
  }

  /// Up to four rows from r on and up to kFewKeys keys.
  void batch(Index r, Range keys) {
    switch (rows_ - r) {
      case 1:
        return batch_of<1>(r, keys);
      case 2:
        return batch_of<2>(r, keys);
      case 3:
        return batch_of<3>(r, keys);
      default:
        return batch_of<4>(r, keys);
    }
  }
  template <int kRows>
  void batch_of(Index r, Range keys) {
    multiply_keys<kRows>(r, keys);
    for (Index i = 0; i < kRows; i++) {
      const Index p = span_.position((r + i) / group_);
      const Range seen{most(0, first_seen(a_.window, p) - keys.begin), least(p + 1, keys.end) - keys.begin};
      float* scores = scores_ + i * kScoreStride;
      if (a_.softcap > 0) cap_row<Isa>(scores, seen, a_.scale, a_.softcap);
      const float correction = softmax_row<Isa, float>(scores, {0, round_up(keys.size(), kLanes)}, seen,
                                                       a_.softcap > 0 ? 1 : a_.scale, state(r + i));
      if (correction != 1) store_scaled<Isa>(sums(r + i), correction, width_ - 16, sums(r + i));
    }
    const T* v =
        static_cast<const T*>(a_.v.data) + (span_.key + keys.begin) * a_.v.stride + piece_.kv_head * v_dim_;
    for (Index d = 0; d < v_dim_; d += 4 * kLanes) {
      gather<kRows>(v + d, keys.size(), least(4 * kLanes, v_dim_ - d), sums(r) + d);
    }
  }

  const T* key(Index position) const {
    return static_cast<const T*>(a_.k.data) + (span_.key + position) * a_.k.stride + piece_.kv_head * dim_;
  }

  template <int kRows>
  void multiply_keys(Index r, Range keys) {
    const T* q = queries_ + r * query_stride();
    for (Index k = 0; k < keys.size(); k += 4) {
      const T* four[4];
      for (Index i = 0; i < 4; i++) {
        four[i] = key(least(keys.begin + k + i, keys.end - 1));
        prefetch_row(key(least(keys.begin + k + i + kFewAhead, keys.end - 1)), dim_);
      }
      multiply_four_keys<Isa, T, kRows>(q, query_stride(), four, dim_, scores_ + k, kScoreStride);
    }
  }

  template <int kRows>
  void gather(const T* v, Index keys, Index count, float* to) {
    const Index vecs = ceil_div(count, kLanes), last = count - (vecs - 1) * kLanes;
    switch (vecs) {
      case 1:
        return gather_values<Isa, T, kRows, 1>(scores_, kScoreStride, v, a_.v.stride, keys, last, to, width_);
      case 2:
        return gather_values<Isa, T, kRows, 2>(scores_, kScoreStride, v, a_.v.stride, keys, last, to, width_);
      case 3:
        return gather_values<Isa, T, kRows, 3>(scores_, kScoreStride, v, a_.v.stride, keys, last, to, width_);
      default:
        return gather_values<Isa, T, kRows, 4>(scores_, kScoreStride, v, a_.v.stride, keys, last, to, width_);
    }
  }

  void store() {
    for (Index r = 0; r < rows_; r++) {
      const Index query = span_.query + r / group_, h = piece_.kv_head * group_ + r % group_;
      store_scaled<Isa>(sums(r), end_row<Isa, T>(a_, h, state(r)), v_dim_,
                        static_cast<T*>(a_.out.data) + query * a_.out.stride + h * v_dim_);
      if (a_.wants_lse) a_.lse[query * a_.heads + h] = log_sum_exp(state(r));
    }
  }

  const AttentionArgs& a_;
  const AttentionPiece piece_{};
  const AttentionSpan span_;
  const Index group_, dim_, v_dim_;
  Index width_ = 0, rows_ = 0;
  T* queries_ = nullptr;
  float *scores_ = nullptr, *rows_memory_ = nullptr;
};

template <class Isa>
void AttentionCode<Isa>::few(const AttentionArgs& a, const AttentionPiece& piece, float* partials,
                             float* scratch) {
  with_storage<Isa>(
      a.q, [&](auto element) { AttentionFew<Isa, decltype(element)>(a, piece, partials, scratch).run(); });
}
template <class Isa>
void AttentionCode<Isa>::join_few(const AttentionArgs& a, const AttentionPiece& piece, Index count,
                                  float* partials) {
  with_storage<Isa>(a.q, [&](auto element) {
    AttentionFew<Isa, decltype(element)>(a, piece, partials, nullptr).join(count);
  });
}
template <class Isa>
Index AttentionCode<Isa>::few_partial(const AttentionArgs& a) {
  return AttentionFew<Isa, float>::partial_size(a);
}
template <class Isa>
Index AttentionCode<Isa>::few_scratch(const AttentionArgs& a) {
  return AttentionFew<Isa, float>::scratch(a);
}

}  // namespace hone::kernels::cpu
