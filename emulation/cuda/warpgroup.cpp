// wgmma: products of a warpgroup that read shared memory as late as they may, into registers that hold NaN
// until then. Layouts are those of the PTX ISA ("Asynchronous Warpgroup Level Matrix Instructions", 128-byte
// swizzle).
//
// Products of e4m3 are summed as Hopper was observed to do it (arXiv:2511.10909, "MMA-Sim", bit for bit on an
// H100; arXiv:2412.19437, 3.3.2): the 32 products of an instruction and what is added to are cut off 13 bits
// below the largest exponent among them, summed up, and the sum keeps 14 bits, cut off as well.
#include <fmt/format.h>
#include <hopper.h>

#include <algorithm>
#include <cmath>

#include "state.h"

namespace cuda_emulation {

namespace {

WarpProducts& products_of_here() {
  return worker->async.warps[static_cast<std::size_t>(current->warp())];
}

/// An operand of 16 of k, as its descriptor says.
struct Operand {
  std::uint32_t start, leading, stride;  // bytes
  bool transposed;                       // across k
  Operand(std::uint64_t descriptor, bool is_transposed)
      : start(static_cast<std::uint32_t>(descriptor & 0x3fff) << 4),
        leading(static_cast<std::uint32_t>(descriptor >> 16 & 0x3fff) << 4),
        stride(static_cast<std::uint32_t>(descriptor >> 32 & 0x3fff) << 4),
        transposed(is_transposed) {}
  /// Where row i's number k is.
  std::uintptr_t at(int i, int k) const {
    const auto row = static_cast<std::uint32_t>(i), depth = static_cast<std::uint32_t>(k);
    const std::uint32_t plain =
        transposed ? start + row / 64 * leading + row % 64 * 2 + depth / 8 * stride + depth % 8 * 128
                   : start + row / 8 * stride + row % 8 * 128 + depth * 2;
    return worker->shared.base + (plain ^ ((plain >> 7 & 7) << 4));
  }
};

void check_descriptor(const char* which, std::uint64_t descriptor, bool transposed) {
  if (descriptor >> 62 != 1)
    stop(fmt::format("wgmma: the descriptor of {} is not of the 128-byte swizzle", which));
  if ((descriptor >> 49 & 7) != 0) stop(fmt::format("wgmma: the descriptor of {} has a base offset", which));
  const Operand operand(descriptor, transposed);
  if ((operand.start >> 7 & 7) != 0)
    stop(fmt::format("wgmma: {} begins within 8 rows of 128 bytes, at byte {}", which, operand.start));
}

/// Calls f(row, k, where) for the 16 bytes of every eight numbers of rows begin … end - 1, multiples of 8: of
/// one row, or where they lie across k of one k.
template <typename F>
void for_each_eight(const Operand& operand, int begin, int end, const F& f) {
  for (int i = begin; i < end; i += operand.transposed ? 8 : 1)
    for (int k = 0; k < 16; k += operand.transposed ? 1 : 8) f(i, k, operand.at(i, k));
}

/// put(row - begin, k, number) of all of them.
template <typename Put>
void read(const Operand& operand, int begin, int end, const Put& put) {
  for_each_eight(operand, begin, end, [&](int i, int k, std::uintptr_t at) {
    std::uint16_t eight[8];
    std::memcpy(eight, reinterpret_cast<const void*>(at), sizeof eight);
    for (int e = 0; e < 8; ++e)
      put(i - begin + (operand.transposed ? e : 0), k + (operand.transposed ? 0 : e),
          bits<float>(static_cast<std::uint32_t>(eight[e]) << 16));
  });
}

/// Lane 0, for its warp: that what it reads is there, and which bytes that are.
void check_operands(WarpProduct& product) {
  const int warp = current->warp() % 4;
  // every warp reads all rows of b; each checks a quarter of them
  const auto look = [&](const Operand& operand, int begin, int end, int step, int of) {
    std::uintptr_t low = UINTPTR_MAX, high = 0;
    for_each_eight(operand, begin, end, [&](int i, int, std::uintptr_t at) {
      low = std::min(low, at), high = std::max(high, at + 16);
      if ((operand.transposed ? i / 8 : i) % step == of)
        check_asynchronous("wgmma reads", at, 16, Access::kRead);
    });
    return std::pair{low, high};
  };
  if (!product.of_registers())
    std::tie(product.from[0], product.to[0]) =
        look(Operand(product.a, product.a_transposed), 16 * warp, 16 * warp + 16, 1, 0);
  std::tie(product.from[1], product.to[1]) =
      look(Operand(product.b, product.b_transposed), 0, product.n, 4, warp);
}

/// a out of registers, which have to be what they were when the product was issued.
void read_registers(const WarpProduct& product, float (&left)[16][16]) {
  for (std::size_t lane = 0; lane < 32; ++lane)
    for (std::size_t i = 0; i < 4; ++i) {
      const std::uint32_t word = product.registers[lane][i];
      if (word != product.held[lane][i])
        stop("wgmma of which registers of a were written while it was on its way");
      const std::size_t row = lane / 4 + i % 2 * 8, k = i / 2 * 8 + lane % 4 * 2;
      left[row][k] = bits<float>(word << 16);
      left[row][k + 1] = bits<float>(word & 0xffff0000U);
    }
}

using Sums = float[16][256];

void multiply_bf16(const WarpProduct& product, int warp, Sums& sums) {
  const Operand a(product.a, product.a_transposed), b(product.b, product.b_transposed);
  float left[16][16], right[16][256];
  if (product.of_registers())
    read_registers(product, left);
  else
    read(a, 16 * warp, 16 * warp + 16, [&](int row, int k, float x) { left[row][k] = x; });
  read(b, 0, product.n, [&](int col, int k, float x) { right[k][col] = x; });
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k)
      for (int col = 0; col < product.n; col += 8)
        for (int e = 0; e < 8; ++e) sums[row][col + e] += left[row][k] * right[k][col + e];
}

/// put(row - begin, k, code) of 32 of k, which lie in the bytes of 16 of bf16.
template <typename Put>
void read_codes(const Operand& operand, int begin, int end, const Put& put) {
  for_each_eight(operand, begin, end, [&](int i, int k, std::uintptr_t at) {
    const auto* codes = reinterpret_cast<const std::uint8_t*>(at);
    for (int e = 0; e < 16; ++e) put(i - begin, 2 * k + e, codes[e]);
  });
}

constexpr int kSumBits = 13;

/// The numbers of e4m3, and their exponents: of 0 and what is no number kNone.
struct E4m3 {
  static constexpr int kNone = -1000;
  std::array<float, 256> value;
  std::array<int, 256> exponent;
  E4m3() {
    for (std::size_t code = 0; code < 256; ++code) {
      value[code] = decode_e4m3(static_cast<std::uint8_t>(code));
      // subnormal ones are aligned as what has the least exponent
      const bool counts = value[code] != 0 && !std::isnan(value[code]);
      exponent[code] = counts ? std::max(1, static_cast<int>(code >> 3 & 15)) - 7 : kNone;
    }
  }
};

/// sum, with the products of 32 of a's and of b's, as said above.
float added_e4m3(float sum, const std::array<float, 32>& products, int highest) {
  const float last = std::ldexp(1.0F, highest - kSumBits), in_last = std::ldexp(1.0F, kSumBits - highest);
  auto all = static_cast<std::int32_t>(sum * in_last);
  for (const float product : products) all += static_cast<std::int32_t>(product * in_last);
  std::int32_t step = 1;  // so that 14 bits are left
  while (std::abs(all) / step >= 2 << kSumBits) step *= 2;
  return static_cast<float>(all / step * step) * last;
}

void multiply_e4m3(const WarpProduct& product, int warp, Sums& sums) {
  static const E4m3 kNumbers;
  std::uint8_t left[16][32], right[256][32];
  read_codes(Operand(product.a, false), 16 * warp, 16 * warp + 16,
             [&](int row, int k, std::uint8_t code) { left[row][k] = code; });
  read_codes(Operand(product.b, false), 0, product.n,
             [&](int col, int k, std::uint8_t code) { right[col][k] = code; });
  for (int col = 0; col < product.n; ++col) {
    std::array<float, 32> values, products;
    std::array<int, 32> exponents;
    for (std::size_t k = 0; k < 32; ++k) {
      values[k] = kNumbers.value[right[col][k]];
      exponents[k] = kNumbers.exponent[right[col][k]];
    }
    for (int row = 0; row < 16; ++row) {
      float& sum = sums[row][col];
      int highest = sum != 0 && !std::isnan(sum) ? std::ilogb(sum) : E4m3::kNone;
      float any = sum;  // no number, where one of them is none
      for (std::size_t k = 0; k < 32; ++k) {
        products[k] = kNumbers.value[left[row][k]] * values[k];
        highest = std::max(highest, kNumbers.exponent[left[row][k]] + exponents[k]);
        any += products[k];
      }
      if (std::isnan(any))
        sum = NAN;
      else if (highest > E4m3::kNone / 2)
        sum = added_e4m3(sum, products, highest);
    }
  }
}

void perform(const WarpProduct& product, Accumulators& into, int warp) {
  Sums sums = {};
  const auto for_each_sum = [&](const auto& f) {
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < product.n / 2; ++i)
        f(into.values[static_cast<std::size_t>(lane)][static_cast<std::size_t>(i)],
          sums[lane / 4 + (i % 4 >= 2 ? 8 : 0)][i / 4 * 8 + lane % 4 * 2 + i % 2]);
  };
  if (product.accumulate) for_each_sum([](float value, float& sum) { sum = value; });
  (product.e4m3 ? multiply_e4m3 : multiply_bf16)(product, warp, sums);
  for_each_sum([](float& value, float sum) { value = sum; });
}

