// How operations check their arguments and call kernels.
#pragma once

#include <initializer_list>
#include <string_view>

#include "ops/context.h"

namespace hone::ops {

/// What activations and weights are stored in while computing.
inline constexpr std::initializer_list<DType> kComputeTypes{DType::kF32, DType::kBF16};

/// Throws Error(kInternal) unless `tensor` is defined, lives on the context's device, and has this rank and
/// one of these dtypes: "[ops.linear] weight is bf16 (3), wanted rank 2, f32 or bf16". `op` with its room.
void check_argument(const Context& context, std::string_view op, std::string_view name, const Tensor& tensor,
                    int rank, std::initializer_list<DType> dtypes);
/// The same for arguments that kernels read as dense memory.
void check_dense_argument(const Context& context, std::string_view op, std::string_view name,
                          const Tensor& tensor, int rank, std::initializer_list<DType> dtypes);

[[noreturn]] void fail_unsupported(const Context& context, std::string_view op);

/// Runs one kernel of the context's table. Throws Error(kUser), "[ops.x] not supported on DEVICE", where the
/// table has none, and Error(kInternal) for arguments that the kernel does not take (kernels::validate).
template <typename Args>
void launch(Context& context, std::string_view op, kernels::Kernel<Args> kernel, const Args& args) {
  if (kernel == nullptr) fail_unsupported(context, op);
  kernels::validate(args);
  const auto run = [&] {
    const device::KernelScope scope(context.stream());
    kernel(args, context.stream());
  };
  if (context.profile() == nullptr) return run();
  context.profile()->time(args, context.stream(), run);
}

/// For losses whose gradient was made in the forward pass: throws Error(kInternal) unless the gradient that
/// reaches them is context.one() itself, as Tape::backward hands it to the sum of losses and that on to each;
/// its value is on the device and not read.
void check_unit_gradient(Context& context, std::string_view op, const Tensor& grad);

/// y = [y +] factor * x: matrices or vectors of one shape, f32 or bf16 each. Records nothing.
void copy(Context& context, std::string_view op, const Tensor& x, const Tensor& y, bool accumulate = false,
          float factor = 1);

/// `tensor` in another dtype, in scratch memory; `tensor` itself where it has it already. Records nothing.
Tensor converted(Context& context, std::string_view op, const Tensor& tensor, DType dtype);

}  // namespace hone::ops
