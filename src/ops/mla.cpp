#include "ops/mla.h"

#include "ops/launch.h"
#include "ops/matrix.h"

namespace hone::ops {

namespace {

constexpr std::string_view kMlaKeysValuesOp = "ops.mla_keys_values";

}  // namespace

KeysValues mla_keys_values(Context& context, const Tensor& kv, const Tensor& k_pe, std::int64_t heads,
                           std::int64_t nope_dim) {
  check_argument(context, kMlaKeysValuesOp, "kv", kv, 2, kComputeTypes);
  check_argument(context, kMlaKeysValuesOp, "k_pe", k_pe, 2, {kv.dtype()});
  HONE_CHECK(heads > 0 && nope_dim >= 0 && kv.size(1) % heads == 0 && kv.size(1) / heads > nope_dim,
             "[{}] kv is {}, for {} heads with {} elements of keys each", kMlaKeysValuesOp, kv.shape().str(),
             heads, nope_dim);
  HONE_CHECK(k_pe.size(0) == kv.size(0), "[{}] kv is {}, k_pe {}", kMlaKeysValuesOp, kv.shape().str(),
             k_pe.shape().str());
  const std::int64_t tokens = kv.size(0), rope_dim = k_pe.size(1), v_dim = kv.size(1) / heads - nope_dim;
  KeysValues out{.k = context.empty({tokens, heads * (nope_dim + rope_dim)}, kv.dtype()),
                 .v = context.empty({tokens, heads * v_dim}, kv.dtype())};
  launch(context, kMlaKeysValuesOp, context.kernels().mla_keys_values,
         {.kv = as_matrix(kv),
          .k_pe = as_matrix(k_pe),
          .k = as_matrix(out.k),
          .v = as_matrix(out.v),
          .heads = heads,
          .nope_dim = nope_dim,
          .rope_dim = rope_dim,
          .v_dim = v_dim});
  if (!needs_grad(context, {&kv, &k_pe})) return out;
  record(context, kMlaKeysValuesOp, {&kv, &k_pe}, {&out.k, &out.v},
         [heads, nope_dim, rope_dim, v_dim](Backward& b) {
           const Tensor dk = b.take_grad(0), dv = b.take_grad(1);
           const GradTarget dkv = b.wants(0) ? b.target(0) : GradTarget();
           const GradTarget dk_pe = b.wants(1) ? b.target(1) : GradTarget();
           launch(b.context(), "ops.mla_keys_values gradient", b.context().kernels().mla_keys_values_grad,
                  {.dk = as_matrix(dk),
                   .dv = as_matrix(dv),
                   .dkv = as_matrix(dkv.grad),
                   .dk_pe = as_matrix(dk_pe.grad),
                   .heads = heads,
                   .nope_dim = nope_dim,
                   .rope_dim = rope_dim,
                   .v_dim = v_dim,
                   .accumulate_dkv = dkv.accumulate,
                   .accumulate_dk_pe = dk_pe.accumulate});
         });
  return out;
}

}  // namespace hone::ops
