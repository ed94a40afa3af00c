// Attention, forward: the queries of a piece against all their keys, a block of rows and a chunk of keys at a
// time, with a running softmax (Dao et al. 2022, "FlashAttention"). The rows of all query heads that share a
// kv head are stacked, so that its keys and values are packed once for all of them. The chunks of a group
// have sums and a running softmax of their own, which are then joined with those of the groups before.
#pragma once

#include "kernels/cpu/attention_blocks.h"

namespace hone::kernels::cpu {

template <class Isa, class T>
class AttentionForward {
  using E = Compute<Isa, T>;
  static constexpr Index kLanes = Isa::kLanes, kWidth = kPanel<Isa>;
  static constexpr Index kScoreStride = kForwardKeys + 16;

 public:
  AttentionForward(const AttentionArgs& a, const AttentionPiece& piece, float* memory)
      : a_(a),
        piece_(piece),
        span_(a, piece.sequence),
        group_(a.heads / a.kv_heads),
        dim_(a.head_dim),
        v_dim_(a.value_dim()) {
    queries_ = piece.query_end - piece.query_begin;
    position_ = span_.position(piece.query_begin);
    carve(memory);
  }
  static Index scratch(const AttentionArgs& a, Index queries) {
    return AttentionForward(a, queries).carve(nullptr);
  }

  void run() {
    load_queries();
    clear_sums();
    const Index end = position_ + queries_;
    const Index first = first_seen(a_.window, position_) / kWidth * kWidth;
    // Chunks begin at multiples of kForwardKeys wherever the piece begins: a row's result depends on its own
    // position alone.
    bool joined = false;
    for (Index chunk = first / kForwardKeys * kForwardKeys; chunk < end; chunk += kForwardKeys) {
      if (chunk > first && chunk % (kForwardKeys * kGroupBlocks) == 0) {
        join(joined);
        joined = true;
      }
      keys_ = {most(chunk, first), least(chunk + kForwardKeys, end)};
      load_keys();
      for (Index r = 0; r < rows(); r += kForwardRows) block({r, least(r + kForwardRows, rows())});
    }
    if (joined) join(true);
    store(joined ? before_ : group_sums_);
  }

 private:
  /// The sums of every row, and their state.
  struct Sums {
    float* sums;
    RowState* state;
  };

  AttentionForward(const AttentionArgs& a, Index queries)
      : a_(a), group_(a.heads / a.kv_heads), dim_(a.head_dim), v_dim_(a.value_dim()), queries_(queries) {}

  Index carve(float* memory) {
    words_ = words_of<Isa, E>(dim_);
    left_stride_ = padded<float>(words_);
    panels_ = ceil_div(v_dim_, kWidth);
    Carver c(memory);
    left_ = c.take<float>(rows() * left_stride_);
    for (Sums* s : {&group_sums_, &before_}) {
      s->sums = c.take<float>(rows() * panels_ * kWidth);
      s->state = c.take<RowState>(rows());
    }
    keys_packed_ = c.take<float>(kForwardKeys * words_);
    values_packed_ = c.take<float>(panels_ * kForwardKeys / kPerWord<E> * kWidth);
    scores_ = c.take<float>(kForwardRows * kScoreStride);
    return c.used_floats();
  }

  /// Row r is query r % queries_ of head r / queries_ of the group.
  Index rows() const { return group_ * queries_; }
  Index head() const { return piece_.kv_head * group_; }
  Index query_row(Index r) const { return span_.query + piece_.query_begin + r % queries_; }
  Index position(Index r) const { return position_ + r % queries_; }
  /// The keys of the chunk that row r sees, counted from its first key.
  Range seen(Index r) const {
    const Index p = position(r);
    return {most(0, first_seen(a_.window, p) - keys_.begin), least(p + 1, keys_.end) - keys_.begin};
  }
  /// The keys of the chunk that lie between the first and the last that any of the rows sees.
  Range seen_by(Range r) const {
    if (r.begin / queries_ == (r.end - 1) / queries_) return {seen(r.begin).begin, seen(r.end - 1).end};
    return {seen(0).begin, seen(queries_ - 1).end};
  }

  void load_queries() {
    const T* q = static_cast<const T*>(a_.q.data);
    for (Index h = 0; h < group_; h++) {
      copy_rows<Isa, E>(q + query_row(0) * a_.q.stride + (head() + h) * dim_, a_.q.stride, queries_, dim_,
                        left_ + h * queries_ * left_stride_, left_stride_);
    }
  }
  void clear_sums() {
    fill_zero(group_sums_.sums, rows() * panels_ * kWidth);
    for (Index r = 0; r < rows(); r++) group_sums_.state[r] = RowState{};
  }
  /// Ends a group of chunks, whether the first or not.
  void join(bool more) {
    const Index width = panels_ * kWidth;
    if (more) {
      for (Index r = 0; r < rows(); r++) {
        join_row<Isa>(before_.state[r], before_.sums + r * width, group_sums_.state[r],
                      group_sums_.sums + r * width, width);
      }
    } else {
      const Sums empty = before_;
      before_ = group_sums_;
      group_sums_ = empty;
    }
    clear_sums();
  }

