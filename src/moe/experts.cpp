#include "moe/experts.h"

#include "ops/launch.h"
#include "ops/matrix.h"
#include "ops/saved.h"

namespace hone::moe {

using ops::as_matrix;
using ops::Backward;
using ops::check_argument;
using ops::check_dense_argument;
using ops::GradTarget;
using ops::Saved;

namespace {

constexpr std::string_view kExperts = "moe.experts";
enum ExpertsInput : std::size_t { kX, kGateUp, kDown, kGateUpBias, kDownBias, kWeights, kResidual };

template <typename T = void>
T* data_or_null(const Tensor& t) {
  return t.defined() ? static_cast<T*>(t.data()) : nullptr;
}

/// The values of an ExpertMatrix.
struct MatrixValues {
  WeightKind kind = WeightKind::kDense;
  Tensor elements, scales;

  kernels::ExpertWeight argument() const { return {elements.data(), data_or_null(scales), kind}; }
};
/// The values of ExpertWeights.
struct ExpertValues {
  MatrixValues gate_up, down;
  Tensor gate_up_bias, down_bias;
  bool fp8 = false;

  std::int64_t experts() const { return down.elements.size(0); }
  std::int64_t inner() const { return gate_up.elements.size(1); }
};

/// Has them acquired for as long as it lives.
struct HeldMatrix {
  HeldMatrix(Context& context, const ExpertMatrix& m)
      : kind(m.kind), elements(context, m.elements), scales(context, m.scales) {}
  MatrixValues values() const { return {kind, elements.value(), scales.value()}; }
  WeightKind kind;
  ops::HeldWeight elements, scales;
};
struct HeldExperts {
  HeldExperts(Context& context, const ExpertWeights& w)
      : gate_up(context, w.gate_up),
        down(context, w.down),
        gate_up_bias(context, w.gate_up_bias),
        down_bias(context, w.down_bias),
        fp8(w.gate_up.elements.is_in_fp8()) {
    HONE_CHECK(fp8 == w.down.elements.is_in_fp8(), "[moe.experts] one of gate_up and down is in fp8");
  }
  ExpertValues values() const {
    return {gate_up.values(), down.values(), gate_up_bias.value(), down_bias.value(), fp8};
  }
  HeldMatrix gate_up, down;
  ops::HeldWeight gate_up_bias, down_bias;
  bool fp8;
};

/// (experts, rows, k), whatever the kind.
Shape shape_of(const Context& context, std::string_view name, const MatrixValues& m, DType t) {
  const bool halves = m.kind == WeightKind::kMxfp4;
  const DType stored = m.kind == WeightKind::kDense ? t : halves ? DType::kU8 : DType::kF8E4M3;
  check_dense_argument(context, kExperts, name, m.elements, 3, {stored});
  HONE_CHECK(m.kind == WeightKind::kDense || !m.elements.grad_slot(),
             "[moe.experts] {} is quantised: it has no gradient, freeze it", name);
  const Shape& shape = m.elements.shape();
  return {shape[0], shape[1], halves ? 2 * shape[2] : shape[2]};
}

/// of: the matrix', of `parts` parts.
void check_scales(const Context& context, std::string_view name, const MatrixValues& m, const Shape& of,
                  std::int64_t parts) {
  if (m.kind == WeightKind::kDense) {
    HONE_CHECK(!m.scales.defined(), "[moe.experts] {} beside a dense weight", name);
    return;
  }
  const bool is_mx = m.kind == WeightKind::kMxfp4;
  const auto blocks = [](std::int64_t n) { return (n + 127) / 128; };
  const Shape wanted =
      is_mx ? Shape{of[0], of[1], of[2] / 32} : Shape{of[0], parts * blocks(of[1] / parts), blocks(of[2])};
  check_dense_argument(context, kExperts, name, m.scales, 3, {is_mx ? DType::kU8 : DType::kF32});
  HONE_CHECK(m.scales.shape() == wanted && (!is_mx || of[2] % 32 == 0),
             "[moe.experts] {} is {}, the weight {}", name, m.scales.shape().str(), of.str());
}

void check_weights(const Context& context, const Tensor& x, const ExpertValues& w, bool gated) {
  const Shape gate_up = shape_of(context, "gate_up", w.gate_up, x.dtype());
  const Shape down = shape_of(context, "down", w.down, x.dtype());
  const std::int64_t experts = down[0], parts = gated ? 2 : 1, inner = parts * down[2];
  HONE_CHECK(down[1] == x.size(1) && gate_up == (Shape{experts, inner, x.size(1)}),
             "[moe.experts] gate_up is {}, down {}, x {}{}", gate_up.str(), down.str(), x.shape().str(),
             gated ? "" : ", ungated");
  check_scales(context, "gate_up's scales", w.gate_up, gate_up, parts);
  check_scales(context, "down's scales", w.down, down, 1);
  const auto check_bias = [&](std::string_view name, const Tensor& bias, const Shape& shape) {
    if (!bias.defined()) return;
    check_argument(context, kExperts, name, bias, 2, {x.dtype()});
    HONE_CHECK(bias.shape() == shape, "[moe.experts] {} is {}, wanted {}", name, bias.shape().str(),
               shape.str());
  };
  check_bias("gate_up_bias", w.gate_up_bias, {experts, inner});
  check_bias("down_bias", w.down_bias, {experts, x.size(1)});
}

void check_experts(const Context& context, const Tensor& x, const ExpertValues& w, bool gated,
                   const Routing& r, const Tensor& residual, DType out_dtype) {
  check_argument(context, kExperts, "x", x, 2, ops::kComputeTypes);
  check_weights(context, x, w, gated);
  HONE_CHECK(out_dtype == DType::kF32 || out_dtype == x.dtype(), "[moe.experts] a result of {} for x of {}",
             name_of(out_dtype), name_of(x.dtype()));
  const std::int64_t tokens = x.size(0);
  check_dense_argument(context, kExperts, "routing.weights", r.weights, 2, {DType::kF32});
  check_argument(context, kExperts, "routing.offsets", r.offsets, 1, {DType::kI32});
  check_argument(context, kExperts, "routing.permutation", r.permutation, 1, {DType::kI32});
  check_argument(context, kExperts, "routing.inverse", r.inverse, 1, {DType::kI32});
  HONE_CHECK(r.weights.size(0) == tokens, "[moe.experts] routing of {} tokens, x {}", r.weights.size(0),
             x.shape().str());
  HONE_CHECK(r.offsets.size(0) == w.experts() + 1, "[moe.experts] routing to {} experts, down {}",
             r.offsets.size(0) - 1, w.down.elements.shape().str());
  const std::int64_t pairs = r.weights.numel();
  HONE_CHECK(r.permutation.size(0) == pairs && r.inverse.size(0) == pairs,
             "[moe.experts] a plan of {} rows for routing weights {}", r.permutation.size(0),
             r.weights.shape().str());
  if (!residual.defined()) return;
  check_argument(context, kExperts, "residual", residual, 2, {DType::kF32});
  HONE_CHECK(residual.shape() == x.shape(), "[moe.experts] residual is {}, x {}", residual.shape().str(),
             x.shape().str());
}

/// What the kernel is given, forward and backward.
struct ExpertsCall {
  Tensor x;
  ExpertValues experts;
  ExpertFunction function;
  Tensor weights, offsets, permutation, inverse, pre_activation;

