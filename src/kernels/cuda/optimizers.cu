// The gradients' norm and the optimizers: one pass over everything.
#include "kernels/cuda/lookup.cuh"
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows.cuh"
#include "kernels/moments.h"

#include <cfloat>

namespace hone::kernels::cuda {
namespace {

constexpr Index kSquaresOfBlock = 16384;

template <typename T>
__global__ void squares_of_chunks(const T* x, Index n, double* sums, bool vectors) {
  begin_kernel();
  const Index begin = static_cast<Index>(blockIdx.x) * kSquaresOfBlock;
  const Index end = begin + kSquaresOfBlock < n ? begin + kSquaresOfBlock : n;
  double sum = 0;
  float v[kPack];
  for (Index at = begin + threadIdx.x * kPack; at < end; at += kThreads * kPack) {
    load(x + at, end - at, vectors, v);
    sum += squares_of_pack(v);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
/// One block.
constexpr int kAddingThreads = 1024;
__global__ void add_squares(const double* sums, Index n, int index, StepScalars* scalars) {
  begin_kernel();
  double sum = 0;
  for (Index i = threadIdx.x; i < n; i += kAddingThreads) sum += sums[i];
  sum = block_sum(sum);
  if (threadIdx.x != 0) return;
  scalars->sum_of_squares += sum;
  if (!isfinite(sum) && scalars->nonfinite == 0) scalars->nonfinite = index + 1;
}

}  // namespace

std::int64_t scratch_bytes_of(const SumOfSquaresArgs& a) {
  if (a.has_parts) return 0;
  return ceil_div(a.n, kSquaresOfBlock) * static_cast<Index>(sizeof(double));
}
void sum_of_squares(const SumOfSquaresArgs& a, Stream& stream) {
  if (a.n == 0) return;
  if (a.has_parts) {
    HONE_LAUNCH(add_squares, 1, kAddingThreads, 0, cuda_stream(stream), a.parts, a.num_parts, a.index,
                a.scalars);
    return;
  }
  const Index chunks = ceil_div(a.n, kSquaresOfBlock);
  auto* sums = static_cast<double*>(stream.shared_workspace(static_cast<std::size_t>(scratch_bytes_of(a))));
  with_dtype(a.dtype, [&](auto t) {
    using T = TypeOf<decltype(t)>;
    HONE_LAUNCH(squares_of_chunks<T>, static_cast<unsigned>(chunks), kThreads, 0, cuda_stream(stream),
                static_cast<const T*>(a.x), a.n, sums, is_aligned(a.x));
  });
  HONE_LAUNCH(add_squares, 1, kAddingThreads, 0, cuda_stream(stream), sums, chunks, a.index, a.scalars);
}

namespace {
__global__ void finish_norm_scalars(StepScalars* s, float max_norm, bool by_clip_norm, const float* loss) {
  begin_kernel();
  s->grad_norm = static_cast<float>(sqrt(s->sum_of_squares));
  const bool finite = isfinite(s->grad_norm) && (loss == nullptr || isfinite(*loss));
  const float norm = by_clip_norm ? s->clip_norm : s->grad_norm;
  s->skip = finite ? 0 : 1;
  s->clip_factor = max_norm > 0 && finite && max_norm < norm + 1e-6F ? max_norm / (norm + 1e-6F) : 1.0F;
}

}  // namespace

HONE_NO_SCRATCH(FinishNormArgs)
void finish_norm(const FinishNormArgs& a, Stream& stream) {
  HONE_LAUNCH(finish_norm_scalars, 1, 1, 0, cuda_stream(stream), a.scalars, a.max_norm, a.by_clip_norm,
              a.has_loss ? a.loss : nullptr);
}

namespace {
__global__ void choose_scalars(const StepScalars* next, StepScalars* scalars) {
  begin_kernel();
  const bool is_done = scalars->skip == 0;
  const float grad_norm = scalars->grad_norm;
  *scalars = next[is_done ? 0 : 1];
  if (is_done) scalars->clip_norm = grad_norm;
}
}  // namespace

HONE_NO_SCRATCH(NextStepArgs)
void next_step(const NextStepArgs& a, Stream& stream) {
  HONE_LAUNCH(choose_scalars, 1, 1, 0, cuda_stream(stream), a.next, a.scalars);
}

namespace {

__device__ __forceinline__ void load_master(const void* master, float, Index at, Index n, bool vectors,
                                            float (&v)[kPack]) {
  load(static_cast<const float*>(master) + at, n, vectors, v);
}
__device__ __forceinline__ void load_master(const void* master, __nv_bfloat16, Index at, Index n,
                                            bool vectors, float (&v)[kPack]) {
  load(static_cast<const __nv_bfloat16*>(master) + at, n, vectors, v);
}
/// How masters are written: those of f32, and the weights that are kept besides.
template <typename M>
struct StoreMaster {
  float* master;
  __nv_bfloat16* weight;  // null: the master is it

  template <typename Args>
  __device__ __forceinline__ explicit StoreMaster(const Args& a)
      : master(static_cast<float*>(a.master)),
        weight(a.has_weight ? static_cast<__nv_bfloat16*>(a.weight) : nullptr) {}
  __device__ __forceinline__ void operator()(Index at, Index n, bool vectors, const float (&v)[kPack]) const {
    store(master + at, n, vectors, v);
    if (weight != nullptr) store(weight + at, n, vectors, v);
  }
};
/// Those of bf16: rounded at random.
template <>
struct StoreMaster<__nv_bfloat16> {
  __nv_bfloat16* master;
  unsigned key;
  Index first_index;

  template <typename Args>
  __device__ __forceinline__ explicit StoreMaster(const Args& a)
      : master(static_cast<__nv_bfloat16*>(a.master)),
        key(rounding_key(a.rounding_seed, a.scalars->step)),
        first_index(a.first_index) {}
  __device__ __forceinline__ void operator()(Index at, Index n, bool vectors, const float (&v)[kPack]) const {
    // The indices of a pack differ in their last three bits, so that one mix with the key is enough.
    const unsigned mixed = mixed_index(key, first_index + at);
    unsigned words[kPack / 2];
#pragma unroll
    for (int i = 0; i < kPack; i += 2) {
      const unsigned a = mixed_bits(mixed ^ static_cast<unsigned>(i)),
                     b = mixed_bits(mixed ^ static_cast<unsigned>(i + 1));
      // The halves that uniform_bits would have of both.
      const unsigned random = __byte_perm(a, b, 0x5410) ^ __byte_perm(a, b, 0x7632);
      words[i / 2] = __byte_perm(plus_lower_half(__float_as_uint(v[i]), random),
                                 __float_as_uint(v[i + 1]) + (random >> 16), 0x7632);
    }
    if (vectors && n >= kPack) {
      *reinterpret_cast<uint4*>(master + at) = make_uint4(words[0], words[1], words[2], words[3]);
      return;
    }
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      if (i < n) {
        const auto bits = static_cast<unsigned short>(words[i / 2] >> 16 * (i % 2));
        memcpy(master + at + i, &bits, sizeof bits);
      }
  }
};

/// AdamW's formula. Its root and quotient are off by 3 units in the last place, which a weight that moves by
/// the rate times them does not show: four instructions, where exact ones are 24, with branches. A second
/// moment below 2^-126 has the root 0, and eps is at least what the root of 2^-126 would be.
struct AdamWStep {
  float beta1, beta2;
  float of_first, of_second;  // the gradient's part of the first moment, the root of its part of the second
  float of_root, eps, keep;   // the first two over the rate

  __device__ __forceinline__ AdamWStep(const AdamWArgs& a, const StepScalars& s)
      : beta1(a.beta1),
        beta2(a.beta2),
        of_first(s.clip_factor * (1.0F - a.beta1)),
        of_second(s.clip_factor * sqrtf(1.0F - a.beta2)) {
    const float learning_rate = a.rate_scale * s.learning_rate, rate = learning_rate / s.bias_correction1;
    const float correction2 = 1.0F / sqrtf(s.bias_correction2);
    // Without a rate a weight moves by avg over an infinity.
    of_root = rate > 0 ? fminf(correction2 / rate, FLT_MAX) : 0;
    eps = rate > 0 ? fmaxf(a.eps, 0x1p-63F * correction2) / rate : INFINITY;
    keep = 1.0F - learning_rate * a.weight_decay;
  }
  /// From the gradients of a pack to its moments and masters; the moments before are avg * scale and avg_sq *
  /// scale_sq.
  __device__ __forceinline__ void operator()(const float (&grad)[kPack], float scale, float scale_sq,
                                             float (&avg)[kPack], float (&avg_sq)[kPack],
                                             float (&master)[kPack]) const {
    const float of_avg = beta1 * scale, of_avg_sq = beta2 * scale_sq;
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const float root = grad[i] * of_second;
      avg[i] = fmaf(of_avg, avg[i], grad[i] * of_first);
      avg_sq[i] = fmaf(root, root, of_avg_sq * avg_sq[i]);
      const float denominator = fmaf(fast_sqrt(avg_sq[i]), of_root, eps);
      master[i] = fmaf(-avg[i], fast_inverse(denominator), keep * master[i]);
    }
  }
};

template <typename G, typename M>
__global__ void adamw_packs(AdamWArgs a, bool vectors) {
  begin_kernel();
  const StepScalars& s = *a.scalars;
  const Index at = (static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x) * kPack, n = a.n - at;
  if (s.skip != 0 || n <= 0) return;
  auto *exp_avg = static_cast<float*>(a.exp_avg), *exp_avg_sq = static_cast<float*>(a.exp_avg_sq);
  float grad[kPack], avg[kPack], avg_sq[kPack], master[kPack];
  load(static_cast<const G*>(a.grad) + at, n, vectors, grad);
  load(exp_avg + at, n, vectors, avg);
  load(exp_avg_sq + at, n, vectors, avg_sq);
  load_master(a.master, M{}, at, n, vectors, master);
  AdamWStep(a, s)(grad, 1, 1, avg, avg_sq, master);
  store(exp_avg + at, n, vectors, avg);
  store(exp_avg_sq + at, n, vectors, avg_sq);
  const StoreMaster<M> store_master(a);
  store_master(at, n, vectors, master);
}

// --- Moments of eight bits
//
// An H200 brings 21 bytes to a multiprocessor in a clock, so that a warp waits 15.5 clocks for the 10 bytes
// that an element of a bf16 master is for each lane. Of these its 51 instructions (counted, sm_90a) take 13
// to be started; logic, shifts and comparisons 10; roots and inverses 4.5; shared memory 11.5: two levels of
// which each lane has a copy of its own (2), two entries of finders from anywhere (7: of 32 banks that lanes
// ask at random one is asked 3.5 times), and the port by which all bytes come (2.5). So a byte or half of a
// word becomes an address in one instruction (lookup.cuh), codes are found by one look into a table
// (LevelFinder), and what is the same for a pack is multiplied once; the next block is on its way while one
// is coded, in the registers that it left.

static_assert(kMomentBlock == 32 * kPack, "a warp has a block of moments");
constexpr int kCodedThreads = 1024;  // one block a multiprocessor, for all have its tables
constexpr int kCopies = 32;          // of the levels: no two lanes ask one bank

/// What codes stand for, and how they are found.
struct CodedLevels {
  float first[256] = {}, second[256] = {};
  MomentFinders finders = {};
};
constexpr CodedLevels make_coded_levels() {
  CodedLevels levels;
  for (int code = 0; code < 256; ++code) {
    levels.first[code] = first_moment(kMomentLevels, static_cast<std::uint8_t>(code));
    levels.second[code] = kMomentLevels.second[code];
  }
  levels.finders = kMomentFinders;
  return levels;
}
__device__ const CodedLevels kCodedLevels = make_coded_levels();

/// The same in shared memory.
struct CodeTables {
  float first[256 * kCopies], second[256 * kCopies];
  MomentFinders finders;
};
static_assert(sizeof(CodeTables) <= kSharedBytesOfAll);

__device__ __forceinline__ void fill_tables(CodeTables& tables) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < 256 * kCopies; i += kCodedThreads) {
    tables.first[i] = kCodedLevels.first[i / kCopies];
    tables.second[i] = kCodedLevels.second[i / kCopies];
  }
  const auto* const from = reinterpret_cast<const unsigned*>(&kCodedLevels.finders);
  auto* const to = reinterpret_cast<unsigned*>(&tables.finders);
#pragma unroll 4
  for (int i = thread; i < static_cast<int>(sizeof tables.finders / 4); i += kCodedThreads) to[i] = from[i];
  __syncthreads();
}

/// A pack as it lies in memory.
template <typename T>
struct Raw {
  static constexpr int kWords = kPack * static_cast<int>(sizeof(T)) / 4;
  unsigned words[kWords];

