#include "ops/attention.h"

#include <algorithm>
#include <numeric>

#include "ops/launch.h"
#include "ops/matrix.h"
#include "ops/saved.h"

namespace hone::ops {

namespace {

constexpr std::string_view kAttentionOp = "ops.attention";

void check(const Context& context, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& sinks,
           const SequenceLayout& layout, std::int64_t head_dim, std::int64_t window,
           const AttentionOptions& options) {
  check_argument(context, kAttentionOp, "q", q, 2, kComputeTypes);
  check_argument(context, kAttentionOp, "k", k, 2, {q.dtype()});
  check_argument(context, kAttentionOp, "v", v, 2, {q.dtype()});
  HONE_CHECK(head_dim > 0 && q.size(1) % head_dim == 0 && k.size(1) % head_dim == 0 && k.size(1) > 0 &&
                 q.size(1) % k.size(1) == 0,
             "[ops.attention] q {} and k {} do not make heads of {} in whole groups", q.shape().str(),
             k.shape().str(), head_dim);
  const std::int64_t v_head_dim = options.v_head_dim > 0 ? options.v_head_dim : head_dim;
  HONE_CHECK(v.size(0) == k.size(0) && v.size(1) == k.size(1) / head_dim * v_head_dim,
             "[ops.attention] k is {}, v {}, heads of v are {}", k.shape().str(), v.shape().str(),
             v_head_dim);
  HONE_CHECK(options.softcap >= 0, "[ops.attention] softcap is {}", options.softcap);
  if (sinks.defined()) {
    check_dense_argument(context, kAttentionOp, "sinks", sinks, 1, {q.dtype()});
    HONE_CHECK(sinks.size(0) == q.size(1) / head_dim, "[ops.attention] {} sinks, {} heads", sinks.size(0),
               q.size(1) / head_dim);
  }
  check_argument(context, kAttentionOp, "q_offsets", layout.q_offsets, 1, {DType::kI32});
  check_argument(context, kAttentionOp, "key_begin", layout.key_begin, 1, {DType::kI32});
  check_argument(context, kAttentionOp, "key_length", layout.key_length, 1, {DType::kI32});
  const std::int64_t sequences = layout.key_begin.size(0);
  HONE_CHECK(layout.q_offsets.size(0) == sequences + 1 && layout.key_length.size(0) == sequences,
             "[ops.attention] {} q_offsets, {} key_begin, {} key_length", layout.q_offsets.size(0), sequences,
             layout.key_length.size(0));
  HONE_CHECK(layout.size() == sequences && layout.num_keys.size() == layout.num_queries.size(),
             "[ops.attention] {} sequences, {} known on the host", sequences, layout.size());
  HONE_CHECK(window >= 0, "[ops.attention] window is {}", window);
}

/// What the kernel is given, forward and backward.
struct Call {
  Tensor q, k, v, sinks, out, lse;
  SequenceLayout layout;
  std::int64_t head_dim = 0, v_head_dim = 0, window = 0;
  float scale = 1, softcap = 0;

