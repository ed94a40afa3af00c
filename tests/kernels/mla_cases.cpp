// Cases: keys and values of latent attention.
#include <fmt/format.h>

#include "tests/kernels/cases.h"
#include "tests/tolerance.h"

namespace hone::test {

namespace {

struct Latent {
  std::int64_t tokens, heads, nope_dim, rope_dim, v_dim;
};

template <typename Args>
void set_sizes(Args& a, const Latent& l) {
  a.heads = l.heads;
  a.nope_dim = l.nope_dim;
  a.rope_dim = l.rope_dim;
  a.v_dim = l.v_dim;
}

/// Numbers between rows: of k_pe, which lies in a product's rows behind the latent, and of all others.
struct Pads {
  std::int64_t k_pe, others;
};

Outputs run_keys_values(const KernelTable& table, Stream& stream, Latent l, DType dtype, Pads pad) {
  Arena arena;
  kernels::MlaKeysValuesArgs a;
  set_sizes(a, l);
  a.kv = arena.input(l.tokens, l.heads * (l.nope_dim + l.v_dim), dtype, pad.others);
  a.k_pe = arena.input(l.tokens, l.rope_dim, dtype, pad.k_pe);
  a.k = arena.output("k", l.tokens, l.heads * (l.nope_dim + l.rope_dim), dtype, false, 0, pad.others);
  a.v = arena.output("v", l.tokens, l.heads * l.v_dim, dtype, false, 0, pad.others);
  table.mla_keys_values(a, stream);
  return arena.outputs();
}

/// wanted: bits for dkv, dk_pe. given: bits for dk, dv.
struct GradMode {
  DType dk, dv, dkv, dk_pe;
  unsigned wanted, given;
  bool accumulate;
};

Outputs run_keys_values_grad(const KernelTable& table, Stream& stream, Latent l, GradMode m,
                             std::int64_t pad) {
  Arena arena;
  kernels::MlaKeysValuesGradArgs a;
  set_sizes(a, l);
  if ((m.given & 1U) != 0) a.dk = arena.input(l.tokens, l.heads * (l.nope_dim + l.rope_dim), m.dk, pad);
  if ((m.given & 2U) != 0) a.dv = arena.input(l.tokens, l.heads * l.v_dim, m.dv, pad);
  if ((m.wanted & 1U) != 0)
    a.dkv = arena.output("dkv", l.tokens, l.heads * (l.nope_dim + l.v_dim), m.dkv, m.accumulate,
                         tolerance(m.dkv, 1), pad);
  if ((m.wanted & 2U) != 0)
    a.dk_pe =
        arena.output("dk_pe", l.tokens, l.rope_dim, m.dk_pe, m.accumulate, tolerance(m.dk_pe, l.heads), pad);
  a.accumulate_dkv = a.accumulate_dk_pe = m.accumulate;
  table.mla_keys_values_grad(a, stream);
  return arena.outputs();
}

}  // namespace

std::vector<Case> mla_cases() {
  std::vector<Case> cases;
  for (const Latent& l : {Latent{0, 2, 8, 4, 8},
                          {1, 1, 4, 2, 3},
                          {7, 3, 10, 6, 9},
                          {6, 2, 12, 12, 20},
                          {40, 5, 33, 16, 20},
                          {9, 16, 128, 64, 128},
                          {130, 33, 24, 8, 40}})
    for (const std::int64_t pad : {0, 5}) {
      const auto name = fmt::format("{} tokens {} heads of {} + {}, {} pad {}", l.tokens, l.heads, l.nope_dim,
                                    l.rope_dim, l.v_dim, pad);
      for (const DType dtype : kBothDtypes)
        cases.push_back({"mla_keys_values", fmt::format("mla_keys_values {} {}", name, name_of(dtype)),
                         [=](const KernelTable& t, Stream& s) {
                           return run_keys_values(t, s, l, dtype, {3 * pad, pad});
                         }});
      for (unsigned bits = 0; bits < 16; ++bits) {
        const auto dtype = [bits](unsigned i) { return (bits >> i & 1U) != 0 ? DType::kBF16 : DType::kF32; };
        const GradMode all{dtype(0), dtype(1), dtype(2), dtype(3), 3, 3, bits % 3 == 0};
        std::vector<GradMode> modes{all};
        if (bits == 0 || bits == 15)
          for (const unsigned part : {1U, 2U}) {
            modes.push_back(all);
            modes.back().wanted = part;
            modes.push_back(all);
            modes.back().given = part;
            modes.push_back(modes.back());
            modes.back().accumulate = !all.accumulate;
          }
        for (const GradMode& m : modes)
          cases.push_back(
              {"mla_keys_values_grad",
               fmt::format("mla_keys_values_grad {} dtypes {:04b} wanted {} given {}{}", name, bits, m.wanted,
                           m.given, m.accumulate ? " +" : ""),
               [=](const KernelTable& t, Stream& s) { return run_keys_values_grad(t, s, l, m, pad); }});
      }
    }
  // of what k_pe is copied into all but where a head's part begins is a multiple of 16 bytes
  cases.push_back({"mla_keys_values", "mla_keys_values of a rotary part at 24 bytes",
                   [](const KernelTable& t, Stream& s) {
                     return run_keys_values(t, s, {6, 2, 12, 12, 20}, DType::kBF16, {4, 0});
                   }});
  return cases;
}

}  // namespace hone::test
