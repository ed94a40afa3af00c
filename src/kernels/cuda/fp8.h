// Rounding to blocks of FP8 (kernels/fp8.h), for the kernels that multiply such operands.
#pragma once

#include "kernels/cuda/register.h"

namespace hone::kernels::cuda {

/// Which numbers share a scale.
enum class Fp8Blocks { kAlongRows, kDownColumns, kSquares };

/// Room for a matrix's rounded copy, whose rows lie whole 16 bytes apart: its bytes, a multiple of 256.
std::int64_t fp8_copy_bytes(const Matrix& m);
/// The copy, in such memory: of the same type.
Matrix fp8_copy_at(const Matrix& m, void* memory);

/// Puts `to` = `from` rounded into the stream; in place where `to` lies where `from` does. rows_there (on the
/// card, or null: all): as many times factor rows are rounded, the others left alone.
void round_fp8(const Matrix& from, const Matrix& to, Fp8Blocks blocks, Stream& stream,
               const std::int32_t* rows_there = nullptr, int factor = 1);
/// Of rows in expert order, down their columns in blocks of 128 from each expert's first: row i of `to` is
/// row i of `from`, or where there is an index row index[i] / divisor.
void round_fp8_of_experts(const Matrix& from, const std::int32_t* index, int divisor, const Matrix& to,
                          const std::int32_t* offsets, std::int64_t experts, Stream& stream);

/// A dense weight of experts as WeightKind::kFp8Block: what its squares are rounded to, and no bit more.
std::int64_t fp8_weight_bytes(std::int64_t experts, std::int64_t parts, std::int64_t rows, std::int64_t k);
/// Puts it into the stream; memory: fp8_weight_bytes, 256-byte aligned.
ExpertWeight encode_fp8_weight(const ExpertWeight& weight, DType dtype, std::int64_t experts,
                               std::int64_t parts, std::int64_t rows, std::int64_t k, void* memory,
                               Stream& stream);

}  // namespace hone::kernels::cuda
