// Cases: attention.
#include <fmt/format.h>

#include <cmath>

#include "tests/kernels/cases.h"
#include "tests/tolerance.h"

namespace hone::test {

namespace {

struct Shape {
  std::vector<std::int32_t> queries;  // of each sequence
  std::vector<std::int32_t> earlier;  // keys before the first query; empty: none
  std::int64_t heads, kv_heads, head_dim, window;
};

std::int64_t set_layout(Arena& arena, kernels::AttentionArgs& a, const Shape& s) {
  std::vector<std::int32_t> offsets{0}, begin, length;
  std::int32_t keys = 0;
  for (std::size_t i = 0; i < s.queries.size(); ++i) {
    offsets.push_back(offsets.back() + s.queries[i]);
    begin.push_back(keys);
    length.push_back(s.queries[i] + (s.earlier.empty() ? 0 : s.earlier[i]));
    a.pairs += kernels::attended_pairs(s.queries[i], length.back(), s.window);
    keys += length.back() + (s.earlier.empty() ? 0 : 3);  // a cache has room left between sequences
  }
  a.q_offsets = arena.integers(offsets);
  a.key_begin = arena.integers(begin);
  a.key_length = arena.integers(length);
  a.sequences = static_cast<std::int64_t>(s.queries.size());
  a.heads = s.heads;
  a.kv_heads = s.kv_heads;
  a.head_dim = s.head_dim;
  a.window = s.window;
  a.scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
  return keys;
}

std::int64_t longest(const Shape& s) {
  std::int64_t most = 1;
  for (std::size_t i = 0; i < s.queries.size(); ++i)
    most = std::max<std::int64_t>(most, s.queries[i] + (s.earlier.empty() ? 0 : s.earlier[i]));
  return most;
}

Outputs run_attention(const KernelTable& table, Stream& stream, const Shape& s, DType dtype, bool lse) {
  Arena arena;
  kernels::AttentionArgs a;
  const std::int64_t keys = set_layout(arena, a, s);
  std::int64_t tokens = 0;
  for (const auto n : s.queries) tokens += n;
  a.q = arena.input(tokens, s.heads * s.head_dim, dtype, 2, 1.5);
  a.k = arena.input(keys, s.kv_heads * s.head_dim, dtype, 4);
  a.v = arena.input(keys, s.kv_heads * s.head_dim, dtype);
  const std::int64_t length = longest(s) + s.head_dim;
  a.out = arena.output("out", tokens, s.heads * s.head_dim, dtype, false, tolerance(dtype, length), 6);
  a.wants_lse = lse;
  if (lse)
    a.lse = static_cast<float*>(
        arena.output("lse", tokens, s.heads, DType::kF32, false, tolerance(DType::kF32, length)).data);
  table.attention(a, stream);
  return arena.outputs();
}

Outputs run_attention_grad(const KernelTable& table, Stream& stream, const Shape& s, DType dtype) {
  Arena forward;
  kernels::AttentionGradArgs g;
  kernels::AttentionArgs& a = g.forward;
  const std::int64_t keys = set_layout(forward, a, s);
  const std::int64_t length = longest(s) + s.head_dim, cols = s.heads * s.head_dim;
  a.q = forward.input(keys, cols, dtype, 2, 1.5);
  a.k = forward.input(keys, s.kv_heads * s.head_dim, dtype, 4);
  a.v = forward.input(keys, s.kv_heads * s.head_dim, dtype);
  a.out = forward.output("out", keys, cols, dtype, false, 1);
  a.wants_lse = true;
  a.lse = static_cast<float*>(forward.output("lse", keys, s.heads, DType::kF32, false, 1).data);
  kernels::cpu_kernels(kernels::CpuIsa::kReference).attention(a, stream);
  Arena arena(2);
  g.dout = arena.input(keys, cols, dtype, 1);
  // bf16: probabilities and their gradients are stored in bf16 on the way, and dout - mean cancels
  const double tol = (dtype == DType::kBF16 ? 2 : 1) * tolerance(dtype, 4 * length);
  g.dq = arena.output("dq", keys, cols, dtype, false, tol, 3);
  g.dk = arena.output("dk", keys, s.kv_heads * s.head_dim, dtype, false, tol);
  g.dv = arena.output("dv", keys, s.kv_heads * s.head_dim, dtype, false, tol, 5);
  table.attention_grad(g, stream);
  return arena.outputs();
}

}  // namespace

std::vector<Case> attention_cases() {
  const Shape shapes[] = {{{1}, {}, 1, 1, 8, 0},
                          {{5, 0, 3}, {}, 2, 1, 16, 0},
                          {{}, {}, 2, 1, 16, 0},
                          {{17, 64, 1, 40}, {}, 4, 2, 64, 0},
                          {{130, 65}, {}, 3, 3, 32, 0},
                          {{100, 33}, {}, 4, 1, 20, 7},
                          {{70}, {}, 2, 2, 128, 32},
                          {{129, 3}, {}, 2, 1, 64, 1},
                          {{200}, {}, 2, 1, 80, 500},
                          {{9, 90}, {}, 8, 2, 24, 64},
                          {{1, 1, 1}, {9, 64, 130}, 4, 2, 64, 0},
                          {{1, 7, 33}, {100, 0, 30}, 2, 1, 32, 0},
                          {{20, 1}, {50, 77}, 2, 2, 16, 12},
                          // longer than the blocks that kernels work in
                          {{700, 1, 530}, {}, 2, 1, 16, 0},
                          {{1100}, {}, 1, 1, 8, 0},
                          {{600, 2}, {}, 2, 1, 16, 130},
                          {{1030}, {}, 2, 2, 10, 515},
                          {{300}, {}, 1, 1, 128, 64},
                          // heads of any size, many to one kv head
                          {{33, 70}, {}, 2, 1, 10, 0},
                          {{65}, {}, 2, 1, 7, 0},
                          {{1, 40}, {}, 2, 1, 1, 0},
                          {{90}, {}, 2, 1, 96, 0},
                          {{140}, {}, 2, 1, 256, 33},
                          {{30, 80}, {}, 12, 1, 16, 0},
                          {{70}, {}, 40, 2, 8, 0},
                          // nothing to do
                          {{0}, {}, 2, 1, 16, 0},
                          {{0, 0, 9, 0}, {}, 2, 1, 16, 0},
                          // caches: of one length and another, with 0 to 5 new tokens and with many
                          {{1, 2, 3, 4, 5, 0}, {511, 510, 513, 1500, 600, 9}, 4, 2, 16, 0},
                          {{1, 2, 3, 4, 5}, {1100, 700, 64, 1, 999}, 6, 1, 20, 300},
                          {{1}, {1300}, 3, 3, 80, 0},
                          {{1, 4}, {40000, 600}, 1, 1, 8, 0},
                          {{130, 6}, {450, 1000}, 2, 1, 32, 0},
                          {{130, 6}, {450, 1000}, 2, 1, 32, 200}};
  std::vector<Case> cases;
  for (const Shape& s : shapes)
    for (const DType dtype : kBothDtypes) {
      const auto name = fmt::format("{} sequences, longest {}, {}/{} heads of {}, window {}{}, {}",
                                    s.queries.size(), longest(s), s.heads, s.kv_heads, s.head_dim, s.window,
                                    s.earlier.empty() ? "" : ", cache", name_of(dtype));
      for (const bool lse : {false, true})
        cases.push_back(
            {"attention", "attention " + name + (lse ? " lse" : ""),
             [=](const KernelTable& t, Stream& st) { return run_attention(t, st, s, dtype, lse); }});
      if (s.earlier.empty())
        cases.push_back({"attention_grad", "attention_grad " + name, [=](const KernelTable& t, Stream& st) {
                           return run_attention_grad(t, st, s, dtype);
                         }});
    }
  return cases;
}

}  // namespace hone::test
