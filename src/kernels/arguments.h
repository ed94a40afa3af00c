// What each kernel is given: one struct for each slot of the table (kernels.h).
//
// Conventions. T is the compute dtype (f32 or bf16); arithmetic is f32 whatever the storage, and a sum over a
// long dimension is one of short pieces. Matrices are row-major with a row stride in elements. What may be
// left out is told by a flag beside its pointer (`has_` an operand, `wants_` a result), of a Matrix by its
// having columns, and never by a null pointer: on the meta device all pointers are null, and costs and
// scratch memory are those of what is wanted. `accumulate` adds to the output instead of overwriting it. An
// output shares no memory with an operand, but where the comment says "in place". Row counts may be 0.
// Results do not depend on the thread count: work is cut into fixed tiles, each computed by one thread, and
// reductions over tiles run in tile order.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace hone::kernels {

/// A matrix in device memory.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0, cols = 0, stride = 0;  // stride: elements from one row to the next
  /// Whether it is there at all; it may have no rows.
  bool given() const { return cols != 0; }
};

/// What changes from one optimizer step to the next. Lives in device memory, so that a step's kernels need no
/// host values.
struct StepScalars {
  double sum_of_squares = 0;  // of all gradients, before clipping
  float grad_norm = 0;        // its root
  float clip_factor = 1;      // every gradient is multiplied by this
  float learning_rate = 0;
  float bias_correction1 = 1;  // 1 - beta1^t
  float bias_correction2 = 1;  // 1 - beta2^t
  std::int32_t skip = 0;       // not 0: a gradient is not finite; the update leaves everything as it is
  std::int32_t step = 0;       // updates before this one: what is rounded at random goes by it
  float clip_norm = 0;         // FinishNormArgs::by_clip_norm
  std::int32_t nonfinite =
      0;  // 1 + SumOfSquaresArgs::index of the first gradient that is not finite; 0: all are
};

/// c = [c +] op(a) op(b) [+ bias] [+ residual].
///
/// With fp8 both operands are rounded to blocks of e4m3 (OCP FP8 1.0) before they are multiplied, each with a
/// scale of its own (fp8.h): a, activations or their gradients, in 128 numbers along k; b, a weight, in
/// squares of 128 x 128, and so the same numbers in x Wt and in dy W. The blocks are those of DeepSeek-V3
/// (arXiv:2412.19437, 3.3) and Transformer Engine's Float8BlockScaling with its defaults (power-of-two
/// scales; the report has them for some activations).
struct MatmulArgs {
  Matrix a;  // (m, k) T, or (k, m) if transpose_a
  Matrix b;  // (k, n) T, or (n, k) if transpose_b
  Matrix c;  // (m, n) f32 or T
  bool transpose_a =
      false;  // used: forward x Wt (0,1), input gradient dy W (0,0), weight gradient dyt x (1,0)
  bool transpose_b = false;
  const void* bias = nullptr;  // (n) T
  bool has_bias = false;
  Matrix residual;  // (m, n) f32 or T, may be left out
  bool accumulate = false;
  bool fp8 = false;  // only where a is not transposed
};

/// The gradient of TakeRowsArgs where an index may come any number of times, as of an embedding: dtable at
/// row ids[i] += dout[i], in the order of i, summed in f32 and rounded once. Rows with no id become 0 unless
/// accumulating.
struct EmbeddingGradArgs {
  const void* dout = nullptr;  // (rows, hidden) f32 or T
  const std::int32_t* ids = nullptr;
  void* dtable = nullptr;  // (vocab, hidden) f32 or bf16
  std::int64_t rows = 0, hidden = 0, vocab = 0;
  std::int64_t padding_id = -1;  // this id's row gets nothing (torch.nn.Embedding's padding_idx); -1: none
  DType dout_dtype = DType::kF32, dtable_dtype = DType::kF32;
  bool accumulate = false;
};

/// y = [residual +] x * rstd * weight, rstd = 1/sqrt(mean(x^2) + eps), over the last dimension. With
/// unit_offset the weight counts as 1 + weight (Gemma); rounded once, at the end.
struct RmsNormArgs {
  Matrix x;                      // (rows, cols) f32 or T
  const void* weight = nullptr;  // (cols) T
  bool unit_offset = false;
  Matrix residual = {};   // (rows, cols) f32, may be left out
  Matrix y;               // (rows, cols) f32 or T
  float* rstd = nullptr;  // (rows)
  bool wants_rstd = false;
  DType weight_dtype = DType::kF32;
  float eps = 0;
};