struct Issue {
  float* d;
  std::uint64_t a, b;
  int n;
  const std::uint32_t* registers;  // of a; null: it has a descriptor
};

void issue_product(Issue issue, bool accumulate, bool a_transposed, bool b_transposed, bool e4m3);

}  // namespace

void check_products(const char* what, std::uintptr_t address, std::size_t size) {
  Asynchronous& all = worker->async;
  if (all.products == 0) return;
  for (std::size_t warp = 0; warp < all.warps.size(); ++warp)
    for (const WarpProduct& product : all.warps[warp].products)
      for (int i = 0; i < 2; ++i)
        if (address < product.to[i] && address + size > product.from[i])
          stop(fmt::format("{} of {} bytes at {}, which a wgmma of warp {} on its way still reads", what,
                           size, name_of(address), warp));
}

void wgmma(float* d, int n, std::uint64_t a, std::uint64_t b, bool accumulate, bool a_transposed,
           bool b_transposed) {
  issue_product({d, a, b, n, nullptr}, accumulate, a_transposed, b_transposed, false);
}

void wgmma_of_registers(float* d, int n, const std::uint32_t* a, std::uint64_t b, bool accumulate,
                        bool b_transposed) {
  issue_product({d, 0, b, n, a}, accumulate, false, b_transposed, false);
}

