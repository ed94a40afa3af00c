// Cases: attention.
#include <fmt/format.h>

#include <cmath>

#include "tests/kernels/attention_shape.h"
#include "tests/tolerance.h"

namespace hone::test {

namespace {

using Shape = AttentionShape;

/// A cache has room left between sequences: `gap` keys.
std::int64_t set_layout(Arena& arena, kernels::AttentionArgs& a, const Shape& s, std::int32_t gap) {
  std::vector<std::int32_t> offsets{0}, begin, length;
  std::int32_t keys = 0;
  for (std::size_t i = 0; i < s.queries.size(); ++i) {
    offsets.push_back(offsets.back() + s.queries[i]);
    begin.push_back(keys);
    length.push_back(s.queries[i] + (s.earlier.empty() ? 0 : s.earlier[i]));
    a.pairs += kernels::attended_pairs(s.queries[i], length.back(), s.window);
    keys += length.back() + (s.earlier.empty() ? 0 : gap);
  }
  a.q_offsets = arena.integers(offsets);
  a.key_begin = arena.integers(begin);
  a.key_length = arena.integers(length);
  a.sequences = static_cast<std::int64_t>(s.queries.size());
  for (const auto n : s.queries) a.max_queries = std::max<std::int64_t>(a.max_queries, n);
  a.are_square =
      !s.queries.empty() && length == s.queries && *std::min_element(length.begin(), length.end()) > 0;
  a.heads = s.heads;
  a.kv_heads = s.kv_heads;
  a.head_dim = s.head_dim;
  a.window = s.window;
  a.v_head_dim = s.v_head_dim;
  a.softcap = s.softcap;
  a.scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
  return keys;
}

std::int64_t longest(const Shape& s) {
  std::int64_t most = 1;
  for (std::size_t i = 0; i < s.queries.size(); ++i)
    most = std::max<std::int64_t>(most, s.queries[i] + (s.earlier.empty() ? 0 : s.earlier[i]));
  return most;
}

void set_sinks(Arena& arena, kernels::AttentionArgs& a, const Shape& s, DType dtype) {
  a.has_sinks = s.sinks;
  if (!s.sinks) return;
  a.sinks = arena.input(1, s.heads, dtype, 0, s.sink_scale).data;
}

Outputs run_attention(const KernelTable& table, Stream& stream, const Shape& s, DType dtype, bool lse) {
  Arena arena;
  kernels::AttentionArgs a;
  const std::int64_t keys = set_layout(arena, a, s, 3);
  std::int64_t tokens = 0;
  for (const auto n : s.queries) tokens += n;
  a.q = arena.input(tokens, s.heads * s.head_dim, dtype, s.pad(2), 1.5);
  a.k = arena.input(keys, s.kv_heads * s.head_dim, dtype, s.pad(4));
  a.v = arena.input(keys, s.kv_heads * s.value_dim(), dtype);
  set_sinks(arena, a, s, dtype);
  const std::int64_t length = longest(s) + s.widest();
  a.out =
      arena.output("out", tokens, s.heads * s.value_dim(), dtype, false, tolerance(dtype, length), s.pad(6));
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
  const std::int64_t keys = set_layout(forward, a, s, 0);
  const std::int64_t length = longest(s) + s.widest(), cols = s.heads * s.value_dim();
  const std::int64_t tokens = a.q_offsets[a.sequences];
  a.q = forward.input(tokens, s.heads * s.head_dim, dtype, s.pad(2), 1.5);
  a.k = forward.input(keys, s.kv_heads * s.head_dim, dtype, s.pad(4));
  a.v = forward.input(keys, s.kv_heads * s.value_dim(), dtype);
  set_sinks(forward, a, s, dtype);
  a.out = forward.output("", tokens, cols, dtype, false, 1);
  a.wants_lse = true;
  a.lse = static_cast<float*>(forward.output("", tokens, s.heads, DType::kF32, false, 1).data);
  input_kernels().attention(a, stream);
  Arena arena(2);
  g.dout = arena.input(tokens, cols, dtype, s.pad(1));
  // bf16: probabilities and their gradients are stored in bf16 on the way, and dout - mean cancels
  const double tol = (dtype == DType::kBF16 ? 2 : 1) * tolerance(dtype, 4 * length);
  g.dq = arena.output("dq", tokens, s.heads * s.head_dim, dtype, false, tol, s.pad(3));
  g.dk = arena.output("dk", keys, s.kv_heads * s.head_dim, dtype, false, tol);
  g.dv = arena.output("dv", keys, s.kv_heads * s.value_dim(), dtype, false, tol, s.pad(5));
  g.wants_dsinks = s.sinks;
  if (s.sinks) {
    g.dsinks_dtype = tokens % 2 == 0 ? dtype : DType::kF32;
    g.accumulate_dsinks = tokens % 3 == 0;
    g.dsinks = arena.output("dsinks", 1, s.heads, g.dsinks_dtype, g.accumulate_dsinks, tol).data;
  }
  table.attention_grad(g, stream);
  return arena.outputs();
}

}  // namespace

std::vector<Case> attention_cases_of(const Shape& s) {
  std::vector<Case> cases;
  for (const DType dtype : kBothDtypes) {
    const auto name = fmt::format("{} sequences, longest {}, {}/{} heads of {}, window {}{}, {}",
                                  s.queries.size(), longest(s), s.heads, s.kv_heads, s.head_dim, s.window,
                                  s.earlier.empty() ? "" : ", cache", name_of(dtype)) +
                      (s.v_head_dim > 0 ? fmt::format(", heads of v {}", s.v_head_dim) : "") +
                      (s.softcap > 0 ? fmt::format(", softcap {}", s.softcap) : "") +
                      (s.sinks ? ", sinks" : "") + (s.sink_scale > 3 ? ", large" : "") +
                      (s.aligned ? ", aligned" : "");
    for (const bool lse : {false, true})
      cases.push_back(
          {"attention", "attention " + name + (lse ? " lse" : ""),
           [=](const KernelTable& t, Stream& st) { return run_attention(t, st, s, dtype, lse); }});
    cases.push_back({"attention_grad", "attention_grad " + name,
                     [=](const KernelTable& t, Stream& st) { return run_attention_grad(t, st, s, dtype); }});
  }
  return cases;
}

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
                          {{130, 6}, {450, 1000}, 2, 1, 32, 200},
                          // keys of no query: of no query here, or outside every window
                          {{0, 5, 0}, {70, 3, 1}, 2, 1, 16, 0},
                          {{9, 2}, {300, 513}, 2, 2, 16, 20},
                          {{70}, {700}, 4, 2, 128, 65},
                          {{600}, {1100}, 1, 1, 8, 0},
                          // heads of v of another size: DeepSeek's, wider ones, odd ones
                          {{33, 80}, {}, 2, 2, 192, 0, 128},
                          {{70, 3}, {40, 530}, 4, 1, 24, 0, 16},
                          {{150}, {}, 2, 1, 7, 33, 20},
                          {{1, 40}, {}, 2, 1, 16, 0, 1},
                          {{1100}, {}, 1, 1, 10, 0, 130},
                          {{520}, {}, 2, 1, 130, 0, 10},
                          // sinks
                          {{17, 64, 1, 40}, {}, 4, 2, 64, 0, 0, 0, true},
                          // (no window of 1 beside a sink: of dout v less out dout only the sink's share is
                          // left, and in bf16 out is rounded, however it was made)
                          {{129, 3}, {}, 2, 1, 64, 9, 0, 0, true},
                          {{1100}, {}, 1, 1, 8, 128, 0, 0, true},
                          {{1, 2, 3, 4, 5, 0}, {511, 510, 513, 1500, 600, 9}, 4, 2, 16, 0, 0, 0, true},
                          {{64, 65}, {}, 34, 2, 8, 0, 0, 0, true},
                          {{0}, {}, 2, 1, 16, 0, 0, 0, true},
                          // softcap, well within and well below the scores
                          {{17, 64, 1, 40}, {}, 4, 2, 64, 0, 0, 50, false},
                          {{129, 3}, {}, 2, 1, 20, 7, 0, 0.5F, false},
                          {{600, 2}, {}, 2, 1, 16, 130, 0, 2, false},
                          {{1, 2, 3, 4, 5, 0}, {511, 510, 513, 1500, 600, 9}, 4, 2, 16, 0, 0, 2, false},
                          // all of it
                          {{90, 1, 5}, {30, 700, 9}, 6, 2, 24, 40, 17, 3, true},
                          {{700}, {}, 2, 1, 20, 0, 36, 3, true}};
  std::vector<Case> cases;
  for (const Shape& s : shapes)
    for (Case& c : attention_cases_of(s)) cases.push_back(std::move(c));
  return cases;
}

}  // namespace hone::test
