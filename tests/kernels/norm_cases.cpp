// Cases: RMS norm; norm of heads with rotary embedding.
#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "tests/kernels/cases.h"
#include "tests/tolerance.h"

namespace hone::test {

namespace {

/// Which dtypes the residual stream and the rest have, and which parts are wanted. y and dy: t where not
/// said; dx: x.
struct Options {
  DType x, t, dweight;
  bool dx, dw, accumulate;
  std::int64_t pad;
  std::optional<DType> y_dtype = {}, dx_dtype = {};
  bool unit_offset = false, residual = false;
  std::int64_t residual_pad = 0;  // more than `pad`
  DType y() const { return y_dtype.value_or(t); }
  DType dx_stored() const { return dx_dtype.value_or(x); }
};

/// Every combination of dtypes that goes with T.
std::vector<Options> all_dtypes() {
  std::vector<Options> options;
  for (const DType t : kBothDtypes)
    for (const DType x : kBothDtypes)
      for (const DType y : kBothDtypes)
        for (const DType dx : kBothDtypes)
          for (const DType dweight : kBothDtypes)
            if (t == DType::kBF16 || (x == t && y == t && dx == t))
              options.push_back({x, t, dweight, true, true, false, 0, y, dx, false, true, 0});
  return options;
}

Outputs run_rms_norm(const KernelTable& table, Stream& stream, std::int64_t rows, std::int64_t cols,
                     Options o) {
  Arena arena;
  kernels::RmsNormArgs a;
  a.x = arena.input(rows, cols, o.x, o.pad);
  a.weight = arena.input(1, cols, o.t).data;
  a.weight_dtype = o.t;
  a.unit_offset = o.unit_offset;
  if (o.residual) a.residual = arena.input(rows, cols, DType::kF32, o.pad + o.residual_pad);
  a.eps = 1e-5F;
  a.y = arena.output("y", rows, cols, o.y(), false, tolerance(o.y(), cols), o.pad);
  a.wants_rstd = o.dx;
  if (o.dx)
    a.rstd = static_cast<float*>(
        arena.output("rstd", 1, rows, DType::kF32, false, tolerance(DType::kF32, cols)).data);
  table.rms_norm(a, stream);
  return arena.outputs();
}

Outputs run_rms_norm_grad(const KernelTable& table, Stream& stream, std::int64_t rows, std::int64_t cols,
                          Options o) {
  Arena arena;
  kernels::RmsNormGradArgs a;
  a.dy = arena.input(rows, cols, o.y(), o.pad);
  a.x = arena.input(rows, cols, o.x);
  a.weight = arena.input(1, cols, o.t).data;
  a.weight_dtype = o.t;
  a.unit_offset = o.unit_offset;
  std::vector<double> rstd;
  for (std::int64_t i = 0; i < rows; ++i) {
    double squares = 0;
    for (std::int64_t j = 0; j < cols; ++j) squares += get(a.x, i, j) * get(a.x, i, j);
    rstd.push_back(1 / std::sqrt(squares / static_cast<double>(cols) + 1e-5));
  }
  a.rstd = arena.floats(rstd);
  if (o.dx)
    a.dx = arena.output("dx", rows, cols, o.dx_stored(), o.accumulate, tolerance(o.dx_stored(), cols), o.pad);
  a.accumulate_dx = a.accumulate_dweight = o.accumulate;
  a.dweight_dtype = o.dweight;
  a.wants_dweight = o.dw;
  if (o.dw)
    a.dweight = arena.output("dweight", 1, cols, o.dweight, o.accumulate, tolerance(o.dweight, rows)).data;
  table.rms_norm_grad(a, stream);
  return arena.outputs();
}

struct Heads {
  std::int64_t tokens, heads, head_dim, rotary_dim, rotary_begin = 0;
  bool interleaved = false;
};

/// The parts that forward and gradient share.
template <typename Args>
void set_rotary(Arena& arena, Args& a, const Heads& h, DType dtype, bool norm, bool unit_offset) {
  a.heads = h.heads;
  a.head_dim = h.head_dim;
  a.rotary_dim = h.rotary_dim;
  a.rotary_begin = h.rotary_begin;
  a.interleaved = h.interleaved;
  a.eps = 1e-6F;
  a.has_weight = norm;
  a.unit_offset = unit_offset;
  if (norm) a.weight = arena.input(1, h.head_dim, dtype).data;
  a.weight_dtype = dtype;
  std::vector<double> cos, sin;
  constexpr std::int64_t kPositions = 50;
  for (std::int64_t p = 0; p < kPositions; ++p)
    for (std::int64_t i = 0; i < h.rotary_dim / 2; ++i) {
      const double angle = static_cast<double>(p) *
                           std::pow(100.0, -2.0 * static_cast<double>(i) / static_cast<double>(h.rotary_dim));
      cos.push_back(1.2 * std::cos(angle));
      sin.push_back(1.2 * std::sin(angle));
    }
  a.cos = arena.floats(cos);
  a.sin = arena.floats(sin);
  a.positions = arena.integers(arena.random_indices(h.tokens, kPositions, false));
}

Outputs run_rope(const KernelTable& table, Stream& stream, Heads h, DType dtype, bool norm, bool unit_offset,
                 bool in_place, std::int64_t pad) {
  Arena arena;
  kernels::HeadNormRopeArgs a;
  set_rotary(arena, a, h, dtype, norm, unit_offset);
  const std::int64_t cols = h.heads * h.head_dim;
  if (in_place) {
    a.x = a.y = arena.inout("y", h.tokens, cols, dtype, tolerance(dtype, h.head_dim));
  } else {
    a.x = arena.input(h.tokens, cols, dtype, pad);
    a.y = arena.output("y", h.tokens, cols, dtype, false, tolerance(dtype, h.head_dim), pad);
  }
  table.head_norm_rope(a, stream);
  return arena.outputs();
}

Outputs run_rope_grad(const KernelTable& table, Stream& stream, Heads h, Options o, bool norm,
                      bool in_place) {
  Arena arena;
  kernels::HeadNormRopeGradArgs a;
  set_rotary(arena, a, h, o.t, norm, o.unit_offset);
  const std::int64_t cols = h.heads * h.head_dim;
  const DType dx = o.dx_dtype.value_or(o.x);
  const double tol = tolerance(narrower(dx, o.t), h.head_dim);
  if (in_place) {
    a.dy = a.dx = arena.inout("dx", h.tokens, cols, o.t, tol);
  } else {
    a.dy = arena.input(h.tokens, cols, o.y(), o.pad);
    a.dx = arena.output("dx", h.tokens, cols, dx, o.accumulate, tol, o.pad);
    a.accumulate_dx = o.accumulate;
  }
  if (norm) {
    a.x = arena.input(h.tokens, cols, o.t, o.pad);
    a.dweight_dtype = o.dweight;
    a.accumulate_dweight = o.accumulate;
    a.wants_dweight = o.dw;
    if (o.dw)
      a.dweight = arena
                      .output("dweight", 1, h.head_dim, o.dweight, o.accumulate,
                              tolerance(o.dweight, h.tokens * h.heads + h.head_dim))
                      .data;
  }
  table.head_norm_rope_grad(a, stream);
  return arena.outputs();
}

constexpr DType kF = DType::kF32, kB = DType::kBF16;
const Options kOptions[] = {{kF, kF, kF, true, true, false, 0},
                            {kF, kB, kF, true, true, true, 0},
                            {kB, kB, kB, true, true, false, 5},
                            {kF, kB, kB, false, true, true, 0},
                            {kF, kF, kF, true, false, true, 7},
                            {kB, kB, kF, true, true, true, 1},
                            {.x = kB,
                             .t = kB,
                             .dweight = kB,
                             .dx = true,
                             .dw = true,
                             .accumulate = false,
                             .pad = 3,
                             .unit_offset = true,
                             .residual = true},
                            {.x = kF,
                             .t = kF,
                             .dweight = kF,
                             .dx = true,
                             .dw = true,
                             .accumulate = true,
                             .pad = 0,
                             .unit_offset = true,
                             .residual = true,
                             .residual_pad = 1}};
/// Also of a gradient in f32 for what is stored in bf16, as where a gradient is shared.
const Options kMixedOptions{kB, kF, kF, true, false, false, 0};

}  // namespace

std::vector<Case> norm_cases() {
  std::vector<Case> cases;
  for (const std::int64_t rows : {0, 1, 3, 64, 65, 200})
    for (const std::int64_t cols : {1, 7, 16, 40, 64, 100, 512, 1030}) {
      std::vector<Options> options(std::begin(kOptions), std::end(kOptions));
      if (rows == 3 && cols == 100) options = all_dtypes();
      for (const Options& o : options) {
        const auto name = fmt::format(
            "{}x{} x {} t {} y {} dx {} dweight {}{}{}{}{}{} pad {}", rows, cols, name_of(o.x), name_of(o.t),
            name_of(o.y()), name_of(o.dx_stored()), name_of(o.dweight), o.dx ? " dx" : "", o.dw ? " dw" : "",
            o.accumulate ? " +" : "", o.unit_offset ? " 1+w" : "", o.residual ? " residual" : "", o.pad);
        cases.push_back({"rms_norm", "rms_norm " + name,
                         [=](const KernelTable& t, Stream& s) { return run_rms_norm(t, s, rows, cols, o); }});
        if (cols > 1)  // of one element the norm is its sign: the gradient is rounding alone
          cases.push_back({"rms_norm_grad", "rms_norm_grad " + name, [=](const KernelTable& t, Stream& s) {
                             return run_rms_norm_grad(t, s, rows, cols, o);
                           }});
      }
    }
  for (const Heads& h : {Heads{0, 2, 8, 8},
                         {1, 1, 2, 2},
                         {5, 3, 6, 4},
                         {70, 4, 64, 64},
                         {33, 2, 128, 128},
                         {40, 3, 80, 60},
                         {9, 2, 256, 64},
                         {130, 1, 32, 32},
                         {3, 2, 20, 0},
                         {7, 2, 64, 64, 0, true},
                         {5, 3, 6, 4, 2, true},
                         {33, 3, 30, 14, 9, true},
                         {130, 2, 96, 32, 64, true},
                         {9, 5, 192, 64, 128, true},
                         {40, 2, 50, 22, 17},
                         {6, 1, 192, 64, 128}})
    for (const bool norm : {false, true}) {
      const auto name = fmt::format("{} tokens {} heads of {}, {} rotary from {} on{}{}", h.tokens, h.heads,
                                    h.head_dim, h.rotary_dim, h.rotary_begin,
                                    h.interleaved ? ", interleaved" : "", norm ? ", norm" : "");
      for (const DType dtype : kBothDtypes)
        for (const std::int64_t pad : {0, 6})
          for (const bool second : {false, true}) {  // with a norm, of 1 + weight; without one, in place
            if (!norm && second && pad > 0) continue;
            const bool in_place = second && !norm, unit_offset = second && norm;
            cases.push_back({"head_norm_rope",
                             fmt::format("head_norm_rope {} {} pad {}{}{}", name, name_of(dtype), pad,
                                         in_place ? " in place" : "", unit_offset ? " 1+w" : ""),
                             [=](const KernelTable& t, Stream& s) {
                               return run_rope(t, s, h, dtype, norm, unit_offset, in_place, pad);
                             }});
          }
      std::vector<Options> options(std::begin(kOptions), std::end(kOptions));
      if (!norm) options.push_back(kMixedOptions);
      if (norm && h.tokens == 5) options = all_dtypes();
      for (const Options& o : options)
        for (const bool in_place : {false, true}) {
          if (in_place && norm) continue;
          cases.push_back(
              {"head_norm_rope_grad",
               fmt::format("head_norm_rope_grad {} dx {} dy {} t {} dweight {}{}{}{}{}", name,
                           name_of(o.dx_stored()), name_of(o.y()), name_of(o.t), name_of(o.dweight),
                           o.dw ? " dw" : "", o.accumulate ? " +" : "", o.unit_offset ? " 1+w" : "",
                           in_place ? " in place" : ""),
               [=](const KernelTable& t, Stream& s) { return run_rope_grad(t, s, h, o, norm, in_place); }});
        }
    }
  return cases;
}

}  // namespace hone::test
