// Reference: keys and values of multi-head latent attention.
#include "kernels/reference/reference.h"
#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

void mla_keys_values(const MlaKeysValuesArgs& a, Stream& stream) {
  parallel_for(stream, a.kv.rows, [&](std::int64_t t) {
    for (std::int64_t h = 0; h < a.heads; ++h) {
      const std::int64_t kv = h * (a.nope_dim + a.v_dim), k = h * (a.nope_dim + a.rope_dim);
      for (std::int64_t j = 0; j < a.nope_dim; ++j) store(a.k, t, k + j, load(a.kv, t, kv + j));
      for (std::int64_t j = 0; j < a.rope_dim; ++j) store(a.k, t, k + a.nope_dim + j, load(a.k_pe, t, j));
      for (std::int64_t j = 0; j < a.v_dim; ++j)
        store(a.v, t, h * a.v_dim + j, load(a.kv, t, kv + a.nope_dim + j));
    }
  });
}

void mla_keys_values_grad(const MlaKeysValuesGradArgs& a, Stream& stream) {
  const auto dk = [&](std::int64_t t, std::int64_t h, std::int64_t j) {
    return a.dk.given() ? load(a.dk, t, h * (a.nope_dim + a.rope_dim) + j) : 0.0F;
  };
  const auto dv = [&](std::int64_t t, std::int64_t h, std::int64_t j) {
    return a.dv.given() ? load(a.dv, t, h * a.v_dim + j) : 0.0F;
  };
  if (a.dkv.given())
    parallel_for(stream, a.dkv.rows, [&](std::int64_t t) {
      for (std::int64_t h = 0; h < a.heads; ++h)
        for (std::int64_t j = 0; j < a.nope_dim + a.v_dim; ++j)
          put(a.dkv, t, h * (a.nope_dim + a.v_dim) + j,
              j < a.nope_dim ? dk(t, h, j) : dv(t, h, j - a.nope_dim), a.accumulate_dkv);
    });
  if (a.dk_pe.given())
    parallel_for(stream, a.dk_pe.rows, [&](std::int64_t t) {
      for (std::int64_t j = 0; j < a.rope_dim; ++j) {
        double sum = 0;
        for (std::int64_t h = 0; h < a.heads; ++h) sum += dk(t, h, a.nope_dim + j);
        put(a.dk_pe, t, j, sum, a.accumulate_dk_pe);
      }
    });
}

}  // namespace hone::kernels::reference