void wgmma_e4m3(float* d, int n, std::uint64_t a, std::uint64_t b, bool accumulate) {
  issue_product({d, a, b, n, nullptr}, accumulate, false, false, true);
}

namespace {

void issue_product(Issue issue, bool accumulate, bool a_transposed, bool b_transposed, bool e4m3) {
  const auto [d, a, b, n, registers] = issue;
  if (n < 8 || n > 256 || n % 8 != 0) stop(fmt::format("wgmma of {} columns", n));
  WarpProducts& mine = products_of_here();
  // collective of the warp; it orders no memory
  meet_warp(
      "wgmma", 0xffffffffU, &issue,
      [](Lanes lanes, unsigned) {
        WarpProducts& of_warp = products_of_here();
        const auto& first = *static_cast<Issue*>(lanes[0]);
        if (first.registers != nullptr && !of_warp.fenced_a)
          stop("wgmma with a in registers without a wgmma.fence since the last group");
        std::size_t which = 0;
        auto& all = of_warp.accumulators;
        while (which < all.size() && (all[which].products == 0 || all[which].registers[0] != first.d))
          ++which;
        if (which == all.size()) {
          if (!of_warp.fenced)
            stop("wgmma into registers without a wgmma.fence since they were the thread's");
          which = 0;
          while (which < all.size() && all[which].products != 0) ++which;
          if (which == all.size()) all.emplace_back();
          for (std::size_t lane = 0; lane < 32; ++lane) {
            const auto& other = *static_cast<Issue*>(lanes[lane]);
            all[which].registers[lane] = other.d;
            all[which].values[lane].assign(other.d, other.d + other.n / 2);
          }
        }
        Accumulators& into = all[which];
        if (into.values[0].size() != static_cast<std::size_t>(first.n / 2))
          stop(fmt::format("wgmma of {} columns into registers of one of {}", first.n,
                           2 * into.values[0].size()));
        ++into.products;
        for (std::size_t lane = 0; lane < 32; ++lane) {
          const auto& other = *static_cast<Issue*>(lanes[lane]);
          if (other.a != first.a || other.b != first.b || other.n != first.n)
            stop("wgmma of which the lanes of a warp have different descriptors");
          std::fill(into.registers[lane], into.registers[lane] + first.n / 2, NAN);
        }
        of_warp.products.push_back(
            {first.a, first.b, first.n, false, false, false, 0, which, {}, {}, false, {}, {}});
        for (std::size_t lane = 0; lane < 32 && first.registers != nullptr; ++lane) {
          const std::uint32_t* from = static_cast<Issue*>(lanes[lane])->registers;
          of_warp.products.back().registers[lane] = from;
          std::copy(from, from + 4, of_warp.products.back().held[lane].begin());
        }
        ++of_warp.issued;
      },
      false);
  if (current->lane() == 0) {
    WarpProduct& product = mine.products.back();
    product.accumulate = accumulate;
    product.a_transposed = a_transposed;
    product.b_transposed = b_transposed;
    product.e4m3 = e4m3;
    if (registers == nullptr) check_descriptor("a", a, a_transposed);
    check_descriptor("b", b, b_transposed);
    auto& log = worker->async.warpgroups[static_cast<std::size_t>(current->warp() / 4)].issued;
    const std::array<std::uint64_t, 3> what{
        a, b,
        static_cast<std::uint64_t>(n) << 5 | (registers != nullptr ? 16U : 0U) | (e4m3 ? 8U : 0U) |
            (accumulate ? 4U : 0U) | (a_transposed ? 2U : 0U) | (b_transposed ? 1U : 0U)};
    const auto place = static_cast<std::size_t>(mine.issued) - 1;
    if (place == log.size()) log.push_back(what);
    if (place > log.size() || log[place] != what)
      stop("wgmma that the warps of a warpgroup issue differently");
    check_operands(product);
    ++worker->async.products;
  }
  // none of the warp goes on before what lane 0 has done
  meet_warp(
      "wgmma", 0xffffffffU, nullptr, [](Lanes, unsigned) {}, false);
}

}  // namespace

