// Which part of a card's peaks each path reaches, and why; which of them slots take.
#include "kernels/card_paths.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace hone::kernels {

namespace {

/// Of a multiprocessor's operations in a clock, what the tensor cores get of its shared memory (128 bytes in
/// a clock), or mma.sync does at most; of f32 `of_f32`.
double by_mma_sync(const Card& card, DType dtype, double fed_flops, double part, double of_f32) {
  if (dtype != DType::kBF16) return of_f32;
  return part * std::min(card.mma_sync_flops, fed_flops) / card.clock_flops;
}

}  // namespace

namespace paths {

constinit const Path kRows{
    "row kernel", [](const Card&, DType) { return 1.0; }, 0.76, 2,
    "85 % of an H200's copies, 4,274 of 4,800 GB/s measured; cuDNN's RMSNorm of 4,096 x 2,048 takes 10 us, "
    "its bytes 8 (measured)"};
constinit const Path kCodedUpdate{
    "eight-bit update", [](const Card&, DType) { return 1.0; }, 0.76, 2,
    "as row kernels: an element is 44 instructions (counted, sm_90a) and 16 bytes, in "
    "whose time an H200 starts 99"};
constinit const Path kCodedBf16Update{
    "eight-bit update, bf16", [](const Card&, DType) { return 1.0; }, 0.76, 2,
    "as row kernels: an element is 51 instructions (counted, sm_90a) and 10 bytes, in whose time an "
    "H200 starts 62"};
constinit const Path kCublasLt{
    "cuBLASLt", [](const Card&, DType dtype) { return dtype == DType::kBF16 ? 0.80 : 0.85; }, 0.85, 15,
    "H200, measured: 8,192^3 789 TFLOP/s; 4,096 x 5,120 x 2,048 and 4,096 x 2,048 x 4,096 take 21 and 14 us "
    "more than at that rate. f32 and memory assumed"};
// A warp's 64 x 32 of c reads 3 KiB of shared memory for 65,536 operations, and its share of the copies there
// is 1 KiB more: 2,048 operations in a clock. Of 32 x 32: 2 KiB and 1 for 32,768.
constinit const Path kLargeTiles{
    "mma.sync tiles 128 x 128",
    [](const Card& card, DType dtype) { return by_mma_sync(card, dtype, 2048, 0.7, 0.6); }, 0.76, 2,
    "70 % (assumed) of what shared memory feeds: 2,048 operations in a clock, counted"};
constinit const Path kSmallTiles{
    "mma.sync tiles 64 x 64",
    [](const Card& card, DType dtype) { return by_mma_sync(card, dtype, 1365, 0.7, 0.6); }, 0.76, 2,
    "70 % (assumed) of what shared memory feeds: 1,365 operations in a clock, counted"};
constinit const Path kWgmma{
    "wgmma tiles 128 x 256", [](const Card&, DType) { return 0.6; }, 0.76, 2,
    "assumed, as CUTLASS's grouped products of full tiles: 589 TFLOP/s on an H200 (measured), "
    "60 % of its peak"};
constinit const Path kWgmmaE4m3{
    "wgmma e4m3 128 x 128", [](const Card&, DType) { return 0.5; }, 0.76, 2,
    "assumed, of the peak of e4m3: DeepGEMM's grouped products with the same blocks and such tiles, 1,093 to "
    "1,297 TFLOP/s on an H800 (its README, 4,096 rows a group and more), are 55 to 65 %"};
constinit const Path kF32Tiles{"f32 tiles 64 x 64", [](const Card&, DType) { return 0.6; }, 0.76, 2,
                               "assumed"};
// Of a warp's 16 rows and 64 keys: keys and values once each, 320 bytes a column with the copies, for 4,096
// operations.
constinit const Path kAttention{
    "mma.sync attention",
    [](const Card& card, DType dtype) { return by_mma_sync(card, dtype, 1638, 0.6, 0.3); }, 0.76, 2,
    "60 % (assumed) of what shared memory feeds: 1,638 operations in a clock, counted; FlashAttention 2, "
    "whose "
    "warps have more rows, reaches 319 TFLOP/s on an H100"};
constinit const Path kCudnn{
    "cuDNN", [](const Card&, DType) { return 0.6; }, 0.76, 5,
    "H200, causal, heads of 128, 4,096 tokens: 591 TFLOP/s (NVIDIA's measurement); of 64 it is "
    "336. Launches assumed"};
// Of 16 keys and 32 rows: queries and gradients of the output twice, 360 bytes a column, for 4,096 operations
// (by keys; by queries 288 for 3,072).
constinit const Path kAttentionGrad{
    "mma.sync by keys, queries",
    [](const Card& card, DType dtype) { return by_mma_sync(card, dtype, 1400, 0.5, 0.3); }, 0.76, 2,
    "50 % (assumed: eight warps a multiprocessor for want of registers) of what shared memory feeds: 1,400 "
    "operations in a clock, counted"};
constinit const Path kWgmmaAttentionGrad{
    "wgmma by keys, queries", [](const Card&, DType) { return 0.45; }, 0.76, 2,
    "assumed, as FlashAttention 3's gradient, whose products have the same shapes: 450 to 550 TFLOP/s on an "
    "H100, causal, heads of 128 (measured), 45 % of its peak at least"};
constinit const Path kWgmmaAttentionGrad64{
    "wgmma by keys, queries, heads of 64", [](const Card&, DType) { return 0.29; }, 0.76, 2,
    "assumed, as cuDNN's gradient: 289 TFLOP/s on an H200 (NVIDIA's measurement); exponentials are half as "
    "many as multiply-adds allow"};

}  // namespace paths

