// Attention, backward: probabilities again from the log-sum-exp, and with D = sum(dout * out) of a row,
// ds = p * (dout v - D) (Dao 2023, "FlashAttention-2", section 3.1.2), times the slope of a softcap. A sink,
// whose value is 0, is in the log-sum-exp; its ds is -p D.
//
// Everything between two keys and queries is kept transposed, [key][query]: what belongs to a query is then a
// vector, and p and ds are left operands of dv += p dout and dk += ds q as they lie. Only ds is transposed
// once more, for dq += ds^T k. A sum over heads, then queries (dk, dv), or over keys (dq), is one of blocks
// that lie at the same places of the sequence however the work is cut, and of groups of blocks, in order;
// pairs that do not see each other add exact zeros, so that the cut does not matter.
#pragma once

#include "kernels/cpu/attention_square.h"

namespace hone::kernels::cpu {

template <class Isa, class T>
class AttentionBackward {
  using E = Compute<Isa, T>;
  using Vec = typename Isa::Vec;
  static constexpr Index kLanes = Isa::kLanes, kWidth = kPanel<Isa>;
  static constexpr Index kScoreStride = kBackwardRows + 16;

 public:
  AttentionBackward(const AttentionGradArgs& g, const AttentionPiece& piece, float* memory)
      : g_(g),
        a_(g.forward),
        piece_(piece),
        span_(a_, piece.sequence),
        dim_(a_.head_dim),
        v_dim_(a_.value_dim()) {
    group_ = a_.heads / a_.kv_heads;
    carve(memory);
  }
  static Index scratch(const AttentionGradArgs& g, const AttentionPiece& piece) {
    return AttentionBackward(g, piece, nullptr).used_;
  }

  void run() {
    const Index dq_floats = group_ * queries() * sums_stride_, chunk = backward_chunk(widest_head(a_));
    if (keep_dq_) fill_zero(dq_, dq_floats);
    if (dq_before_ != nullptr) fill_zero(dq_before_, dq_floats);
    for (Index begin = piece_.key_begin; begin < piece_.key_end; begin = keys_.end) {
      if (dq_before_ != nullptr && begin > piece_.key_begin && begin % (chunk * kGroupBlocks) == 0)
        end_group(dq_, dq_floats, dq_before_);
      keys_ = {begin, least(begin / chunk * chunk + chunk, piece_.key_end)};
      load_keys();
      Index group = 0;
      for (Index h = 0; h < group_; h++) {
        for (Index q = piece_.query_begin; q < piece_.query_end; q += rows_) {
          const Index its_group = (h * ceil_div(span_.queries, rows_) + q / rows_) / kGroupBlocks;
          if (its_group != group) end_groups_of_keys();
          group = its_group;
          block(h, {q, least(q + rows_, piece_.query_end)});
        }
      }
      end_groups_of_keys();
      if (piece_.dkv) store_keys();
    }
    if (dq_before_ != nullptr) {
      end_group(dq_, dq_floats, dq_before_);
      dq_ = dq_before_;
    }
    for (Index h = 0; keep_dq_ && h < group_; h++) {
      store_dq(h, {piece_.query_begin, piece_.query_end}, dq_ + h * queries() * sums_stride_);
    }
  }

