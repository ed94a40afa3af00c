#include "ops/rows.h"

#include "ops/launch.h"
#include "ops/matrix.h"

namespace hone::ops {

namespace {

Tensor look_up(Context& context, std::string_view op, const Tensor& table, const Tensor& ids,
               std::int64_t padding_id, DType dtype) {
  Tensor out = context.empty({ids.size(0), table.size(1)}, dtype);
  launch(context, op, context.kernels().take_rows,
         {.x = as_matrix(table), .y = as_matrix(out), .index = ids.as<std::int32_t>()});
  if (!needs_grad(context, {&table})) return out;
  record(context, op, {&table}, {&out}, [op, ids, padding_id](Backward& b) {
    const GradTarget to = b.target(0);
    launch(b.context(), op, b.context().kernels().embedding_grad,
           {.dout = b.grad().data(),
            .ids = ids.as<std::int32_t>(),
            .dtable = to.grad.data(),
            .rows = ids.size(0),
            .hidden = to.grad.size(1),
            .vocab = to.grad.size(0),
            .padding_id = padding_id,
            .dout_dtype = b.grad().dtype(),
            .dtable_dtype = to.grad.dtype(),
            .accumulate = to.accumulate});
  });
  return out;
}

}  // namespace

Tensor embedding(Context& context, const Weight& weight, const Tensor& ids, std::int64_t padding_id) {
  constexpr std::string_view kOp = "ops.embedding";
  const HeldWeight held(context, weight);
  const Tensor& table = held.value();
  check_dense_argument(context, kOp, "table", table, 2, kComputeTypes);
  check_argument(context, kOp, "ids", ids, 1, {DType::kI32});
  HONE_CHECK(padding_id >= -1 && padding_id < table.size(0), "[ops.embedding] padding id {}, table {}",
             padding_id, table.shape().str());
  return look_up(context, kOp, table, ids, padding_id, DType::kF32);
}

Tensor gather(Context& context, const Tensor& x, const Tensor& index) {
  constexpr std::string_view kOp = "ops.gather";
  check_dense_argument(context, kOp, "x", x, 2, kComputeTypes);
  check_argument(context, kOp, "index", index, 1, {DType::kI32});
  return look_up(context, kOp, x, index, -1, x.dtype());
}

Tensor take_rows(Context& context, const Tensor& x, const Tensor& index) {
  constexpr std::string_view kOp = "ops.take_rows";
  check_argument(context, kOp, "x", x, 2, kComputeTypes);
  check_argument(context, kOp, "index", index, 1, {DType::kI32});
  HONE_CHECK(index.size(0) <= x.size(0), "[ops.take_rows] {} different rows of x {}", index.size(0),
             x.shape().str());
  Tensor y = context.empty({index.size(0), x.size(1)}, x.dtype());
  launch(context, kOp, context.kernels().take_rows,
         {.x = as_matrix(x), .y = as_matrix(y), .index = index.as<std::int32_t>()});
  if (!needs_grad(context, {&x})) return y;
  record(context, kOp, {&x}, {&y}, [index](Backward& b) {
    const GradTarget to = b.target(0);
    launch(b.context(), "ops.take_rows gradient", b.context().kernels().put_rows,
           {.dy = as_matrix(b.grad()),
            .dx = as_matrix(to.grad),
            .index = index.as<std::int32_t>(),
            .accumulate = to.accumulate});
  });
  return y;
}

}  // namespace hone::ops
