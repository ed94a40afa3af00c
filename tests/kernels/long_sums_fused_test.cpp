// Long sums (long_sums_test.cpp) inside the kernels that do more than a product: attention, experts, the
// language-model head. In bf16 what they store on the way is rounded, here as there.
#include <fmt/format.h>

#include <numeric>

#include "tests/kernels/against_reference.h"
#include "tests/kernels/attention_operands.h"

namespace hone::test {
namespace {

using kernels::KernelTable;
using kernels::Matrix;

constexpr DType kDtypes[] = {DType::kF32, DType::kBF16};
/// In bf16 what is stored on the way is rounded, in both at the same places: that is nearly all of their
/// error, and where a sum that is a little better rounds to another number, which is nearer is chance.
double allowed_for(DType dtype) {
  return dtype == DType::kBF16 ? 1.01 : 1;
}
constexpr unsigned kDraws = 4;

/// Rounded as a value on the way is, in the f32 computation of a bf16 kernel.
template <class Real>
Real stored(Real x, DType dtype) {
  if (std::is_same_v<Real, double> || dtype == DType::kF32) return x;
  float value = static_cast<float>(x);
  BFloat16 narrow;
  convert(DType::kF32, &value, DType::kBF16, &narrow, 1);
  convert(DType::kBF16, &narrow, DType::kF32, &value, 1);
  return static_cast<Real>(value);
}
std::vector<double> doubles(const std::vector<float>& v) {
  return {v.begin(), v.end()};
}
std::vector<double> doubles(const std::vector<double>& v) {
  return v;
}

// ---- the language-model head

struct Head {
  std::int64_t rows, vocab, hidden;
  DType dtype;
  std::vector<float> x, w;
  std::vector<std::int32_t> targets;
};
template <class Real>
struct HeadResults {
  std::vector<Real> dhidden, dweight, nll;
};
template <class Real>
HeadResults<Real> head_of(const Head& p) {
  HeadResults<Real> out;
  std::vector<Real> exact(static_cast<std::size_t>(p.rows * p.vocab));  // logits, then their gradients
  for (std::int64_t i = 0; i < p.rows; i++) {
    Real* row = exact.data() + i * p.vocab;
    for (std::int64_t j = 0; j < p.vocab; j++)
      row[j] = dot_of<Real>(p.x.data() + i * p.hidden, p.w.data() + j * p.hidden, p.hidden);
    const Real largest = *std::max_element(row, row + p.vocab);
    const Real sum = sum_of<Real>(0, p.vocab, [&](std::int64_t j) { return std::exp(row[j] - largest); });
    const std::int64_t target = p.targets[static_cast<std::size_t>(i)];
    out.nll.push_back(std::log(sum) + largest - row[target]);
    for (std::int64_t j = 0; j < p.vocab; j++)  // the exponentials are stored, then what they are scaled to
      row[j] = stored(stored(std::exp(row[j] - largest), p.dtype) / sum, p.dtype);
    row[target] = stored(static_cast<Real>(std::expm1(-out.nll.back())), p.dtype);
  }
  for (std::int64_t i = 0; i < p.rows; i++) {
    const auto row = sums_of<Real>(p.hidden, 0, p.vocab, [&](std::int64_t j, Real* sums) {
      add_row(sums, exact[static_cast<std::size_t>(i * p.vocab + j)], p.w.data() + j * p.hidden, p.hidden);
    });
    out.dhidden.insert(out.dhidden.end(), row.begin(), row.end());
  }
  for (std::int64_t j = 0; j < p.vocab; j++) {
    const auto row = sums_of<Real>(p.hidden, 0, p.rows, [&](std::int64_t i, Real* sums) {
      add_row(sums, exact[static_cast<std::size_t>(i * p.vocab + j)], p.x.data() + i * p.hidden, p.hidden);
    });
    out.dweight.insert(out.dweight.end(), row.begin(), row.end());
  }
  return out;
}

TEST(LongSums, OfTheLanguageModelHead) {
  struct Size {
    std::int64_t rows, vocab, hidden;
    unsigned draws = kDraws;
  };
  // A large vocabulary in one chunk, the same in several, many rows (where little is not chance), a long
  // hidden row.
  for (const Size s :
       {Size{18, 50003, 12, 2}, Size{600, 20011, 6, 1}, Size{30011, 40, 6, 16}, Size{9, 50, 20011}}) {
    for (const DType dtype : kDtypes) {
      const ProductBlocks blocks(dtype);
      Draws draws;
      for (unsigned seed = 0; seed < s.draws; seed++) {
        std::mt19937 random(seed);
        Head p{s.rows, s.vocab, s.hidden, dtype, {}, {}, {}};
        // The rows of the head have a mean, and a hidden state is large in a few channels.
        const float size = 1 / std::sqrt(static_cast<float>(s.hidden));
        std::vector<float> w = make_factors(s.vocab, s.hidden, random, 0.5F, 0.3F);
        std::vector<float> x = make_factors(s.rows, s.hidden, random, 0, size);
        for (std::int64_t i = 0; i < s.rows; i++) x[static_cast<std::size_t>(i * s.hidden)] *= 8;
        p.w = Values(s.vocab, s.hidden, dtype, w).floats();
        p.x = Values(s.rows, s.hidden, dtype, x).floats();
        for (std::int64_t i = 0; i < s.rows; i++)
          p.targets.push_back(static_cast<std::int32_t>(random() % static_cast<unsigned>(s.vocab)));
        const auto pairwise = head_of<float>(p);
        const auto exact = head_of<double>(p);
        Values hidden(s.rows, s.hidden, dtype, p.x), weight(s.vocab, s.hidden, dtype, p.w);
        Values dhidden(s.rows, s.hidden, DType::kF32), dweight(s.vocab, s.hidden, DType::kF32);
        Values nll(1, s.rows, DType::kF32), loss(1, 1, DType::kF32);
        kernels::LinearCrossEntropyArgs a;
        a.head.hidden = hidden.matrix();
        a.head.weight = weight.matrix();
        a.targets = p.targets.data();
        a.nll = static_cast<float*>(nll.data());
        a.gradients.dhidden = dhidden.matrix();
        a.gradients.dweight = dweight.data();
        a.gradients.wants_dweight = true;
        a.loss = static_cast<float*>(loss.data());
        device::CpuStream stream = make_stream(2);
        for (const auto& [name, table] : fast_tables()) {
          table.linear_cross_entropy(a, stream);
          const std::string what =
              fmt::format("{} head {} {}x{}x{} ", name, hone::name_of(dtype), s.rows, s.vocab, s.hidden);
          draws.add({what + "dhidden", dhidden.floats(), doubles(pairwise.dhidden), doubles(exact.dhidden)});
          draws.add({what + "dweight", dweight.floats(), doubles(pairwise.dweight), doubles(exact.dweight)});
          draws.add({what + "nll", nll.floats(), doubles(pairwise.nll), doubles(exact.nll)});
        }
      }
      draws.expect_as_exact_as_pairwise(allowed_for(dtype));
    }
  }
}

// ---- attention

struct Sequence {
  std::int64_t queries, keys, dim, group;
  DType dtype;
  std::vector<float> q, k, v, dout;  // rows of (query, head) or keys, dim each
  float scale;
  float softcap = 0;
};
template <class Real>
struct AttentionResults {
  std::vector<Real> out, dq, dk, dv;
};
template <class Real>
AttentionResults<Real> attention_of(const Sequence& p, bool gradients) {
  const auto at = [&](const std::vector<float>& m, std::int64_t row) { return m.data() + row * p.dim; };
  const std::int64_t rows = p.queries * p.group, n = p.keys;
  std::vector<Real> prob(static_cast<std::size_t>(rows * n)), ds(gradients ? prob.size() : 0);
  AttentionResults<Real> r;
  for (std::int64_t i = 0; i < rows; i++) {
    const std::int64_t seen = n - p.queries + i / p.group + 1;
    Real* row = prob.data() + i * n;
    for (std::int64_t j = 0; j < seen; j++)
      row[j] = dot_of<Real>(at(p.q, i), at(p.k, j), p.dim) * static_cast<Real>(p.scale);
    const auto cap = static_cast<Real>(p.softcap);
    std::vector<Real> slope(static_cast<std::size_t>(seen), Real{1});
    for (std::int64_t j = 0; cap > 0 && j < seen; j++) {
      const Real t = std::tanh(row[j] / cap);
      row[j] = cap * t;
      slope[static_cast<std::size_t>(j)] = 1 - t * t;
    }
    const Real largest = *std::max_element(row, row + seen);
    const std::vector<Real> scores(row, row + seen);
    for (std::int64_t j = 0; j < seen; j++) row[j] = std::exp(row[j] - largest);
    const Real sum = sum_of<Real>(0, seen, [&](std::int64_t j) { return row[j]; });
    const Real lse = largest + std::log(sum);  // from which the gradient makes probabilities, here as there
    std::vector<Real> out;
    for (const Real values : sums_of<Real>(p.dim, 0, seen, [&](std::int64_t j, Real*sums) {
           add_row(sums, stored(row[j], p.dtype), at(p.v, j), p.dim);
         }))
      out.push_back(stored(values / sum, p.dtype));
    r.out.insert(r.out.end(), out.begin(), out.end());
    if (!gradients) continue;
    const Real mean = sum_of<Real>(0, p.dim, [&](std::int64_t c) {
      return out[static_cast<std::size_t>(c)] * static_cast<Real>(at(p.dout, i)[c]);
    });
    for (std::int64_t j = 0; j < seen; j++) {
      row[j] = std::exp(scores[static_cast<std::size_t>(j)] - lse);
      ds[static_cast<std::size_t>(i * n + j)] =
          stored(row[j] * (dot_of<Real>(at(p.dout, i), at(p.v, j), p.dim) - mean) *
                     slope[static_cast<std::size_t>(j)],
                 p.dtype);
      row[j] = stored(row[j], p.dtype);
    }
    for (const Real dq : sums_of<Real>(p.dim, 0, seen, [&](std::int64_t j, Real*sums) {
           add_row(sums, ds[static_cast<std::size_t>(i * n + j)], at(p.k, j), p.dim);
         }))
      r.dq.push_back(stored(dq * static_cast<Real>(p.scale), p.dtype));
  }
  for (std::int64_t j = 0; gradients && j < n; j++) {
    // A head's queries pairwise, then the heads.
    const auto over_rows = [&](const std::vector<Real>& m, const std::vector<float>& by) {
      std::vector<Real> all(static_cast<std::size_t>(p.dim));
      for (std::int64_t head = 0; head < p.group; head++) {
        const auto of_head = sums_of<Real>(p.dim, 0, p.queries, [&](std::int64_t query, Real* sums) {
          const std::int64_t row = query * p.group + head;
          add_row(sums, m[static_cast<std::size_t>(row * n + j)], at(by, row), p.dim);
        });
        for (std::size_t c = 0; c < all.size(); c++) all[c] += of_head[c];
      }
      return all;
    };
    for (const Real dk : over_rows(ds, p.q)) r.dk.push_back(stored(dk * static_cast<Real>(p.scale), p.dtype));
    for (const Real dv : over_rows(prob, p.dout)) r.dv.push_back(stored(dv, p.dtype));
  }
  return r;
}

struct SequenceOperands : AttentionOperands {
  explicit SequenceOperands(const Sequence& p)
      : AttentionOperands(p.queries, p.keys, p.group, p.dim, p.dtype, p.q, p.k, p.v, p.dout) {
    g.forward.scale = p.scale;
    g.forward.softcap = p.softcap;
  }
};

Sequence make_sequence(std::int64_t queries, std::int64_t keys, std::int64_t dim, std::int64_t group,
                       DType dtype, unsigned seed) {
  std::mt19937 random(seed);
  const std::int64_t rows = queries * group;
  Sequence p{queries, keys, dim, group, dtype, {}, {}, {}, {}, 1 / std::sqrt(static_cast<float>(dim))};
  p.q = Values(rows, dim, dtype, make_factors(rows, dim, random, 0.2F)).floats();
  p.k = Values(keys, dim, dtype, make_factors(keys, dim, random, 0.2F)).floats();
  p.v = Values(keys, dim, dtype, make_terms(Terms::kOutliers, keys, dim, random)).floats();
  // A few queries have a large gradient, as at the tokens that the model is wrong about.
  std::vector<float> dout = make_factors(rows, dim, random, 0.5F);
  for (std::int64_t i = 0; i < rows; i++) {
    for (std::int64_t c = 0; i % 97 != 5 && c < dim; c++)
      dout[static_cast<std::size_t>(i * dim + c)] *= 1e-3F;
  }
  p.dout = Values(rows, dim, dtype, dout).floats();
  return p;
}

TEST(LongSums, OfAttentionOverManyKeys) {
  // Up to four queries have code of their own.
  for (const std::int64_t queries : {2, 7})
    for (const std::int64_t keys : {700, 20011, 200003})
      for (const DType dtype : kDtypes) {
        const ProductBlocks blocks(dtype);
        Draws draws;
        for (unsigned seed = 0; seed < kDraws; seed++) {
          const Sequence p = make_sequence(queries, keys, 16, 2, dtype, seed);
          const auto pairwise = attention_of<float>(p, false);
          const auto exact = attention_of<double>(p, false);
          SequenceOperands operands(p);
          device::CpuStream stream = make_stream(2);
          for (const auto& [name, table] : fast_tables()) {
            table.attention(operands.g.forward, stream);
            draws.add(
                {fmt::format("{} attention {} {} queries {} keys", name, hone::name_of(dtype), queries, keys),
                 operands.out.floats(), doubles(pairwise.out), doubles(exact.out)});
          }
        }
        draws.expect_as_exact_as_pairwise(allowed_for(dtype));
      }
}

TEST(LongSums, OfAttentionsGradient) {
  // More blocks of queries than a group of sums has, and more chunks of keys (of 64 at such a width), of
  // which the sums in f64 take minutes.
  struct Size {
    std::int64_t tokens, dim, group;
    bool compared;
    float softcap = 0;
  };
  for (const Size s : {Size{1110, 12, 2, true}, Size{1110, 12, 2, true, 1.5F}, Size{1150, 1024, 1, false}})
    for (const DType dtype : kDtypes) {
      // In bf16 a softcap adds a rounding of its own before ds is stored, and nothing to the sums.
      if (s.softcap > 0 && dtype == DType::kBF16) continue;
      const ProductBlocks blocks(dtype);
      Draws draws;
      for (unsigned seed = 0; seed < (s.compared ? kDraws : 1); seed++) {
        Sequence p = make_sequence(s.tokens, s.tokens, s.dim, s.group, dtype, seed);
        p.softcap = s.softcap;
        const auto pairwise = s.compared ? attention_of<float>(p, true) : AttentionResults<float>{};
        const auto exact = s.compared ? attention_of<double>(p, true) : AttentionResults<double>{};
        for (const auto& [name, table] : fast_tables()) {
          SequenceOperands operands(p), on_one_thread(p);
          device::CpuStream stream = make_stream(3), one = make_stream(1);
          table.attention(operands.g.forward, stream);
          table.attention_grad(operands.g, stream);
          table.attention(on_one_thread.g.forward, one);
          table.attention_grad(on_one_thread.g, one);
          const std::string what =
              fmt::format("{} attention gradient {} {} x {}{} ", name, hone::name_of(dtype), s.tokens, s.dim,
                          s.softcap > 0 ? " softcap" : "");
          EXPECT_EQ(operands.dq.floats(), on_one_thread.dq.floats()) << what;
          EXPECT_EQ(operands.dk.floats(), on_one_thread.dk.floats()) << what;
          EXPECT_EQ(operands.dv.floats(), on_one_thread.dv.floats()) << what;
          if (!s.compared) continue;
          draws.add({what + "dq", operands.dq.floats(), doubles(pairwise.dq), doubles(exact.dq)});
          draws.add({what + "dk", operands.dk.floats(), doubles(pairwise.dk), doubles(exact.dk)});
          draws.add({what + "dv", operands.dv.floats(), doubles(pairwise.dv), doubles(exact.dv)});
        }
      }
      draws.expect_as_exact_as_pairwise(allowed_for(dtype));
    }
}

// ---- experts: one slot a token, so that nothing is combined

struct Experts {
  std::int64_t tokens, hidden, ffn;
  DType dtype;
  bool clamped;                                      // gpt-oss' form, with biases; else SwiGLU without
  std::vector<float> x, gate_up, down, weights, dy;  // two experts: the even tokens' and the odd ones'
  std::vector<float> gate_up_bias, down_bias;
};
template <class Real>
struct ExpertsResults {
  std::vector<Real> y, dx, dweights, dgate_up, ddown, dgate_up_bias, ddown_bias;
};
constexpr float kAlpha = 1.702F, kLimit = 1.5F;
/// The activation and its derivatives.
template <class Real>
struct Activated {
  Real value, of_gate, of_up;
  Activated(bool clamped, Real gate, Real up) {
    const Real alpha = clamped ? kAlpha : 1, limit = kLimit;
    const Real g = clamped ? std::min(gate, limit) : gate;
    const Real u = clamped ? std::clamp(up, -limit, limit) + 1 : up;
    const Real s = 1 / (1 + std::exp(-alpha * g));
    value = g * s * u;
    of_gate = clamped && gate > limit ? 0 : u * (s * (1 + alpha * g * (1 - s)));
    of_up = clamped && std::abs(up) > limit ? 0 : g * s;
  }
};
template <class Real>
ExpertsResults<Real> experts_of(const Experts& p) {
  ExpertsResults<Real> r;
  const std::int64_t h = p.hidden, f = p.ffn;
  const auto at = [](const std::vector<float>& m, std::int64_t i) {
    return static_cast<Real>(m[static_cast<std::size_t>(i)]);
  };
  std::vector<Real> act(static_cast<std::size_t>(p.tokens * f)),
      dpre(static_cast<std::size_t>(p.tokens * 2 * f));
  for (std::int64_t t = 0; t < p.tokens; t++) {
    const std::int64_t e = t % 2;
    const Real weight = at(p.weights, t);
    const auto product = [&](std::int64_t row) {
      const Real sum = dot_of<Real>(p.x.data() + t * h, p.gate_up.data() + row * h, h);
      return stored(p.clamped ? sum + at(p.gate_up_bias, row) : sum, p.dtype);
    };
    std::vector<Real> value;
    const auto of_act = sums_of<Real>(f, 0, h, [&](std::int64_t c, Real* sums) {
      add_row(sums, at(p.dy, t * h + c), p.down.data() + (e * h + c) * f, f);
    });
    for (std::int64_t i = 0; i < f; i++) {
      const Activated<Real> a(p.clamped, product(e * 2 * f + i), product(e * 2 * f + f + i));
      value.push_back(a.value);
      act[static_cast<std::size_t>(t * f + i)] = stored(weight * a.value, p.dtype);
      const Real d = of_act[static_cast<std::size_t>(i)];
      dpre[static_cast<std::size_t>(t * 2 * f + i)] = stored(d * weight * a.of_gate, p.dtype);
      dpre[static_cast<std::size_t>(t * 2 * f + f + i)] = stored(d * weight * a.of_up, p.dtype);
      value.back() *= d;
    }
    r.dweights.push_back(
        sum_of<Real>(0, f, [&](std::int64_t i) { return value[static_cast<std::size_t>(i)]; }));
    if (p.clamped)
      r.dweights.back() += sum_of<Real>(
          0, h, [&](std::int64_t c) { return at(p.dy, t * h + c) * at(p.down_bias, e * h + c); });
    for (std::int64_t c = 0; c < h; c++) {
      r.y.push_back(sum_of<Real>(0, f, [&](std::int64_t i) {
        return act[static_cast<std::size_t>(t * f + i)] * at(p.down, (e * h + c) * f + i);
      }));
      if (p.clamped) r.y.back() += weight * at(p.down_bias, e * h + c);
    }
    const auto dx = sums_of<Real>(h, 0, 2 * f, [&](std::int64_t i, Real* sums) {
      add_row(sums, dpre[static_cast<std::size_t>(t * 2 * f + i)], p.gate_up.data() + (e * 2 * f + i) * h, h);
    });
    r.dx.insert(r.dx.end(), dx.begin(), dx.end());
  }
  for (std::int64_t e = 0; e < 2; e++) {
    const std::int64_t rows = (p.tokens + 1 - e) / 2;
    for (std::int64_t i = 0; i < 2 * f; i++) {
      const auto row = sums_of<Real>(h, 0, rows, [&](std::int64_t n, Real* sums) {
        add_row(sums, dpre[static_cast<std::size_t>((2 * n + e) * 2 * f + i)], p.x.data() + (2 * n + e) * h,
                h);
      });
      r.dgate_up.insert(r.dgate_up.end(), row.begin(), row.end());
    }
    for (std::int64_t c = 0; c < h; c++)
      for (std::int64_t i = 0; i < f; i++)
        r.ddown.push_back(sum_of<Real>(0, rows, [&](std::int64_t n) {
          return act[static_cast<std::size_t>((2 * n + e) * f + i)] * at(p.dy, (2 * n + e) * h + c);
        }));
    if (!p.clamped) continue;
    for (std::int64_t i = 0; i < 2 * f; i++)
      r.dgate_up_bias.push_back(sum_of<Real>(
          0, rows, [&](std::int64_t n) { return dpre[static_cast<std::size_t>((2 * n + e) * 2 * f + i)]; }));
    for (std::int64_t c = 0; c < h; c++)
      r.ddown_bias.push_back(sum_of<Real>(
          0, rows, [&](std::int64_t n) { return at(p.weights, 2 * n + e) * at(p.dy, (2 * n + e) * h + c); }));
  }
  return r;
}

TEST(LongSums, OfExperts) {
  struct Size {
    std::int64_t tokens, hidden, ffn;
  };
  // Many tokens, a long hidden row, a wide feed-forward.
  for (const Size s : {Size{60003, 8, 5}, Size{24, 20011, 6}, Size{24, 6, 30011}})
    for (unsigned form = 0; form < 4; form++) {
      const DType dtype = kDtypes[form % 2];
      const bool clamped = form >= 2;
      const ProductBlocks blocks(dtype);
      Draws draws;
      for (unsigned seed = 0; seed < kDraws; seed++) {
        std::mt19937 random(seed);
        Experts p{s.tokens, s.hidden, s.ffn, dtype, clamped, {}, {}, {}, {}, {}, {}, {}};
        const auto fit = [&](std::int64_t rows, std::int64_t cols, const std::vector<float>& v) {
          return Values(rows, cols, dtype, v).floats();
        };
        const float small = 1 / std::sqrt(static_cast<float>(s.hidden));
        p.x = fit(s.tokens, s.hidden, make_factors(s.tokens, s.hidden, random, 0.3F));
        p.gate_up = fit(4 * s.ffn, s.hidden, make_factors(4 * s.ffn, s.hidden, random, 0, small));
        p.down = fit(2 * s.hidden, s.ffn, make_factors(2 * s.hidden, s.ffn, random, 0.3F));
        p.weights = make_factors(s.tokens, 1, random, 0.5F, 0.1F);
        // Large for few tokens: what is summed over the tokens is peaked.
        const std::int64_t seldom = s.tokens < 1000 ? 5 : 5000;
        p.dy = make_factors(s.tokens, s.hidden, random, 0.5F, 0.3F);
        for (std::int64_t i = 0; i < s.tokens * s.hidden; i++) {
          if (i / s.hidden % seldom != 2) p.dy[static_cast<std::size_t>(i)] *= 1e-4F;
        }
        p.dy = fit(s.tokens, s.hidden, p.dy);
        p.gate_up_bias = fit(4 * s.ffn, 1, make_factors(4 * s.ffn, 1, random, 0, 0.3F));
        p.down_bias = fit(2 * s.hidden, 1, make_factors(2 * s.hidden, 1, random, 0.3F));
        const auto pairwise = experts_of<float>(p);
        const auto exact = experts_of<double>(p);
        std::vector<std::int32_t> permutation, inverse(static_cast<std::size_t>(s.tokens));
        for (std::int32_t e = 0; e < 2; e++)
          for (std::int32_t t = e; t < s.tokens; t += 2) permutation.push_back(t);
        for (std::size_t row = 0; row < permutation.size(); row++)
          inverse[static_cast<std::size_t>(permutation[row])] = static_cast<std::int32_t>(row);
        const std::vector<std::int32_t> offsets{0, static_cast<std::int32_t>((s.tokens + 1) / 2),
                                                static_cast<std::int32_t>(s.tokens)};
        Values x(s.tokens, s.hidden, dtype, p.x), gate_up(4 * s.ffn, s.hidden, dtype, p.gate_up),
            down(2 * s.hidden, s.ffn, dtype, p.down), dy(s.tokens, s.hidden, dtype, p.dy);
        Values y(s.tokens, s.hidden, DType::kF32), dx(s.tokens, s.hidden, DType::kF32),
            pre(s.tokens, 2 * s.ffn, dtype), dweights(s.tokens, 1, DType::kF32),
            dgate_up(4 * s.ffn, s.hidden, DType::kF32), ddown(2 * s.hidden, s.ffn, DType::kF32);
        Values gate_up_bias(4 * s.ffn, 1, dtype, p.gate_up_bias),
            down_bias(2 * s.hidden, 1, dtype, p.down_bias), dgate_up_bias(4 * s.ffn, 1, DType::kF32),
            ddown_bias(2 * s.hidden, 1, DType::kF32);
        kernels::ExpertsGradArgs g;
        kernels::ExpertsArgs& a = g.forward;
        a.x = x.matrix();
        a.gate_up.data = gate_up.data();
        a.down.data = down.data();
        a.weights = p.weights.data();
        a.offsets = offsets.data();
        a.permutation = permutation.data();
        a.inverse = inverse.data();
        a.pre_activation = pre.data();
        a.wants_pre_activation = true;
        a.y = y.matrix();
        a.experts = 2;
        a.top_k = 1;
        a.ffn = s.ffn;
        g.dy = dy.matrix();
        g.dx = dx.matrix();
        g.dweights = static_cast<float*>(dweights.data());
        g.dgate_up = dgate_up.data();
        g.ddown = ddown.data();
        g.wants_dweights = g.wants_dgate_up = g.wants_ddown = true;
        if (clamped) {
          a.activation = kernels::Activation::kClampedSilu;
          a.alpha = kAlpha;
          a.limit = kLimit;
          a.has_gate_up_bias = a.has_down_bias = g.wants_dgate_up_bias = g.wants_ddown_bias = true;
          a.gate_up_bias = gate_up_bias.data();
          a.down_bias = down_bias.data();
          g.dgate_up_bias = dgate_up_bias.data();
          g.ddown_bias = ddown_bias.data();
        }
        device::CpuStream stream = make_stream(2);
        for (const auto& [name, table] : fast_tables()) {
          table.experts(a, stream);
          table.experts_grad(g, stream);
          const std::string what = fmt::format("{} {}experts {} {}x{}x{} ", name, clamped ? "clamped " : "",
                                               hone::name_of(dtype), s.tokens, s.hidden, s.ffn);
          const bool few = s.hidden + s.ffn < 100;
          draws.add({what + "y", y.floats(), doubles(pairwise.y), doubles(exact.y), few});
          draws.add({what + "dx", dx.floats(), doubles(pairwise.dx), doubles(exact.dx), few});
          draws.add({what + "dweights", dweights.floats(), doubles(pairwise.dweights),
                     doubles(exact.dweights), few});
          draws.add(
              {what + "dgate_up", dgate_up.floats(), doubles(pairwise.dgate_up), doubles(exact.dgate_up)});
          draws.add({what + "ddown", ddown.floats(), doubles(pairwise.ddown), doubles(exact.ddown)});
          if (!clamped) continue;
          draws.add({what + "dgate_up_bias", dgate_up_bias.floats(), doubles(pairwise.dgate_up_bias),
                     doubles(exact.dgate_up_bias)});
          draws.add({what + "ddown_bias", ddown_bias.floats(), doubles(pairwise.ddown_bias),
                     doubles(exact.ddown_bias)});
        }
      }
      // The terms are activations, whose own rounding is most of the error of these sums: what is nearer is
      // chance here, too (dweights of the clamped ones on emulated_amx: 1.001).
      draws.expect_as_exact_as_pairwise(clamped ? 1.01 : allowed_for(dtype));
    }
}

}  // namespace
}  // namespace hone::test