void wgmma_fence() {
  meet_warp(
      "wgmma.fence", 0xffffffffU, nullptr,
      [](Lanes, unsigned) { products_of_here().fenced = products_of_here().fenced_a = true; }, false);
}

void wgmma_commit() {
  meet_warp(
      "wgmma.commit_group", 0xffffffffU, nullptr,
      [](Lanes, unsigned) {
        WarpProducts& mine = products_of_here();
        ++mine.committed;
        mine.fenced_a = false;
        for (WarpProduct& product : mine.products)
          if (product.group == 0) product.group = mine.committed;
      },
      false);
}

void wgmma_wait(int groups) {
  meet_warp(
      "wgmma.wait_group", 0xffffffffU, &groups,
      [](Lanes lanes, unsigned) {
        WarpProducts& mine = products_of_here();
        const int last = mine.committed - *static_cast<int*>(lanes[0]);
        auto& all = mine.products;
        std::size_t done = 0;
        for (; done < all.size() && all[done].group != 0 && all[done].group <= last; ++done) {
          Accumulators& into = mine.accumulators[all[done].accumulators];
          perform(all[done], into, current->warp() % 4);
          if (--into.products > 0) continue;
          for (std::size_t lane = 0; lane < 32; ++lane)
            std::ranges::copy(into.values[lane], into.registers[lane]);
          mine.fenced = false;
        }
        all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(done));
        worker->async.products -= static_cast<int>(done);
      },
      false);
}

}  // namespace cuda_emulation
