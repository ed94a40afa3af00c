// Reference keys and values of latent attention against the definition and finite differences.
#include "tests/kernels/finite_difference.h"

namespace hone::test {
namespace {

using namespace kernels;

constexpr std::size_t kTokens = 3, kHeads = 2, kNope = 3, kRope = 2, kV = 4;

/// All of k, then all of v; from all of kv, then all of k_pe.
Numbers keys_values(const Numbers& in) {
  Numbers k, v;
  for (std::size_t t = 0; t < kTokens; ++t)
    for (std::size_t h = 0; h < kHeads; ++h) {
      const double* kv = &in[(t * kHeads + h) * (kNope + kV)];
      k.insert(k.end(), kv, kv + kNope);
      const double* k_pe = &in[kTokens * kHeads * (kNope + kV) + t * kRope];
      k.insert(k.end(), k_pe, k_pe + kRope);
      v.insert(v.end(), kv + kNope, kv + kNope + kV);
    }
  k.insert(k.end(), v.begin(), v.end());
  return k;
}

TEST(MlaKeysValues, AndTheirGradientMatchTheDefinitionAndFiniteDifferences) {
  constexpr std::size_t kKv = kTokens * kHeads * (kNope + kV), kK = kTokens * kHeads * (kNope + kRope);
  const Numbers in = random_numbers(kKv + kTokens * kRope, 1);
  const Numbers d = random_numbers(kK + kTokens * kHeads * kV, 2);
  auto kv = to_floats({in.begin(), in.begin() + kKv}), k_pe = to_floats({in.begin() + kKv, in.end()});
  std::vector<float> k(kK), v(kTokens * kHeads * kV);
  device::CpuStream stream = make_stream(2);
  reference::mla_keys_values({.kv = as_matrix(kv, kHeads * (kNope + kV)),
                              .k_pe = as_matrix(k_pe, kRope),
                              .k = as_matrix(k, kHeads * (kNope + kRope)),
                              .v = as_matrix(v, kHeads * kV),
                              .heads = kHeads,
                              .nope_dim = kNope,
                              .rope_dim = kRope,
                              .v_dim = kV},
                             stream);
  k.insert(k.end(), v.begin(), v.end());
  EXPECT_EQ(to_numbers(k), keys_values(in));

  auto dk = to_floats({d.begin(), d.begin() + kK}), dv = to_floats({d.begin() + kK, d.end()});
  std::vector<float> dkv(kKv), dk_pe(kTokens * kRope);
  reference::mla_keys_values_grad({.dk = as_matrix(dk, kHeads * (kNope + kRope)),
                                   .dv = as_matrix(dv, kHeads * kV),
                                   .dkv = as_matrix(dkv, kHeads * (kNope + kV)),
                                   .dk_pe = as_matrix(dk_pe, kRope),
                                   .heads = kHeads,
                                   .nope_dim = kNope,
                                   .rope_dim = kRope,
                                   .v_dim = kV},
                                  stream);
  dkv.insert(dkv.end(), dk_pe.begin(), dk_pe.end());
  expect_close(dkv, numeric_gradient(keys_values, in, d), kHeads, "dkv and dk_pe");
}

}  // namespace
}  // namespace hone::test
