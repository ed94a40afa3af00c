// wgmma: sums (64, n) of a warpgroup += a (64, 16) b (16, n), bf16 operands in shared memory, for every n
// that is a multiple of 16 up to 256; a from registers for 64 and 128; of e4m3 32 of k at a time, for n up to
// 128. n is part of the instruction, and every sum is a register of it: hence the macros.
#pragma once

#include "kernels/cuda/hopper.cuh"

namespace hone::kernels::cuda {

#if HONE_HOPPER

/// Thread t of the warpgroup holds, as sum 4 j + 2 r + c, row 16 (t / 32) + t % 32 / 4 + 8 r, column 8 j + t
/// % 4 * 2 + c (PTX ISA 9.0, "Register Fragments for wgmma.mma_async.m64nNk16").
template <int kColumns, bool kAAcrossK, bool kBAcrossK>
struct Wgmma;
/// Of e4m3, whose operands lie along k; sums as above. They are not f32's: an instruction cuts its products
/// and what it adds to off 13 bits below the largest of them, and keeps 14 bits of the sum
/// (arXiv:2511.10909; arXiv:2412.19437, 3.3.2). So whoever multiplies takes them out every 128 of k.
template <int kColumns>
struct WgmmaE4m3;

/// As Wgmma, a in registers: thread t holds as number 2 i + c of its words (the first of two in the low
/// half) row 16 (t / 32) + t % 32 / 4 + 8 (i % 2), k 8 (i / 2) + t % 4 * 2 + c (PTX ISA 9.0, "Register
/// Fragments"): what it holds of the sums of 16 columns, in bf16. The words are the tensor cores' from
/// wgmma_fence until wgmma_wait, as sums are.
template <int kColumns, bool kBAcrossK>
struct WgmmaOfRegisters;

#if defined(__CUDACC__)

#define HONE_TEXT_0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define HONE_TEXT_1 "%8, %9, %10, %11, %12, %13, %14, %15"
#define HONE_TEXT_2 "%16, %17, %18, %19, %20, %21, %22, %23"
#define HONE_TEXT_3 "%24, %25, %26, %27, %28, %29, %30, %31"
#define HONE_TEXT_4 "%32, %33, %34, %35, %36, %37, %38, %39"
#define HONE_TEXT_5 "%40, %41, %42, %43, %44, %45, %46, %47"
#define HONE_TEXT_6 "%48, %49, %50, %51, %52, %53, %54, %55"
#define HONE_TEXT_7 "%56, %57, %58, %59, %60, %61, %62, %63"
#define HONE_TEXT_8 "%64, %65, %66, %67, %68, %69, %70, %71"
#define HONE_TEXT_9 "%72, %73, %74, %75, %76, %77, %78, %79"
#define HONE_TEXT_10 "%80, %81, %82, %83, %84, %85, %86, %87"
#define HONE_TEXT_11 "%88, %89, %90, %91, %92, %93, %94, %95"
#define HONE_TEXT_12 "%96, %97, %98, %99, %100, %101, %102, %103"
#define HONE_TEXT_13 "%104, %105, %106, %107, %108, %109, %110, %111"
#define HONE_TEXT_14 "%112, %113, %114, %115, %116, %117, %118, %119"
#define HONE_TEXT_15 "%120, %121, %122, %123, %124, %125, %126, %127"
#define HONE_UNTIL_0 HONE_TEXT_0
#define HONE_UNTIL_1 HONE_UNTIL_0 ", " HONE_TEXT_1
#define HONE_UNTIL_2 HONE_UNTIL_1 ", " HONE_TEXT_2
#define HONE_UNTIL_3 HONE_UNTIL_2 ", " HONE_TEXT_3
#define HONE_UNTIL_4 HONE_UNTIL_3 ", " HONE_TEXT_4
#define HONE_UNTIL_5 HONE_UNTIL_4 ", " HONE_TEXT_5
#define HONE_UNTIL_6 HONE_UNTIL_5 ", " HONE_TEXT_6
#define HONE_UNTIL_7 HONE_UNTIL_6 ", " HONE_TEXT_7
#define HONE_UNTIL_8 HONE_UNTIL_7 ", " HONE_TEXT_8
#define HONE_UNTIL_9 HONE_UNTIL_8 ", " HONE_TEXT_9
#define HONE_UNTIL_10 HONE_UNTIL_9 ", " HONE_TEXT_10
#define HONE_UNTIL_11 HONE_UNTIL_10 ", " HONE_TEXT_11
#define HONE_UNTIL_12 HONE_UNTIL_11 ", " HONE_TEXT_12
#define HONE_UNTIL_13 HONE_UNTIL_12 ", " HONE_TEXT_13
#define HONE_UNTIL_14 HONE_UNTIL_13 ", " HONE_TEXT_14
#define HONE_UNTIL_15 HONE_UNTIL_14 ", " HONE_TEXT_15
#define HONE_EIGHT(i)                                                                                   \
  "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3]), "+f"(d[(i) + 4]), "+f"(d[(i) + 5]), \
      "+f"(d[(i) + 6]), "+f"(d[(i) + 7])
#define HONE_SUMS_0 HONE_EIGHT(0)
#define HONE_SUMS_1 HONE_SUMS_0, HONE_EIGHT(8)
#define HONE_SUMS_2 HONE_SUMS_1, HONE_EIGHT(16)
#define HONE_SUMS_3 HONE_SUMS_2, HONE_EIGHT(24)
#define HONE_SUMS_4 HONE_SUMS_3, HONE_EIGHT(32)
#define HONE_SUMS_5 HONE_SUMS_4, HONE_EIGHT(40)
#define HONE_SUMS_6 HONE_SUMS_5, HONE_EIGHT(48)
#define HONE_SUMS_7 HONE_SUMS_6, HONE_EIGHT(56)
#define HONE_SUMS_8 HONE_SUMS_7, HONE_EIGHT(64)
#define HONE_SUMS_9 HONE_SUMS_8, HONE_EIGHT(72)
#define HONE_SUMS_10 HONE_SUMS_9, HONE_EIGHT(80)
#define HONE_SUMS_11 HONE_SUMS_10, HONE_EIGHT(88)
#define HONE_SUMS_12 HONE_SUMS_11, HONE_EIGHT(96)
#define HONE_SUMS_13 HONE_SUMS_12, HONE_EIGHT(104)
#define HONE_SUMS_14 HONE_SUMS_13, HONE_EIGHT(112)
#define HONE_SUMS_15 HONE_SUMS_14, HONE_EIGHT(120)
// columns, eights of sums less one, and the operands behind the sums: a, b, whether sums are added to, how a
// and b lie
#define HONE_WGMMA(n, last, a_at, b_at, add_at, ta_at, tb_at)                                                \
  template <bool kAAcrossK, bool kBAcrossK>                                                                  \
  struct Wgmma<n, kAAcrossK, kBAcrossK> {                                                                    \
    __device__ __forceinline__ static void multiply(float* d, std::uint64_t a, std::uint64_t b, bool add) {  \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #add_at ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n \
                   "k16.f32.bf16.bf16 {" HONE_UNTIL_##last "}, %" #a_at ", %" #b_at ", p, 1, 1, %" #ta_at    \
                                                           ", %" #tb_at ";\n}"                               \
                   : HONE_SUMS_##last                                                                        \
                   : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(kAAcrossK ? 1 : 0),                     \
                     "n"(kBAcrossK ? 1 : 0));                                                                \
    }                                                                                                        \
  };
