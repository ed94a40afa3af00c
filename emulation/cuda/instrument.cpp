// What g++ calls for each access of a kernel (-fsanitize=thread) and where one is misaligned or outside of an
// array (-fsanitize=alignment,bounds): the sanitizers' own libraries are not linked.
#include <fmt/format.h>

#include "access.h"

namespace cuda_emulation {

namespace {

/// The part of UBSan's description of a place that is read here.
struct Place {
  const char* file;
  std::uint32_t line, column;
};

[[gnu::no_sanitize("undefined")]] std::string text(const Place* place) {
  return fmt::format("{}:{}", place->file != nullptr ? place->file : "?", place->line);
}

template <typename T>
T atomic_on(Atomic op, T* p, T v) {
  touch(p, sizeof(T), Access::kAtomic);
  T before;
  __atomic_load(p, &before, __ATOMIC_SEQ_CST);
  while (true) {
    T after = v;
    if (op == Atomic::kAdd) after = before + v;
    if (op == Atomic::kMin) after = v < before ? v : before;
    if (op == Atomic::kMax) after = before < v ? v : before;
    if constexpr (std::is_integral_v<T>) {
      if (op == Atomic::kAnd) after = before & v;
      if (op == Atomic::kOr) after = before | v;
      if (op == Atomic::kXor) after = before ^ v;
    }
    if (__atomic_compare_exchange(p, &before, &after, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
      return before;
  }
}

template <typename T>
T compare_and_swap_on(T* p, T expected, T v) {
  touch(p, sizeof(T), Access::kAtomic);
  __atomic_compare_exchange(p, &expected, &v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  return expected;
}

}  // namespace

int atomic(Atomic op, int* p, int v) {
  return atomic_on(op, p, v);
}
unsigned atomic(Atomic op, unsigned* p, unsigned v) {
  return atomic_on(op, p, v);
}
unsigned long long atomic(Atomic op, unsigned long long* p, unsigned long long v) {
  return atomic_on(op, p, v);
}
float atomic(Atomic op, float* p, float v) {
  return atomic_on(op, p, v);
}
double atomic(Atomic op, double* p, double v) {
  return atomic_on(op, p, v);
}
unsigned compare_and_swap(unsigned* p, unsigned expected, unsigned v) {
  return compare_and_swap_on(p, expected, v);
}
unsigned long long compare_and_swap(unsigned long long* p, unsigned long long expected,
                                    unsigned long long v) {
  return compare_and_swap_on(p, expected, v);
}

}  // namespace cuda_emulation

using cuda_emulation::Access;
using cuda_emulation::seen;

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

#define HONE_ACCESS(size)                      \
  void __tsan_read##size(void* p) {            \
    seen<Access::kRead>(p, size);              \
  }                                            \
  void __tsan_write##size(void* p) {           \
    seen<Access::kWrite>(p, size);             \
  }                                            \
  void __tsan_unaligned_read##size(void* p) {  \
    seen<Access::kRead>(p, size);              \
  }                                            \
  void __tsan_unaligned_write##size(void* p) { \
    seen<Access::kWrite>(p, size);             \
  }                                            \
  void __tsan_volatile_read##size(void* p) {   \
    seen<Access::kRead>(p, size);              \
  }                                            \
  void __tsan_volatile_write##size(void* p) {  \
    seen<Access::kWrite>(p, size);             \
  }
HONE_ACCESS(1)
HONE_ACCESS(2)
HONE_ACCESS(4)
HONE_ACCESS(8)
HONE_ACCESS(16)
#undef HONE_ACCESS
void __tsan_read_range(void* p, std::size_t size) {
  seen<Access::kRead>(p, size);
}
void __tsan_write_range(void* p, std::size_t size) {
  seen<Access::kWrite>(p, size);
}

// Of the host's part of a .cu: reference counts and the like. Kernels have CUDA's atomics.
#define HONE_ATOMICS(bits, T)                                                                      \
  T __tsan_atomic##bits##_load(const volatile T* p, int) {                                         \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  void __tsan_atomic##bits##_store(volatile T* p, T v, int) {                                      \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                \
  T __tsan_atomic##bits##_exchange(volatile T* p, T v, int) {                                      \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                \
  T __tsan_atomic##bits##_fetch_add(volatile T* p, T v, int) {                                     \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  T __tsan_atomic##bits##_fetch_sub(volatile T* p, T v, int) {                                     \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  T __tsan_atomic##bits##_fetch_and(volatile T* p, T v, int) {                                     \
    return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  T __tsan_atomic##bits##_fetch_or(volatile T* p, T v, int) {                                      \
    return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST);                                              \
  }                                                                                                \
  T __tsan_atomic##bits##_fetch_xor(volatile T* p, T v, int) {                                     \
    return __atomic_fetch_xor(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  bool __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* expected, T v, int, int) {  \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                                \
  bool __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* expected, T v, int, int) {    \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }
HONE_ATOMICS(8, std::uint8_t)
HONE_ATOMICS(16, std::uint16_t)
HONE_ATOMICS(32, std::uint32_t)
HONE_ATOMICS(64, std::uint64_t)
#undef HONE_ATOMICS
void __tsan_atomic_thread_fence(int) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
void __tsan_atomic_signal_fence(int) {}

void __ubsan_handle_type_mismatch_v1(void* data, std::uintptr_t address) {
  if (cuda_emulation::current == nullptr) return;
  // the place, the type, log2 of its alignment
  struct Mismatch {
    cuda_emulation::Place place;
    void* type;
    unsigned char log_alignment;
  };
  const auto* mismatch = static_cast<const Mismatch*>(data);
  cuda_emulation::stop(fmt::format("misaligned access at {:#x}, which needs {} bytes ({})", address,
                                   1U << mismatch->log_alignment, cuda_emulation::text(&mismatch->place)));
}
void __ubsan_handle_out_of_bounds(void* data, std::uintptr_t index) {
  if (cuda_emulation::current == nullptr) return;
  cuda_emulation::stop(fmt::format("index {} is out of bounds of its array ({})",
                                   static_cast<std::intptr_t>(index),
                                   cuda_emulation::text(static_cast<const cuda_emulation::Place*>(data))));
}

}  // extern "C"
