// Look-ups in tables of shared memory: the instructions, beside those of ptx.cuh, by which a byte or half of
// a word becomes an address in one step. (As an index into an array it is three: cut out, shift, add.)
#pragma once

#include "kernels/cuda/ptx.cuh"

namespace hone::kernels::cuda {

#if defined(__CUDACC__)

using TableAddress = std::uint32_t;
__device__ __forceinline__ TableAddress table_address(const void* table) {
  return shared_address(table);
}
/// base + factor * (byte kByte of word), factor below 256: IDP, at the rate of a multiply-add of integers.
template <int kByte>
__device__ __forceinline__ TableAddress plus_byte(TableAddress base, std::uint32_t word,
                                                  std::uint32_t factor) {
  return __dp4a(word, factor << 8 * kByte, base);
}
/// base + factor * (the upper half of word), as well.
__device__ __forceinline__ TableAddress plus_upper_half(TableAddress base, std::uint32_t word,
                                                        std::uint32_t factor) {
  return __dp2a_lo(word, factor << 8, base);
}
__device__ __forceinline__ std::uint32_t plus_lower_half(std::uint32_t base, std::uint32_t word) {
  return __dp2a_lo(word, 1U, base);
}
/// The four bytes at address + kOffset, which costs nothing.
template <int kOffset>
__device__ __forceinline__ std::uint32_t looked_up(TableAddress address) {
  std::uint32_t word;
  asm volatile("ld.shared.u32 %0, [%1+%2];" : "=r"(word) : "r"(address), "n"(kOffset));
  return word;
}

#else

using TableAddress = std::uintptr_t;
inline TableAddress table_address(const void* table) {
  return reinterpret_cast<TableAddress>(table);
}
template <int kByte>
TableAddress plus_byte(TableAddress base, std::uint32_t word, std::uint32_t factor) {
  return base + factor * (word >> 8 * kByte & 0xff);
}
inline TableAddress plus_upper_half(TableAddress base, std::uint32_t word, std::uint32_t factor) {
  return base + factor * (word >> 16);
}
inline std::uint32_t plus_lower_half(std::uint32_t base, std::uint32_t word) {
  return base + (word & 0xffff);
}
template <int kOffset>
std::uint32_t looked_up(TableAddress address) {
  return *reinterpret_cast<const std::uint32_t*>(address + kOffset);
}

#endif

}  // namespace hone::kernels::cuda
