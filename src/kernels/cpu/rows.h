// What the row-wise kernels share: loops over vectors with a ragged end, loops over rows and elements on
// threads, and sums that do not depend on the number of threads. On the meta device the loops do nothing.
//
// Every sum is one of pieces: each a chain of at most kPiece additions in float that starts at zero, added in
// a fixed order to a sum in double. In one chain of floats the small terms round away once a large one is in;
// after 8 additions their error is below that of a pairwise sum in float (which, of n terms, rounds log2 n
// times), and the doubles, one addition in 8, cost next to nothing.
#pragma once

#include "kernels/cpu/isa.h"
#include "kernels/kernels.h"

namespace hone::kernels::cpu {

/// A vector of which all lanes count; the alternative is their number, an Index.
struct AllLanes {};

template <class Isa, class T>
[[gnu::always_inline]] inline typename Isa::Vec load(const T* p, AllLanes) {
  return Isa::load(p);
}
template <class Isa, class T>
[[gnu::always_inline]] inline typename Isa::Vec load(const T* p, Index lanes) {
  return Isa::load(p, lanes);
}
template <class Isa, class T>
[[gnu::always_inline]] inline void store(T* p, typename Isa::Vec v, AllLanes) {
  Isa::store(p, v);
}
template <class Isa, class T>
[[gnu::always_inline]] inline void store(T* p, typename Isa::Vec v, Index lanes) {
  Isa::store(p, v, lanes);
}

/// Each of half as many numbers twice, for what is done to pairs of neighbours.
template <class Isa>
[[gnu::always_inline]] inline typename Isa::Vec load_twice(const float* p, AllLanes) {
  return Isa::load_twice(p, Isa::kLanes);
}
template <class Isa>
[[gnu::always_inline]] inline typename Isa::Vec load_twice(const float* p, Index lanes) {
  return Isa::load_twice(p, lanes);
}

/// The lanes of a that count, the others from b.
template <class Isa>
[[gnu::always_inline]] inline typename Isa::Vec first_lanes(typename Isa::Vec a, typename Isa::Vec,
                                                            AllLanes) {
  return a;
}
template <class Isa>
[[gnu::always_inline]] inline typename Isa::Vec first_lanes(typename Isa::Vec a, typename Isa::Vec b,
                                                            Index lanes) {
  return Isa::blend(a, b, lanes);
}

/// Calls f(j, lanes) for j = 0, kLanes … below n; lanes is AllLanes, or at a ragged end the number left.
template <class Isa, class F>
[[gnu::always_inline]] inline void for_lanes(Index n, F f) {
  Index j = 0;
  for (; j + Isa::kLanes <= n; j += Isa::kLanes) f(j, AllLanes{});
  if (j < n) f(j, n - j);
}

/// Additions in float, one upon another, before the sum goes on in double.
constexpr Index kPiece = 8;

/// The sum over lanes of sum = f(j, lanes, sum), as four sums side by side so that none waits for itself. A
/// piece is 4 additions in each and 2 to join them.
template <class Isa, class F>
[[gnu::always_inline]] inline double sum_lanes(Index n, F f) {
  constexpr Index kLanes = Isa::kLanes, kStep = 4 * kLanes;
  auto total = Isa::wide_zero();
  for (Index begin = 0; begin < n; begin += 4 * kStep) {
    const Index end = least(n, begin + 4 * kStep);
    typename Isa::Vec s0 = Isa::zero(), s1 = s0, s2 = s0, s3 = s0;
    Index j = begin;
    for (; j + kStep <= end; j += kStep) {
      s0 = f(j, AllLanes{}, s0);
      s1 = f(j + kLanes, AllLanes{}, s1);
      s2 = f(j + 2 * kLanes, AllLanes{}, s2);
      s3 = f(j + 3 * kLanes, AllLanes{}, s3);
    }
    for (; j + kLanes <= end; j += kLanes) s0 = f(j, AllLanes{}, s0);
    if (j < end) s1 = f(j, end - j, s1);
    total = Isa::add(total, (s0 + s1) + (s2 + s3));
  }
  return Isa::sum(total);
}

template <class T>
[[gnu::always_inline]] inline T* row(const Matrix& m, Index i) {
  return static_cast<T*>(m.data) + i * m.stride;
}

/// A type as a value.
template <class T>
struct Type {
  using type = T;
};
/// Calls f with the type that `dtype` (f32 or bf16) stores.
template <class F>
[[gnu::always_inline]] inline void with_dtype(DType dtype, const F& f) {
  if (dtype == DType::kBF16) {
    f(Type<BFloat16>{});
  } else {
    f(Type<float>{});
  }
}
/// The same where the dtype is f32 or T.
template <class T, class F>
[[gnu::always_inline]] inline void with_f32_or(DType dtype, const F& f) {
  if (sizeof(T) != sizeof(float) && dtype == DType::kBF16) {
    f(Type<T>{});
  } else {
    f(Type<float>{});
  }
}
template <class Tag>
using TypeOf = typename Tag::type;

/// The threads that so many elements are worth: waking them costs as much as some 10,000 elements.
[[gnu::always_inline]] inline int threads_for(Index elements, const Stream& stream) {
  return elements < 16384 ? 1 : stream.num_threads();
}

/// Calls body(i), or body(i, thread), for the rows 0 … rows-1, a run of neighbours on each thread. `cols`:
/// elements in a row.
template <class Isa, class Body>
void over_rows(Index rows, Index cols, const Stream& stream, const Body& body) {
  if (stream.is_meta()) return;
  const int threads = threads_for(rows * cols, stream);
  stream.team().parallel_ranges(threads, rows, [&](Index begin, Index end, int thread) {
    for (Index i = begin; i < end; i++) {
      if constexpr (std::is_invocable_v<const Body&, Index, int>) {
        body(i, thread);
      } else {
        body(i);
      }
    }
  });
}

/// Calls body(row, begin, end) so that all elements are covered; a dense matrix counts as one long row.
template <class Isa, class Body>
void over_elements(Index rows, Index cols, bool dense, const Stream& stream, const Body& body) {
  if (stream.is_meta()) return;
  if (!dense) {
    over_rows<Isa>(rows, cols, stream, [&](Index i) { body(i, 0, cols); });
    return;
  }
  constexpr Index kLines = 64;  // a whole number of cache lines, whatever the type
  const Index n = rows * cols, pieces = ceil_div(n, kLines);
  stream.team().parallel_ranges(threads_for(n, stream), pieces, [&](Index begin, Index end, int) {
    body(0, begin * kLines, least(n, end * kLines));
  });
}
[[gnu::always_inline]] inline bool is_dense(const Matrix& m) {
  return m.stride == m.cols;
}

/// Rows cut into chunks, in a way that depends on their number alone.
struct RowChunks {
  Index rows, size, count;
  [[gnu::always_inline]] explicit RowChunks(Index all)
      : rows(all), size(most(64, ceil_div(all, 128))), count(ceil_div(all, size)) {}
  [[gnu::always_inline]] Index begin(Index chunk) const { return chunk * size; }
  [[gnu::always_inline]] Index end(Index chunk) const { return least(rows, (chunk + 1) * size); }
};

/// The sums of the columns of one chunk. Both arrays hold whole vectors, so that neither has a ragged end.
template <class Isa>
class ColumnSums {
 public:
  [[gnu::always_inline]] ColumnSums(float* piece, double* total, Index cols)
      : piece_(piece), total_(total), cols_(cols) {
    for (Index j = 0; j < cols_; j += Isa::kLanes) Isa::store(total_ + j, Isa::wide_zero());
    clear();
  }
  /// Where the caller adds one term to every column.
  [[gnu::always_inline]] float* next() {
    if (held_ == kPiece) flush();
    held_++;
    return piece_;
  }
  [[gnu::always_inline]] void flush() {
    for (Index j = 0; j < cols_; j += Isa::kLanes)
      Isa::store(total_ + j, Isa::add(Isa::load(total_ + j), Isa::load(piece_ + j)));
    clear();
  }