  kernels::AttentionArgs args() const {
    return {.q = as_matrix(q),
            .k = as_matrix(k),
            .v = as_matrix(v),
            .sinks = sinks.defined() ? sinks.data() : nullptr,
            .has_sinks = sinks.defined(),
            .out = as_matrix(out),
            .lse = lse.defined() ? lse.as<float>() : nullptr,
            .wants_lse = lse.defined(),
            .q_offsets = layout.q_offsets.as<std::int32_t>(),
            .key_begin = layout.key_begin.as<std::int32_t>(),
            .key_length = layout.key_length.as<std::int32_t>(),
            .sequences = layout.key_begin.size(0),
            .heads = q.size(1) / head_dim,
            .kv_heads = k.size(1) / head_dim,
            .head_dim = head_dim,
            .max_queries = layout.max_queries(),
            .are_square = layout.is_square(),
            .v_head_dim = v_head_dim,
            .window = window,
            .scale = scale,
            .softcap = softcap,
            .pairs = layout.pairs(window)};
  }
};

void backward(Backward& b, const Call& call) {
  Context& context = b.context();
  const Tensor dout = converted(context, "ops.attention gradient", b.take_grad(), call.q.dtype());
  Tensor dq = context.empty(call.q.shape(), call.q.dtype());
  Tensor dk = context.empty(call.k.shape(), call.k.dtype());
  Tensor dv = context.empty(call.v.shape(), call.v.dtype());
  const bool wants_dsinks = call.sinks.defined() && b.wants(3);
  const GradTarget dsinks = wants_dsinks ? b.target(3) : GradTarget();
  launch(context, "ops.attention gradient", context.kernels().attention_grad,
         {.forward = call.args(),
          .dout = as_matrix(dout),
          .dq = as_matrix(dq),
          .dk = as_matrix(dk),
          .dv = as_matrix(dv),
          .dsinks = wants_dsinks ? dsinks.grad.data() : nullptr,
          .wants_dsinks = wants_dsinks,
          .dsinks_dtype = wants_dsinks ? dsinks.grad.dtype() : DType::kF32,
          .accumulate_dsinks = dsinks.accumulate});
  b.give(0, std::move(dq));
  b.give(1, std::move(dk));
  b.give(2, std::move(dv));
}

}  // namespace

SequenceLayout SequenceLayout::make(Context& context, std::vector<std::int32_t> num_queries,
                                    const std::vector<std::int32_t>& key_begin,
                                    std::vector<std::int32_t> num_keys) {
  std::vector<std::int32_t> offsets{0};
  for (const auto n : num_queries) offsets.push_back(offsets.back() + n);
  return {.q_offsets = context.upload(offsets),
          .key_begin = context.upload(key_begin),
          .key_length = context.upload(num_keys),
          .num_queries = std::move(num_queries),
          .num_keys = std::move(num_keys)};
}

SequenceLayout SequenceLayout::make(Context& context, const std::vector<std::int32_t>& lengths) {
  std::vector<std::int32_t> begins;
  std::int32_t at = 0;
  for (const auto length : lengths) {
    begins.push_back(at);
    at += length;
  }
  return make(context, lengths, begins, lengths);
}

std::int64_t SequenceLayout::pairs(std::int64_t window) const {
  std::int64_t sum = 0;
  for (std::size_t s = 0; s < num_queries.size(); ++s)
    sum += kernels::attended_pairs(num_queries[s], num_keys[s], window);
  return sum;
}

std::int64_t SequenceLayout::max_queries() const {
  return num_queries.empty() ? 0 : *std::max_element(num_queries.begin(), num_queries.end());
}

bool SequenceLayout::is_square() const {
  return !num_queries.empty() && num_queries == num_keys &&
         std::find(num_queries.begin(), num_queries.end(), 0) == num_queries.end();
}

Tensor attention(Context& context, const Tensor& q, const Tensor& k, const Tensor& v,
                 const SequenceLayout& layout, std::int64_t head_dim, std::int64_t window, float scale,
                 const AttentionOptions& options) {
  const HeldWeight held(context, options.sinks);
  const Tensor& sinks = held.value();
  check(context, q, k, v, sinks, layout, head_dim, window, options);
  const bool recording = needs_grad(context, {&q, &k, &v, &sinks});
  const std::int64_t keys = std::accumulate(layout.num_keys.begin(), layout.num_keys.end(), std::int64_t{0});
  HONE_CHECK(!recording || keys == k.size(0),
             "[ops.attention] {} rows of keys, {} keys of sequences: no gradient through a cache", k.size(0),
             keys);
  const std::int64_t heads = q.size(1) / head_dim;
  Tensor out =
      context.empty({q.size(0), heads * (options.v_head_dim > 0 ? options.v_head_dim : head_dim)}, q.dtype());
  Call call{.q = q.detach(),
            .k = k.detach(),
            .v = v.detach(),
            .sinks = sinks.defined() ? sinks.detach() : Tensor(),
            .out = out,
            .lse = {},
            .layout = layout,
            .head_dim = head_dim,
            .v_head_dim = options.v_head_dim,
            .window = window,
            .scale = scale,
            .softcap = options.softcap};
  if ((recording && context.tape()->keeps()) || options.lse != nullptr)
    call.lse = context.empty({q.size(0), heads}, DType::kF32);
  launch(context, kAttentionOp, context.kernels().attention, call.args());
  if (options.lse != nullptr) *options.lse = call.lse;
  if (!recording) return out;
  call.q = call.k = call.v = call.sinks = Tensor();
  record(context, kAttentionOp, {&q, &k, &v, &sinks}, {&out},
         [call = std::move(call), q = Saved(q), k = Saved(k), v = Saved(v),
          handle = options.sinks.detach()](Backward& b) {
           const HeldWeight held_again(b.context(), handle);
           Call again = call;
           again.sinks = held_again.value();
           again.q = q.get(b.context());
           again.k = k.get(b.context());
           again.v = v.get(b.context());
           backward(b, again);
         });
  return out;
}

}  // namespace hone::ops
