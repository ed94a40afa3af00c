// Rounding to blocks of FP8 (kernels/fp8.h), for the kernels that multiply such operands.
#pragma once

#include "kernels/cuda/register.h"

namespace hone::kernels::cuda {

/// Which numbers share a scale.
enum class Fp8Blocks { kAlongRows, kSquares };

/// Room for a matrix's rounded copy, whose rows lie whole 16 bytes apart: its bytes, a multiple of 256.
std::int64_t fp8_copy_bytes(const Matrix& m);
/// The copy, in such memory: of the same type.
Matrix fp8_copy_at(const Matrix& m, void* memory);

/// Puts `to` = `from` rounded into the stream; in place where `to` lies where `from` does. rows_there (on the
/// card, or null: all): as many times factor rows are rounded, the others left alone.
void round_fp8(const Matrix& from, const Matrix& to, Fp8Blocks blocks, Stream& stream,
               const std::int32_t* rows_there = nullptr, int factor = 1);

/// A dense weight of experts as WeightKind::kFp8Block: what its squares are rounded to, and no bit more.
std::int64_t fp8_weight_bytes(std::int64_t experts, std::int64_t parts, std::int64_t rows, std::int64_t k);
/// Puts it into the stream; memory: fp8_weight_bytes, 256-byte aligned.
ExpertWeight encode_fp8_weight(const ExpertWeight& weight, DType dtype, std::int64_t experts,
                               std::int64_t parts, std::int64_t rows, std::int64_t k, void* memory,
                               Stream& stream);

// --- As bytes, for the tensor cores (rows_e4m3.cuh)
// Both operands of such a product lie along its k, which is padded by zeros to whole blocks, each part of it
// by itself: a gate's and an up's columns are different blocks.

/// Rows of numbers (rows, depth) and the scale of each of their blocks, (blocks, rows): what a tile of rows
/// needs of a block lies together.
struct Fp8Rows {
  const std::uint8_t* codes;
  const float* scales;
  std::int64_t rows, depth;  // a multiple of kFp8Side
};
std::int64_t fp8_rows_bytes(std::int64_t rows, std::int64_t cols, std::int64_t parts);
/// Puts it into the stream, of rows whose columns are `parts` of equally many; memory: fp8_rows_bytes,
/// 256-byte aligned. rows_there: as of round_fp8.
Fp8Rows encode_fp8_rows(const Matrix& from, std::int64_t parts, void* memory, Stream& stream,
                        const std::int32_t* rows_there = nullptr);

/// What the lines of an operand are, of matrices (parts, rows, cols): rows of one part; rows of two, sixteen
/// of the first and sixteen of the second in turn (WeightShape::pairs); or columns, along all rows.
enum class Fp8Order { kRows, kPairs, kColumns };
/// The lines of a weight's matrices, (matrices, lines, depth), whose blocks are squares. The scale of the
/// square of `line` (of rows: of its part) and a block of k lies at matrix * of_matrix + line / 128 * of_line
/// + block * of_block, of the second of a pair of_pair further.
struct Fp8Lines {
  const std::uint8_t* codes;
  const float* scales;
  std::int64_t lines, depth;
  Fp8Order order;
  std::int64_t of_matrix, of_line, of_block, of_pair;
};
std::int64_t fp8_lines_bytes(std::int64_t matrices, std::int64_t parts, std::int64_t rows, std::int64_t cols,
                             Fp8Order order);
/// Puts it into the stream; stride: of rows. memory: fp8_lines_bytes, 256-byte aligned.
Fp8Lines encode_fp8_lines(const void* weight, DType dtype, std::int64_t stride, std::int64_t matrices,
                          std::int64_t parts, std::int64_t rows, std::int64_t cols, Fp8Order order,
                          void* memory, Stream& stream);

}  // namespace hone::kernels::cuda