HONE_WGMMA(16, 0, 8, 9, 10, 11, 12)
HONE_WGMMA(32, 1, 16, 17, 18, 19, 20)
HONE_WGMMA(48, 2, 24, 25, 26, 27, 28)
HONE_WGMMA(64, 3, 32, 33, 34, 35, 36)
HONE_WGMMA(80, 4, 40, 41, 42, 43, 44)
HONE_WGMMA(96, 5, 48, 49, 50, 51, 52)
HONE_WGMMA(112, 6, 56, 57, 58, 59, 60)
HONE_WGMMA(128, 7, 64, 65, 66, 67, 68)
HONE_WGMMA(144, 8, 72, 73, 74, 75, 76)
HONE_WGMMA(160, 9, 80, 81, 82, 83, 84)
HONE_WGMMA(176, 10, 88, 89, 90, 91, 92)
HONE_WGMMA(192, 11, 96, 97, 98, 99, 100)
HONE_WGMMA(208, 12, 104, 105, 106, 107, 108)
HONE_WGMMA(224, 13, 112, 113, 114, 115, 116)
HONE_WGMMA(240, 14, 120, 121, 122, 123, 124)
HONE_WGMMA(256, 15, 128, 129, 130, 131, 132)
#undef HONE_WGMMA
// as above, with the four words of a
#define HONE_WGMMA_OF_REGISTERS(n, last, a0, a1, a2, a3, b_at, add_at, tb_at)                                \
  template <bool kBAcrossK>                                                                                  \
  struct WgmmaOfRegisters<n, kBAcrossK> {                                                                    \
    __device__ __forceinline__ static void multiply(float* d, const std::uint32_t (&a)[4], std::uint64_t b,  \
                                                    bool add) {                                              \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #add_at ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n \
                   "k16.f32.bf16.bf16 {" HONE_UNTIL_##last "}, {%" #a0 ", %" #a1 ", %" #a2 ", %" #a3         \
                                                           "}, %" #b_at ", p, 1, 1, %" #tb_at ";\n}"         \
                   : HONE_SUMS_##last                                                                        \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)),         \
                     "n"(kBAcrossK ? 1 : 0));                                                                \
    }                                                                                                        \
  };
