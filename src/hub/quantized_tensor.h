// Quantised tensors of a checkpoint: two stored tensors, elements and scales, that make one.
#pragma once

#include "hub/block_format.h"
#include "hub/checkpoint.h"

namespace hone::hub {

/// Values of an MXFP4 block.
inline constexpr std::int64_t kMxBlock = 32;

/// How the elements of a stored tensor are read, and where their scales are.
struct QuantizedTensor {
  BlockFormat format;
  const CheckpointTensor* scales = nullptr;
};

/// `blocks`: KEY_blocks, U8 (…, n / 32, 16), of a tensor of shape `values` (…, n), beside KEY_scales, U8 (…,
/// n / 32). Throws Error(kUser) that names the tensor and its file where the scales are missing or of another
/// shape or type.
QuantizedTensor mxfp4_tensor(const Checkpoint& checkpoint, const CheckpointTensor& blocks,
                             const Shape& values);

/// `elements`: KEY, F8_E4M3 (…, rows, cols), beside KEY_scale_inv (…, blocks of rows, blocks of cols), or one
/// scale for all. A block is block_rows x block_cols; where these are 0, 128 x 128 where that makes as many
/// scales, else an equal part of the rows and columns. Throws as mxfp4_tensor does.
QuantizedTensor fp8_tensor(const Checkpoint& checkpoint, const CheckpointTensor& elements,
                           std::int64_t block_rows, std::int64_t block_cols);

}  // namespace hone::hub