struct RmsNormGradArgs {
  Matrix dy;  // (rows, cols) f32 or T
  Matrix x;
  const void* weight = nullptr;
  bool unit_offset = false;
  const float* rstd = nullptr;
  Matrix dx;                // (rows, cols) f32 or T, may be left out
  void* dweight = nullptr;  // (cols) f32 or bf16
  bool wants_dweight = false;
  DType weight_dtype = DType::kF32, dweight_dtype = DType::kF32;
  bool accumulate_dx = false, accumulate_dweight = false;
};

/// Rotary position embedding over `rotary_dim` elements of every head from `rotary_begin` on, after an
/// optional RMS norm of every head (Qwen3's q_norm and k_norm). Turned together are elements i and i +
/// rotary_dim / 2 of them (Transformers' rotate_half), or where `interleaved` 2i and 2i + 1 (DeepSeek). In
/// place without a norm: y may be x.
struct HeadNormRopeArgs {
  Matrix x;                      // (tokens, heads * head_dim) T
  Matrix y;                      // the same shape, T
  const void* weight = nullptr;  // (head_dim) T
  bool has_weight = false;       // else there is no norm
  bool unit_offset = false;      // as in RmsNormArgs
  const float* cos = nullptr;    // (max_position, rotary_dim / 2)
  const float* sin = nullptr;
  const std::int32_t* positions = nullptr;  // (tokens): the row of cos and sin
  std::int64_t heads = 0, head_dim = 0, rotary_dim = 0;
  std::int64_t rotary_begin = 0;
  bool interleaved = false;
  DType weight_dtype = DType::kF32;
  float eps = 0;
};

struct HeadNormRopeGradArgs {
  Matrix dy;  // (tokens, heads * head_dim) f32 or T
  Matrix x;   // read only if there is a norm
  Matrix dx;  // T or f32, may be left out; in place without a norm: may be dy
  const void* weight = nullptr;
  bool has_weight = false;
  bool unit_offset = false;
  void* dweight = nullptr;  // (head_dim) f32 or bf16
  bool wants_dweight = false;
  const float* cos = nullptr;
  const float* sin = nullptr;
  const std::int32_t* positions = nullptr;
  std::int64_t heads = 0, head_dim = 0, rotary_dim = 0;
  std::int64_t rotary_begin = 0;
  bool interleaved = false;
  DType weight_dtype = DType::kF32, dweight_dtype = DType::kF32;
  float eps = 0;
  bool accumulate_dx = false, accumulate_dweight = false;
};

/// Causal grouped-query attention over sequences of different lengths. Sequence s has queries q_offsets[s] …
/// q_offsets[s+1]-1 and the keys key_begin[s] … key_begin[s]+key_length[s]-1; its last query sees its last
/// key (so a cache may hold earlier keys). A query at key position p sees keys p-window+1 … p. Nothing
/// crosses a sequence. Head h reads kv head h / (heads / kv_heads). A score is scale * q k, or with a softcap
/// softcap * tanh(scale * q k / softcap) (Gemma 2). A sink is one more score of every query of its head, of a
/// key without a value (gpt-oss): its exponential is part of the softmax's sum; -infinity is no sink.
struct AttentionArgs {
  Matrix q;                     // (tokens, heads * head_dim) T
  Matrix k;                     // (key tokens, kv_heads * head_dim) T
  Matrix v;                     // (key tokens, kv_heads * value_dim()) T
  const void* sinks = nullptr;  // (heads) T
  bool has_sinks = false;
  Matrix out;            // (tokens, heads * value_dim()) T
  float* lse = nullptr;  // (tokens, heads): log of the sum of exp of the scores, the sink's too
  bool wants_lse = false;
  const std::int32_t* q_offsets = nullptr;   // (sequences + 1)
  const std::int32_t* key_begin = nullptr;   // (sequences)
  const std::int32_t* key_length = nullptr;  // (sequences), each at least the sequence's query count
  std::int64_t sequences = 0, heads = 0, kv_heads = 0, head_dim = 0;
  // What the host knows of the sequences, for kernels that are planned by it: the most queries of one, and
  // whether each has queries, and as many keys. Zero and false: nothing is known.
  std::int64_t max_queries = 0;
  bool are_square = false;
  std::int64_t v_head_dim = 0;  // of v and out, where it is not head_dim; 0: it is
  std::int64_t window = 0;      // 0: none
  float scale = 1;
  float softcap = 0;       // 0: none
  std::int64_t pairs = 0;  // attended_pairs of all sequences; for cost, which cannot read their lengths

