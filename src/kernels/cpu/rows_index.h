// Rows by index: their choice, and its gradients.
#pragma once

#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/rows.h"

namespace hone::kernels::cpu {

/// to = from, or to += from.
template <class Isa, class X, class Y>
[[gnu::always_inline]] inline void copy_row(const X* from, Y* to, Index cols, bool accumulate) {
  for_lanes<Isa>(
      cols, [&](Index j, auto lanes) __attribute__((always_inline)) {
        auto v = load<Isa>(from + j, lanes);
        if (accumulate) v = v + load<Isa>(to + j, lanes);
        store<Isa>(to + j, v, lanes);
      });
}

template <class Isa>
void RowKernels<Isa>::take_rows(const TakeRowsArgs& a, Stream& stream) {
  with_dtype(a.x.dtype, [&](auto tx) {
    with_dtype(a.y.dtype, [&](auto ty) {
      using X = TypeOf<decltype(tx)>;
      using Y = TypeOf<decltype(ty)>;
      over_rows<Isa>(a.y.rows, a.y.cols, stream, [&](Index i) {
        copy_row<Isa>(row<const X>(a.x, a.index[i]), row<Y>(a.y, i), a.y.cols, false);
      });
    });
  });
}

template <class Isa>
void RowKernels<Isa>::put_rows(const PutRowsArgs& a, Stream& stream) {
  const Index cols = a.dx.cols;
  if (!a.accumulate) {
    const auto size = static_cast<Index>(size_of(a.dx.dtype));
    auto* named = static_cast<char*>(stream.shared_workspace(static_cast<std::size_t>(a.dx.rows)));
    if (stream.is_meta()) return;
    __builtin_memset(named, 0, static_cast<std::size_t>(a.dx.rows));
    for (Index i = 0; i < a.dy.rows; i++) named[a.index[i]] = 1;
    over_rows<Isa>(a.dx.rows, cols, stream, [&](Index i) {
      if (named[i] == 0)
        __builtin_memset(static_cast<char*>(a.dx.data) + i * a.dx.stride * size, 0,
                         static_cast<std::size_t>(cols * size));
    });
  }
  with_dtype(a.dy.dtype, [&](auto td) {
    with_dtype(a.dx.dtype, [&](auto tx) {
      using D = TypeOf<decltype(td)>;
      using X = TypeOf<decltype(tx)>;
      over_rows<Isa>(a.dy.rows, cols, stream, [&](Index i) {
        copy_row<Isa>(row<const D>(a.dy, i), row<X>(a.dx, a.index[i]), cols, a.accumulate);
      });
    });
  });
}

/// The rows of each id, in order: those of id v are rows[first[v]] … rows[first[v + 1] - 1].
struct RowsOfIds {
  std::int32_t* first;
  std::int32_t* rows;
};
/// Counting sort into the stream's shared memory; padding_id gets none. One pass over the ids on one thread:
/// nothing beside the sums that follow.
template <class Isa>
RowsOfIds rows_of_ids(const EmbeddingGradArgs& a, Stream& stream) {
  auto* first = static_cast<std::int32_t*>(
      stream.shared_workspace(static_cast<std::size_t>(a.vocab + 2 + a.rows) * sizeof(std::int32_t)));
  if (stream.is_meta()) return {};
  std::int32_t* rows = first + a.vocab + 2;
  // first[v + 2] counts id v, then holds where v's rows begin while they are placed, and ends as their end
  __builtin_memset(first, 0, static_cast<std::size_t>(a.vocab + 2) * sizeof(std::int32_t));
  for (Index i = 0; i < a.rows; i++)
    if (a.ids[i] != a.padding_id) first[a.ids[i] + 2]++;
  for (Index v = 0; v < a.vocab; v++) first[v + 2] += first[v + 1];
  for (Index i = 0; i < a.rows; i++)
    if (a.ids[i] != a.padding_id) rows[first[a.ids[i] + 1]++] = static_cast<std::int32_t>(i);
  return {first, rows};
}

/// Zeros past the caches where p is aligned: a table of gradients is read much later, by the optimizer.
template <class Isa, class G>
[[gnu::always_inline]] inline void zero_fill(G* p, Index n) {
  Index j = 0;
  if (reinterpret_cast<std::uintptr_t>(p) % 64 == 0)
    for (; j + 2 * Isa::kLanes <= n; j += 2 * Isa::kLanes) Isa::stream(p + j, Isa::zero(), Isa::zero());
  for_lanes<Isa>(
      n - j, [&](Index at, auto lanes)
                 __attribute__((always_inline)) { store<Isa>(p + j + at, Isa::zero(), lanes); });
}

/// Sums the rows of one id, in order, columns begin … end-1; zeros or the old value where it has none.
template <class Isa, class D, class G>
[[gnu::always_inline]] inline void sum_rows_of_id(const EmbeddingGradArgs& a, const RowsOfIds& order,
                                                  Index id, Index begin, Index end) {
  const Index first = order.first[id], last = order.first[id + 1];
  G* out = static_cast<G*>(a.dtable) + id * a.hidden + begin;
  if (first == last) {
    if (!a.accumulate) zero_fill<Isa>(out, end - begin);
    return;
  }
  const D* dout = static_cast<const D*>(a.dout) + begin;
  for_lanes<Isa>(
      end - begin, [&](Index j, auto lanes) __attribute__((always_inline)) {
        auto total = Isa::wide_zero();
        for (Index at = first; at < last; at += kPiece) {
          auto piece = Isa::zero();
          for (Index r = at; r < least(last, at + kPiece); r++)
            piece = piece + load<Isa>(dout + order.rows[r] * a.hidden + j, lanes);
          total = Isa::add(total, piece);
        }
        auto sum = Isa::rounded(total);
        if (a.accumulate) sum = sum + load<Isa>(out + j, lanes);
        store<Isa>(out + j, sum, lanes);
      });
}

template <class Isa>
void RowKernels<Isa>::embedding_grad(const EmbeddingGradArgs& a, Stream& stream) {
  const RowsOfIds order = rows_of_ids<Isa>(a, stream);
  if (stream.is_meta()) return;
  // Blocks of ids and columns: a frequent id is shared among threads too.
  constexpr Index kIds = 64, kColumns = 256;
  const Index column_blocks = ceil_div(a.hidden, kColumns), blocks = ceil_div(a.vocab, kIds) * column_blocks;
  with_dtype(a.dout_dtype, [&](auto td) {
    with_dtype(a.dtable_dtype, [&](auto tg) {
      using D = TypeOf<decltype(td)>;
      using G = TypeOf<decltype(tg)>;
      const auto sum_block = [&](Index b, int) {
        const Index id = b / column_blocks * kIds, column = b % column_blocks * kColumns;
        for (Index v = id; v < least(a.vocab, id + kIds); v++)
          sum_rows_of_id<Isa, D, G>(a, order, v, column, least(a.hidden, column + kColumns));
      };
      stream.team().parallel_for(threads_for((a.vocab + a.rows) * a.hidden, stream), blocks, sum_block, 4);
    });
  });
}

}  // namespace hone::kernels::cpu