 private:
  [[gnu::always_inline]] void clear() {
    for (Index j = 0; j < cols_; j += Isa::kLanes) Isa::store(piece_ + j, Isa::zero());
    held_ = 0;
  }
  float* piece_;
  double* total_;
  Index cols_, held_ = 0;
};

/// out[j] = [out[j] +] the sum over chunks of totals[chunk][j], in the order of chunks, whose rows are
/// `padded` apart.
template <class Isa, class T>
void sum_chunks(const double* totals, Index chunks, Index padded, Index cols, T* out, bool accumulate,
                const Stream& stream) {
  over_elements<Isa>(1, cols, true, stream, [&](Index, Index begin, Index end) {
    for_lanes<Isa>(
        end - begin, [&](Index at, auto lanes) __attribute__((always_inline)) {
          const Index j = begin + at;
          auto total = Isa::wide_zero();
          for (Index c = 0; c < chunks; c++) total = Isa::add(total, Isa::load(totals + c * padded + j));
          auto sum = Isa::rounded(total);
          if (accumulate) sum = sum + load<Isa>(out + j, lanes);
          store<Isa>(out + j, sum, lanes);
        });
  });
}

/// A sum over rows: body(row, sums), or body(row, sums, thread), adds row's terms to the ColumnSums of `cols`
/// columns; the result goes to `out`.
template <class Isa, class Body>
void sum_rows(Index rows, Index cols, void* out, DType dtype, bool accumulate, Stream& stream,
              const Body& body) {
  const RowChunks chunks(rows);
  const int threads = threads_for(rows * cols, stream);
  const Index padded = round_up(cols, Isa::kLanes);
  auto* totals = static_cast<double*>(
      stream.shared_workspace(static_cast<std::size_t>(chunks.count * padded) * sizeof(double) +
                              static_cast<std::size_t>(threads * padded) * sizeof(float)));
  if (stream.is_meta()) return;
  auto* pieces = reinterpret_cast<float*>(totals + chunks.count * padded);
  stream.team().parallel_ranges(threads, chunks.count, [&](Index first, Index last, int thread) {
    for (Index c = first; c < last; c++) {
      ColumnSums<Isa> sums(pieces + thread * padded, totals + c * padded, padded);
      for (Index i = chunks.begin(c); i < chunks.end(c); i++) {
        if constexpr (std::is_invocable_v<const Body&, Index, ColumnSums<Isa>&, int>) {
          body(i, sums, thread);
        } else {
          body(i, sums);
        }
      }
      sums.flush();
    }
  });
  with_dtype(dtype, [&](auto tag) {
    sum_chunks<Isa>(totals, chunks.count, padded, cols, static_cast<TypeOf<decltype(tag)>*>(out), accumulate,
                    stream);
  });
}

}  // namespace hone::kernels::cpu