  std::int64_t value_dim() const { return v_head_dim > 0 ? v_head_dim : head_dim; }
};

/// A key may be of no query, as where queries are of one part of a sequence only: its gradients are 0. No key
/// is of two sequences; the rows of dk and dv of a key of none are left alone.
struct AttentionGradArgs {
  AttentionArgs forward;   // as it was called, out and lse filled
  Matrix dout;             // as out
  Matrix dq, dk, dv;       // as q, k, v; T; overwritten
  void* dsinks = nullptr;  // (heads) f32 or bf16
  bool wants_dsinks = false;
  DType dsinks_dtype = DType::kF32;
  bool accumulate_dsinks = false;
};

/// The function f of a feed-forward, of one number.
enum class Activation : std::uint8_t {
  kIdentity,
  kSilu,      // x sigmoid(x)
  kGelu,      // x Phi(x), Phi the normal distribution (torch's gelu)
  kGeluTanh,  // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (gelu_pytorch_tanh)
  kRelu2,     // max(x, 0)^2
  kSigmoid,   // 1 / (1 + exp(-x))
  kTanh,
  kClampedSilu,  // with `up` only (gpt-oss): g sigmoid(alpha g) (u + 1), g = min(gate, limit), u = up clamped
                 // to [-limit, limit]
};

/// y = f(gate) [* up]. In place: y may be gate or up.
struct ActivationArgs {
  Matrix gate;     // (rows, cols) T
  Matrix up = {};  // as gate, may be left out
  Matrix y;        // as gate
  Activation activation = Activation::kSilu;
  float alpha = 1, limit = 0;  // of kClampedSilu, each above 0
};
struct ActivationGradArgs {
  Matrix gate, up = {};         // as they were
  Matrix dy;                    // (rows, cols) f32 or T
  Matrix dgate = {}, dup = {};  // T, each may be left out
  Activation activation = Activation::kSilu;
  float alpha = 1, limit = 0;
};

/// y = [residual +] sigmoid(gate) * x, gate one number a row (Qwen2-MoE's shared expert).
struct RowGateArgs {
  Matrix x;         // (rows, cols) f32 or T
  Matrix gate;      // (rows, 1) f32
  Matrix residual;  // (rows, cols) f32, may be left out
  Matrix y;         // (rows, cols) f32 or T
};
struct RowGateGradArgs {
  Matrix dy;  // (rows, cols) f32 or T
  Matrix x, gate;
  Matrix dx;     // as x, may be left out
  Matrix dgate;  // (rows, 1) f32, may be left out
  bool accumulate_dx = false;
};

/// y = [y +] alpha * x, converting between f32 and bf16; shapes equal; in place where no conversion is.
struct CopyArgs {
  Matrix x, y;
  float alpha = 1;
  bool accumulate = false;
};

/// y = [y +] min(max(x, -limit), limit), converting as CopyArgs does; a NaN stays one.
struct ClampArgs {
  Matrix x, y;
  float limit = 0;  // above 0
  bool accumulate = false;
};
/// dx = [dx +] dy where |x| <= limit, else 0.
struct ClampGradArgs {
  Matrix dy, x, dx;
  float limit = 0;
  bool accumulate = false;
};

/// y_i = x at row index[i], converting between f32 and bf16. An index may come any number of times. (Of a
/// table of words this is the embedding.)
struct TakeRowsArgs {
  Matrix x, y;                          // y: (n, cols)
  const std::int32_t* index = nullptr;  // (n)
};
/// The gradient of TakeRowsArgs where no index comes twice: dx at row index[i] = [itself +] dy_i; rows that
/// no index names become 0 unless accumulating.
struct PutRowsArgs {
  Matrix dy, dx;
  const std::int32_t* index = nullptr;
  bool accumulate = false;
};