 private:
  void carve(float* memory) {
    const Index whole_chunk = backward_chunk(widest_head(a_));
    rows_ = backward_rows(widest_head(a_));
    words_ = words_of<Isa, E>(dim_);
    v_words_ = words_of<Isa, E>(v_dim_);
    left_stride_ = padded<float>(words_);
    v_left_stride_ = padded<float>(v_words_);
    panels_ = ceil_div(dim_, kWidth);
    v_panels_ = ceil_div(v_dim_, kWidth);
    sums_stride_ = panels_ * kWidth;
    v_sums_stride_ = v_panels_ * kWidth;
    chunk_ = least(whole_chunk, round_up(piece_.key_end - piece_.key_begin, kBackwardKeys));
    const Index first_chunk = piece_.key_begin / whole_chunk;
    const Index last_chunk = most(piece_.key_end - 1, piece_.key_begin) / whole_chunk;
    keep_dq_ = piece_.dq && last_chunk > first_chunk;
    ds_stride_ = padded<float>(chunk_ / kPerWord<E>);
    Carver c(memory);
    key_rows_ = c.take<float>(chunk_ * left_stride_);
    value_rows_ = c.take<float>(chunk_ * v_left_stride_);
    query_columns_ = c.take<float>(rows_ * words_);
    dout_columns_ = c.take<float>(rows_ * v_words_);
    out_ = c.take<float>(rows_ * v_left_stride_);
    scores_ = c.take<float>(kBackwardKeys * kScoreStride);
    dscores_ = c.take<float>(kBackwardKeys * kScoreStride);
    lse_ = c.take<float>(rows_);
    mean_ = c.take<float>(rows_);
    if (piece_.dkv) {
      query_panels_ = c.take<float>(rows_ / kPerWord<E> * sums_stride_);
      dout_panels_ = c.take<float>(rows_ / kPerWord<E> * v_sums_stride_);
      dk_ = c.take<float>(chunk_ * sums_stride_);
      dv_ = c.take<float>(chunk_ * v_sums_stride_);
      if (group_ * ceil_div(span_.queries, rows_) > kGroupBlocks) {
        dk_before_ = c.take<float>(chunk_ * sums_stride_);
        dv_before_ = c.take<float>(chunk_ * v_sums_stride_);
        more_groups_ = true;
      }
    }
    if (piece_.dq) {
      key_panels_ = c.take<float>(chunk_ / kPerWord<E> * sums_stride_);
      ds_ = c.take<float>(rows_ * ds_stride_);
      dq_ = c.take<float>((keep_dq_ ? group_ * queries() : rows_) * sums_stride_);
      if (last_chunk / kGroupBlocks > first_chunk / kGroupBlocks)
        dq_before_ = c.take<float>(group_ * queries() * sums_stride_);
    }
    used_ = c.used_floats();
  }

  Index queries() const { return piece_.query_end - piece_.query_begin; }
  Index head(Index h) const { return piece_.kv_head * group_ + h; }
  /// Where the head of a query or of a key's position begins in a matrix of heads of `dim`.
  T* query_row(const Matrix& m, Index query, Index h, Index dim) const {
    return static_cast<T*>(m.data) + (span_.query + query) * m.stride + head(h) * dim;
  }
  T* key_row(const Matrix& m, Index position, Index dim) const {
    return static_cast<T*>(m.data) + (span_.key + position) * m.stride + piece_.kv_head * dim;
  }

  void load_keys() {
    const Index n = keys_.size();
    const T* k = key_row(a_.k, keys_.begin, dim_);
    copy_rows<Isa, E>(k, a_.k.stride, n, dim_, key_rows_, left_stride_);
    copy_rows<Isa, E>(key_row(a_.v, keys_.begin, v_dim_), a_.v.stride, n, v_dim_, value_rows_,
                      v_left_stride_);
    if (piece_.dq) pack_across<Isa, E>(k, a_.k.stride, dim_, n, key_panels_);
    if (piece_.dkv) {
      fill_zero(dk_, n * sums_stride_);
      fill_zero(dv_, n * v_sums_stride_);
      if (more_groups_) fill_zero(dk_before_, n * sums_stride_);
      if (more_groups_) fill_zero(dv_before_, n * v_sums_stride_);
    }
  }
  /// Adds the sums of a group of blocks to those of the groups before, and begins the next.
  static void end_group(float* sums, Index floats, float* before) {
    add_floats<Isa>(sums, floats, before);
    fill_zero(sums, floats);
  }
  void end_groups_of_keys() {
    if (!more_groups_) return;
    end_group(dk_, keys_.size() * sums_stride_, dk_before_);
    end_group(dv_, keys_.size() * v_sums_stride_, dv_before_);
  }
  void store_keys() {
    const float *dk = more_groups_ ? dk_before_ : dk_, *dv = more_groups_ ? dv_before_ : dv_;
    for (Index i = 0; i < keys_.size(); i++) {
      store_scaled<Isa>(dk + i * sums_stride_, a_.scale, dim_, key_row(g_.dk, keys_.begin + i, dim_));
      store_scaled<Isa>(dv + i * v_sums_stride_, 1, v_dim_, key_row(g_.dv, keys_.begin + i, v_dim_));
    }
  }

