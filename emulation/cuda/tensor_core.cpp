#include <tensor_core.h>

#include <fmt/format.h>

#include "state.h"

namespace cuda_emulation {

namespace {

/// A number of `exponent` and `mantissa` bits below a sign, with subnormals. Infinities where the highest
/// exponent is theirs; else (e4m3) only all ones are no number.
float decode(std::uint32_t bits, int exponent_bits, int mantissa_bits, bool infinities) {
  const std::uint32_t mantissa = bits & ((1U << mantissa_bits) - 1);
  const auto highest = (1 << exponent_bits) - 1, exponent = static_cast<int>(bits >> mantissa_bits) & highest;
  const bool negative = (bits >> (exponent_bits + mantissa_bits) & 1) != 0;
  float value = 0;
  if (exponent == highest && infinities)
    value = mantissa != 0 ? NAN : INFINITY;
  else if (exponent == highest && mantissa + 1 == 1U << mantissa_bits)
    value = NAN;
  else
    value = std::ldexp(
        static_cast<float>(mantissa) + (exponent > 0 ? static_cast<float>(1U << mantissa_bits) : 0.0F),
        std::max(exponent, 1) - (highest >> 1) - mantissa_bits);
  return negative ? -value : value;
}

/// Element i of a register.
inline float element_of(Element element, std::uint32_t word, int i) {
  switch (element) {
    case Element::kTF32:
      return bits<float>(word & 0xffffe000U);
    case Element::kBF16:
      return bits<float>((word >> 16 * i & 0xffffU) << 16);
    case Element::kF16:
      return decode(word >> 16 * i & 0xffffU, 5, 10, true);
    case Element::kE4M3:
      return decode(word >> 8 * i & 0xffU, 4, 3, false);
    case Element::kE5M2:
      return decode(word >> 8 * i & 0xffU, 5, 2, true);
  }
  return 0;
}

struct Mma {
  float* d;
  const std::uint32_t *a, *b;
};

/// d of each lane plus the sum of what its row of a and its column of b make, one product after the other.
template <Element kElement>
void multiply(Lanes lanes, unsigned) {
  constexpr int in_word = kElement == Element::kTF32                                ? 1
                          : kElement == Element::kBF16 || kElement == Element::kF16 ? 2
                                                                                    : 4;
  constexpr int k = 8 * in_word;
  float a[16][k], b[k][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<Mma*>(lanes[lane]);
    const int group = lane / 4, place = lane % 4;
    for (int i = 0; i < in_word; ++i) {
      const int low = place * in_word + i, high = low + k / 2;
      a[group][low] = element_of(kElement, mine.a[0], i);
      a[group + 8][low] = element_of(kElement, mine.a[1], i);
      a[group][high] = element_of(kElement, mine.a[2], i);
      a[group + 8][high] = element_of(kElement, mine.a[3], i);
      b[low][group] = element_of(kElement, mine.b[0], i);
      b[high][group] = element_of(kElement, mine.b[1], i);
    }
  }
  float sums[16][8] = {};
  for (int row = 0; row < 16; ++row)
    for (int j = 0; j < k; ++j)
      for (int col = 0; col < 8; ++col) sums[row][col] += a[row][j] * b[j][col];
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      static_cast<Mma*>(lanes[lane])->d[i] += sums[lane / 4 + (i >= 2 ? 8 : 0)][lane % 4 * 2 + i % 2];
}

Meet multiply_of(Element element) {
  switch (element) {
    case Element::kTF32:
      return multiply<Element::kTF32>;
    case Element::kBF16:
      return multiply<Element::kBF16>;
    case Element::kF16:
      return multiply<Element::kF16>;
    case Element::kE4M3:
      return multiply<Element::kE4M3>;
    case Element::kE5M2:
      return multiply<Element::kE5M2>;
  }
  return nullptr;
}

struct Rows {
  std::uint32_t* words;
  int matrices;
  bool transposed;
  void* row;
};

/// Lane `lane` holds elements 2 (lane % 4) and the next of row lane / 4, or of that column if transposed.
void load(Lanes lanes, unsigned) {
  const auto& any = *static_cast<Rows*>(lanes[0]);
  for (int m = 0; m < any.matrices; ++m)
    for (int lane = 0; lane < 32; ++lane) {
      std::uint16_t pair[2];
      for (int i = 0; i < 2; ++i) {
        const int first = lane / 4, second = lane % 4 * 2 + i;
        const int row = any.transposed ? second : first, col = any.transposed ? first : second;
        pair[i] = static_cast<const std::uint16_t*>(static_cast<Rows*>(lanes[m * 8 + row])->row)[col];
      }
      static_cast<Rows*>(lanes[lane])->words[m] = pair[0] | static_cast<std::uint32_t>(pair[1]) << 16;
    }
}

void store(Lanes lanes, unsigned) {
  const auto& any = *static_cast<Rows*>(lanes[0]);
  for (int m = 0; m < any.matrices; ++m)
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 2; ++i) {
        const int first = lane / 4, second = lane % 4 * 2 + i;
        const int row = any.transposed ? second : first, col = any.transposed ? first : second;
        static_cast<std::uint16_t*>(static_cast<Rows*>(lanes[m * 8 + row])->row)[col] =
            static_cast<std::uint16_t>(static_cast<Rows*>(lanes[lane])->words[m] >> 16 * i);
      }
}

void check_row(const char* what, int matrices, const void* row, Access access) {
  if (matrices != 1 && matrices != 2 && matrices != 4) stop(fmt::format("{} of {} matrices", what, matrices));
  if (lane_of_here() >= matrices * 8) return;  // that lane's address is not used
  if (!worker->shared.holds(reinterpret_cast<std::uintptr_t>(row)))
    stop(fmt::format("{}: {} is not shared memory", what, fmt::ptr(row)));
  touch(row, 16, access);
}

}  // namespace

float decode_e4m3(std::uint8_t code) {
  return decode(code, 4, 3, false);
}

void mma(Element element, float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  Mma mine{d, a, b};
  meet_warp("mma", 0xffffffffU, &mine, multiply_of(element));
}

void ldmatrix(std::uint32_t* to, int matrices, bool transposed, const void* row) {
  check_row("ldmatrix", matrices, row, Access::kRead);
  Rows mine{to, matrices, transposed, const_cast<void*>(row)};
  meet_warp("ldmatrix", 0xffffffffU, &mine, load);
}

void stmatrix(const std::uint32_t* from, int matrices, bool transposed, void* row) {
  check_row("stmatrix", matrices, row, Access::kWrite);
  Rows mine{const_cast<std::uint32_t*>(from), matrices, transposed, row};
  meet_warp("stmatrix", 0xffffffffU, &mine, store, false);  // collective; it orders no memory
}

}  // namespace cuda_emulation