/// out[j] = [out[j] +] sum over rows of x(row, j): the gradient of a bias.
struct ColumnSumArgs {
  Matrix x;             // (rows, cols) f32 or T
  void* out = nullptr;  // (cols) f32 or bf16
  DType out_dtype = DType::kF32;
  bool accumulate = false;
};

/// Keys and values of multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): head h has the key [first
/// nope_dim elements of kv_h | k_pe], whose second part all heads share, and the other v_dim of kv_h for its
/// value.
struct MlaKeysValuesArgs {
  Matrix kv;    // (tokens, heads * (nope_dim + v_dim)) T
  Matrix k_pe;  // (tokens, rope_dim) T, turned by its position
  Matrix k;     // (tokens, heads * (nope_dim + rope_dim)) T
  Matrix v;     // (tokens, heads * v_dim) T
  std::int64_t heads = 0, nope_dim = 0, rope_dim = 0, v_dim = 0;
};
struct MlaKeysValuesGradArgs {
  Matrix dk, dv;      // as k and v, f32 or bf16 each; may be left out: 0
  Matrix dkv, dk_pe;  // as kv and k_pe, f32 or bf16 each; may be left out
  std::int64_t heads = 0, nope_dim = 0, rope_dim = 0, v_dim = 0;
  bool accumulate_dkv = false, accumulate_dk_pe = false;
};

/// How a token's logits become the experts that it goes to and what each of them counts; all in f32. An
/// expert is chosen by its score and what a correction_bias adds to that, but weighs by the score alone.
struct RouterRule {
  enum class Score : std::uint8_t {
    kSoftmax,          // over all experts (where nothing is added, chosen by logit: the same order)
    kSoftmaxOfChosen,  // chosen by logit; the weights are a softmax of the chosen logits (gpt-oss)
    kSigmoid,          // of each logit (DeepSeek-V3)
  };
  /// Experts lie in `groups` groups of equal size, of which the top_groups best alone are chosen from. What
  /// ranks a group: its best expert (DeepSeek-V2), or the sum of its best two (DeepSeek-V3).
  enum class GroupScore : std::uint8_t { kMax, kTopTwoSum };
  Score score = Score::kSoftmax;
  GroupScore group_score = GroupScore::kMax;
  std::int64_t groups = 1, top_groups = 1;
  bool normalize = false;   // divide the weights by their sum + normalize_eps (norm_topk_prob)
  float normalize_eps = 0;  // DeepSeek-V3: 1e-20
  float scaling = 1;        // of the weights, last (routed_scaling_factor)
};

/// The top_k experts of every token by RouterRule, the lower index first among equals; NaN is below every
/// number.
struct RouterArgs {
  const float* logits = nullptr;  // (tokens, experts)
  std::int64_t tokens = 0, experts = 0, top_k = 0;
  RouterRule rule;
  const float* correction_bias = nullptr;  // (experts): added to the scores for the choice; has no gradient
  bool has_correction_bias = false;
  float* probabilities = nullptr;      // (tokens, experts): softmax over all experts, or sigmoids
  float* weights = nullptr;            // (tokens, top_k), best choice first
  std::int32_t* experts_of = nullptr;  // (tokens, top_k)
  float* probability_sums = nullptr;   // (experts): sum over tokens, for the auxiliary loss
};
/// A choice of -1 has no part in it.
struct RouterGradArgs {
  const float* probabilities = nullptr;
  const std::int32_t* experts_of = nullptr;
  const float* weights = nullptr;
  const float* dweights = nullptr;           // (tokens, top_k)
  const float* dprobability_sums = nullptr;  // (experts)
  bool has_dweights = false, has_dprobability_sums = false;
  void* dlogits = nullptr;  // (tokens, experts) f32 or T, overwritten
  DType dlogits_dtype = DType::kF32;
  std::int64_t tokens = 0, experts = 0, top_k = 0;
  RouterRule rule;
};