  /// The n (at most kPack count) numbers at p, then 0. vectors: p is aligned as far as 16 bytes.
  __device__ __forceinline__ void load(const T* p, Index n, bool vectors) {
    if (vectors && n >= kPack) {
      if constexpr (kWords == 2) {
        const uint2 v = *reinterpret_cast<const uint2*>(p);
        words[0] = v.x, words[1] = v.y;
      } else {
#pragma unroll
        for (int i = 0; i < kWords; i += 4) {
          const uint4 v = reinterpret_cast<const uint4*>(p)[i / 4];
          words[i] = v.x, words[i + 1] = v.y, words[i + 2] = v.z, words[i + 3] = v.w;
        }
      }
      return;
    }
    T v[kPack];
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = i < n ? p[i] : T{};
    memcpy(words, v, sizeof words);
  }
};
__device__ __forceinline__ void to_floats(const Raw<float>& raw, float (&v)[kPack]) {
#pragma unroll
  for (int i = 0; i < kPack; ++i) v[i] = __uint_as_float(raw.words[i]);
}
__device__ __forceinline__ void to_floats(const Raw<__nv_bfloat16>& raw, float (&v)[kPack]) {
#pragma unroll
  for (int i = 0; i < kPack; i += 2) {
    v[i] = __uint_as_float(raw.words[i / 2] << 16);
    v[i + 1] = __uint_as_float(raw.words[i / 2] & 0xffff0000U);
  }
}
/// What codes stand for; kOffset: of their table from the lane's copy of CodeTables::first.
template <std::size_t kOffset>
__device__ __forceinline__ void to_levels(const Raw<unsigned char>& codes, TableAddress copy,
                                          float (&v)[kPack]) {
  const auto level = [](TableAddress at) {
    return __uint_as_float(looked_up<static_cast<int>(kOffset)>(at));
  };
  constexpr unsigned kStride = kCopies * sizeof(float);
#pragma unroll
  for (int i = 0; i < kPack; i += 4) {
    const unsigned word = codes.words[i / 4];
    v[i] = level(plus_byte<0>(copy, word, kStride));
    v[i + 1] = level(plus_byte<1>(copy, word, kStride));
    v[i + 2] = level(plus_byte<2>(copy, word, kStride));
    v[i + 3] = level(plus_byte<3>(copy, word, kStride));
  }
}

/// What a lane has of a block of moments.
struct CodedPlace {
  int block;  // no card has 2^39 elements
  Index n;    // of elements from at() on
  bool vectors;

