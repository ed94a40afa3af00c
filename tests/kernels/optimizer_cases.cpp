// Cases: gradient norm and optimizers.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/moments.h"
#include "tests/kernels/cases.h"
#include "tests/tolerance.h"

namespace hone::test {

namespace {

kernels::StepScalars scalars_of_step_3() {
  kernels::StepScalars s;
  s.clip_factor = 0.5F;
  s.learning_rate = 1e-2F;
  s.bias_correction1 = 1 - 0.9F * 0.9F * 0.9F;
  s.bias_correction2 = 1 - 0.999F * 0.999F * 0.999F;
  s.step = 2;
  return s;
}

float* f32(const Matrix& m) {
  return static_cast<float*>(m.data);
}

/// Where the master lies: by itself, beside a bf16 weight, or in one.
enum class Master { kF32, kBeside, kBF16 };
constexpr Master kMasters[] = {Master::kF32, Master::kBeside, Master::kBF16};

template <typename Args>
void add_master(Arena& arena, std::int64_t n, Master master, Args& a) {
  const DType dtype = a.master_dtype = master == Master::kBF16 ? DType::kBF16 : DType::kF32;
  // One that is rounded at random may be rounded the other way where the last bit of the sum is another.
  const double tol = dtype == DType::kBF16 ? 0x1p-8 : tolerance(DType::kF32, 4);
  a.master = arena.inout("master", 1, n, dtype, tol).data;
  a.has_weight = master == Master::kBeside;
  if (a.has_weight) a.weight = arena.inout("weight", 1, n, DType::kBF16, tolerance(DType::kBF16, 4)).data;
  a.rate_scale = a.has_weight ? 0.3F : 1.0F;
  a.rounding_seed = 0x123456789abcdef;
  a.first_index = (std::int64_t{5} << 32) + 3 * kernels::kMomentBlock;
}

/// Moments as numbers: of a code that is one level off, a level.
void add_moments(Outputs& outputs, const char* name, const std::uint8_t* codes, const float* scales,
                 std::int64_t n, bool second) {
  Output output{name, {}, {codes, codes + n}, 1e-3};
  double one_off = 0, squares = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double scale = static_cast<double>(scales[i / kernels::kMomentBlock]);
    output.values.push_back(
        scale * static_cast<double>(second ? kernels::kMomentLevels.second[codes[i]]
                                           : kernels::first_moment(kernels::kMomentLevels, codes[i])));
    one_off = std::max(one_off, std::fabs(output.values.back()) * 0.2);
    squares += output.values.back() * output.values.back();
  }
  if (squares > 0) output.tolerance = std::max(1e-3, one_off / std::sqrt(squares));
  outputs.push_back(std::move(output));
}

/// x[i] = value, cut to bf16 where x is.
void put(void* x, DType dtype, std::int64_t i, float value) {
  if (dtype == DType::kF32)
    static_cast<float*>(x)[i] = value;
  else
    static_cast<std::uint16_t*>(x)[i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
}

Outputs run_adamw(const KernelTable& table, Stream& stream, std::int64_t n, DType grad, Master master,
                  bool skip, kernels::MomentKind moments, bool hard_scales = false, float rate = 1e-2F) {
  Arena arena;
  kernels::StepScalars& scalars = arena.scalars(scalars_of_step_3());
  scalars.skip = skip ? 1 : 0;
  scalars.learning_rate = rate;
  kernels::AdamWArgs a;
  const double tol = tolerance(DType::kF32, 4);
  add_master(arena, n, master, a);
  const Matrix gradient = arena.input(1, n, grad);
  a.grad = gradient.data;
  a.grad_dtype = grad;
  a.moments = moments;
  a.n = n;
  a.weight_decay = 0.1F;
  a.scalars = &scalars;
  const std::int64_t blocks = (n + kernels::kMomentBlock - 1) / kernels::kMomentBlock;
  if (moments == kernels::MomentKind::kF32) {
    a.exp_avg = arena.inout("exp_avg", 1, n, DType::kF32, tol).data;
    a.exp_avg_sq = arena.inout("exp_avg_sq", 1, n, DType::kF32, tol, true).data;
    table.adamw(a, stream);
    return arena.outputs();
  }
  std::vector<std::uint8_t, ArenaAllocator<std::uint8_t>> codes[2];
  for (auto& of : codes)
    for (std::int64_t i = 0; i < n; ++i)
      of.push_back(i % 3 == 0 ? std::uint8_t{0} : static_cast<std::uint8_t>(arena.random()()));
  // What had no gradient so far has none now; and one block is all below an outlier.
  const auto bytes = static_cast<std::size_t>(n) * size_of(grad);
  std::vector<unsigned char, ArenaAllocator<unsigned char>> sparse(bytes);
  if (bytes > 0) std::memcpy(sparse.data(), gradient.data, bytes);
  a.grad = sparse.data();
  for (std::int64_t i = 0; i < n; i += 3) put(sparse.data(), grad, i, 0);
  if (n > 300) put(sparse.data(), grad, 298, 1e4F);
  a.exp_avg = codes[0].data();
  a.exp_avg_sq = codes[1].data();
  a.exp_avg_scales = f32(arena.inout("scales", 1, blocks, DType::kF32, tol, true));
  a.exp_avg_sq_scales = f32(arena.inout("scales_sq", 1, blocks, DType::kF32, tol, true));
  // Of three blocks one has moments below 2^-126 (or none) and one a second moment above the largest scale.
  for (std::int64_t block = 0; hard_scales && block < blocks; ++block) {
    const std::int64_t begin = block * kernels::kMomentBlock,
                       end = std::min(n, begin + kernels::kMomentBlock);
    if (block % 3 == 1) {
      a.exp_avg_scales[block] = a.exp_avg_sq_scales[block] = block % 2 == 0 ? 0 : 0x1.8p-130F;
      for (std::int64_t i = begin; i < end; ++i) put(sparse.data(), grad, i, 0);
    }
    if (block % 3 == 2) put(sparse.data(), grad, end - 1, 6e20F);
  }
  table.adamw(a, stream);
  Outputs outputs = arena.outputs();
  add_moments(outputs, "exp_avg", codes[0].data(), a.exp_avg_scales, n, false);
  add_moments(outputs, "exp_avg_sq", codes[1].data(), a.exp_avg_sq_scales, n, true);
  // A second moment is 0 just where it is: of those numbers, and not where it is small.
  const double zeros = static_cast<double>(std::count(codes[1].begin(), codes[1].end(), std::uint8_t{0}));
  outputs.push_back({"second moments of 0", {1 + zeros}, {}, 1e-12});
  return outputs;
}

Outputs run_sgd(const KernelTable& table, Stream& stream, std::int64_t n, DType grad, Master master,
                float momentum, bool first) {
  Arena arena;
  const kernels::StepScalars& scalars = arena.scalars(scalars_of_step_3());
  kernels::SgdArgs a;
  add_master(arena, n, master, a);
  a.grad = arena.input(1, n, grad).data;
  a.grad_dtype = grad;
  a.n = n;
  a.momentum = momentum;
  a.first = first;
  if (momentum != 0)
    a.momentum_buffer = f32(arena.inout("momentum", 1, n, DType::kF32, tolerance(DType::kF32, 4)));
  a.weight_decay = 0.1F;
  a.scalars = &scalars;
  table.sgd(a, stream);
  return arena.outputs();
}

Outputs outputs_of(const kernels::StepScalars& scalars, double allowed) {
  Outputs outputs;
  const auto add = [&](const char* name, double value) {
    if (!std::isfinite(value)) value = -1;  // the comparison is of numbers
    const auto* bytes = reinterpret_cast<const unsigned char*>(&value);
    outputs.push_back({name, {value}, {bytes, bytes + sizeof value}, allowed});
  };
  add("sum_of_squares", scalars.sum_of_squares);
  add("grad_norm", static_cast<double>(scalars.grad_norm));
  add("clip_factor", static_cast<double>(scalars.clip_factor));
  add("learning_rate", static_cast<double>(scalars.learning_rate));
  add("bias_correction1", static_cast<double>(scalars.bias_correction1));
  add("bias_correction2", static_cast<double>(scalars.bias_correction2));
  add("skip", scalars.skip);
  add("step", scalars.step);
  add("clip_norm", static_cast<double>(scalars.clip_norm));
  add("nonfinite", scalars.nonfinite);
  return outputs;
}

/// The sum of several gradients of numbers of that size, of the last one in parts that are known, then what
/// follows from it. `broken`: a bit for each that is not finite.
Outputs run_norm(const KernelTable& table, Stream& stream, std::int64_t n, DType dtype, float max_norm,
                 double size, unsigned broken) {
  Arena arena;
  kernels::StepScalars& scalars = arena.scalars({.clip_norm = 2});
  const auto size_of_part = [&](int part) { return (broken >> part & 1) != 0 ? HUGE_VAL : size; };
  const Matrix parts[] = {arena.input(1, n, dtype, 0, size_of_part(0)),
                          arena.input(1, 2 * n + 3, DType::kF32, 0, size_of_part(1))};
  std::int32_t index = 0;
  for (const Matrix& x : parts)
    table.sum_of_squares({.x = x.data, .n = x.cols, .dtype = x.dtype, .index = index++, .scalars = &scalars},
                         stream);
  Arena apart;  // whose numbers the host may write
  const Matrix known = apart.output("", 1, n, DType::kF64, false, 0);
  for (std::int64_t i = 0; i < n; ++i)
    static_cast<double*>(known.data)[i] =
        (broken & 4) != 0 ? static_cast<double>(NAN) : 0.25 * size * size * static_cast<double>(i % 5);
  table.sum_of_squares({.n = n,
                        .parts = static_cast<const double*>(known.data),
                        .num_parts = n,
                        .has_parts = true,
                        .index = index,
                        .scalars = &scalars},
                       stream);
  table.finish_norm({.scalars = &scalars, .max_norm = max_norm, .by_clip_norm = n % 2 == 1}, stream);
  (void)arena.outputs();  // waits
  return outputs_of(scalars, tolerance(DType::kF32, n));
}

/// What follows a step that was done, or skipped.
Outputs run_next_step(const KernelTable& table, Stream& stream, bool skipped) {
  Arena arena;
  kernels::StepScalars& scalars = arena.scalars({.sum_of_squares = 49,
                                                 .grad_norm = 7,
                                                 .clip_factor = 0.5F,
                                                 .learning_rate = 0.25F,
                                                 .skip = skipped ? 1 : 0,
                                                 .step = 11,
                                                 .clip_norm = 3,
                                                 .nonfinite = skipped ? 4 : 0});
  const kernels::StepScalars next[] = {{.learning_rate = 0.125F,
                                        .bias_correction1 = 0.75F,
                                        .bias_correction2 = 0.5F,
                                        .step = 12,
                                        .clip_norm = 5},
                                       {.learning_rate = 0.125F,
                                        .bias_correction1 = 0.625F,
                                        .bias_correction2 = 0.375F,
                                        .step = 11,
                                        .clip_norm = 3}};
  Arena apart;  // whose numbers the host may write
  const Matrix memory = apart.output("", 1, sizeof next / (sizeof(double)), DType::kF64, false, 0);
  std::memcpy(memory.data, next, sizeof next);
  table.next_step({.next = static_cast<const kernels::StepScalars*>(memory.data), .scalars = &scalars},
                  stream);
  (void)arena.outputs();  // waits
  return outputs_of(scalars, 0);
}

}  // namespace

std::vector<Case> optimizer_cases() {
  std::vector<Case> cases;
  for (const bool skipped : {false, true})
    cases.push_back({"next_step", fmt::format("next_step after one {}", skipped ? "skipped" : "done"),
                     [=](const KernelTable& t, Stream& s) { return run_next_step(t, s, skipped); }});
  // More blocks of moments than a card has warps at once.
  cases.push_back(
      {"adamw", "adamw of 1,107,201, grad bf16, bf16 weight, 8 bits", [](const KernelTable& t, Stream& s) {
         return run_adamw(t, s, 1'107'201, DType::kBF16, Master::kBeside, false,
                          kernels::MomentKind::kDynamic8);
       }});
  for (const std::int64_t n : {0, 1, 15, 16, 33, 256, 257, 1000, 70001})
    for (const DType grad : kBothDtypes)
      for (const Master master : kMasters) {
        constexpr const char* kOf[] = {"", ", bf16 weight", ", bf16 master"};
        const auto name = fmt::format(" of {}, grad {}{}", n, name_of(grad), kOf[static_cast<int>(master)]);
        for (const auto moments : {kernels::MomentKind::kF32, kernels::MomentKind::kDynamic8})
          for (const bool skip : {false, true})
            cases.push_back(
                {"adamw",
                 fmt::format("adamw{}{}{}", name, moments == kernels::MomentKind::kF32 ? "" : ", 8 bits",
                             skip ? ", skip" : ""),
                 [=](const KernelTable& t, Stream& s) {
                   return run_adamw(t, s, n, grad, master, skip, moments);
                 }});
        if (n > 2 * kernels::kMomentBlock)
          cases.push_back({"adamw", fmt::format("adamw{}, 8 bits, hard scales", name),
                           [=](const KernelTable& t, Stream& s) {
                             return run_adamw(t, s, n, grad, master, false, kernels::MomentKind::kDynamic8,
                                              true);
                           }});
        if (n == 1000)
          cases.push_back(
              {"adamw", fmt::format("adamw{}, without a rate", name), [=](const KernelTable& t, Stream& s) {
                 return run_adamw(t, s, n, grad, master, false, kernels::MomentKind::kF32, false, 0);
               }});
        for (const float momentum : {0.0F, 0.9F})
          for (const bool first : {false, true})
            cases.push_back({"sgd",
                             fmt::format("sgd{}, momentum {}{}", name, momentum, first ? ", first" : ""),
                             [=](const KernelTable& t, Stream& s) {
                               return run_sgd(t, s, n, grad, master, momentum, first);
                             }});
        if (master == Master::kBF16) continue;
        const float max_norm = master == Master::kBeside ? 1.0F : 0.0F;
        for (const char* slot : {"sum_of_squares", "finish_norm"})
          // with squares that f32 has not, too
          for (const double size : {1.0, 1e-25, 1e25})
            cases.push_back({slot, fmt::format("{}{}, max_norm {}, of {}", slot, name, max_norm, size),
                             [=](const KernelTable& t, Stream& s) {
                               return run_norm(t, s, n, grad, max_norm, size, 0);
                             }});
        if (n == 1000)
          for (const unsigned broken : {1U, 2U, 4U, 6U})
            cases.push_back({"sum_of_squares", fmt::format("sum_of_squares{}, not finite {}", name, broken),
                             [=](const KernelTable& t, Stream& s) {
                               return run_norm(t, s, n, grad, max_norm, 1, broken);
                             }});
      }
  return cases;
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  // those in FP8 first: they find what is planted in it, and much of what is planted in other products
  for (auto part : {fp8_cases, matrix_cases, norm_cases, row_cases, attention_cases, mla_cases, moe_cases,
                    optimizer_cases})
    for (Case& c : part()) cases.push_back(std::move(c));
  return cases;
}

}  // namespace hone::test