std::span<const Path* const> all_paths() {
  using namespace paths;
  static constexpr std::array kAll{&kRows,
                                   &kCodedUpdate,
                                   &kCodedBf16Update,
                                   &kCublasLt,
                                   &kLargeTiles,
                                   &kSmallTiles,
                                   &kWgmma,
                                   &kWgmmaE4m3,
                                   &kF32Tiles,
                                   &kAttention,
                                   &kCudnn,
                                   &kAttentionGrad,
                                   &kWgmmaAttentionGrad,
                                   &kWgmmaAttentionGrad64};
  return kAll;
}

std::string paths::why_no_wgmma(const CardTarget& target) {
  const Card& card = target.card;
  return card.major == 9 && card.minor == 0
             ? target.no_wgmma
             : fmt::format("compute capability {}.{}: no wgmma", card.major, card.minor);
}
std::string paths::why_no_cudnn(const CardTarget& target) {
  const Card& card = target.card;
  if (card.major != 9 && card.major != 10)
    return fmt::format("compute capability {}.{}: it is asked on 9.x and 10.x", card.major, card.minor);
  return target.no_cudnn;
}

std::vector<SlotPath> fp8_paths(const CardTarget& target) {
  using namespace paths;
  if (std::string why = why_no_wgmma(target); !why.empty()) {
    const Path& dense = target.no_cublaslt.empty() ? kCublasLt : kLargeTiles;
    return {{"matmul", dense.name, kWgmmaE4m3.name, why},
            {"experts", kLargeTiles.name, kWgmmaE4m3.name, why},
            {"experts_grad", kLargeTiles.name, kWgmmaE4m3.name, why}};
  }
  return {{"matmul", kWgmmaE4m3.name},
          {"experts", kWgmmaE4m3.name},
          {"experts_grad", kWgmma.name, kWgmmaE4m3.name,
           "by which its products by weights go: weights' gradients are products of bf16"}};
}

std::vector<SlotPath> slot_paths(const CardTarget& target) {
  using namespace paths;
  const std::string no_wgmma = why_no_wgmma(target);
  const auto path_of = [&](std::string_view slot) -> SlotPath {
    if (slot == "matmul" || slot == "linear_cross_entropy" || slot == "head_statistics" ||
        slot == "head_grad") {
      if (target.no_cublaslt.empty()) return {slot, kCublasLt.name};
      return {slot, kLargeTiles.name, kCublasLt.name, target.no_cublaslt};
    }
    if (slot == "experts" || slot == "experts_grad") {
      if (no_wgmma.empty()) return {slot, kWgmma.name};
      return {slot, kLargeTiles.name, kWgmma.name, no_wgmma};
    }
    if (slot == "attention") {
      if (std::string why = why_no_cudnn(target); !why.empty())
        return {slot, kAttention.name, kCudnn.name, why};
      return {slot, kCudnn.name};
    }
    if (slot == "attention_grad") {
      if (!no_wgmma.empty()) return {slot, kAttentionGrad.name, kWgmmaAttentionGrad.name, no_wgmma};
      return {slot, kWgmmaAttentionGrad.name, kCudnn.name,
              "cuDNN 9.19's gradient that is the same each time takes memory quadratic in the length"};
    }
    return {slot, kRows.name};
  };
  std::vector<SlotPath> all;
  for_each_slot([&](auto slot) { all.push_back(path_of(slot.name)); });
  return all;
}

}  // namespace hone::kernels