  /// A whole one, whose packs are aligned.
  __device__ __forceinline__ explicit CodedPlace(int of_block) : block(of_block), n(kPack), vectors(true) {}
  /// One of which only `all` elements of the tensor are there.
  __device__ __forceinline__ CodedPlace(int of_block, Index all) : block(of_block), n(0), vectors(false) {
    n = all - at();
  }
  __device__ __forceinline__ Index at() const { return block * kMomentBlock + threadIdx.x % 32 * kPack; }
};
/// All that it reads there.
template <typename G, typename M>
struct CodedPack {
  Raw<G> grad;
  Raw<M> master;
  Raw<unsigned char> codes, codes_sq;
  float scale, scale_sq;

  __device__ __forceinline__ CodedPack(const AdamWArgs& a, const CodedPlace& here) {
    const Index at = here.at();
    grad.load(static_cast<const G*>(a.grad) + at, here.n, here.vectors);
    master.load(static_cast<const M*>(a.master) + at, here.n, here.vectors);
    codes.load(static_cast<const unsigned char*>(a.exp_avg) + at, here.n, here.vectors);
    codes_sq.load(static_cast<const unsigned char*>(a.exp_avg_sq) + at, here.n, here.vectors);
    scale = a.exp_avg_scales[here.block];
    scale_sq = a.exp_avg_sq_scales[here.block];
  }
};

/// moment_scale of all lanes' numbers, to all lanes. Magnitudes are in the order of their bits.
__device__ __forceinline__ float scale_of_warp(const float (&v)[kPack]) {
  float largest = fabsf(v[0]);
#pragma unroll
  for (int i = 1; i < kPack; ++i) largest = fmaxf(largest, fabsf(v[i]));
  return moment_scale(__uint_as_float(__reduce_max_sync(0xffffffffU, __float_as_uint(largest))));
}
/// 1 / x of a moment_scale, correctly rounded, as __frcp_rn has it where it needs no branch.
__device__ __forceinline__ float inverse_of_scale(float x) {
  const float inverse = fast_inverse(x);
  return fmaf(inverse, -fmaf(x, inverse, -1.0F), inverse);
}
/// The top bytes of four words, the first lowest.
__device__ __forceinline__ unsigned top_bytes(const unsigned (&words)[4]) {
  return __byte_perm(__byte_perm(words[0], words[1], 0x0073), __byte_perm(words[2], words[3], 0x0073),
                     0x5410);
}
__device__ __forceinline__ void store_codes(unsigned char* p, Index n, bool vectors, const uint2& codes) {
  if (vectors && n >= kPack) {
    *reinterpret_cast<uint2*>(p) = codes;
    return;
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i)
    if (i < n) p[i] = static_cast<unsigned char>((i < 4 ? codes.x : codes.y) >> (8 * (i % 4)));
}
/// LevelFinder::find of a number that it takes; finder: its address.
template <typename Finder>
__device__ __forceinline__ unsigned find(TableAddress finder, float x) {
  static_assert(Finder::kRest == 16);
  constexpr int kFirst = 4 * static_cast<int>(Finder::kFirst);
  const unsigned bits = __float_as_uint(x);
  return looked_up<-kFirst>(plus_upper_half(finder, bits, 4)) + (bits << 8);
}
/// Within [0, 1], NaN as 0: part of the instruction that made x.
__device__ __forceinline__ float saturated(float x) {
  return fminf(fmaxf(x, 0.0F), 1.0F);
}
/// Codes of a pack of moments; inverse: of their block's scale.
__device__ __forceinline__ uint2 to_first_codes(const float (&avg)[kPack], float inverse,
                                                const CodeTables& tables) {
  const TableAddress finder = table_address(&tables.finders.first);
  unsigned codes[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    unsigned found[4], signs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float x = avg[4 * half + i];
      found[i] = find<FirstFinder>(finder, fmaxf(saturated(fabsf(x) * inverse), FirstFinder::kLeastNumber));
      signs[i] = __float_as_uint(x);
    }
    codes[half] = first_codes(top_bytes(found), top_bytes(signs));
  }
  return make_uint2(codes[0], codes[1]);
}
__device__ __forceinline__ uint2 to_second_codes(const float (&avg_sq)[kPack], float inverse,
                                                 const CodeTables& tables) {
  const TableAddress finder = table_address(&tables.finders.second);
  unsigned codes[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    unsigned found[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float x = saturated(avg_sq[4 * half + i] * inverse);
      const unsigned code = find<SecondFinder>(finder, fmaxf(x, SecondFinder::kLeastNumber));
      found[i] = computed(code) & (x > 0 ? ~0U : 0U);
    }
    codes[half] = top_bytes(found);
  }
  return make_uint2(codes[0], codes[1]);
}

