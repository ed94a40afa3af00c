// Right operands that are stored quantised (WeightKind). A few elements of k at a time are decoded to T while
// a panel is packed, so that nothing dense is ever whole in memory; from there on they are multiplied as
// dense ones are, bit for bit.
#pragma once

#include "kernels/cpu/dot.h"
#include "kernels/kernels.h"

namespace hone::kernels::cpu {

/// A stored matrix of parts * rows rows of k elements.
struct QuantisedMatrix {
  const std::uint8_t* data;
  const void* scales;
  WeightKind kind;
  Index parts, rows, k;

  /// Of expert e.
  [[gnu::always_inline]] static QuantisedMatrix of(const ExpertWeight& w, Index e, Index parts, Index rows,
                                                   Index k) {
    const Index elements = parts * rows * k;
    const auto* data = static_cast<const std::uint8_t*>(w.data);
    if (w.kind == WeightKind::kMxfp4) {
      const auto* scales = static_cast<const std::uint8_t*>(w.scales);
      return {data + e * elements / 2, scales + e * elements / 32, w.kind, parts, rows, k};
    }
    const auto* scales = static_cast<const float*>(w.scales);
    return {data + e * elements,
            scales + e * parts * ceil_div(rows, 128) * ceil_div(k, 128),
            w.kind,
            parts,
            rows,
            k};
  }
};

/// k runs along its rows. In halves: panels are half of the first part's rows, half of the second's, as
/// GateUp's.
template <class T>
struct QuantisedAlongK {
  using Element = T;
  QuantisedMatrix matrix;
  bool halves;
  T* decoded;  // for row_of: four rows of k elements, `stride` apart
  Index stride;