/// Orders the (token, slot) pairs by expert: slot pair i = token * top_k + slot goes to row inverse[i], and
/// permutation[row] = i. Stable. A pair whose expert is -1 goes nowhere: no count, no row, inverse -1. So
/// there are offsets[experts] rows, at most tokens * top_k; the permutation past them is left alone.
struct MoePlanArgs {
  const std::int32_t* experts_of = nullptr;  // (tokens, top_k): an expert, or -1
  std::int64_t tokens = 0, top_k = 0, experts = 0;
  std::int32_t* counts = nullptr;       // (experts)
  std::int32_t* offsets = nullptr;      // (experts + 1): first row of each expert
  std::int32_t* permutation = nullptr;  // (tokens * top_k)
  std::int32_t* inverse = nullptr;      // (tokens * top_k)
};

/// How the weights of a product lie in memory. What is quantised is decoded to T where it is multiplied, and
/// has no gradient.
enum class WeightKind : std::uint8_t {
  kDense,     // T
  kMxfp4,     // OCP Microscaling: two e2m1 in a byte, the first in its low half, and for every 32 along k the
              // byte of an e8m0 scale; k is a multiple of 32
  kFp8Block,  // e4m3 (OCP FP8, no infinities), and for every block of 128 x 128 an f32 scale
};

/// One weight of all experts: (experts, parts * rows, k), part after part (the gate's rows, then the up's).
struct ExpertWeight {
  const void* data = nullptr;    // MXFP4: (experts, parts * rows, k / 2) bytes; FP8: one byte each
  const void* scales = nullptr;  // MXFP4: (experts, parts * rows, k / 32) bytes;
                                 // FP8: (experts, parts * ceil(rows / 128), ceil(k / 128)) f32
  WeightKind kind = WeightKind::kDense;
};

/// All experts of one layer: y_t = [residual_t +] sum over slots of weight * ( down_e h + down_bias_e ),
/// h = activation(gate_e x_t + gate_bias_e) * (up_e x_t + up_bias_e), or ungated h = activation(up_e x_t +
/// up_bias_e). Gather, activation and combine are part of it. Keeps only pre_activation (performance.md 4.1:
/// the weight's gradient is <d activation, activation>). The rows that count are offsets[experts], at most
/// tokens * top_k; a slot whose inverse is -1 goes nowhere.
///
/// With fp8 the operands of every product by a weight are rounded as MatmulArgs::fp8 says, in T as they are
/// stored: x and activation(…) (without the routing weight, which multiplies what comes of them), in the
/// gradients dy and that of the pre-activation along k, weights in squares. Gate and up are matrices of their
/// own: squares begin anew at up's first row, blocks of the pre-activation's gradient at its first column.
/// Nothing else is rounded: gradients of weights and biases and dweights are of the numbers as they are.
struct ExpertsArgs {
  Matrix x;                            // (tokens, hidden) T
  ExpertWeight gate_up;                // (experts, inner(), hidden), the gate's rows first
  ExpertWeight down;                   // (experts, hidden, ffn)
  const void* gate_up_bias = nullptr;  // (experts, inner()) T
  const void* down_bias = nullptr;     // (experts, hidden) T
  bool has_gate_up_bias = false, has_down_bias = false;
  Activation activation = Activation::kSilu;
  bool gated = true;                      // else there is no gate, and gate_up is the up matrices alone
  float alpha = 1, limit = 0;             // of Activation::kClampedSilu, each above 0
  const float* weights = nullptr;         // (tokens, top_k)
  const std::int32_t* offsets = nullptr;  // the plan
  const std::int32_t* permutation = nullptr;
  const std::int32_t* inverse = nullptr;
  void* pre_activation = nullptr;     // (tokens * top_k, inner()) T: gate | up in expert order, biases added
  bool wants_pre_activation = false;  // for a gradient
  Matrix residual;                    // (tokens, hidden) f32, may be left out
  Matrix y;                           // (tokens, hidden) f32 or T
  std::int64_t experts = 0, top_k = 0, ffn = 0;
  bool fp8 = false;  // only with dense weights

