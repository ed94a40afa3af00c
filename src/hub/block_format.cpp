#include "hub/block_format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/error.h"

namespace hone::hub {

namespace {

using Element = BlockFormat::Element;

bool is_exponent(const StoredType& type) {
  return type.name == "U8" || type.name == "F8_E8M0";
}

std::size_t scale_size(const BlockFormat& format) {
  return static_cast<std::size_t>(format.scale_bytes());
}

float read_scale(const BlockFormat& format, const std::byte* scale) {
  if (is_exponent(*format.scale)) return static_cast<float>(Float8E8M0{static_cast<std::uint8_t>(*scale)});
  std::uint64_t aligned = 0;
  std::memcpy(&aligned, scale, scale_size(format));
  float value = 0;
  convert(*format.scale->dtype, &aligned, DType::kF32, &value, 1);
  return value;
}

/// The scale rounded to how it is stored; an exponent up.
void write_scale(const BlockFormat& format, float value, std::byte* scale) {
  if (is_exponent(*format.scale)) {
    int exponent = 0;
    const float fraction =
        std::frexp(value, &exponent);  // value = fraction * 2^exponent, fraction in [0.5, 1)
    if (fraction == 0.5F) --exponent;
    *scale = static_cast<std::byte>(std::clamp(exponent + 127, 0, 254));
    return;
  }
  std::uint64_t stored = 0;
  convert(DType::kF32, &value, *format.scale->dtype, &stored, 1);
  std::memcpy(scale, &stored, scale_size(format));
}

/// Elements as floats: by bytes for 8 bits, by halves of bytes for 4.
const std::array<float, 256>& values_of(Element element) {
  static const auto kE4M3 = [] {
    std::array<float, 256> values{};
    for (std::size_t i = 0; i < values.size(); ++i) {
      Float8E4M3 e;
      e.bits = static_cast<std::uint8_t>(i);
      values[i] = static_cast<float>(e);
    }
    return values;
  }();
  static const auto kE2M1 = [] {
    std::array<float, 256> values{};
    for (std::size_t i = 0; i < 16; ++i) {
      Float4E2M1 e;
      e.bits = static_cast<std::uint8_t>(i);
      values[i] = static_cast<float>(e);
    }
    return values;
  }();
  return element == Element::kE2M1 ? kE2M1 : kE4M3;
}

std::uint8_t read_element(Element element, const std::byte* elements, std::int64_t i) {
  if (element == Element::kE4M3) return static_cast<std::uint8_t>(elements[i]);
  const auto both = static_cast<unsigned>(elements[i / 2]);
  return static_cast<std::uint8_t>(i % 2 == 0 ? both & 0xfu : both >> 4);
}

void write_element(Element element, std::byte* elements, std::int64_t i, std::uint8_t bits) {
  if (element == Element::kE4M3) {
    elements[i] = static_cast<std::byte>(bits);
  } else {
    const auto both = static_cast<unsigned>(elements[i / 2]);
    elements[i / 2] =
        static_cast<std::byte>(i % 2 == 0 ? (both & 0xf0u) | bits : (both & 0xfu) | unsigned{bits} << 4);
  }
}

std::uint8_t round_to(Element element, float value) {
  return element == Element::kE2M1 ? Float4E2M1(value).bits : Float8E4M3(value).bits;
}

/// Calls f(scale's index, first value, end) for each stretch of [first, first + n) that one scale covers.
template <typename F>
void for_each_stretch(const BlockFormat& format, std::int64_t first, std::int64_t n, F&& f) {
  const std::int64_t scale_cols = format.scale_cols();
  for (std::int64_t i = first; i < first + n;) {
    const std::int64_t row = i / format.cols;
    const std::int64_t col = i % format.cols;
    const std::int64_t scale_row =
        row / format.rows * format.scale_rows() + row % format.rows / format.block_rows;
    const std::int64_t block = col / format.block_cols;
    const std::int64_t end_col = std::min((block + 1) * format.block_cols, format.cols);
    const std::int64_t end = std::min(i + end_col - col, first + n);
    f(scale_row * scale_cols + block, i, end);
    i = end;
  }
}

/// One block, with its place among the values that are coded.
struct Block {
  const float* values;
  std::byte* elements;
  std::int64_t begin, rows, cols, stride;  // `begin`: of its first value

