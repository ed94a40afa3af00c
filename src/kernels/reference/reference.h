// The reference kernels: the whole table in plain C++, one loop a formula, sums in double. They are the
// oracle of every other table and run where no vector instruction set is available.
#pragma once

#include "kernels/kernels.h"

namespace hone::kernels::reference {

void matmul(const MatmulArgs& a, Stream& stream);
void column_sum(const ColumnSumArgs& a, Stream& stream);

void embedding(const EmbeddingArgs& a, Stream& stream);
void embedding_grad(const EmbeddingGradArgs& a, Stream& stream);
void take_rows(const TakeRowsArgs& a, Stream& stream);
void put_rows(const PutRowsArgs& a, Stream& stream);

void rms_norm(const RmsNormArgs& a, Stream& stream);
void rms_norm_grad(const RmsNormGradArgs& a, Stream& stream);
void head_norm_rope(const HeadNormRopeArgs& a, Stream& stream);
void head_norm_rope_grad(const HeadNormRopeGradArgs& a, Stream& stream);

void attention(const AttentionArgs& a, Stream& stream);
void attention_grad(const AttentionGradArgs& a, Stream& stream);

void silu_mul(const SiluMulArgs& a, Stream& stream);
void silu_mul_grad(const SiluMulGradArgs& a, Stream& stream);
void row_gate(const RowGateArgs& a, Stream& stream);
void row_gate_grad(const RowGateGradArgs& a, Stream& stream);
void copy(const CopyArgs& a, Stream& stream);
void clamp_grad(const ClampGradArgs& a, Stream& stream);

void router(const RouterArgs& a, Stream& stream);
void router_grad(const RouterGradArgs& a, Stream& stream);
void moe_plan(const MoePlanArgs& a, Stream& stream);
void experts(const ExpertsArgs& a, Stream& stream);
void experts_grad(const ExpertsGradArgs& a, Stream& stream);
void load_balancing(const LoadBalancingArgs& a, Stream& stream);

void linear_cross_entropy(const LinearCrossEntropyArgs& a, Stream& stream);

void sum_of_squares(const SumOfSquaresArgs& a, Stream& stream);
void finish_norm(const FinishNormArgs& a, Stream& stream);
void adamw(const AdamWArgs& a, Stream& stream);
void sgd(const SgdArgs& a, Stream& stream);

/// All of the above.
const KernelTable& table();

}  // namespace hone::kernels::reference