/// The same as numbers.
struct CodedNumbers {
  float grad[kPack], avg[kPack], avg_sq[kPack], master[kPack];  // moments in units of their scales
  float scale, scale_sq;

  template <typename G, typename M>
  __device__ __forceinline__ CodedNumbers(const CodedPack<G, M>& pack, const CodeTables& tables) {
    const TableAddress copy = table_address(&tables.first[threadIdx.x % kCopies]);
    to_levels<0>(pack.codes, copy, avg);
    to_levels<sizeof tables.first>(pack.codes_sq, copy, avg_sq);
    scale = pack.scale, scale_sq = pack.scale_sq;
    to_floats(pack.grad, grad);
    to_floats(pack.master, master);
  }
};

__device__ __forceinline__ void code_block(const AdamWArgs& a, float* lane_scales, const CodeTables& tables,
                                           const CodedPlace& here, const CodedNumbers& x) {
  const float scale = scale_of_warp(x.avg), scale_sq = scale_of_warp(x.avg_sq);
  if (threadIdx.x % 32 < 2) lane_scales[here.block] = threadIdx.x % 32 == 0 ? scale : scale_sq;
  store_codes(static_cast<unsigned char*>(a.exp_avg) + here.at(), here.n, here.vectors,
              to_first_codes(x.avg, inverse_of_scale(scale), tables));
  store_codes(static_cast<unsigned char*>(a.exp_avg_sq) + here.at(), here.n, here.vectors,
              to_second_codes(x.avg_sq, inverse_of_scale(scale_sq), tables));
}