  template <typename F>
  void for_each(F&& f) const {
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < cols; ++c) f(begin + r * stride + c);
  }
};

float rounded_to(DType held, float value) {
  return held == DType::kBF16  ? static_cast<float>(BFloat16(value))
         : held == DType::kF16 ? static_cast<float>(Float16(value))
                               : value;
}

CodingError encode_block(const BlockFormat& format, const Block& block, DType held, std::byte* scale) {
  const auto& values_of_bits = values_of(format.element);
  const float before = read_scale(format, scale);
  CodingError error;
  float largest = 0;
  bool same = true;
  block.for_each([&](std::int64_t i) {
    const float x = block.values[i];
    const float was = values_of_bits[read_element(format.element, block.elements, i)] * before;
    same = same && rounded_to(held, was) == x;
    largest = std::max(largest, std::abs(x));
    error.squared_values += static_cast<double>(x) * static_cast<double>(x);
  });
  if (same) return error;

  const auto error_under = [&](float s) {
    double sum = 0;
    block.for_each([&](std::int64_t i) {
      const float x = block.values[i];
      const double d =
          static_cast<double>(values_of_bits[round_to(format.element, x / s)] * s) - static_cast<double>(x);
      sum += d * d;
    });
    return sum;
  };
  std::array<std::byte, 8> best_bytes{};
  std::memcpy(best_bytes.data(), scale, scale_size(format));
  float best = before;
  error.squared_error = before > 0 && std::isfinite(before) ? error_under(before) : HUGE_VAL;
  const auto consider = [&](float s) {
    std::array<std::byte, 8> bytes{};
    write_scale(format, s, bytes.data());
    const float stored = read_scale(format, bytes.data());
    if (!(stored > 0) || !std::isfinite(stored)) return;
    const double e = error_under(stored);
    if (e >= error.squared_error) return;
    error.squared_error = e;
    best = stored;
    best_bytes = bytes;
  };
  if (largest > 0) {
    consider(largest / format.largest());
    if (is_exponent(*format.scale)) consider(largest / format.largest() / 2);
  } else {
    consider(1);
  }
  block.for_each([&](std::int64_t i) {
    write_element(format.element, block.elements, i, round_to(format.element, block.values[i] / best));
  });
  std::memcpy(scale, best_bytes.data(), scale_size(format));
  return error;
}

}  // namespace

bool is_scale_type(const StoredType& type) {
  return is_exponent(type) || (is_weight_type(type) && type.dtype != DType::kF64);
}

double CodingError::relative() const {
  return squared_values > 0 ? std::sqrt(squared_error / squared_values) : 0;
}

CodingError& CodingError::operator+=(const CodingError& other) {
  squared_values += other.squared_values;
  squared_error += other.squared_error;
  return *this;
}

ScaleRange scales_of(const BlockFormat& format, std::int64_t first, std::int64_t n) {
  const auto scale_row = [&](std::int64_t row) {
    return row / format.rows * format.scale_rows() + row % format.rows / format.block_rows;
  };
  const std::int64_t begin = scale_row(first / format.cols);
  const std::int64_t end = scale_row((first + n - 1) / format.cols) + 1;
  return {begin * format.scale_cols(), (end - begin) * format.scale_cols()};
}

void decode(const BlockFormat& format, const std::byte* elements, const std::byte* scales,
            std::int64_t first_scale, std::int64_t first, std::int64_t n, float* values) {
  const auto& values_of_bits = values_of(format.element);
  for_each_stretch(format, first, n, [&](std::int64_t scale_index, std::int64_t begin, std::int64_t end) {
    const float scale =
        read_scale(format, scales + static_cast<std::size_t>(scale_index - first_scale) * scale_size(format));
    std::int64_t i = begin - first;
    if (format.element == Element::kE2M1 && i % 2 == 0)
      for (; i + 1 < end - first; i += 2) {
        const auto both = static_cast<unsigned>(elements[i / 2]);
        values[i] = values_of_bits[both & 0xfu] * scale;
        values[i + 1] = values_of_bits[both >> 4] * scale;
      }
    for (; i < end - first; ++i)
      values[i] = values_of_bits[read_element(format.element, elements, i)] * scale;
  });
}

