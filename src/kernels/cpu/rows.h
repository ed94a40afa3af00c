// What the row-wise kernels share: loops over vectors with a ragged end, loops over rows and elements on
// threads, and sums over rows that do not depend on the number of threads.
#pragma once

#include <omp.h>

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

/// The sum over lanes of sum = f(j, lanes, sum), as four sums side by side so that none waits for itself.
template <class Isa, class F>
[[gnu::always_inline]] inline float sum_lanes(Index n, F f) {
  constexpr Index kLanes = Isa::kLanes;
  typename Isa::Vec s0 = Isa::zero(), s1 = s0, s2 = s0, s3 = s0;
  Index j = 0;
  for (; j + 4 * kLanes <= n; j += 4 * kLanes) {
    s0 = f(j, AllLanes{}, s0);
    s1 = f(j + kLanes, AllLanes{}, s1);
    s2 = f(j + 2 * kLanes, AllLanes{}, s2);
    s3 = f(j + 3 * kLanes, AllLanes{}, s3);
  }
  for (; j + kLanes <= n; j += kLanes) s0 = f(j, AllLanes{}, s0);
  if (j < n) s1 = f(j, n - j, s1);
  return Isa::sum((s0 + s1) + (s2 + s3));
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

/// Calls body(i) for the rows 0 … rows-1, a run of neighbours on each thread. `cols`: elements in a row.
template <class Isa, class Body>
void over_rows(Index rows, Index cols, const Stream& stream, const Body& body) {
#pragma omp parallel for schedule(static) num_threads(threads_for(rows* cols, stream))
  for (Index i = 0; i < rows; i++) body(i);
}

/// Calls body(row, begin, end) so that all elements are covered; a dense matrix counts as one long row.
template <class Isa, class Body>
void over_elements(Index rows, Index cols, bool dense, const Stream& stream, const Body& body) {
  if (!dense) {
    over_rows<Isa>(rows, cols, stream, [&](Index i) { body(i, 0, cols); });
    return;
  }
  constexpr Index kPiece = 64;  // a whole number of cache lines, whatever the type
  const Index n = rows * cols, pieces = ceil_div(n, kPiece);
#pragma omp parallel num_threads(threads_for(n, stream))
  {
    const Index thread = omp_get_thread_num(), threads = omp_get_num_threads();
    const Index begin = pieces * thread / threads * kPiece;
    const Index end = least(n, pieces * (thread + 1) / threads * kPiece);
    if (begin < end) body(0, begin, end);
  }
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

/// out[j] = [out[j] +] the sum over chunks of partials[chunk][j], in the order of chunks.
template <class Isa, class T>
void sum_chunks(const float* partials, Index chunks, Index cols, T* out, bool accumulate,
                const Stream& stream) {
  over_elements<Isa>(1, cols, true, stream, [&](Index, Index begin, Index end) {
    for_lanes<Isa>(
        end - begin, [&](Index at, auto lanes) __attribute__((always_inline)) {
          const Index j = begin + at;
          typename Isa::Vec sum = Isa::zero();
          for (Index c = 0; c < chunks; c++) sum = sum + load<Isa>(partials + c * cols + j, lanes);
          if (accumulate) sum = sum + load<Isa>(out + j, lanes);
          store<Isa>(out + j, sum, lanes);
        });
  });
}

/// A sum over rows: body(row, sum) adds row's part to the `cols` floats of `sum`; the result goes to `out`.
template <class Isa, class Body>
void sum_rows(Index rows, Index cols, void* out, DType dtype, bool accumulate, Stream& stream,
              const Body& body) {
  const RowChunks chunks(rows);
  auto* partials = static_cast<float*>(
      stream.shared_workspace(static_cast<std::size_t>(chunks.count * cols) * sizeof(float)));
#pragma omp parallel for schedule(static) num_threads(threads_for(rows* cols, stream))
  for (Index c = 0; c < chunks.count; c++) {
    float* sum = partials + c * cols;
    __builtin_memset(sum, 0, static_cast<std::size_t>(cols) * sizeof(float));
    for (Index i = chunks.begin(c); i < chunks.end(c); i++) body(i, sum);
  }
  with_dtype(dtype, [&](auto tag) {
    sum_chunks<Isa>(partials, chunks.count, cols, static_cast<TypeOf<decltype(tag)>*>(out), accumulate,
                    stream);
  });
}

}  // namespace hone::kernels::cpu