template <typename G, typename M>
__global__ void __launch_bounds__(kCodedThreads) adamw_coded(AdamWArgs a, bool vectors) {
  begin_kernel();
  HONE_DYNAMIC_SHARED(CodeTables, shared);
  if (a.scalars->skip != 0) return;
  CodeTables& tables = *shared;
  fill_tables(tables);
  const AdamWStep step(a, *a.scalars);
  const StoreMaster<M> store_master(a);
  float* const lane_scales = threadIdx.x % 32 == 0 ? a.exp_avg_scales : a.exp_avg_sq_scales;
  const int warps = static_cast<int>(gridDim.x) * (kCodedThreads / 32);
  const int blocks = static_cast<int>(ceil_div(a.n, kMomentBlock));
  const int whole_blocks = vectors ? static_cast<int>(a.n / kMomentBlock) : 0;
  int block = static_cast<int>(blockIdx.x * (kCodedThreads / 32) + threadIdx.x / 32);
  if (block < whole_blocks) {
    CodedPack<G, M> pack(a, CodedPlace(block));
    for (; block < whole_blocks; block += warps) {
      CodedNumbers x(pack, tables);
      const CodedPlace here(block);
      step(x.grad, x.scale, x.scale_sq, x.avg, x.avg_sq, x.master);
      store_master(here.at(), here.n, here.vectors, x.master);
      if (block + warps < whole_blocks) pack = CodedPack<G, M>(a, CodedPlace(block + warps));
      code_block(a, lane_scales, tables, here, x);
    }
  }
  for (; block < blocks; block += warps) {
    const CodedPlace here(block, a.n);
    CodedNumbers x(CodedPack<G, M>(a, here), tables);
    step(x.grad, x.scale, x.scale_sq, x.avg, x.avg_sq, x.master);
    store_master(here.at(), here.n, here.vectors, x.master);
    code_block(a, lane_scales, tables, here, x);
  }
}

