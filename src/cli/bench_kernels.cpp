#include "cli/bench_kernels.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "kernels/peak.h"
#include "ops/launch.h"
#include "ops/matrix.h"
#include "tensor/transfer.h"

namespace hone::cli {

namespace {

// qwen3_moe of hidden 512, 8 heads of 64 over 4 kv heads, 32 experts top-4 of 256, vocabulary 8192; 4 rows of
// 512 tokens.
constexpr std::int64_t kTokens = 2048, kRow = 512, kHidden = 512, kHeads = 8, kKvHeads = 4, kHeadDim = 64;
constexpr std::int64_t kExperts = 32, kTopK = 4, kFfn = 256, kVocab = 8192;

/// Runs kernels of one dtype and prints what each reaches.
class Bench {
 public:
  Bench(ops::Context& context, DType dtype, const BenchKernelsOptions& options,
        const kernels::ComputePeak& compute, const kernels::MemoryPeak& memory)
      : context_(context),
        dtype_(dtype),
        options_(options),
        ceilings_{.f32_gflops = compute.f32, .bf16_gflops = compute.bf16, .gb_s = memory.copy} {}

  void run();

 private:
  Tensor random(Shape shape, DType dtype) {
    const Tensor t = context_.empty(std::move(shape), dtype);
    const CounterRng rng(1, RngPurpose::kBench, stream_++);
    std::vector<float> numbers(static_cast<std::size_t>(t.numel()));
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(rng.uniform(i) - 0.5);
    Staging staging(context_.stream(), t);
    convert(DType::kF32, numbers.data(), dtype, staging.data(), numbers.size());
    staging.send();
    return t;
  }
  Tensor floats(Shape shape) { return random(std::move(shape), DType::kF32); }
  Tensor values(Shape shape) { return random(std::move(shape), dtype_); }
  Tensor indices(std::int64_t n, const std::function<std::int32_t(std::int64_t)>& value) {
    std::vector<std::int32_t> list;
    for (std::int64_t i = 0; i < n; ++i) list.push_back(value(i));
    return context_.upload(list);
  }

  /// Times the slot that takes these Args; `what` of it is added to its name.
  template <typename Args>
  void time(std::string_view what, const Args& args) {
    constexpr auto kSlot = kernels::slot_of<Args>();
    std::vector<double> seconds;
    for (int i = 0; i < options_.repeat + 1; ++i) {
      const auto start = std::chrono::steady_clock::now();
      ops::launch(context_, "cli.bench", context_.kernels().*kSlot.member, args);
      context_.stream().synchronize();
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    seconds.erase(seconds.begin());  // the first brings the pages
    std::nth_element(seconds.begin(), seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2),
                     seconds.end());
    print(fmt::format("{}{}{}", kSlot.name, what.empty() ? "" : " ", what), kernels::cost(args),
          seconds[seconds.size() / 2]);
  }

  void print(const std::string& name, const kernels::Cost& cost, double seconds) const {
    const double gflops = cost.flops / seconds / 1e9;
    const double gb_s = cost.bytes / seconds / 1e9;
    const double fraction = kernels::least_seconds(cost, ceilings_) / seconds;
    if (options_.json) {
      fmt::print("{}\n",
                 nlohmann::ordered_json{
                     {"kernel", name},
                     {"dtype", name_of(dtype_)},
                     {"ms", 1e3 * seconds},
                     {"gflops", gflops},
                     {"gb_s", gb_s},
                     {"fraction_of_peak", fraction},
                     {"peak_gflops", dtype_ == DType::kBF16 ? ceilings_.bf16_gflops : ceilings_.f32_gflops},
                     {"peak_gb_s", ceilings_.gb_s}}
                     .dump());
      return;
    }
    fmt::print("{:<5} {:<38} {:>8.3f} ms {:>8.0f} GFLOP/s {:>7.1f} GB/s  {:>4.0f}% of ceiling\n",
               name_of(dtype_), name, 1e3 * seconds, gflops, gb_s, 100 * fraction);
  }

  void matrices();
  void attention();
  void mla();
  void experts();
  void rows();
  void head_and_optimizer();

