// The row-wise kernels of one instruction set. Each member is defined in a rows_*.h and instantiated in the
// units of src/kernels/cpu/units/.
#pragma once

#include "kernels/cpu/isa.h"
#include "kernels/kernels.h"

namespace hone::kernels::cpu {

template <class Isa>
struct RowKernels {
  static void rms_norm(const RmsNormArgs& a, Stream& stream);
  static void rms_norm_grad(const RmsNormGradArgs& a, Stream& stream);
  static void head_norm_rope(const HeadNormRopeArgs& a, Stream& stream);
  static void head_norm_rope_grad(const HeadNormRopeGradArgs& a, Stream& stream);

  static void mla_keys_values(const MlaKeysValuesArgs& a, Stream& stream);
  static void mla_keys_values_grad(const MlaKeysValuesGradArgs& a, Stream& stream);

  static void activation(const ActivationArgs& a, Stream& stream);
  static void activation_grad(const ActivationGradArgs& a, Stream& stream);
  static void row_gate(const RowGateArgs& a, Stream& stream);
  static void row_gate_grad(const RowGateGradArgs& a, Stream& stream);
  static void copy(const CopyArgs& a, Stream& stream);
  static void clamp(const ClampArgs& a, Stream& stream);
  static void clamp_grad(const ClampGradArgs& a, Stream& stream);
  static void column_sum(const ColumnSumArgs& a, Stream& stream);

  static void embedding_grad(const EmbeddingGradArgs& a, Stream& stream);
  static void take_rows(const TakeRowsArgs& a, Stream& stream);
  static void put_rows(const PutRowsArgs& a, Stream& stream);

  static void router(const RouterArgs& a, Stream& stream);
  static void router_grad(const RouterGradArgs& a, Stream& stream);

  static void sum_of_squares(const SumOfSquaresArgs& a, Stream& stream);
  static void adamw(const AdamWArgs& a, Stream& stream);
  static void sgd(const SgdArgs& a, Stream& stream);
};

/// Needs no vector instructions, so there is one for all.
void moe_plan(const MoePlanArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