/// As many as the card has at once, or fewer that each warp has a block of moments.
unsigned coded_blocks(Index n, const Stream& stream) {
  const Index wanted = ceil_div(n, kMomentBlock * (kCodedThreads / 32)),
              at_once = device::card_of(stream).multiprocessors;
  return static_cast<unsigned>(wanted < at_once ? wanted : at_once);
}

}  // namespace

HONE_NO_SCRATCH(AdamWArgs)
void adamw(const AdamWArgs& a, Stream& stream) {
  if (a.n == 0) return;
  const bool vectors = is_aligned(a.master) && is_aligned(a.grad) && is_aligned(a.exp_avg) &&
                       is_aligned(a.exp_avg_sq) && (!a.has_weight || is_aligned(a.weight));
  with_dtype(a.grad_dtype, [&](auto g) {
    with_dtype(a.master_dtype, [&](auto m) {
      using G = TypeOf<decltype(g)>;
      using M = TypeOf<decltype(m)>;
      if (a.moments == MomentKind::kF32)
        HONE_LAUNCH((adamw_packs<G, M>), blocks_for(ceil_div(a.n, kPack)), kThreads, 0, cuda_stream(stream),
                    a, vectors);
      else
        HONE_LAUNCH((adamw_coded<G, M>), coded_blocks(a.n, stream), kCodedThreads, sizeof(CodeTables),
                    cuda_stream(stream), a, vectors);
    });
  });
}