  std::int64_t parts() const { return gated ? 2 : 1; }
  std::int64_t inner() const { return parts() * ffn; }
};
struct ExpertsGradArgs {
  ExpertsArgs forward;            // as it was called, with the pre-activation; y and residual are not read
  Matrix dy;                      // (tokens, hidden) f32 or T
  Matrix dx;                      // (tokens, hidden) f32 or T, may be left out
  float* dweights = nullptr;      // (tokens, top_k); 0 where a slot goes nowhere
  void* dgate_up = nullptr;       // (experts, inner(), hidden) f32 or bf16; only of dense weights
  void* ddown = nullptr;          // (experts, hidden, ffn) f32 or bf16; only of dense weights
  void* dgate_up_bias = nullptr;  // (experts, inner()) f32 or bf16
  void* ddown_bias = nullptr;     // (experts, hidden) f32 or bf16
  // (experts) f64: of each expert the sum of the squares of its finished gradient, as it is stored. No f32
  // sum on the way is of more than 8 of them, or of such as it does not hold.
  double *dgate_up_squares = nullptr, *ddown_squares = nullptr;
  bool wants_dgate_up_squares = false, wants_ddown_squares = false;  // only beside their gradients
  bool wants_dweights = false, wants_dgate_up = false, wants_ddown = false;
  bool wants_dgate_up_bias = false, wants_ddown_bias = false;
  DType dgate_up_dtype = DType::kF32, ddown_dtype = DType::kF32;
  DType dgate_up_bias_dtype = DType::kF32, ddown_bias_dtype = DType::kF32;
  bool accumulate_dx = false, accumulate_dgate_up = false, accumulate_ddown = false;
  bool accumulate_dgate_up_bias = false, accumulate_ddown_bias = false;
};

/// The auxiliary (load-balancing) loss of Transformers over all MoE layers at once, and its gradient:
/// loss = coefficient * experts * sum_e f_e P_e, f_e = counts_e / n, P_e = probability_sums_e / n, n = layers
/// * tokens (sums over layers).
struct LoadBalancingArgs {
  const float* probability_sums = nullptr;  // (layers, experts)
  const std::int32_t* counts = nullptr;     // (layers, experts)
  std::int64_t layers = 0, experts = 0, tokens = 0;
  float coefficient = 1;
  float* loss = nullptr;               // (1)
  float* dprobability_sums = nullptr;  // (experts): the same for every layer
  bool wants_dprobability_sums = false;
};

/// What the logits of the language-model head are made of: logits_i = logit_scale * hidden_i weight^T, or
/// with a softcap softcap * tanh(that / softcap) (Gemma 2).
struct HeadOperands {
  Matrix hidden;  // (rows, hidden) T
  Matrix weight;  // (words, hidden) T
  float logit_scale = 1;
  float softcap = 0;  // 0: none
};
/// The gradients of HeadOperands.
struct HeadGradients {
  Matrix dhidden;           // (rows, hidden) f32 or T, overwritten; may be left out
  void* dweight = nullptr;  // (words, hidden) f32 or T
  bool wants_dweight = false;
  DType dweight_dtype = DType::kF32;
  bool accumulate_dweight = false;

  bool wanted() const { return dhidden.given() || wants_dweight; }
};

/// Language-model head and cross-entropy in one, over chunks of rows, so that all logits never exist at once:
/// nll_i = logsumexp(logits_i) - logit of target_i; the gradients of `loss` come along where asked for.
struct LinearCrossEntropyArgs {
  HeadOperands head;                      // the words are the whole vocabulary
  const std::int32_t* targets = nullptr;  // (rows), each in [0, words)
  const float* weights = nullptr;         // (rows): what each row counts in the loss
  bool has_weights = false;               // else each counts 1
  float scale = 1;
  float* nll = nullptr;   // (rows), unweighted
  float* loss = nullptr;  // (1): scale * sum of weight * nll
  HeadGradients gradients;
};

/// What of the head a loss is made of, for some words of the vocabulary: where each rank has its own, or
/// where the loss is another than cross-entropy.
struct HeadStatisticsArgs {
  HeadOperands head;                      // of the words from vocab_begin on
  const std::int32_t* targets = nullptr;  // (rows): any word, or -1
  std::int64_t vocab_begin = 0;
  float* lse = nullptr;           // (rows): log of the sum of exp of the logits of these words
  float* target_logit = nullptr;  // (rows): 0 where the target is none of these words
};
/// From the gradients of lse and target_logit: that of a logit is dlse * exp(logit - lse), and for the target
/// dtarget_logit more.
struct HeadGradArgs {
  HeadStatisticsArgs forward;                        // as it was called, lse filled
  const float* dlse = nullptr;                       // (rows)
  const float* dtarget_logit = nullptr;              // (rows)
  bool has_dlse = false, has_dtarget_logit = false;  // else they are 0
  HeadGradients gradients;
};

