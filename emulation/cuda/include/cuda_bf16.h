// bfloat16 as NVIDIA's cuda_bf16.h has it: the part that hone uses.
#pragma once

#include <cuda_runtime.h>

struct __nv_bfloat16 {
  unsigned short bits;
  __nv_bfloat16() = default;
  /// To nearest, ties to even; NaN becomes 0x7fff.
  explicit __nv_bfloat16(float value) {
    const unsigned u = __float_as_uint(value);
    bits = static_cast<unsigned short>(
        (u & 0x7fffffffU) > 0x7f800000U ? 0x7fffU : (u + 0x7fffU + (u >> 16 & 1U)) >> 16);
  }
  operator float() const { return __uint_as_float(static_cast<unsigned>(bits) << 16); }
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
inline __nv_bfloat16 __float2bfloat16(float x) {
  return __nv_bfloat16(x);
}
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  return __nv_bfloat16(x);
}
inline float __bfloat162float(__nv_bfloat16 x) {
  return x;
}
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__nv_bfloat16(x), __nv_bfloat16(y)};
}
inline float2 __bfloat1622float2(__nv_bfloat162 v) {
  return {v.x, v.y};
}