CodingError encode(Team& team, const BlockFormat& format, const float* values, DType held, std::int64_t first,
                   std::int64_t n, std::byte* elements, std::byte* scales, std::int64_t first_scale) {
  HONE_CHECK(first % format.cols == 0 && n % format.cols == 0, "values [{}, {}) in rows of {}", first,
             first + n, format.cols);
  HONE_CHECK(format.element == Element::kE4M3 || (format.cols % 2 == 0 && format.block_cols % 2 == 0),
             "blocks of {} and rows of {} values share bytes", format.block_cols, format.cols);
  struct Work {
    Block block;
    std::byte* scale;
  };
  std::vector<Work> work;
  for (std::int64_t row = first / format.cols; row < (first + n) / format.cols;) {
    const std::int64_t in_matrix = row % format.rows;
    const std::int64_t rows = std::min(format.block_rows, format.rows - in_matrix);
    HONE_CHECK(in_matrix % format.block_rows == 0 && (row + rows) * format.cols <= first + n,
               "rows [{}, {}) cut blocks of {} rows", first / format.cols, (first + n) / format.cols,
               format.block_rows);
    const std::int64_t scale_row = row / format.rows * format.scale_rows() + in_matrix / format.block_rows;
    for (std::int64_t block = 0; block < format.scale_cols(); ++block) {
      const std::int64_t col = block * format.block_cols;
      const Block place{.values = values,
                        .elements = elements,
                        .begin = row * format.cols + col - first,
                        .rows = rows,
                        .cols = std::min(format.block_cols, format.cols - col),
                        .stride = format.cols};
      const std::int64_t scale = scale_row * format.scale_cols() + block - first_scale;
      work.push_back({place, scales + static_cast<std::size_t>(scale) * scale_size(format)});
    }
    row += rows;
  }
  std::vector<CodingError> errors(work.size());
  const auto count = static_cast<std::int64_t>(work.size());
  const auto chunk = std::max<std::int64_t>(1, 4096 / (format.block_rows * format.block_cols));
  const auto encode_one = [&](std::int64_t i, int) {
    const auto& [block, scale] = work[static_cast<std::size_t>(i)];
    errors[static_cast<std::size_t>(i)] = encode_block(format, block, held, scale);
  };
  team.parallel_for(team.num_threads(), count, encode_one, chunk);
  CodingError sum;  // in the order of the blocks, whatever the number of threads
  for (const auto& error : errors) sum += error;
  return sum;
}

CodingError expected_error(const BlockFormat& format, const std::byte* elements, const std::byte* scales,
                           std::int64_t first_scale, std::int64_t first, std::int64_t n) {
  const auto& values_of_bits = values_of(format.element);
  std::array<double, 256> steps{};  // from each element to the next in magnitude; of the last, the one before
  const unsigned last = format.element == Element::kE2M1 ? 0x7u : 0x7eu;
  for (unsigned i = 0; i < steps.size(); ++i) {
    const unsigned magnitude = std::min(format.element == Element::kE2M1 ? i & 0x7u : i & 0x7fu, last - 1);
    steps[i] =
        static_cast<double>(values_of_bits[magnitude + 1]) - static_cast<double>(values_of_bits[magnitude]);
  }
  CodingError error;
  for_each_stretch(format, first, n, [&](std::int64_t scale_index, std::int64_t begin, std::int64_t end) {
    const auto scale = static_cast<double>(read_scale(
        format, scales + static_cast<std::size_t>(scale_index - first_scale) * scale_size(format)));
    for (std::int64_t i = begin - first; i < end - first; ++i) {
      const auto bits = read_element(format.element, elements, i);
      const double value = static_cast<double>(values_of_bits[bits]) * scale;
      error.squared_values += value * value;
      error.squared_error += steps[bits] * steps[bits] * scale * scale / 12;
    }
  });
  return error;
}

}  // namespace hone::hub