  ops::Context& context_;
  DType dtype_;
  const BenchKernelsOptions& options_;
  kernels::Ceilings ceilings_;
  std::uint64_t stream_ = 0;
};

void Bench::matrices() {
  const Tensor x = values({kTokens, kHidden});
  const Tensor w = values({kHidden, kHidden});
  const Tensor y = values({kTokens, kHidden});
  const Tensor residual = floats({kTokens, kHidden});
  const Tensor out = floats({kTokens, kHidden});
  const Tensor dw = random({kHidden, kHidden}, dtype_);
  using ops::as_matrix;
  const auto product = [](const Tensor& a, const Tensor& b, const Tensor& c, bool transpose_a,
                          bool transpose_b) {
    kernels::MatmulArgs args;
    args.a = as_matrix(a);
    args.b = as_matrix(b);
    args.c = as_matrix(c);
    args.transpose_a = transpose_a;
    args.transpose_b = transpose_b;
    return args;
  };
  time("forward 512x512", product(x, w, y, false, true));
  auto with_residual = product(x, w, out, false, true);
  with_residual.residual = as_matrix(residual);
  time("forward + residual", with_residual);
  time("input gradient", product(y, w, x, false, false));
  time("weight gradient", product(y, x, dw, true, false));
  time("router's 512x32", product(x, values({kExperts, kHidden}), floats({kTokens, kExperts}), false, true));
}

void Bench::attention() {
  const std::int64_t sequences = kTokens / kRow;
  const Tensor q = values({kTokens, kHeads * kHeadDim});
  const Tensor keys = values({kTokens, kKvHeads * kHeadDim});
  const Tensor v = values({kTokens, kKvHeads * kHeadDim});
  const Tensor out = values({kTokens, kHeads * kHeadDim});
  const Tensor lse = floats({kTokens, kHeads});
  const Tensor offsets =
      indices(sequences + 1, [](std::int64_t i) { return static_cast<std::int32_t>(i * kRow); });
  const Tensor lengths = indices(sequences, [](std::int64_t) { return static_cast<std::int32_t>(kRow); });
  using ops::as_matrix;
  const kernels::AttentionArgs args{.q = as_matrix(q),
                                    .k = as_matrix(keys),
                                    .v = as_matrix(v),
                                    .out = as_matrix(out),
                                    .lse = lse.as<float>(),
                                    .wants_lse = true,
                                    .q_offsets = offsets.as<std::int32_t>(),
                                    .key_begin = offsets.as<std::int32_t>(),
                                    .key_length = lengths.as<std::int32_t>(),
                                    .sequences = sequences,
                                    .heads = kHeads,
                                    .kv_heads = kKvHeads,
                                    .head_dim = kHeadDim,
                                    .max_queries = kRow,
                                    .are_square = true,
                                    .scale = 0.125F,
                                    .pairs = sequences * kernels::attended_pairs(kRow, kRow, 0)};
  time("", args);
  const Tensor dq = values(q.shape());
  const Tensor dk = values(keys.shape());
  const Tensor dv = values(v.shape());
  time("", kernels::AttentionGradArgs{.forward = args,
                                      .dout = as_matrix(q),
                                      .dq = as_matrix(dq),
                                      .dk = as_matrix(dk),
                                      .dv = as_matrix(dv)});
}

/// DeepSeek-V3's heads: 128 and 64 turned dimensions, values of 128.
void Bench::mla() {
  constexpr std::int64_t kNope = 128, kRope = 64, kValue = 128;
  const Tensor kv = values({kTokens, kHeads * (kNope + kValue)}), k_pe = values({kTokens, kRope});
  const Tensor k = values({kTokens, kHeads * (kNope + kRope)}), v = values({kTokens, kHeads * kValue});
  using ops::as_matrix;
  time("", kernels::MlaKeysValuesArgs{.kv = as_matrix(kv),
                                      .k_pe = as_matrix(k_pe),
                                      .k = as_matrix(k),
                                      .v = as_matrix(v),
                                      .heads = kHeads,
                                      .nope_dim = kNope,
                                      .rope_dim = kRope,
                                      .v_dim = kValue});
  time("", kernels::MlaKeysValuesGradArgs{.dk = as_matrix(k),
                                          .dv = as_matrix(v),
                                          .dkv = as_matrix(kv),
                                          .dk_pe = as_matrix(k_pe),
                                          .heads = kHeads,
                                          .nope_dim = kNope,
                                          .rope_dim = kRope,
                                          .v_dim = kValue});
}

void Bench::experts() {
  const std::int64_t routed = kTokens * kTopK;
  const Tensor chosen = Tensor::empty(context_.allocator(), {kTokens, kTopK}, DType::kI32);
  const Tensor logits = floats({kTokens, kExperts});
  const Tensor probabilities = floats({kTokens, kExperts});
  const Tensor weights = floats({kTokens, kTopK});
  const Tensor sums = floats({kExperts});
  const auto ints = [&](std::int64_t n) { return Tensor::empty(context_.allocator(), {n}, DType::kI32); };
  const Tensor counts = ints(kExperts);
  const Tensor offsets = ints(kExperts + 1);
  const Tensor permutation = ints(routed);
  const Tensor inverse = ints(routed);
  time("", kernels::RouterArgs{.logits = logits.as<float>(),
                               .tokens = kTokens,
                               .experts = kExperts,
                               .top_k = kTopK,
                               .rule = {.normalize = true},
                               .probabilities = probabilities.as<float>(),
                               .weights = weights.as<float>(),
                               .experts_of = chosen.as<std::int32_t>(),
                               .probability_sums = sums.as<float>()});
  time("", kernels::MoePlanArgs{.experts_of = chosen.as<std::int32_t>(),
                                .tokens = kTokens,
                                .top_k = kTopK,
                                .experts = kExperts,
                                .counts = counts.as<std::int32_t>(),
                                .offsets = offsets.as<std::int32_t>(),
                                .permutation = permutation.as<std::int32_t>(),
                                .inverse = inverse.as<std::int32_t>()});
  const Tensor x = values({kTokens, kHidden});
  const Tensor gate_up = values({kExperts, 2 * kFfn, kHidden});
  const Tensor down = values({kExperts, kHidden, kFfn});
  const Tensor pre = values({routed, 2 * kFfn});
  const Tensor y = floats({kTokens, kHidden});
  const Tensor residual = floats({kTokens, kHidden});
  using ops::as_matrix;
  const kernels::ExpertsArgs args{.x = as_matrix(x),
                                  .gate_up = {gate_up.data()},
                                  .down = {down.data()},
                                  .weights = weights.as<float>(),
                                  .offsets = offsets.as<std::int32_t>(),
                                  .permutation = permutation.as<std::int32_t>(),
                                  .inverse = inverse.as<std::int32_t>(),
                                  .pre_activation = pre.data(),
                                  .wants_pre_activation = true,
                                  .residual = as_matrix(residual),
                                  .y = as_matrix(y),
                                  .experts = kExperts,
                                  .top_k = kTopK,
                                  .ffn = kFfn};
  time("", args);
  const Tensor dx = floats({kTokens, kHidden});
  const Tensor dweights = floats({kTokens, kTopK});
  const Tensor dgate_up = values(gate_up.shape());
  const Tensor ddown = values(down.shape());
  time("", kernels::ExpertsGradArgs{.forward = args,
                                    .dy = as_matrix(y),
                                    .dx = as_matrix(dx),
                                    .dweights = dweights.as<float>(),
                                    .dgate_up = dgate_up.data(),
                                    .ddown = ddown.data(),
                                    .wants_dweights = true,
                                    .wants_dgate_up = true,
                                    .wants_ddown = true,
                                    .dgate_up_dtype = dtype_,
                                    .ddown_dtype = dtype_});
  // Frozen and quantised, with the gradients that adapters beside them need.
  const auto bytes = [&](Shape shape, std::uint8_t each) {
    const Tensor t = context_.empty(std::move(shape), DType::kU8);
    context_.stream().fill(t.data(), each, t.size_bytes());
    return t;
  };
  const auto blocks = [](std::int64_t n) { return (n + 127) / 128; };
  constexpr std::uint8_t kOnes = 0x22, kOne = 0x38, kExponent = 120;  // of e2m1, e4m3, e8m0: 2^-7
  const Tensor fp4_gate_up = bytes({kExperts, 2 * kFfn, kHidden / 2}, kOnes);
  const Tensor fp4_down = bytes({kExperts, kHidden, kFfn / 2}, kOnes);
  const Tensor fp8_gate_up = bytes(gate_up.shape(), kOne);
  const Tensor fp8_down = bytes(down.shape(), kOne);
  const Tensor gate_up_exponents = bytes({kExperts, 2 * kFfn, kHidden / 32}, kExponent);
  const Tensor down_exponents = bytes({kExperts, kHidden, kFfn / 32}, kExponent);
  const Tensor gate_up_scales = floats({kExperts, 2 * blocks(kFfn), blocks(kHidden)});
  const Tensor down_scales = floats({kExperts, blocks(kHidden), blocks(kFfn)});
  using kernels::WeightKind;
  struct Quantised {
    std::string_view name;
    kernels::ExpertWeight gate_up, down;
  };
  for (const Quantised& q : {Quantised{"of MXFP4",
                                       {fp4_gate_up.data(), gate_up_exponents.data(), WeightKind::kMxfp4},
                                       {fp4_down.data(), down_exponents.data(), WeightKind::kMxfp4}},
                             Quantised{"of FP8 blocks",
                                       {fp8_gate_up.data(), gate_up_scales.data(), WeightKind::kFp8Block},
                                       {fp8_down.data(), down_scales.data(), WeightKind::kFp8Block}}}) {
    kernels::ExpertsArgs frozen = args;
    frozen.gate_up = q.gate_up;
    frozen.down = q.down;
    time(q.name, frozen);
    time(q.name, kernels::ExpertsGradArgs{.forward = frozen,
                                          .dy = as_matrix(y),
                                          .dx = as_matrix(dx),
                                          .dweights = dweights.as<float>(),
                                          .wants_dweights = true});
  }
  if (!options_.json)
    fmt::print(
        "      kept per MoE layer for the gradient: input {:.1f} + pre-activation {:.1f} + weights {:.2f} "
        "MiB\n",
        static_cast<double>(x.size_bytes()) / 0x1p20, static_cast<double>(pre.size_bytes()) / 0x1p20,
        static_cast<double>(weights.size_bytes()) / 0x1p20);
}

void Bench::rows() {
  const Tensor x = floats({kTokens, kHidden});
  const Tensor dx = floats({kTokens, kHidden});
  const Tensor weight = values({kHidden});
  const Tensor dweight = values({kHidden});
  const Tensor y = values({kTokens, kHidden});
  const Tensor rstd = floats({kTokens});
  using ops::as_matrix;
  time("", kernels::RmsNormArgs{.x = as_matrix(x),
                                .weight = weight.data(),
                                .y = as_matrix(y),
                                .rstd = rstd.as<float>(),
                                .wants_rstd = true,
                                .weight_dtype = dtype_,
                                .eps = 1e-6F});
  time("", kernels::RmsNormGradArgs{.dy = as_matrix(x),
                                    .x = as_matrix(x),
                                    .weight = weight.data(),
                                    .rstd = rstd.as<float>(),
                                    .dx = as_matrix(dx),
                                    .dweight = dweight.data(),
                                    .wants_dweight = true,
                                    .weight_dtype = dtype_,
                                    .dweight_dtype = dtype_,
                                    .accumulate_dx = true});
  const Tensor head_weight = values({kHeadDim});
  const Tensor cosines = floats({kRow, kHeadDim / 2});
  const Tensor positions =
      indices(kTokens, [](std::int64_t i) { return static_cast<std::int32_t>(i % kRow); });
  const Tensor q = values({kTokens, kHeads * kHeadDim});
  const Tensor rotated = values(q.shape());
  time("", kernels::HeadNormRopeArgs{.x = as_matrix(q),
                                     .y = as_matrix(rotated),
                                     .weight = head_weight.data(),
                                     .has_weight = true,
                                     .cos = cosines.as<float>(),
                                     .sin = cosines.as<float>(),
                                     .positions = positions.as<std::int32_t>(),
                                     .heads = kHeads,
                                     .head_dim = kHeadDim,
                                     .rotary_dim = kHeadDim,
                                     .weight_dtype = dtype_,
                                     .eps = 1e-6F});
  const Tensor gate = values({kTokens, 4 * kHidden});
  const Tensor up = values({kTokens, 4 * kHidden});
  time("silu * up",
       kernels::ActivationArgs{.gate = as_matrix(gate), .up = as_matrix(up), .y = as_matrix(gate)});
  const Tensor table = values({kVocab, kHidden});
  const Tensor ids =
      indices(kTokens, [](std::int64_t i) { return static_cast<std::int32_t>(i * 7919 % kVocab); });
  time("of a vocabulary",
       kernels::TakeRowsArgs{.x = as_matrix(table), .y = as_matrix(dx), .index = ids.as<std::int32_t>()});
}

void Bench::head_and_optimizer() {
  const Tensor hidden = values({kTokens, kHidden});
  const Tensor weight = values({kVocab, kHidden});
  const Tensor dweight = values({kVocab, kHidden});
  const Tensor dhidden = floats({kTokens, kHidden});
  const Tensor nll = floats({kTokens});
  const Tensor loss = floats({1});
  const Tensor targets =
      indices(kTokens, [](std::int64_t i) { return static_cast<std::int32_t>(i * 104729 % kVocab); });
  using ops::as_matrix;
  time("+ gradients",
       kernels::LinearCrossEntropyArgs{.head = {.hidden = as_matrix(hidden), .weight = as_matrix(weight)},
                                       .targets = targets.as<std::int32_t>(),
                                       .scale = 1.0F / kTokens,
                                       .nll = nll.as<float>(),
                                       .loss = loss.as<float>(),
                                       .gradients = {.dhidden = as_matrix(dhidden),
                                                     .dweight = dweight.data(),
                                                     .wants_dweight = true,
                                                     .dweight_dtype = dtype_}});
  const Tensor lse = floats({kTokens}), target_logit = floats({kTokens});
  const kernels::HeadStatisticsArgs statistics{
      .head = {.hidden = as_matrix(hidden), .weight = as_matrix(weight)},
      .targets = targets.as<std::int32_t>(),
      .lse = lse.as<float>(),
      .target_logit = target_logit.as<float>()};
  time("", statistics);
  time("", kernels::HeadGradArgs{.forward = statistics,
                                 .dlse = nll.as<float>(),
                                 .dtarget_logit = target_logit.as<float>(),
                                 .has_dlse = true,
                                 .has_dtarget_logit = true,
                                 .gradients = {.dhidden = as_matrix(dhidden),
                                               .dweight = dweight.data(),
                                               .wants_dweight = true,
                                               .dweight_dtype = dtype_}});
  constexpr std::int64_t kElements = 16 << 20;
  const Tensor master = floats({kElements});
  const Tensor copy = random({dtype_ == DType::kBF16 ? kElements : 1}, DType::kBF16);
  const Tensor grad = values({kElements});
  const Tensor first = context_.zeros({kElements}, DType::kF32);
  const Tensor second = context_.zeros({kElements}, DType::kF32);
  const std::array numbers{
      kernels::StepScalars{.learning_rate = 1e-4F, .bias_correction1 = 0.1F, .bias_correction2 = 0.001F}};
  const Tensor scalars = context_.empty({sizeof(numbers)}, DType::kU8);
  upload_bytes(context_.stream(), std::as_bytes(std::span(numbers)), scalars);
  auto* const step = static_cast<kernels::StepScalars*>(scalars.data());
  time("16.8 M elements", kernels::AdamWArgs{.master = master.as<float>(),
                                             .weight = dtype_ == DType::kBF16 ? copy.data() : nullptr,
                                             .has_weight = dtype_ == DType::kBF16,
                                             .grad = grad.data(),
                                             .exp_avg = first.as<float>(),
                                             .exp_avg_sq = second.as<float>(),
                                             .n = kElements,
                                             .grad_dtype = dtype_,
                                             .scalars = step});
  time("16.8 M elements",
       kernels::SumOfSquaresArgs{.x = grad.data(), .n = kElements, .dtype = dtype_, .scalars = step});
}

void Bench::run() {
  matrices();
  attention();
  mla();
  experts();
  rows();
  head_and_optimizer();
}

}  // namespace

void bench_kernels(const BenchKernelsOptions& options) {
  auto context = options.compute.context();
  Team& team = context.stream().team();
  const auto compute = kernels::measure_compute_peak(context.device(), team);
  const auto memory = kernels::measure_memory_peak(context.device(), team);
  if (!options.json)
    fmt::print(
        "{} kernels on {} threads; ceilings measured now: {:.0f} GFLOP/s f32, {:.0f} bf16, {:.0f} GB/s "
        "copied (data in a cache may pass it)\n",
        kernels::describe(context.device()).kernels, team.num_threads(), compute.f32, compute.bf16,
        memory.copy);
  const auto dtype = options.compute.compute_dtype();
  for (const DType d : {DType::kF32, DType::kBF16})
    if (!dtype || *dtype == d) Bench(context, d, options, compute, memory).run();
}

}  // namespace hone::cli