  void load_queries(Index h, Range q) {
    const T* rows = query_row(a_.q, q.begin, h, dim_);
    const T* dout = query_row(g_.dout, q.begin, h, v_dim_);
    pack_along<Isa, E>(rows, a_.q.stride, q.size(), dim_, query_columns_);
    pack_along<Isa, E>(dout, g_.dout.stride, q.size(), v_dim_, dout_columns_);
    if (piece_.dkv) {
      pack_across<Isa, E>(rows, a_.q.stride, dim_, q.size(), query_panels_);
      pack_across<Isa, E>(dout, g_.dout.stride, v_dim_, q.size(), dout_panels_);
    }
    const float* lse = a_.lse + (span_.query + q.begin) * a_.heads + head(h);
    for (Index i = 0; i < q.size(); i++) lse_[i] = lse[i * a_.heads];
    fill_zero(lse_ + q.size(), rows_ - q.size());
    find_means(query_row(a_.out, q.begin, h, v_dim_), q.size());
  }
  /// The product of out and dout of every query, summed in the order of dout v: where a query sees one key
  /// only, or has eyes for one only, out is that key's v and the two cancel to the last bit.
  void find_means(const T* out, Index queries) {
    if constexpr (kOnTiles<Isa, E>) {  // the diagonal of a product
      copy_rows<Isa, E>(out, a_.out.stride, queries, v_dim_, out_, v_left_stride_);
      for (Index i = 0; i < queries; i += kWidth) {
        const Index rows = least(kWidth, queries - i);
        const BlockProduct product{out_ + i * v_left_stride_,
                                   v_left_stride_,
                                   dout_columns_ + i * v_words_,
                                   v_words_,
                                   scores_,
                                   kWidth};
        multiply_tile<false>(kernel_, product, {0, rows}, 0, {0, v_words_});
        for (Index r = 0; r < rows; r++) mean_[i + r] = scores_[r * kWidth + r];
      }
      fill_zero(mean_ + queries, rows_ - queries);
    } else {
      pack_along<Isa, E>(out, a_.out.stride, queries, v_dim_, out_);
      multiply_columns<Isa, E>(out_, dout_columns_, v_words_, queries, mean_);
    }
  }
  void store_dq(Index h, Range q, const float* sums) {
    for (Index i = q.begin; i < q.end; i++, sums += sums_stride_) {
      store_scaled<Isa>(sums, a_.scale, dim_, query_row(g_.dq, i, h, dim_));
    }
  }

  /// The keys of the chunk, counted from its first, that lie between the first and the last that queries q
  /// see.
  Range seen_by(Range q) const {
    return {most(0, first_seen(a_.window, span_.position(q.begin)) - keys_.begin),
            least(span_.position(q.end - 1) + 1, keys_.end) - keys_.begin};
  }
  /// The queries of block q, counted from its first, between the first and the last that see one of the keys
  /// k (counted from the chunk's first).
  Range seeing(Range k, Range q) const {
    const Index first = keys_.begin + k.begin - span_.position(q.begin);
    const Index last = keys_.begin + k.end - 1 - span_.position(q.begin);
    return {most(0, first), a_.window > 0 ? least(q.size(), last + a_.window) : q.size()};
  }

  /// Queries q of head h of the group against the chunk.
  void block(Index h, Range q) {
    const Range seen = seen_by(q);
    float* dq = keep_dq_ ? dq_ + (h * queries() + q.begin - piece_.query_begin) * sums_stride_ : dq_;
    if (piece_.dq && !keep_dq_) fill_zero(dq, q.size() * sums_stride_);
    if (seen.begin < seen.end) {
      load_queries(h, q);
      for (Index k = seen.begin / kBackwardKeys * kBackwardKeys; k < seen.end; k += kBackwardKeys) {
        scores({k, least(k + kBackwardKeys, keys_.size())}, q);
      }
      if (piece_.dq) {
        const Index before = keys_.begin % backward_chunk(widest_head(a_)) / kPerWord<E>;
        multiply_add_block(kernel_,
                           BlockProduct{ds_, ds_stride_, key_panels_, words_of<Isa, E>(keys_.size()), dq,
                                        sums_stride_, before},
                           q.size(), panels_, [&](Range tile) {
                             return seen_by({q.begin + tile.begin, q.begin + tile.end});
                           });
      }
    }
    if (piece_.dq && !keep_dq_) store_dq(h, q, dq);
  }

