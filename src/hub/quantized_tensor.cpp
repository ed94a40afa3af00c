#include "hub/quantized_tensor.h"

#include <algorithm>

#include "base/error.h"
#include "base/message.h"

namespace hone::hub {

namespace {

constexpr std::int64_t kFp8Block = 128;  // where config.json names none

std::string file_name(const Checkpoint& checkpoint, const CheckpointTensor& tensor) {
  return checkpoint.file_of(tensor).string();
}

const CheckpointTensor& find_scales(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                                    const std::string& key) {
  const auto* scales = checkpoint.find(key);
  if (scales == nullptr)
    fail("{}: {} has dtype {}, and its scales, {}, are missing", file_name(checkpoint, tensor),
         shown(tensor.name()), tensor.type().name, shown(key));
  if (!is_scale_type(scales->type()))
    fail("{}: {} has dtype {}; scales are F32, BF16, F16, U8 or F8_E8M0", file_name(checkpoint, *scales),
         shown(scales->name()), scales->type().name);
  return *scales;
}

}  // namespace

QuantizedTensor mxfp4_tensor(const Checkpoint& checkpoint, const CheckpointTensor& blocks,
                             const Shape& values) {
  constexpr std::string_view kBlocks = "_blocks";
  const auto& scales = find_scales(
      checkpoint, blocks, blocks.name().substr(0, blocks.name().size() - kBlocks.size()) + "_scales");
  auto dims = values.dims();
  dims.back() /= kMxBlock;
  if (const Shape wanted(std::move(dims)); scales.shape() != wanted)
    fail("{}: {} has shape {}, expected {} for {}", file_name(checkpoint, scales), shown(scales.name()),
         shown(scales.shape().str()), wanted.str(), shown(blocks.name()));
  if (blocks.type().name != "U8" || scales.type().bits != 8)
    fail("{}: {} and {} have dtypes {} and {}; MXFP4 is U8 and U8", file_name(checkpoint, blocks),
         shown(blocks.name()), shown(scales.name()), blocks.type().name, scales.type().name);
  return {.format = {.element = BlockFormat::Element::kE2M1,
                     .scale = &scales.type(),
                     .rows = values.rank() > 1 ? values[-2] : 1,
                     .cols = values[-1],
                     .block_rows = 1,
                     .block_cols = kMxBlock},
          .scales = &scales};
}

QuantizedTensor fp8_tensor(const Checkpoint& checkpoint, const CheckpointTensor& elements,
                           std::int64_t block_rows, std::int64_t block_cols) {
  const auto& scales = find_scales(checkpoint, elements, elements.name() + "_scale_inv");
  const Shape& shape = elements.shape();
  const Shape& stored = scales.shape();
  QuantizedTensor found{.format = {.element = BlockFormat::Element::kE4M3,
                                   .scale = &scales.type(),
                                   .rows = shape.rank() > 1 ? shape[-2] : 1,
                                   .cols = shape.rank() > 0 ? shape[-1] : 1},
                        .scales = &scales};
  BlockFormat& format = found.format;
  const auto grid = [&] {
    auto dims = shape.dims();
    if (!dims.empty()) dims.back() = format.scale_cols();
    if (dims.size() > 1) dims[dims.size() - 2] = format.scale_rows();
    return Shape(std::move(dims));
  };
  const auto fits = [&](std::int64_t rows, std::int64_t cols) {
    format.block_rows = std::max<std::int64_t>(rows, 1);
    format.block_cols = std::max<std::int64_t>(cols, 1);
    return grid() == stored;
  };
  const bool is_known = block_rows > 0 && block_cols > 0;
  if (is_known ? fits(block_rows, block_cols) : fits(kFp8Block, kFp8Block)) return found;
  if (stored.numel() == 1 && shape.numel() == format.rows * format.cols) {  // one for all
    (void)fits(format.rows, format.cols);
    return found;
  }
  if (!is_known && shape.rank() >= 2 && stored.rank() == shape.rank() && stored.numel() > 0 &&
      format.rows % stored[-2] == 0 && format.cols % stored[-1] == 0 &&
      fits(format.rows / stored[-2], format.cols / stored[-1]))
    return found;
  (void)fits(is_known ? block_rows : kFp8Block, is_known ? block_cols : kFp8Block);
  fail("{}: {} has shape {}, expected {} for {} {} in blocks of {} x {}", file_name(checkpoint, scales),
       shown(scales.name()), shown(stored.str()), grid().str(), shown(elements.name()), shape.str(),
       format.block_rows, format.block_cols);
}

}  // namespace hone::hub