  /// The row that is panel column j, or -1 where the panel has none.
  template <class Isa>
  [[gnu::always_inline]] Index row(Index j) const {
    if (!halves) return j < matrix.rows ? j : -1;
    const Index lane = j % kPanel<Isa>, at = j / kPanel<Isa> * Isa::kLanes + lane % Isa::kLanes;
    if (at >= matrix.rows) return -1;
    return lane < Isa::kLanes ? at : matrix.rows + at;
  }
};
/// k runs down its columns.
template <class T>
struct QuantisedAcrossK {
  using Element = T;
  QuantisedMatrix matrix;
};
template <class B>
inline constexpr bool kQuantised = std::is_same_v<B, QuantisedAlongK<typename B::Element>> ||
                                   std::is_same_v<B, QuantisedAcrossK<typename B::Element>>;

/// An e8m0 scale: 2^(byte - 127), NaN for 255.
[[gnu::always_inline]] inline float scale_of(std::uint8_t byte) {
  const std::uint32_t bits = byte == 255 ? 0x7fc00000 : byte == 0 ? 0x00400000 : std::uint32_t{byte} << 23;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

/// out = the n elements from column c on of a row, all of one scale: kLanes at a time by
/// `decode(bytes)`, kPerByte of them in a byte.
template <class Isa, Index kPerByte, class T, class Decode>
[[gnu::always_inline]] inline void decode_run(const std::uint8_t* row, Index c, Index n, float scale, T* out,
                                              const Decode& decode) {
  constexpr Index kLanes = Isa::kLanes;
  const auto factor = Isa::set(scale);
  while (n > 0) {
    const Index begin = c / kPerByte, skip = c % kPerByte, count = least(n, kLanes - skip);
    if (count == kLanes) [[likely]] {
      Isa::store(out, decode(row + begin) * factor);
    } else {  // the ends of a run: nothing is read beyond it
      alignas(64) T lanes[kLanes];
      alignas(16) std::uint8_t bytes[16] = {};
      __builtin_memcpy(bytes, row + begin, static_cast<std::size_t>(ceil_div(c + count, kPerByte) - begin));
      Isa::store(lanes, decode(bytes) * factor);
      __builtin_memcpy(out, lanes + skip, static_cast<std::size_t>(count) * sizeof(T));
    }
    c += count;
    n -= count;
    out += count;
  }
}

/// out = the n elements from column c on of row r, in T.
template <class Isa, class T>
void decode_row(const QuantisedMatrix& m, Index r, Index c, Index n, T* out) {
  if (m.kind == WeightKind::kMxfp4) {
    const std::uint8_t* row = m.data + r * m.k / 2;
    const std::uint8_t* scales = static_cast<const std::uint8_t*>(m.scales) + r * m.k / 32;
    while (n > 0) {
      const Index run = least(n, 32 - c % 32);
      decode_run<Isa, 2>(
          row, c, run, scale_of(scales[c / 32]), out,
          [](const std::uint8_t* p) __attribute__((always_inline)) { return Isa::e2m1(p); });
      c += run;
      n -= run;
      out += run;
    }
    return;
  }
  const std::uint8_t* row = m.data + r * m.k;
  const Index block = r / m.rows * ceil_div(m.rows, 128) + r % m.rows / 128;
  const float* scales = static_cast<const float*>(m.scales) + block * ceil_div(m.k, 128);
  while (n > 0) {
    const Index run = least(n, 128 - c % 128);
    decode_run<Isa, 1>(
        row, c, run, scales[c / 128], out,
        [](const std::uint8_t* p) __attribute__((always_inline)) { return Isa::e4m3(p); });
    c += run;
    n -= run;
    out += run;
  }
}

/// Elements of k that are decoded at a time, a whole number of word blocks: with a panel's columns 16 KiB of
/// floats.
inline constexpr Index kDecodedElements = 128;

template <class T>
[[gnu::always_inline]] inline void clear(T* to, Index n) {
  __builtin_memset(static_cast<void*>(to), 0, static_cast<std::size_t>(n) * sizeof(T));
}

/// A decoded piece of a panel, k0 … k0 + k - 1 of the columns from j on (zeros where there are none), as the
/// dense operand that it is.
template <class Isa, class T>
AlongK<T> decode_panel(const QuantisedAlongK<T>& b, Index j, Index /*n*/, Index k0, Index k, T* tile) {
  constexpr Index kStride = kDecodedElements + 64 / Index{sizeof(T)};  // rows crowd no place in the cache
  for (Index c = 0; c < kPanel<Isa>; c++) {
    const Index row = b.template row<Isa>(j + c);
    if (row >= 0) {
      decode_row<Isa>(b.matrix, row, k0, k, tile + c * kStride);
    } else {
      clear(tile + c * kStride, k);
    }
  }
  return {tile, kStride};
}
template <class Isa, class T>
AcrossK<T> decode_panel(const QuantisedAcrossK<T>& b, Index j, Index n, Index k0, Index k, T* tile) {
  constexpr Index kWidth = kPanel<Isa>;
  const Index columns = least(kWidth, n - j);
  for (Index i = 0; i < k; i++) {
    T* row = tile + i * kWidth;
    decode_row<Isa>(b.matrix, k0 + i, j, columns, row);
    clear(row + columns, kWidth - columns);
  }
  return {tile, kWidth};
}

/// As gemm.h's.
template <class Isa, class E, class B>
requires kQuantised<B>
bool pack_whole_panel(const B& b, Index j, Index n, Index k0, Index k, float* panel) {
  using T = typename B::Element;
  alignas(64) char memory[kPanel<Isa> * (kDecodedElements * sizeof(T) + 64)];
  bool finite = true;
  for (Index i = 0; i < k; i += kDecodedElements) {
    const Index some = least(kDecodedElements, k - i);
    const auto dense = decode_panel<Isa>(b, j, n, k0 + i, some, reinterpret_cast<T*>(memory));
    float* to = panel + panel_floats<Isa, E>(i / kPerWord<E>);
    finite = pack_whole_panel<Isa, E>(dense, 0, kPanel<Isa>, 0, some, to) && finite;
  }
  return finite;
}

/// As operand.h's: nothing is prefetched, rows are short.
template <class Isa, class E, class B>
requires kQuantised<B>
[[gnu::always_inline]] inline PrefetchPlan prefetch_plan(const B&, Index, Index, Index, Index, Index) {
  return {};
}

/// As dot.h's, decoded. Four rows that follow upon each other are there at a time.
template <class Isa, class T>
[[gnu::always_inline]] inline const T* row_of(const QuantisedAlongK<T>& b, Index j) {
  const Index row = b.template row<Isa>(j);
  if (row < 0) return nullptr;
  T* to = b.decoded + j % 4 * b.stride;
  decode_row<Isa>(b.matrix, row, 0, b.matrix.k, to);
  return to;
}

}  // namespace hone::kernels::cpu