  /// Scores and their gradients of keys k (counted from the chunk's first) and queries q, and what they add
  /// to dk and dv.
  void scores(Range k, Range q) {
    multiply_queries(
        k, q,
        {key_rows_ + k.begin * left_stride_, left_stride_, query_columns_, words_, scores_, kScoreStride});
    multiply_queries(k, q,
                     {value_rows_ + k.begin * v_left_stride_, v_left_stride_, dout_columns_, v_words_,
                      dscores_, kScoreStride});
    for (Index r = 0; r < square_end<Isa, E>(k.size()); r += kLanes) {
      for (Index i = 0; i < square_end<Isa, E>(q.size()); i += kLanes) softmax_grad(k, r, q, i);
    }
    if (!piece_.dkv) return;
    const Index panel_words = words_of<Isa, E>(q.size());
    const auto terms = [&](Range tile) { return seeing({k.begin + tile.begin, k.begin + tile.end}, q); };
    multiply_add_block(kernel_,
                       BlockProduct{scores_, kScoreStride, dout_panels_, panel_words,
                                    dv_ + k.begin * v_sums_stride_, v_sums_stride_},
                       k.size(), v_panels_, terms);
    multiply_add_block(kernel_,
                       BlockProduct{dscores_, kScoreStride, query_panels_, panel_words,
                                    dk_ + k.begin * sums_stride_, sums_stride_},
                       k.size(), panels_, terms);
  }

  /// [key][query] = rows of keys times columns of queries, but for tiles in which no query sees a key.
  void multiply_queries(Range k, Range q, const BlockProduct& product) {
    const Tiles<Isa, E> tiles(k.size());
    for (Index j = 0; j * kWidth < q.size(); j++) {
      for (Index t = 0; t < tiles.count; t++) {
        const Range tile{tiles.begin(t), tiles.begin(t + 1)};
        const Range see = seeing({k.begin + tile.begin, k.begin + tile.end}, q);
        if (see.begin >= (j + 1) * kWidth || see.end <= j * kWidth) continue;
        multiply_tile<false>(kernel_, product, tile, j, {0, product.panel_words});
      }
    }
  }

  /// p and ds of the square of keys k.begin + r … and queries q.begin + i …
  void softmax_grad(Range k, Index r, Range q, Index i) {
    const Index rows = least(kLanes, k.size() - r);
    const Range first = seeing({k.begin + r, k.begin + r + 1}, q);
    const Range last = seeing({k.begin + r + rows - 1, k.begin + r + rows}, q);
    SoftmaxSquare<Isa, E> square{scores_ + r * kScoreStride, dscores_ + r * kScoreStride, kScoreStride, i};
    if (piece_.dq) {
      square.ds = ds_ + i * ds_stride_ + (k.begin + r) / kPerWord<E>;
      square.ds_stride = ds_stride_;
    }
    const bool capped = a_.softcap > 0;
    const typename SoftmaxSquare<Isa, E>::Queries queries{capped ? a_.scale / a_.softcap : a_.scale,
                                                          a_.softcap, lse_ + i, mean_ + i};
    if (rows <= 0 || i >= q.size()) {  // past the ends
      square.clear();
    } else if (rows == kLanes && last.begin <= i && i + kLanes <= first.end) [[likely]] {
      if (capped) [[unlikely]] {
        square.template compute<false, true>(queries, {});
      } else {
        square.template compute<false, false>(queries, {});
      }
    } else if (i + kLanes <= first.begin || i >= last.end) {
      square.clear();
    } else {
      const Index key = keys_.begin + k.begin + r - span_.position(q.begin + i);
      const typename SoftmaxSquare<Isa, E>::Edge edge{key, rows, q.size() - i, a_.window};
      if (capped) {
        square.template compute<true, true>(queries, edge);
      } else {
        square.template compute<true, false>(queries, edge);
      }
    }
  }