  void load_keys() {
    const Index row = span_.key + keys_.begin;
    pack_along<Isa, E>(static_cast<const T*>(a_.k.data) + row * a_.k.stride + piece_.kv_head * dim_,
                       a_.k.stride, keys_.size(), dim_, keys_packed_);
    pack_across<Isa, E>(static_cast<const T*>(a_.v.data) + row * a_.v.stride + piece_.kv_head * v_dim_,
                        a_.v.stride, v_dim_, keys_.size(), values_packed_);
  }

  void block(Range r) {
    const Range all = seen_by(r);
    if (all.begin >= all.end) return;
    multiply_queries(r, all);
    constexpr Index kWhole = most(kLanes, kStepElements<Isa, E>);
    const Range whole{all.begin / kWhole * kWhole, square_end<Isa, E>(all.end)};
    for (Index i = r.begin; i < r.end; i++) {
      float* row = scores_ + (i - r.begin) * kScoreStride;
      if (a_.softcap > 0) cap_row<Isa>(row, seen(i), a_.scale, a_.softcap);
      const float correction =
          softmax_row<Isa, E>(row, whole, seen(i), a_.softcap > 0 ? 1 : a_.scale, group_sums_.state[i]);
      if (correction != 1) {
        float* sums = group_sums_.sums + i * panels_ * kWidth;
        store_scaled<Isa>(sums, correction, panels_ * kWidth, sums);
      }
    }
    const BlockProduct values{scores_,
                              kScoreStride,
                              values_packed_,
                              words_of<Isa, E>(keys_.size()),
                              group_sums_.sums + r.begin * panels_ * kWidth,
                              panels_ * kWidth,
                              keys_.begin % kForwardKeys / kPerWord<E>};
    multiply_add_block(kernel_, values, r.size(), panels_, [&](Range tile) {
      return seen_by({r.begin + tile.begin, r.begin + tile.end});
    });
  }

  /// The scores of rows r and the keys `all` of the chunk, but for tiles that nobody looks at.
  void multiply_queries(Range r, Range all) {
    const BlockProduct scores{
        left_ + r.begin * left_stride_, left_stride_, keys_packed_, words_, scores_, kScoreStride};
    const Tiles<Isa, E> tiles(r.size());
    for (Index j = all.begin / kWidth; j * kWidth < all.end; j++) {
      for (Index t = 0; t < tiles.count; t++) {
        const Range tile{tiles.begin(t), tiles.begin(t + 1)};
        const Range keys = seen_by({r.begin + tile.begin, r.begin + tile.end});
        if (keys.begin >= (j + 1) * kWidth || keys.end <= j * kWidth) continue;
        multiply_tile<false>(kernel_, scores, tile, j, {0, words_});
      }
    }
  }

  void store(const Sums& of) {
    for (Index i = 0; i < queries_; i++) {
      const Index query = query_row(i);
      T* out = static_cast<T*>(a_.out.data) + query * a_.out.stride + head() * v_dim_;
      prefetch_row(out + 8 * a_.out.stride, i + 8 < queries_ ? group_ * v_dim_ : 0);
      for (Index h = 0, r = i; h < group_; h++, r += queries_) {
        const float factor = end_row<Isa, T>(a_, head() + h, of.state[r]);
        store_scaled<Isa>(of.sums + r * panels_ * kWidth, factor, v_dim_, out + h * v_dim_);
        if (a_.wants_lse) a_.lse[query * a_.heads + head() + h] = log_sum_exp(of.state[r]);
      }
    }
  }

  const AttentionArgs& a_;
  const AttentionPiece piece_{};
  const AttentionSpan span_;
  const Index group_, dim_, v_dim_;
  Index queries_ = 0;   // of the piece
  Index position_ = 0;  // of the first
  Index words_ = 0, left_stride_ = 0;
  Index panels_ = 0;              // of values
  Range keys_{0, 0};              // positions of the chunk
  Sums group_sums_{}, before_{};  // of the group of chunks, and of all groups before it
  float *left_ = nullptr, *keys_packed_ = nullptr, *values_packed_ = nullptr, *scores_ = nullptr;
  MicroKernel<Isa, E, false> kernel_;
};

template <class Isa>
void AttentionCode<Isa>::forward(const AttentionArgs& a, const AttentionPiece& piece, float* scratch) {
  with_storage<Isa>(a.q,
                    [&](auto element) { AttentionForward<Isa, decltype(element)>(a, piece, scratch).run(); });
}
template <class Isa>
Index AttentionCode<Isa>::forward_scratch(const AttentionArgs& a, Index queries) {
  Index floats = 0;
  with_storage<Isa>(
      a.q, [&](auto element) { floats = AttentionForward<Isa, decltype(element)>::scratch(a, queries); });
  return floats;
}

}  // namespace hone::kernels::cpu