/// StepScalars::sum_of_squares += sum of x^2 (partial sums in double over fixed chunks).
struct SumOfSquaresArgs {
  const void* x = nullptr;  // (n) f32 or bf16
  std::int64_t n = 0;
  DType dtype = DType::kF32;
  const double* parts =
      nullptr;                 // (num_parts): numbers whose sum it is, where whoever made x has brought them;
  std::int64_t num_parts = 0;  // x is not read then
  bool has_parts = false;
  std::int32_t index = 0;  // of x among the gradients
  StepScalars* scalars = nullptr;
};
/// From sum_of_squares: grad_norm, clip_factor = min(1, max_norm / (grad_norm + 1e-6)) as
/// torch.nn.utils.clip_grad_norm_ (1 if max_norm <= 0), skip. By clip_norm the factor is of
/// StepScalars::clip_norm instead (the step's before, where updates do not wait for all gradients).
struct FinishNormArgs {
  StepScalars* scalars = nullptr;
  float max_norm = 0;
  bool by_clip_norm = false;
  const float* loss = nullptr;  // (1): the step's loss; one that is not finite skips the update too
  bool has_loss = false;
};
/// What the next step goes by, where the host has not read what became of this one: scalars = one of `next`,
/// and where this one was done its clip_norm is this one's grad_norm.
struct NextStepArgs {
  const StepScalars* next = nullptr;  // (2): where this step was done, and where it was skipped
  StepScalars* scalars = nullptr;
};

/// How AdamW's moments lie in memory.
enum class MomentKind : std::uint8_t {
  kF32,
  kDynamic8,  // one byte each, and for every kMomentBlock an f32 scale, its largest magnitude (moments.h)
};

/// AdamW as torch.optim.AdamW: decoupled decay, bias-corrected. For a bf16 weight the f32 master is a second
/// copy, or there is none: then the bf16 weight is the master, and rounded at random (moments.h).
struct AdamWArgs {
  void* master = nullptr;  // (n) f32; or bf16 without a weight besides
  DType master_dtype = DType::kF32;
  void* weight = nullptr;      // (n) bf16: set to the rounded master
  bool has_weight = false;     // else the master is the weight
  const void* grad = nullptr;  // (n) f32 or bf16
  void* exp_avg = nullptr;     // (n)
  void* exp_avg_sq = nullptr;  // (n)
  MomentKind moments = MomentKind::kF32;
  float* exp_avg_scales = nullptr;     // (ceil(n / kMomentBlock)), of kDynamic8
  float* exp_avg_sq_scales = nullptr;  // as exp_avg_scales
  std::int64_t n = 0;
  DType grad_dtype = DType::kF32;
  std::uint64_t rounding_seed = 0;  // of a bf16 master
  /// Of these elements in their tensor, by which a bf16 master is rounded: a multiple of kMomentBlock.
  std::int64_t first_index = 0;
  float beta1 = 0.9F, beta2 = 0.999F, eps = 1e-8F, weight_decay = 0;
  float rate_scale = 1;  // of this tensor: its rate is rate_scale * scalars->learning_rate
  const StepScalars* scalars = nullptr;
};
/// torch.optim.SGD: decay joins the gradient; buffer = momentum * buffer + grad (the first time: = grad).
struct SgdArgs {
  void* master = nullptr;  // as in AdamWArgs
  DType master_dtype = DType::kF32;
  void* weight = nullptr;
  bool has_weight = false;  // as in AdamWArgs
  const void* grad = nullptr;
  float* momentum_buffer = nullptr;  // (n), where momentum is not 0
  std::int64_t n = 0;
  DType grad_dtype = DType::kF32;
  float momentum = 0, weight_decay = 0;
  float rate_scale = 1;             // as in AdamWArgs
  bool first = false;               // the buffer holds nothing yet
  std::uint64_t rounding_seed = 0;  // of a bf16 master
  std::int64_t first_index = 0;     // as in AdamWArgs
  const StepScalars* scalars = nullptr;
};

}  // namespace hone::kernels