namespace {
template <typename G, typename M>
__global__ void sgd_packs(SgdArgs a, bool vectors) {
  begin_kernel();
  const StepScalars& s = *a.scalars;
  const Index at = (static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x) * kPack, n = a.n - at;
  if (s.skip != 0 || n <= 0) return;
  const float rate = a.rate_scale * s.learning_rate;
  float step[kPack], buffer[kPack], master[kPack];
  load(static_cast<const G*>(a.grad) + at, n, vectors, step);
  load_master(a.master, M{}, at, n, vectors, master);
  if (a.momentum != 0 && !a.first) load(a.momentum_buffer + at, n, vectors, buffer);
#pragma unroll
  for (int i = 0; i < kPack; ++i) {
    step[i] = fmaf(a.weight_decay, master[i], step[i] * s.clip_factor);
    if (a.momentum != 0 && !a.first) step[i] = fmaf(a.momentum, buffer[i], step[i]);
    master[i] = fmaf(-rate, step[i], master[i]);
  }
  if (a.momentum != 0) store(a.momentum_buffer + at, n, vectors, step);
  const StoreMaster<M> store_master(a);
  store_master(at, n, vectors, master);
}

}  // namespace

HONE_NO_SCRATCH(SgdArgs)
void sgd(const SgdArgs& a, Stream& stream) {
  if (a.n == 0) return;
  const bool vectors = is_aligned(a.master) && is_aligned(a.grad) &&
                       (a.momentum == 0 || is_aligned(a.momentum_buffer)) &&
                       (!a.has_weight || is_aligned(a.weight));
  with_dtype(a.grad_dtype, [&](auto g) {
    with_dtype(a.master_dtype, [&](auto m) {
      HONE_LAUNCH((sgd_packs<TypeOf<decltype(g)>, TypeOf<decltype(m)>>), blocks_for(ceil_div(a.n, kPack)),
                  kThreads, 0, cuda_stream(stream), a, vectors);
    });
  });
}

}  // namespace hone::kernels::cuda
