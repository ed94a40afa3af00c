// mla_keys_values and its gradient.
#include "kernels/cuda/register.h"
#include "kernels/cuda/rows.cuh"

namespace hone::kernels::cuda {
namespace {

/// Some of every head's numbers, of rows in which head h begins at `first` + h `apart` (0: all heads are
/// one).
template <typename T>
struct Part {
  Rows<T> rows;
  Index first, apart;
  __device__ __forceinline__ T* at(Index row, Index head, Index col) const {
    return rows.at(row, first + head * apart + col);
  }
};
/// Of a matrix that is left out: no data.
template <typename T>
Part<T> part_of(const Matrix& m, Index first, Index apart) {
  Part<T> part{rows_of<T>(m), first, apart};
  if (!m.given()) part.rows.data = nullptr;
  return part;
}

/// The first `cols` numbers of every head: to = [to +] from, or 0 where there is no `from`. One block a row.
template <typename From, typename To>
__global__ void copy_part(Part<const From> from, Part<To> to, int heads, int cols, bool accumulate,
                          bool vectors) {
  begin_kernel();
  const Index row = blockIdx.x;
  const int packs = (cols + kPack - 1) / kPack;
  for (int i = static_cast<int>(threadIdx.x); i < heads * packs; i += static_cast<int>(blockDim.x)) {
    const int head = i / packs, col = i % packs * kPack;
    float v[kPack] = {}, before[kPack] = {};
    if (from.rows.data != nullptr) load(from.at(row, head, col), cols - col, vectors, v);
    if (accumulate) load(to.at(row, head, col), cols - col, vectors, before);
#pragma unroll
    for (int j = 0; j < kPack; ++j) v[j] += before[j];
    store(to.at(row, head, col), cols - col, vectors, v);
  }
}

/// to = [to +] the sum over heads of `from`, `cols` numbers each: one block a row. The heads are cut into as
/// many slices as there are threads for, whose sums are added in their order.
template <typename From, typename To>
__global__ void sum_part(Part<const From> from, Rows<To> to, int heads, int cols, int slices, bool accumulate,
                         bool vectors) {
  begin_kernel();
  HONE_SHARED(float, sums, [kThreads][kPack + 1]);
  const Index row = blockIdx.x;
  const int packs = (cols + kPack - 1) / kPack, me = static_cast<int>(threadIdx.x);
  for (int base = 0; base < packs; base += kThreads / slices) {  // one round unless cols are above 2,048
    const int pack = base + me / slices, col = pack * kPack;
    float sum[kPack] = {}, v[kPack];
    if (pack < packs)
      for (int head = me % slices; head < heads; head += slices) {
        load(from.at(row, head, col), cols - col, vectors, v);
#pragma unroll
        for (int j = 0; j < kPack; ++j) sum[j] += v[j];
      }
#pragma unroll
    for (int j = 0; j < kPack; ++j) sums[me][j] = sum[j];
    __syncthreads();
    if (me % slices == 0) {  // past the last pack there is nothing to load or store
      if (accumulate) {
        load(to.at(row, col), cols - col, vectors, v);
#pragma unroll
        for (int j = 0; j < kPack; ++j) sum[j] += v[j];
      }
      for (int slice = 1; slice < slices; ++slice)
#pragma unroll
        for (int j = 0; j < kPack; ++j) sum[j] += sums[me + slice][j];
      store(to.at(row, col), cols - col, vectors, sum);
    }
    __syncthreads();
  }
}

/// What of every head lies where: `first` of the head, of heads that are `apart`.
struct HeadPart {
  const Matrix& m;
  Index first, apart;
  bool has_vectors() const { return cuda::has_vectors(m) && first % kPack == 0 && apart % kPack == 0; }
};

void copy_heads(const HeadPart& from, const HeadPart& to, Index heads, Index cols, bool accumulate,
                Stream& stream) {
  if (to.m.rows == 0 || cols == 0) return;
  const bool vectors = (!from.m.given() || from.has_vectors()) && to.has_vectors();
  with_dtype(from.m.given() ? from.m.dtype : DType::kF32, [&](auto f) {
    with_dtype(to.m.dtype, [&](auto t) {
      using From = TypeOf<decltype(f)>;
      using To = TypeOf<decltype(t)>;
      HONE_LAUNCH((copy_part<From, To>), static_cast<unsigned>(to.m.rows), threads_for_row(heads * cols), 0,
                  cuda_stream(stream), part_of<const From>(from.m, from.first, from.apart),
                  part_of<To>(to.m, to.first, to.apart), static_cast<int>(heads), static_cast<int>(cols),
                  accumulate, vectors);
    });
  });
}

}  // namespace

HONE_NO_SCRATCH(MlaKeysValuesArgs)
void mla_keys_values(const MlaKeysValuesArgs& a, Stream& stream) {
  const Index of_kv = a.nope_dim + a.v_dim, of_k = a.nope_dim + a.rope_dim;
  copy_heads({a.kv, 0, of_kv}, {a.k, 0, of_k}, a.heads, a.nope_dim, false, stream);
  copy_heads({a.k_pe, 0, 0}, {a.k, a.nope_dim, of_k}, a.heads, a.rope_dim, false, stream);
  copy_heads({a.kv, a.nope_dim, of_kv}, {a.v, 0, a.v_dim}, a.heads, a.v_dim, false, stream);
}

HONE_NO_SCRATCH(MlaKeysValuesGradArgs)
void mla_keys_values_grad(const MlaKeysValuesGradArgs& a, Stream& stream) {
  const Index of_kv = a.nope_dim + a.v_dim, of_k = a.nope_dim + a.rope_dim;
  if (a.dkv.given()) {
    copy_heads({a.dk, 0, of_k}, {a.dkv, 0, of_kv}, a.heads, a.nope_dim, a.accumulate_dkv, stream);
    copy_heads({a.dv, 0, a.v_dim}, {a.dkv, a.nope_dim, of_kv}, a.heads, a.v_dim, a.accumulate_dkv, stream);
  }
  if (!a.dk_pe.given()) return;
  if (!a.dk.given())
    return copy_heads({a.dk, 0, 0}, {a.dk_pe, 0, 0}, 1, a.rope_dim, a.accumulate_dk_pe, stream);
  if (a.dk_pe.rows == 0) return;
  const HeadPart from{a.dk, a.nope_dim, of_k};
  int slices = 1;
  while (slices < 32 && slices < a.heads && 2 * slices * ceil_div(a.rope_dim, kPack) <= kThreads) slices *= 2;
  with_dtype(a.dk.dtype, [&](auto f) {
    with_dtype(a.dk_pe.dtype, [&](auto t) {
      using From = TypeOf<decltype(f)>;
      using To = TypeOf<decltype(t)>;
      HONE_LAUNCH((sum_part<From, To>), static_cast<unsigned>(a.dk_pe.rows), kThreads, 0, cuda_stream(stream),
                  part_of<const From>(from.m, from.first, from.apart), rows_of<To>(a.dk_pe),
                  static_cast<int>(a.heads), static_cast<int>(a.rope_dim), slices, a.accumulate_dk_pe,
                  from.has_vectors() && has_vectors(a.dk_pe));
    });
  });
}

}  // namespace hone::kernels::cuda