  kernels::ExpertsArgs args(const Tensor& residual, const Tensor& y) const {
    return {.x = as_matrix(x),
            .gate_up = experts.gate_up.argument(),
            .down = experts.down.argument(),
            .gate_up_bias = data_or_null(experts.gate_up_bias),
            .down_bias = data_or_null(experts.down_bias),
            .has_gate_up_bias = experts.gate_up_bias.defined(),
            .has_down_bias = experts.down_bias.defined(),
            .activation = function.activation,
            .gated = function.gated,
            .alpha = function.alpha,
            .limit = function.limit,
            .weights = weights.as<float>(),
            .offsets = offsets.as<std::int32_t>(),
            .permutation = permutation.as<std::int32_t>(),
            .inverse = inverse.as<std::int32_t>(),
            .pre_activation = data_or_null(pre_activation),
            .wants_pre_activation = pre_activation.defined(),
            .residual = as_matrix(residual),
            .y = as_matrix(y),
            .experts = experts.experts(),
            .top_k = weights.size(1),
            .ffn = experts.inner() / (function.gated ? 2 : 1),
            .fp8 = experts.fp8};
  }
};

/// The gradients that are wanted of one call; undefined ones are not.
struct ExpertsGradients {
  GradTarget dx;
  Tensor dweights;
  GradTarget gate_up, down, gate_up_bias, down_bias;
};

void launch_gradients(Context& context, const ExpertsCall& call, const Tensor& dy,
                      const ExpertsGradients& to) {
  const std::int64_t experts = call.experts.experts();
  const Tensor gate_up_squares = to.gate_up.squares(context, experts),
               down_squares = to.down.squares(context, experts);
  launch(context, "moe.experts gradient", context.kernels().experts_grad,
         {.forward = call.args({}, {}),
          .dy = as_matrix(dy),
          .dx = as_matrix(to.dx.grad),
          .dweights = data_or_null<float>(to.dweights),
          .dgate_up = data_or_null(to.gate_up.grad),
          .ddown = data_or_null(to.down.grad),
          .dgate_up_bias = data_or_null(to.gate_up_bias.grad),
          .ddown_bias = data_or_null(to.down_bias.grad),
          .dgate_up_squares = data_or_null<double>(gate_up_squares),
          .ddown_squares = data_or_null<double>(down_squares),
          .wants_dgate_up_squares = gate_up_squares.defined(),
          .wants_ddown_squares = down_squares.defined(),
          .wants_dweights = to.dweights.defined(),
          .wants_dgate_up = to.gate_up.grad.defined(),
          .wants_ddown = to.down.grad.defined(),
          .wants_dgate_up_bias = to.gate_up_bias.grad.defined(),
          .wants_ddown_bias = to.down_bias.grad.defined(),
          .dgate_up_dtype = to.gate_up.grad.dtype(),
          .ddown_dtype = to.down.grad.dtype(),
          .dgate_up_bias_dtype = to.gate_up_bias.grad.dtype(),
          .ddown_bias_dtype = to.down_bias.grad.dtype(),
          .accumulate_dx = to.dx.accumulate,
          .accumulate_dgate_up = to.gate_up.accumulate,
          .accumulate_ddown = to.down.accumulate,
          .accumulate_dgate_up_bias = to.gate_up_bias.accumulate,
          .accumulate_ddown_bias = to.down_bias.accumulate});
}

/// x: undefined where only the residual's gradient is wanted.
void experts_backward(Backward& b, const ExpertsCall& kept, const ExpertWeights& weights, const Saved& x) {
  Context& context = b.context();
  const auto target = [&b](std::size_t input) { return b.wants(input) ? b.target(input) : GradTarget(); };
  const Tensor dy = b.take_grad();
  if (x.defined()) {
    const HeldExperts held(context, weights);
    ExpertsCall call = kept;
    call.x = x.get(context);
    call.experts = held.values();
    ExpertsGradients to{
        .dx = target(kX), .dweights = {}, .gate_up = {}, .down = {}, .gate_up_bias = {}, .down_bias = {}};
    if (b.wants(kWeights)) to.dweights = context.empty(call.weights.shape(), DType::kF32);
    if (!b.defers()) {
      to.gate_up = target(kGateUp);
      to.down = target(kDown);
      to.gate_up_bias = target(kGateUpBias);
      to.down_bias = target(kDownBias);
    }
    const bool is_wanted = to.dx.grad.defined() || to.dweights.defined() || !b.defers();
    if (is_wanted) launch_gradients(context, call, dy, to);
    b.give(kWeights, std::move(to.dweights));
    if (b.defers())
      b.later(
          {kGateUp, kDown, kGateUpBias, kDownBias},
          [x, dy](Context& later) {
            return std::vector<Tensor>{x.get(later), dy};
          },
          [kept, weights](Context& later, const std::vector<Tensor>& of,
                          const std::vector<GradTarget>& targets) {
            const HeldExperts held_later(later, weights);
            ExpertsCall call_later = kept;
            call_later.x = of[0];
            call_later.experts = held_later.values();
            launch_gradients(later, call_later, of[1],
                             {.dx = {},
                              .dweights = {},
                              .gate_up = targets[0],
                              .down = targets[1],
                              .gate_up_bias = targets[2],
                              .down_bias = targets[3]});
          });
  }
  b.give(kResidual, dy);
}

}  // namespace

Tensor experts(Context& context, const Tensor& x, const ExpertWeights& handles,
               const ExpertFunction& function, const Routing& routing, const Tensor& residual,
               DType out_dtype) {
  const HeldExperts held(context, handles);
  const ExpertValues weights = held.values();
  check_experts(context, x, weights, function.gated, routing, residual, out_dtype);
  const bool products =
      ops::needs_grad(context, {&x, &weights.gate_up.elements, &weights.down.elements, &weights.gate_up_bias,
                                &weights.down_bias, &routing.weights});
  const bool recording = products || ops::needs_grad(context, {&residual});
  ExpertsCall call{.x = x.detach(),
                   .experts = weights,
                   .function = function,
                   .weights = routing.weights.detach(),
                   .offsets = routing.offsets,
                   .permutation = routing.permutation,
                   .inverse = routing.inverse,
                   .pre_activation = {}};
  if (products && context.tape()->keeps())
    call.pre_activation = context.empty({routing.weights.numel(), weights.inner()}, x.dtype());
  Tensor y = context.empty(x.shape(), out_dtype);
  launch(context, kExperts, context.kernels().experts, call.args(residual, y));
  if (!recording) return y;
  call.x = Tensor();
  call.experts = {};
  if (!products) call = ExpertsCall();
  const ExpertWeights kept{handles.gate_up.detach(), handles.down.detach(), handles.gate_up_bias.detach(),
                           handles.down_bias.detach()};
  record(context, kExperts,
         {&x, &weights.gate_up.elements, &weights.down.elements, &weights.gate_up_bias, &weights.down_bias,
          &routing.weights, &residual},
         {&y}, [call = std::move(call), kept, kept_x = products ? Saved(x) : Saved()](Backward& b) {
           experts_backward(b, call, kept, kept_x);
         });
  return y;
}

}  // namespace hone::moe