  const AttentionGradArgs& g_;
  const AttentionArgs& a_;
  const AttentionPiece piece_;
  const AttentionSpan span_;
  const Index dim_, v_dim_;
  Index group_ = 1, rows_ = 0, words_ = 0, panels_ = 0, chunk_ = 0, used_ = 0;
  Index left_stride_ = 0, sums_stride_ = 0, ds_stride_ = 0;
  Index v_words_ = 0, v_panels_ = 0, v_left_stride_ = 0, v_sums_stride_ = 0;  // of v, out and dout
  MicroKernel<Isa, E, false> kernel_;
  bool keep_dq_ = false;      // the sums of all queries wait for the next chunk
  bool more_groups_ = false;  // more blocks of queries than a group has
  Range keys_{0, 0};          // positions of the chunk
  float *key_rows_ = nullptr, *value_rows_ = nullptr, *key_panels_ = nullptr;
  float *query_columns_ = nullptr, *dout_columns_ = nullptr, *out_ = nullptr;
  float *query_panels_ = nullptr, *dout_panels_ = nullptr;
  float *scores_ = nullptr, *dscores_ = nullptr;  // p and ds take their places
  float *ds_ = nullptr, *lse_ = nullptr, *mean_ = nullptr, *dq_ = nullptr, *dk_ = nullptr, *dv_ = nullptr;
  // Of the groups of blocks before, or null where there is one group only.
  float *dq_before_ = nullptr, *dk_before_ = nullptr, *dv_before_ = nullptr;
};

template <class Isa>
void AttentionCode<Isa>::backward(const AttentionGradArgs& g, const AttentionPiece& piece, float* scratch) {
  with_storage<Isa>(
      g.forward.q, [&](auto element) { AttentionBackward<Isa, decltype(element)>(g, piece, scratch).run(); });
}
template <class Isa>
Index AttentionCode<Isa>::backward_scratch(const AttentionGradArgs& g, const AttentionPiece& piece) {
  Index floats = 0;
  with_storage<Isa>(g.forward.q, [&](auto element) {
    floats = AttentionBackward<Isa, decltype(element)>::scratch(g, piece);
  });
  return floats;
}
template <class Isa>
void AttentionCode<Isa>::sink_sums(const AttentionGradArgs& g, Index begin, Index end, double* sums,
                                   float* scratch) {
  const AttentionArgs& a = g.forward;
  constexpr Index kLanes = Isa::kLanes;
  const Index dim = a.value_dim();
  for (Index h = 0; h < a.heads; h++) sums[h] = 0;
  with_storage<Isa>(a.q, [&](auto element) {
    using T = decltype(element);
    for (Index i = begin; i < end; i++) {
      for (Index h = 0; h < a.heads; h += kLanes) {
        const Index n = least(a.heads - h, kLanes);
        const typename Isa::Vec sinks = Isa::load(static_cast<const T*>(a.sinks) + h, n);
        Isa::store(scratch + h, Isa::exp(sinks - Isa::load(a.lse + i * a.heads + h, n)));
      }
      const T* out = static_cast<const T*>(a.out.data) + i * a.out.stride;
      const T* dout = static_cast<const T*>(g.dout.data) + i * g.dout.stride;
      for (Index h = 0; h < a.heads; h++, out += dim, dout += dim) {
        typename Isa::Wide product = Isa::wide_zero();
        Index j = 0;
        for (; j + kLanes <= dim; j += kLanes)
          product = Isa::add(product, Isa::load(out + j) * Isa::load(dout + j));
        if (j < dim) product = Isa::add(product, Isa::load(out + j, dim - j) * Isa::load(dout + j, dim - j));
        sums[h] += static_cast<double>(scratch[h]) * Isa::sum(product);
      }
    }
  });
}

}  // namespace hone::kernels::cpu