HONE_WGMMA_OF_REGISTERS(64, 3, 32, 33, 34, 35, 36, 37, 38)
HONE_WGMMA_OF_REGISTERS(128, 7, 64, 65, 66, 67, 68, 69, 70)
#undef HONE_WGMMA_OF_REGISTERS
#define HONE_WGMMA_E4M3(n, last, a_at, b_at, add_at)                                                         \
  template <>                                                                                                \
  struct WgmmaE4m3<n> {                                                                                      \
    __device__ __forceinline__ static void multiply(float* d, std::uint64_t a, std::uint64_t b, bool add) {  \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #add_at ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n \
                   "k32.f32.e4m3.e4m3 {" HONE_UNTIL_##last "}, %" #a_at ", %" #b_at ", p, 1, 1;\n}"          \
                   : HONE_SUMS_##last                                                                        \
                   : "l"(a), "l"(b), "r"(static_cast<int>(add)));                                            \
    }                                                                                                        \
  };
HONE_WGMMA_E4M3(16, 0, 8, 9, 10)
HONE_WGMMA_E4M3(32, 1, 16, 17, 18)
HONE_WGMMA_E4M3(48, 2, 24, 25, 26)
HONE_WGMMA_E4M3(64, 3, 32, 33, 34)
HONE_WGMMA_E4M3(80, 4, 40, 41, 42)
HONE_WGMMA_E4M3(96, 5, 48, 49, 50)
HONE_WGMMA_E4M3(112, 6, 56, 57, 58)
HONE_WGMMA_E4M3(128, 7, 64, 65, 66)
#undef HONE_WGMMA_E4M3
#undef HONE_EIGHT

#else

template <int kColumns, bool kAAcrossK, bool kBAcrossK>
struct Wgmma {
  static void multiply(float* d, std::uint64_t a, std::uint64_t b, bool add) {
    cuda_emulation::wgmma(d, kColumns, a, b, add, kAAcrossK, kBAcrossK);
  }
};
template <int kColumns, bool kBAcrossK>
struct WgmmaOfRegisters {
  static void multiply(float* d, const std::uint32_t (&a)[4], std::uint64_t b, bool add) {
    cuda_emulation::wgmma_of_registers(d, kColumns, a, b, add, kBAcrossK);
  }
};
template <int kColumns>
struct WgmmaE4m3 {
  static void multiply(float* d, std::uint64_t a, std::uint64_t b, bool add) {
    cuda_emulation::wgmma_e4m3(d, kColumns, a, b, add);
  }
};

#endif

#endif

}  // namespace hone::kernels::cuda
