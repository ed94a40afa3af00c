// Values stored in few bits, in blocks that share a scale: MXFP4 (gpt-oss), FP8 with a scale for each 128 x
// 128 (DeepSeek), MXFP8. value = element x scale, in f32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "base/small_floats.h"
#include "base/team.h"
#include "hub/stored_type.h"

namespace hone::hub {

/// How a tensor of matrices (rows, cols) is coded: an element for each value, row-major, two of kE2M1 to a
/// byte, the even one in its low half; and a scale for each block, row-major over the blocks of each matrix.
/// Blocks at the edges are cut short.
struct BlockFormat {
  enum class Element { kE2M1, kE4M3 };
  Element element = Element::kE4M3;
  /// F32, BF16 or F16; or U8 or F8_E8M0, which are both the exponents of MX (Float8E8M0).
  const StoredType* scale = nullptr;
  std::int64_t rows = 1, cols = 1;  ///< cols even for kE2M1, block_cols too
  std::int64_t block_rows = 1, block_cols = 1;

  std::int64_t scale_rows() const { return (rows + block_rows - 1) / block_rows; }
  std::int64_t scale_cols() const { return (cols + block_cols - 1) / block_cols; }
  int bits() const { return element == Element::kE2M1 ? 4 : 8; }
  std::int64_t bytes_of(std::int64_t n) const { return n * bits() / 8; }  ///< of n elements
  std::int64_t scale_bytes() const { return scale->bits / 8; }            ///< of one
  float largest() const { return element == Element::kE2M1 ? Float4E2M1::kMax : Float8E4M3::kMax; }
};
/// Whether block scales can be read from tensors of this type.
bool is_scale_type(const StoredType& type);

/// Scales [first, first + count) of a tensor.
struct ScaleRange {
  std::int64_t first = 0, count = 0;
};
/// Those of the blocks that values [first, first + n) lie in, n > 0, and of the blocks beside them.
ScaleRange scales_of(const BlockFormat& format, std::int64_t first, std::int64_t n);

/// Values [first, first + n) of the tensor. elements: of `first` on (first even for kE2M1); scales: from
/// `first_scale` on.
void decode(const BlockFormat& format, const std::byte* elements, const std::byte* scales,
            std::int64_t first_scale, std::int64_t first, std::int64_t n, float* values);

/// Sums over values: of their squares, and of what coding takes from them or adds.
struct CodingError {
  double squared_values = 0, squared_error = 0;
  /// Root mean square of the error over that of the values.
  double relative() const;
  CodingError& operator+=(const CodingError& other);
};

/// Codes values anew where they changed. values: [first, first + n), in whole rows of blocks: `first` begins
/// one, and n ends one. elements and scales are those that the values were decoded from (as in decode()), and
/// become those of `values`. A block all of whose values, rounded to `held`, are what
/// it decodes to keeps its bits; any other is rounded to nearest even, under the scale that leaves the least
/// squared error: the one it had, or those that bring its largest value into range (largest / 448 for FP8;
/// for MX the powers of two above and below that).
CodingError encode(Team& team, const BlockFormat& format, const float* values, DType held, std::int64_t first,
                   std::int64_t n, std::byte* elements, std::byte* scales, std::int64_t first_scale);

/// What encode() will add to values that training has moved off the format's grid: of each, the variance of
/// an even distribution over the step around it, step^2 / 12. Arguments as of decode().
CodingError expected_error(const BlockFormat& format, const std::byte* elements, const std::byte* scales,
                           std::int64_t first_scale, std::int64_t first, std::int64_t n);

}  // namespace hone::hub
